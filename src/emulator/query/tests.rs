//! How queries are planned. What they answer is in `tests/slt/dialect`.

use datafusion::physical_plan::collect;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::dialect::BigQueryDialect;
use datafusion::sql::sqlparser::parser::Parser;
use serde_json::{Map, Value, json};

use super::*;
use crate::emulator::Faults;
use crate::emulator::encode::{Rows, TimestampFormat};
use crate::emulator::names::ProjectId;
use crate::engine::{self, Engine};

async fn answer(emulator: &Emulator, sql: &str, parameters: &Value) -> Outcome<String> {
    let mut query: Map<String, Value> = Map::new();
    query.insert("query".into(), json!(sql));
    query.insert("useLegacySql".into(), json!(false));
    query.insert("queryParameters".into(), parameters.clone());
    let spec = QuerySpec::parse(&query, &ProjectId::parse("p").unwrap())?;
    let statement = statements::parse(sql)?.pop().unwrap().statement;
    let statements::Statement::Select(query) = statement else { panic!("{sql} is no query") };
    let scope = Scope::default();
    let env = Environment { emulator, spec: &spec, location: "US", scope: &scope };
    let prepared = prepare(env, *query).await?;
    let schema = arrow_names(&prepared.fields, &prepared.plan.schema());
    let batches = collect(prepared.plan, prepared.task).await.map_err(|e| query_failure(&e))?;
    let mut rows = Rows::new();
    for batch in batches {
        let batch = RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec()).unwrap();
        let batch = conform(&batch, &arrow_schema(&prepared.fields)).map_err(|e| wording::unfit("", &e))?;
        rows.push(&batch, TimestampFormat::Iso8601);
    }
    let rows: Value = serde_json::from_slice(&rows.finish().concat()).unwrap();
    let documents = fields::documents(&prepared.fields);
    let shown = rows.as_array().unwrap().iter().map(|row| record(row, &documents, false));
    Ok(shown.collect::<Vec<_>>().join(" | "))
}

/// Rows as `1,text,NULL`; arrays in brackets, structs as `{name:value}`.
fn record(row: &Value, fields: &Value, named: bool) -> String {
    let cells = row["f"].as_array().unwrap().iter().zip(fields.as_array().unwrap());
    let texts = cells.map(|(cell, field)| {
        let text = value(&cell["v"], field);
        if named { format!("{}:{text}", field["name"].as_str().unwrap()) } else { text }
    });
    texts.collect::<Vec<_>>().join(",")
}

fn value(v: &Value, field: &Value) -> String {
    match v {
        Value::Null => "NULL".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| value(&item["v"], field)).collect();
            format!("[{}]", items.join(","))
        }
        record_value => format!("{{{}}}", record(record_value, &field["fields"], true)),
    }
}

#[tokio::test]
async fn floats_are_joined_by_hash_and_other_types_have_no_keys() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::new(engine::Options::default()).unwrap();
    let emulator =
        Emulator::open(dir.path().join("data"), &dir.path().join("buckets"), engine, Faults::default())
            .unwrap();
    let rows = "UNNEST([STRUCT(1 AS i, 1.5 AS f, 'a' AS s, DATE '2026-01-01' AS d)])";
    for condition in ["a.f = b.f", "a.i = b.i AND a.s = b.s"] {
        let sql = format!("SELECT a.i FROM {rows} AS a JOIN {rows} AS b ON {condition}");
        let plan = shown(&emulator, &sql).await;
        assert!(plan.contains("HashJoinExec"), "{plan}");
        assert_eq!(plan.contains("key_below("), condition.contains(".f"), "{plan}");
    }
    let other = format!(
        "SELECT i, MIN(s) AS lo, MAX(d) AS hi FROM {rows} WHERE i < 3 AND i > 0.5 AND s IN ('a', 'b') GROUP BY i \
         ORDER BY i DESC, lo"
    );
    let plan = shown(&emulator, &other).await;
    assert!(!plan.contains("key_"), "{plan}");
}

async fn shown(emulator: &Emulator, sql: &str) -> String {
    let mut query: Map<String, Value> = Map::new();
    query.insert("query".into(), json!(sql));
    query.insert("useLegacySql".into(), json!(false));
    let spec = QuerySpec::parse(&query, &ProjectId::parse("p").unwrap()).unwrap();
    let statement = statements::parse(sql).unwrap().pop().unwrap().statement;
    let statements::Statement::Select(query) = statement else { panic!("{sql} is no query") };
    let scope = Scope::default();
    let env = Environment { emulator, spec: &spec, location: "US", scope: &scope };
    let plan = prepare(env, *query).await.unwrap().plan;
    datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string()
}

#[tokio::test]
async fn the_latest_record_per_key_needs_no_sort_of_all_rows() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::new(engine::Options::default()).unwrap();
    let emulator =
        Emulator::open(dir.path().join("data"), &dir.path().join("buckets"), engine, Faults::default())
            .unwrap();
    let numbered = "ROW_NUMBER() OVER (PARTITION BY id ORDER BY v DESC)";
    let rows = "UNNEST([STRUCT(1 AS id, 2 AS v), (1, 3), (2, 4)])";
    for sql in [
        format!("SELECT id, v FROM {rows} QUALIFY {numbered} = 1"),
        format!("SELECT id, v FROM (SELECT *, {numbered} AS n FROM {rows}) WHERE n = 1"),
    ] {
        let mut query: Map<String, Value> = Map::new();
        query.insert("query".into(), json!(sql));
        query.insert("useLegacySql".into(), json!(false));
        let spec = QuerySpec::parse(&query, &ProjectId::parse("p").unwrap()).unwrap();
        let Statement::Query(query) = Parser::parse_sql(&BigQueryDialect {}, &sql).unwrap().remove(0) else {
            panic!("{sql} is no query")
        };
        let scope = Scope::default();
        let env = Environment { emulator: &emulator, spec: &spec, location: "US", scope: &scope };
        let prepared = prepare(env, *query).await.unwrap();
        assert!(engine::latest::duplicates(&prepared.plan).is_some(), "{sql}");
        assert_eq!(answer(&emulator, &sql, &Value::Null).await.unwrap(), "1,3 | 2,4");
    }
}
