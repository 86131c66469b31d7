//! insertAll by our client, against the embedded server.

use api2bq::bigquery::{BigQuery, Insert, InsertRow, Options, RowError, TableId};
use api2bq::effects::Effects;
use api2bq::error::{Error, Kind};
use api2bq::retry::Policy;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::context::TestContext;
use crate::embedded::{Embedded, rest};

struct Scene {
    _context: TestContext,
    bigquery: Embedded,
    client: BigQuery,
    runtime: Runtime,
    table: TableId,
}

impl Scene {
    fn new() -> Scene {
        let context = TestContext::new();
        let bigquery = Embedded::start(&context.path("wh"), &[]);
        let runtime = Runtime::new().expect("a runtime");
        let wait = std::time::Duration::from_millis(1);
        let retry = Policy { first_wait: wait, wait_max: wait, ..Policy::default() };
        let (project, location) = ("api2gbq".to_owned(), "US".to_owned());
        let (effects, emulator) = (Effects::default(), Some(bigquery.url.clone()));
        let options = Options { project, location, poll_max: wait, retry, effects, emulator };
        let client = runtime.block_on(BigQuery::connect(options)).expect("a client");
        let table = TableId::new("api2gbq", "d", "t");
        rest(&bigquery.url, "POST", "datasets", Some(json!({"datasetReference": {"datasetId": "d"}})));
        let fields =
            json!([{"name": "n", "type": "INT64"}, {"name": "s", "type": "STRING", "maxLength": "3"}]);
        let document = json!({"tableReference": {"tableId": "t"}, "schema": {"fields": fields}});
        assert_eq!(rest(&bigquery.url, "POST", "datasets/d/tables", Some(document)).0, 200);
        Scene { _context: context, bigquery, client, runtime, table }
    }

    fn insert(
        &self,
        change: impl FnOnce(&mut Insert<'_>),
        rows: &[(&str, &str)],
    ) -> Result<Vec<RowError>, Error> {
        let rows: Vec<_> = rows.iter().map(|(id, json)| InsertRow { id: (*id).to_owned(), json }).collect();
        let (template_suffix, skip_invalid_rows, ignore_unknown_values) = ("", false, false);
        let mut insert = Insert {
            table: &self.table,
            template_suffix,
            skip_invalid_rows,
            ignore_unknown_values,
            rows: &rows,
        };
        change(&mut insert);
        self.runtime.block_on(self.client.insert_all(&insert))
    }

    /// Values of `n`, as texts.
    fn rows(&self, table: &str) -> Vec<String> {
        let (_, data) = rest(&self.bigquery.url, "GET", &format!("datasets/d/tables/{table}/data"), None);
        let rows = data["rows"].as_array().cloned().unwrap_or_default();
        let mut rows: Vec<_> =
            rows.iter().map(|row| row["f"][0]["v"].as_str().unwrap_or("NULL").to_owned()).collect();
        rows.sort();
        rows
    }
}

fn reasons(errors: &[RowError]) -> Vec<(usize, &str)> {
    errors.iter().map(|error| (error.index, &*error.reason)).collect()
}

#[test]
fn a_row_that_does_not_fit_stops_the_others_unless_it_is_skipped() {
    let scene = Scene::new();
    let rows = [("1", r#"{"n":"9007199254740993"}"#), ("2", r#"{"s":"long"}"#), ("3", r#"{"n":null}"#)];
    let errors = scene.insert(|_| {}, &rows).expect("an answer");
    assert_eq!(reasons(&errors), [(0, "stopped"), (1, "invalid"), (2, "stopped")]);
    assert_eq!((&*errors[1].location, errors[1].message.contains("maximum length 3")), ("s", true));
    assert!(scene.rows("t").is_empty());
    let errors = scene.insert(|insert| insert.skip_invalid_rows = true, &rows).expect("an answer");
    assert_eq!(reasons(&errors), [(1, "invalid")]);
    assert_eq!(scene.rows("t"), ["9007199254740993", "NULL"], "to the last digit");
}

#[test]
fn unknown_fields_are_refused_or_dropped_and_a_suffix_makes_a_table() {
    let scene = Scene::new();
    let rows = [("1", r#"{"n":"1","x":"2"}"#)];
    assert_eq!(reasons(&scene.insert(|_| {}, &rows).expect("an answer")), [(0, "invalid")]);
    let errors = scene.insert(|insert| insert.ignore_unknown_values = true, &rows).expect("an answer");
    assert_eq!((errors.len(), scene.rows("t")), (0, vec!["1".to_owned()]));
    let errors = scene.insert(|insert| insert.template_suffix = "_x", &[("1", r#"{"n":"2"}"#)]);
    assert_eq!((errors.expect("an answer").len(), scene.rows("t_x")), (0, vec!["2".to_owned()]));
}

#[test]
fn weather_is_waited_for_and_the_same_ids_are_stored_once() {
    let scene = Scene::new();
    let faults = ["503=1", "429=1", "rate-limit=1", "drop=1", "drop-after=1"]
        .map(|fault| format!("{fault}@/insertAll"));
    scene.bigquery.arm(&faults.each_ref().map(String::as_str));
    let errors = scene.insert(|_| {}, &[("1", r#"{"n":"1"}"#), ("2", r#"{"n":"2"}"#)]).expect("an answer");
    assert!(errors.is_empty() && scene.bigquery.faults.are_spent());
    assert_eq!(scene.rows("t"), ["1", "2"], "the answer to the last but one was lost");
}

#[test]
fn what_is_wrong_with_the_whole_request_is_an_error_that_no_retry_mends() {
    let mut scene = Scene::new();
    scene.table = TableId::new("api2gbq", "d", "gone");
    let error = scene.insert(|_| {}, &[("1", r#"{"n":"1"}"#)]).expect_err("no table");
    assert!(error.kind() == Kind::Failed && !error.is_retryable(), "{error}");
    assert!(error.to_string().contains("404 notFound"), "{error}");
}
