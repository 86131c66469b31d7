//! Files of `tests/slt`, in sqllogictest's format: what SQL answers, and what it refuses.
//!
//! `dialect` and `pipelines` ask the embedded BigQuery over HTTP, `sql` asks the engine of `api2bq sql`.
//! In both NULL is `NULL`, an empty text `(empty)`, an array `[1,2]`, a struct `{name:value}`; line breaks
//! and tabs are escaped. A query `FILE path old=new …` is that file of the repository, with other words in it.

use std::path::Path;

use api2bq::config::Pipeline;
use api2bq::explore::Explorer;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use serde_json::{Value, json};
use sqllogictest::{DB, DBOutput, DefaultColumnType, Runner, strict_column_validator};
use tokio::runtime::Runtime;

use crate::context::TestContext;
use crate::embedded::Embedded;

/// What no error may speak of: the names of engines, and their types.
const ENGINE_WORDS: &str = r"DataFusion|Arrow|Utf8|Int64\b|Float64\b|Boolean\b|Date32|Timestamp\(|Decimal\d|Binary\b|panicked|Schema error|Expr\b|datafusion|bq_|\u{fdd0}|\u{fdd1}|Plan\b|Projection|Aggregate:|coercion|to coerce|infix|Token";

#[test]
fn the_dialect_answers_as_bigquerys() {
    let context = TestContext::new();
    let server = Embedded::start(&context.path("wh"), &[]);
    run("dialect", || Warehouse::new(&server.url));
}

#[test]
fn the_sql_of_pipelines_means_what_it_says() {
    let context = TestContext::new();
    let server = Embedded::start(&context.path("wh"), &[]);
    run("pipelines", || Warehouse::new(&server.url));
}

#[test]
fn staged_rows_answer_queries() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "6000", "--days", "3", "--duplicates", "0.05", "--seed", "11"]);
    context.backfill(None, &source.flows(), 3, &["--until", "stage"]).success();
    context.write("racks.csv", "host,rack,since\nC5720,a,2010-05-01\nC7597,,2011-01-01\n");
    run("sql", || Staged::new(&context));
}

/// Runs each file of a folder on a database of its own.
#[track_caller]
fn run<D: DB<ColumnType = DefaultColumnType> + Send + 'static>(folder: &str, open: impl Fn() -> D) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt").join(folder);
    let files = std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("a file").path());
    let mut wrong = Vec::new();
    let mut num_files = 0;
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "slt")) {
        let mut runner = Runner::new(|| std::future::ready(Ok(open())));
        runner.with_column_validator(strict_column_validator);
        // Blanks count.
        runner.with_normalizer(String::clone);
        num_files += 1;
        // All of a file's mistakes, not its first alone.
        for record in sqllogictest::parse_file(&file).expect("a readable file") {
            wrong.extend(runner.run(record).err().map(|error| error.display(false).to_string()));
        }
    }
    assert!(num_files > 0, "no files in {}", folder.display());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The embedded BigQuery, asked by REST.
struct Warehouse {
    runtime: Runtime,
    client: reqwest::Client,
    url: String,
    engine_words: regex::Regex,
}

impl Warehouse {
    fn new(url: &str) -> Self {
        Warehouse {
            runtime: runtime(),
            client: reqwest::Client::new(),
            url: format!("{url}/bigquery/v2/projects/api2gbq/queries"),
            engine_words: regex::Regex::new(ENGINE_WORDS).expect("a pattern"),
        }
    }
}

