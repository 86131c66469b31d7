//! `stage.sql` is GoogleSQL: what the transform runs gives the rows that BigQuery gives, and the rest is refused.

use std::io::{self, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use api2bq::config::Pipeline;
use api2bq::engine::{Engine, Options};
use api2bq::render::{Format, Renderer};
use api2bq::schema::{Column, ColumnType, Columns, Mode};
use api2bq::transform::Transform;
use arrow::json::ReaderBuilder;
use arrow::record_batch::RecordBatch;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::context::{Ended, Running, TestContext};

/// All types that a pipeline's columns can have.
fn columns() -> Columns {
    let column = |name: &str, kind, mode| Column { name: name.into(), kind, mode, path: None };
    let nullable = |name, kind| column(name, kind, Mode::Nullable);
    Columns::new(vec![
        column("id", ColumnType::Int64, Mode::Required),
        nullable("n", ColumnType::Int64),
        nullable("Text", ColumnType::String),
        nullable("f", ColumnType::Float64),
        nullable("b", ColumnType::Bool),
        nullable("m", ColumnType::Numeric),
        nullable("d", ColumnType::Date),
        nullable("t", ColumnType::Timestamp),
    ])
    .expect("columns")
}

/// Records with what is easily mistaken: NULLs, negative numbers, empty and wide texts.
fn records() -> Vec<Value> {
    let texts =
        ["", " ", "  a b ", "xyx", "Straße", "ΟΔΟΣ", "İx", "a%b_c", "日本語", "it's", "n\tl", "👍🏽", "A"];
    let numbers = [0, 1, -1, 7, -7, 86_400, -86_401, 12, i64::MAX, i64::MIN + 1];
    let mut records = Vec::new();
    for row in 0..40_usize {
        let or_null = |every: usize, value: Value| if row % every == every - 1 { Value::Null } else { value };
        records.push(json!({
            "id": row / 2 + 1,
            "n": or_null(11, json!(numbers[row % numbers.len()])),
            "Text": or_null(7, json!(texts[row % texts.len()])),
            "f": or_null(5, json!(row as f64 / 4.0 - 2.0)),
            "b": or_null(3, json!(row % 2 == 0)),
            "m": or_null(6, json!(format!("{}.25", row as i64 - 9))),
            "d": or_null(4, json!(format!("2011-0{}-0{}", row % 9 + 1, row % 5 + 1))),
            "t": or_null(9, json!(format!("2011-01-01T00:00:{:02}.500Z", row % 60))),
        }));
    }
    records
}

/// The same records on both sides.
struct Sides {
    context: TestContext,
    server: Running,
    columns: Columns,
    batch: RecordBatch,
    runtime: tokio::runtime::Runtime,
}

impl Sides {
    fn new(columns: Columns, records: &[Value]) -> Self {
        let text: String = records.iter().map(|record| format!("{record}\n")).collect();
        let reader = ReaderBuilder::new(columns.arrow()).build(text.as_bytes()).expect("a reader");
        let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().expect("records");
        let batch = arrow::compute::concat_batches(&columns.arrow(), &batches).expect("one batch");
        let context = TestContext::new();
        let server = context.emulator();
        let sides = Sides {
            context,
            server,
            columns,
            batch,
            runtime: tokio::runtime::Runtime::new().expect("a runtime"),
        };
        let types = sides.columns.iter().map(|column| format!("`{}` {}", column.name, column.kind.name()));
        let types: Vec<String> = types.collect();
        sides
            .ask(&format!("CREATE SCHEMA LANL; CREATE TABLE LANL.records ({}, _seq INT64)", types.join(", ")))
            .success();
        let row = |(seq, record): (usize, &Value)| {
            let values = sides.columns.iter().map(|column| literal(column.kind, &record[&column.name]));
            format!("({}, {seq})", values.collect::<Vec<_>>().join(", "))
        };
        let rows: Vec<String> = records.iter().enumerate().map(row).collect();
        sides.ask(&format!("INSERT INTO LANL.records VALUES {}", rows.join(", "))).success();
        sides
    }

    fn ask(&self, sql: &str) -> Ended {
        let fixed = ["query", "-", "--default-dataset", "LANL", "--format", "ndjson", "-q"];
        let mut command = self.context.command(fixed);
        command.env("BIGQUERY_EMULATOR_HOST", &self.server.url);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        child.stdin.take().expect("piped").write_all(sql.as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends").into()
    }

    /// Rows as lines, sorted; or why there are none.
    fn of_server(&self, sql: &str) -> Result<Vec<String>, String> {
        let ended = self.ask(sql);
        match ended.code {
            0 => Ok(sorted(&ended.stdout)),
            _ => Err(ended.stderr),
        }
    }

    fn of_transform(&self, sql: &str) -> Result<Vec<String>, String> {
        let engine = Engine::new(Options::default()).expect("an engine");
        self.runtime.block_on(async {
            let transform = Transform::new(&engine, sql, &self.columns).await.map_err(|e| e.to_string())?;
            let (sender, input) = tokio::sync::mpsc::channel(2);
            sender.send(Ok(self.batch.clone())).await.expect("it waits");
            drop(sender);
            let (mut rows, _) = transform.run(input).await.map_err(|e| e.to_string())?;
            let text = Shared::default();
            let mut renderer = None;
            while let Some(batch) = rows.next().await {
                let batch = batch.map_err(|e| e.to_string())?;
                let new =
                    || Renderer::new(Format::Ndjson, &batch.schema(), Box::new(text.clone())).expect("lines");
                renderer.get_or_insert_with(new).write(&batch).expect("lines");
            }
            if let Some(renderer) = renderer {
                renderer.finish().expect("lines");
            }
            let bytes = text.0.lock().expect("nobody died").clone();
            Ok(sorted(&String::from_utf8(bytes).expect("UTF-8")))
        })
    }

    #[track_caller]
    fn agree(&self, sql: &str) -> Vec<String> {
        let (here, there) = (self.of_transform(sql), self.of_server(sql));
        let here = here.unwrap_or_else(|e| panic!("{sql}\n{e}"));
        assert_eq!(here, there.unwrap_or_else(|e| panic!("{sql}\n{e}")), "{sql}");
        here
    }
}

fn sorted(lines: &str) -> Vec<String> {
    let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn literal(kind: ColumnType, value: &Value) -> String {
    match (kind, value) {
        (_, Value::Null) => "NULL".to_owned(),
        (ColumnType::String, Value::String(text)) => Value::from(text.as_str()).to_string(),
        (ColumnType::Numeric | ColumnType::Date | ColumnType::Timestamp, Value::String(text)) => {
            format!("{} '{text}'", kind.name())
        }
        (ColumnType::Float64, value) => format!("CAST({value} AS FLOAT64)"),
        (_, value) => value.to_string(),
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody died").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is computed, by the column that takes it.
const EXPRESSIONS: [(&str, &str); 62] = [
    ("n", "id + 2 * id - 5"),
    ("n", "-id"),
    ("n", "-9223372036854775808"),
    ("n", "DIV(n, 7)"),
    ("n", "DIV(n, -7)"),
    ("n", "MOD(n, 7)"),
    ("n", "MOD(n, -7)"),
    ("n", "MOD(-9223372036854775808, -1)"),
    ("n", "IF(n > 5, 1, 0)"),
    ("n", "IF(b, n, NULL)"),
    ("n", "IFNULL(n, id)"),
    ("n", "COALESCE(NULL, n, id)"),
    ("n", "NULLIF(n, 7)"),
    ("n", "CASE WHEN n < 0 THEN -1 WHEN n = 0 THEN 0 ELSE 1 END"),
    ("n", "CASE n WHEN 7 THEN 70 WHEN -7 THEN -70 END"),
    ("n", "LENGTH(text)"),
    ("n", "CHAR_LENGTH(text)"),
    ("n", "BYTE_LENGTH(text)"),
    ("n", "CAST(b AS INT64)"),
    ("n", "ROW_NUMBER() OVER (PARTITION BY b ORDER BY n, _seq)"),
    ("n", "ROW_NUMBER() OVER (PARTITION BY b, d ORDER BY text DESC, _seq DESC)"),
    ("n", "ROW_NUMBER() OVER (ORDER BY m NULLS LAST, t DESC NULLS FIRST, _seq)"),
    ("n", "RANK() OVER (ORDER BY n)"),
    ("n", "DENSE_RANK() OVER (PARTITION BY b ORDER BY d DESC)"),
    ("n", "1 + ROW_NUMBER() OVER (ORDER BY _seq)"),
    ("f", "f"),
    ("f", "0.5"),
    ("f", "-1e3"),
    ("f", "CAST(n AS FLOAT64)"),
    ("f", "COALESCE(f, 1.5)"),
    ("m", "CAST(id AS NUMERIC)"),
    ("m", "IF(m > CAST(3 AS NUMERIC), m, NULL)"),
    ("Text", "text || '-' || TEXT"),
    ("Text", "CONCAT(text, \"it's\", text)"),
    ("Text", "CAST(n AS STRING)"),
    ("Text", "CAST(b AS STRING)"),
    ("Text", "CAST(d AS STRING)"),
    ("Text", "LOWER(text)"),
    ("Text", "UPPER(text)"),
    ("Text", "TRIM(text, ' ')"),
    ("Text", "TRIM(text, 'xa')"),
    ("Text", "SUBSTR(text, 2)"),
    ("Text", "SUBSTR(text, 1, 3)"),
    ("Text", "SUBSTRING(text, 3, 0)"),
    ("Text", "REPLACE(text, 'x', 'yy')"),
    ("b", "text LIKE '%a_%'"),
    ("b", "text NOT LIKE 'a%'"),
    ("b", "STARTS_WITH(text, 'x')"),
    ("b", "ENDS_WITH(text, 'x')"),
    ("b", "n IS NULL OR text IS NOT NULL"),
    ("b", "NOT b AND n >= 0"),
    ("b", "b IS TRUE"),
    ("b", "b IS NOT FALSE"),
    ("b", "text IN ('', 'A', NULL)"),
    ("b", "n NOT IN (1, 7)"),
    ("b", "n BETWEEN -7 AND 7"),
    ("b", "text < 'a' OR text >= 'x'"),
    ("b", "n IS DISTINCT FROM 7"),
    ("b", "text IS NOT DISTINCT FROM NULL"),
    ("b", "d > DATE '2011-03-02'"),
    ("b", "t <= t AND m <> m"),
    ("d", "COALESCE(d, DATE '2011-12-31')"),
];

#[test]
fn every_expression_gives_what_it_gives_in_bigquery() {
    let sides = Sides::new(columns(), &records());
    for (column, expression) in EXPRESSIONS {
        let sql = format!(
            "SELECT * EXCEPT (_seq) REPLACE ({expression} AS {column}), DIV(id - 1, 10) + 1 AS day FROM records"
        );
        assert_eq!(sides.agree(&sql).len(), 40, "{expression}");
    }
}

#[test]
fn every_clause_gives_what_it_gives_in_bigquery() {
    let sides = Sides::new(columns(), &records());
    let latest = "ROW_NUMBER() OVER (PARTITION BY id ORDER BY n DESC, _seq) = 1";
    let constant = "'x' AS Text, 0.5 AS f, TRUE AS b, CAST(1 AS NUMERIC) AS m, DATE '2011-01-01' AS d";
    for sql in [
        format!("SELECT * EXCEPT (_seq), 1 AS day FROM records QUALIFY {latest}"),
        format!("SELECT * EXCEPT (_seq), 1 AS day FROM records AS r WHERE r.n > 0 QUALIFY {latest}"),
        "SELECT ID AS id, n, `Text`, f, b, m, d, t, 1 AS day FROM `records` WHERE b;".to_owned(),
        "SELECT id, n, Text, f, b, m, d, t, rn AS day FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY text ORDER BY \
         _seq) AS rn FROM records WHERE id > 2) AS numbered WHERE rn <= 2"
            .to_owned(),
        "SELECT * EXCEPT (_seq), ROW_NUMBER() OVER (PARTITION BY b ORDER BY _seq DESC) AS day FROM records QUALIFY \
         day <= 3 AND n IS NOT NULL"
            .to_owned(),
        format!(
            "SELECT id, MAX(n) AS n, {constant}, MAX(t) AS t, COUNT(*) AS day FROM records GROUP BY id HAVING day > 1"
        ),
        format!(
            "WITH counted AS (SELECT DIV(_seq, 4) AS k, COUNTIF(b) AS n, MIN(t) AS t, COUNT(text) AS day FROM records \
             GROUP BY 1), filtered AS (SELECT * FROM counted WHERE day > 2) SELECT k AS id, n, {constant}, t, day \
             FROM filtered -- and a comment"
        ),
        format!("SELECT id, n, {constant}, t, 1 AS day FROM (SELECT DISTINCT 1 AS id, LENGTH(text) AS n, t FROM records) # another"),
        format!(
            "SELECT id, n, {constant}, t, 1 AS day FROM (SELECT id, MIN(m) AS least, MAX(d) AS last, MIN(text) AS text, \
             MAX(n) AS n, MIN(t) AS t FROM records GROUP BY id) WHERE least < CAST(5 AS NUMERIC) AND last > DATE \
             '2011-01-02' AND text >= ' '"
        ),
    ] {
        assert!(!sides.agree(&sql).is_empty(), "{sql}");
    }
}

#[test]
fn integers_that_overflow_fail_on_both_sides() {
    let sides = Sides::new(columns(), &records());
    for expression in ["n + 1", "n - 2 - id", "n * 2", "-(n + n)", "DIV(n, id - 1)", "MOD(n, 0)"] {
        let sql = format!("SELECT * EXCEPT (_seq) REPLACE ({expression} AS n), 1 AS day FROM records");
        let (here, there) = (sides.of_transform(&sql), sides.of_server(&sql));
        let (Err(here), Err(_)) = (&here, &there) else { panic!("{expression}: {here:?}, {there:?}") };
        assert!(here.contains("overflow") || here.contains("zero"), "{expression}: {here}");
    }
}

/// Records as a source may send them: ids again on the same day and on later ones, ties in time.
#[test]
fn the_built_in_stage_sql_gives_the_rows_that_bigquery_gives() {
    let pipeline = Pipeline::resolve("flows", &[]).expect("built in");
    for seed in [1, 2, 3] {
        let mut random = fastrand::Rng::with_seed(seed);
        let record = |_| {
            let time = random.i64(1..=4) * 43_200 + random.i64(-1..=1);
            json!({"id": random.i64(1..=60), "time": time, "duration": random.i64(0..=3),
                "src_comp": format!("C{}", random.u8(..)), "src_port": "80", "dst_comp": "C2", "dst_port": "N1",
                "protocol": 6, "packet_count": random.i64(1..=9), "byte_count": random.i64(..)})
        };
        let records: Vec<Value> = (0..300).map(record).collect();
        let sides = Sides::new(pipeline.columns.clone(), &records);
        let rows = sides.agree(&pipeline.stage_sql);
        assert!((100..250).contains(&rows.len()), "{} rows", rows.len());
    }
}

/// sqlparser reads `a IS DISTINCT FROM (b AND c)`.
#[test]
fn what_follows_is_distinct_from_is_not_taken_for_its_right_side() {
    let context = TestContext::new();
    let server = context.emulator();
    let ask = |sql: &str| -> Ended {
        let mut command = context.command(["query", sql, "--format", "csv", "-q"]);
        command.env("BIGQUERY_EMULATOR_HOST", &server.url).output().expect("it runs").into()
    };
    let refused = ask("SELECT TRUE IS DISTINCT FROM FALSE AND FALSE AS x");
    assert!(refused.code != 0 && refused.stderr.contains("brackets"), "{refused:?}");
    assert_eq!(ask("SELECT (TRUE IS DISTINCT FROM FALSE) AND FALSE AS x").success().stdout, "x\nfalse\n");
}

#[test]
fn what_means_something_else_is_refused_by_name() {
    let engine = Engine::new(Options::default()).expect("an engine");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let columns = columns();
    let mut said = String::new();
    let mut refuse = |sql: &str| {
        let refused = runtime.block_on(Transform::new(&engine, sql, &columns));
        let error = refused.err().unwrap_or_else(|| panic!("taken: {sql}"));
        assert_eq!(error.kind().exit_code(), 2, "{sql}: {error}");
        for word in ["DataFusion", "Utf8", "Int64", "datafusion", "Arrow"] {
            assert!(!error.to_string().contains(word), "{sql}: {error}");
        }
        said += &format!("{sql}\n! {error}\n? {}\n\n", error.hint_text().unwrap_or("-"));
    };
    for expression in [
        "n / 7",
        "n % 7",
        "n::STRING",
        "f + 1.5",
        "f > 0.5",
        "m + m",
        "n = text",
        "n > 0.5",
        "CAST(text AS INT64)",
        "CAST(f AS INT64)",
        "CAST(n AS VARCHAR)",
        "SAFE_CAST(n AS STRING)",
        "ROUND(f)",
        "FLOOR(f)",
        "SUM(n)",
        "AVG(n)",
        "MIN(f)",
        "GREATEST(n, 1)",
        "REGEXP_CONTAINS(text, 'a')",
        "TRIM(text)",
        "SUBSTR(text, 0)",
        "SUBSTR(text, -2)",
        "SUBSTR(text, n)",
        "REPLACE(text, '', 'x')",
        "text LIKE text",
        "'it\\'s'",
        "LENGTH(n)",
        "n & 1",
        "CURRENT_TIMESTAMP()",
        "EXTRACT(YEAR FROM d)",
        "LAG(n) OVER (ORDER BY _seq)",
        "ROW_NUMBER() OVER (PARTITION BY id ORDER BY n)",
        "ROW_NUMBER() OVER (PARTITION BY f ORDER BY _seq)",
        "RANK() OVER (ORDER BY f)",
        "(SELECT 1)",
        "n IN (SELECT 1)",
        "nn",
        "other.n",
        "[1, 2]",
        "arrow_typeof(n)",
        "COALESCE(n, text)",
        "IF(n, 1, 2)",
        "99999999999999999999",
        "b IS DISTINCT FROM b AND b",
    ] {
        refuse(&format!("SELECT * EXCEPT (n), {expression} AS n, 1 AS day FROM records"));
    }
    for sql in [
        "SELECT *, 1 AS day FROM records ORDER BY id",
        "SELECT *, 1 AS day FROM records LIMIT 3",
        "SELECT *, 1 AS day FROM records UNION ALL SELECT *, 1 AS day FROM records",
        "SELECT a.*, 1 AS day FROM records a JOIN records b ON a.id = b.id",
        "SELECT *, 1 AS day FROM other",
        "SELECT *, 1 AS day FROM 'file.parquet'",
        "SELECT 1 AS day",
        "WITH r AS (SELECT * FROM records) SELECT *, 1 AS day FROM r WHERE id IN (1) AND EXISTS (SELECT 1 FROM r)",
        "SELECT f, COUNT(*) AS n FROM records GROUP BY f",
        "SELECT *, 1 AS day, 2 AS DAY FROM records",
        "SELECT *, 1 AS day FROM records QUALIFY day = 1 AND id = 1",
        "SELECT n + 1 AS id, 1 AS day FROM records GROUP BY id",
        "SELECT *, 1 AS day FROM records WHERE day = 1",
        "FROM records |> SELECT id",
        "DELETE FROM records WHERE TRUE",
        "SELECT *, 1 AS day FROM records; SELECT 1",
        "SELECT *, 1 AS day FROM records WHERE",
        "SELECT *, 1 AS day FROM records GROUP BY id",
    ] {
        refuse(sql);
    }
    insta::assert_snapshot!(said);
}