impl DB for Warehouse {
    type Error = Refused;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Refused> {
        let asked = json!({
            "query": text(sql), "useLegacySql": false, "timeoutMs": 60_000,
            "formatOptions": { "timestampOutputFormat": "ISO8601_STRING" },
        });
        let request = self.client.post(&self.url).json(&asked).send();
        let answer: Value =
            self.runtime.block_on(async { request.await.expect("an answer").json().await.expect("JSON") });
        if let Some(message) = answer["error"]["message"].as_str() {
            let (code, reason) = (&answer["error"]["code"], &answer["error"]["errors"][0]["reason"]);
            // The mistake is the query's, and told in BigQuery's words.
            let is_mistake = *code == 400 && reason == "invalidQuery" && !self.engine_words.is_match(message);
            return Err(Refused(if is_mistake { message.to_owned() } else { format!("{code}, {reason}") }));
        }
        let changed = answer["numDmlAffectedRows"].as_str().map(|rows| rows.parse().expect("a number"));
        let fields = answer["schema"]["fields"].as_array().filter(|_| changed.is_none());
        let Some(fields) = fields else {
            return Ok(DBOutput::StatementComplete(changed.unwrap_or_default()));
        };
        let rows = answer["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
        let cells = |row: &Value| -> Vec<String> {
            let cells = row["f"].as_array().expect("cells").iter().zip(fields);
            cells.map(|(cell, field)| shown(cell_text(&cell["v"], field))).collect()
        };
        Ok(DBOutput::Rows {
            types: fields.iter().map(kind).collect(),
            rows: rows.iter().map(cells).collect(),
        })
    }
}

fn kind(field: &Value) -> DefaultColumnType {
    match field["type"].as_str().expect("a type") {
        _ if field["mode"] == "REPEATED" => DefaultColumnType::Text,
        "INTEGER" => DefaultColumnType::Integer,
        "FLOAT" | "NUMERIC" | "BIGNUMERIC" => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Text,
    }
}

fn cell_text(value: &Value, field: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| cell_text(&item["v"], field)).collect();
            format!("[{}]", items.join(","))
        }
        record => {
            let inner = field["fields"].as_array().expect("fields");
            let cells = record["f"].as_array().expect("cells").iter().zip(inner);
            let text = |(cell, field): (&Value, &Value)| {
                format!("{}:{}", field["name"].as_str().expect("a name"), cell_text(&cell["v"], field))
            };
            format!("{{{}}}", cells.map(text).collect::<Vec<_>>().join(","))
        }
    }
}

/// The engine of `api2bq sql` over a folder with staged rows.
struct Staged {
    runtime: Runtime,
    explorer: Explorer,
    folder: String,
}

impl Staged {
    fn new(context: &TestContext) -> Self {
        let stage = format!("stage.url={}", context.path("stage").display());
        let pipeline = Pipeline::resolve("flows", &[stage]).expect("a pipeline");
        Staged {
            runtime: runtime(),
            explorer: Explorer::new(vec![pipeline], None).expect("an explorer"),
            folder: context.path("").display().to_string(),
        }
    }
}

impl DB for Staged {
    type Error = Refused;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Refused> {
        let sql = text(sql).replace("{folder}/", &self.folder);
        let refused = |error: api2bq::error::Error| Refused(error.to_string());
        self.runtime.block_on(async {
            let query = self.explorer.plan(&sql, None).await.map_err(refused)?;
            let batches: Vec<RecordBatch> =
                query.rows().map_err(refused)?.try_collect().await.map_err(refused)?;
            let schema = query.schema();
            let types = schema.fields().iter().map(|field| match field.data_type() {
                number if number.is_integer() => DefaultColumnType::Integer,
                number if number.is_numeric() => DefaultColumnType::FloatingPoint,
                _ => DefaultColumnType::Text,
            });
            Ok(DBOutput::Rows { types: types.collect(), rows: batches.iter().flat_map(rows).collect() })
        })
    }
}

fn rows(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let formatter = |column| ArrayFormatter::try_new(column, &options).expect("it can be shown");
    let columns: Vec<_> = batch.columns().iter().map(|column| formatter(column.as_ref())).collect();
    let row = |row| columns.iter().map(|column| shown(column.value(row).to_string())).collect();
    (0..batch.num_rows()).map(row).collect()
}

fn shown(text: String) -> String {
    match text.as_str() {
        "" => "(empty)".into(),
        _ => text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t"),
    }
}

/// The query, or the file that it names.
fn text(sql: &str) -> String {
    let Some(named) = sql.strip_prefix("FILE ") else { return sql.to_owned() };
    let mut words = named.split_whitespace();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(words.next().expect("a path"));
    let file = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    words.filter_map(|word| word.split_once('=')).fold(file, |file, (old, new)| file.replace(old, new))
}

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime")
}

/// Why there is no answer.
#[derive(Debug)]
struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}
