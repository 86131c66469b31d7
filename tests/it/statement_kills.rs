//! `kill -9` of the embedded BigQuery while SQL statements run. After the restart each has had its effect whole
//! or not at all, and its job says which.
//!
//! `API2BQ_STATEMENT_KILLS` says how often, `API2BQ_SEED` draws the same instants again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::context::TestContext;
use crate::embedded::{rest, try_rest};
use crate::process::Warehouse;

/// In the dataset `{r}` all of them have tables with rows of their own, in five files each.
const STATEMENTS: [(&str, &str); 14] = [
    ("insert", "INSERT {r}.t_insert (x, y) SELECT x + 1000, 7 FROM {r}.t_source"),
    ("update", "UPDATE {r}.t_update SET y = y + 1 WHERE x > 150"),
    ("delete", "DELETE FROM {r}.t_delete WHERE MOD(x, 3) = 0"),
    (
        "merge",
        "MERGE {r}.t_merge AS t USING (SELECT x + 500 AS x, y FROM {r}.t_source) AS s ON t.x = s.x \
         WHEN MATCHED THEN UPDATE SET y = 9 WHEN NOT MATCHED BY TARGET THEN INSERT (x, y) VALUES (s.x, 8) \
         WHEN NOT MATCHED BY SOURCE THEN DELETE",
    ),
    ("truncate", "TRUNCATE TABLE {r}.t_truncate"),
    ("create", "CREATE TABLE {r}.t_created AS SELECT x, y * 2 AS y FROM {r}.t_source"),
    (
        "replace",
        "CREATE OR REPLACE TABLE {r}.t_replace AS SELECT x, y * 3 AS y FROM {r}.t_source WHERE x < 99",
    ),
    ("drop", "DROP TABLE {r}.t_drop"),
    ("rename", "ALTER TABLE {r}.t_rename RENAME TO t_renamed"),
    ("alter", "ALTER TABLE {r}.t_alter DROP COLUMN y"),
    ("clone", "CREATE TABLE {r}.t_cloned CLONE {r}.t_source"),
    ("create_schema", "CREATE SCHEMA {r}_created OPTIONS (description = 'made')"),
    ("alter_schema", "ALTER SCHEMA {r} SET OPTIONS (description = 'altered')"),
    ("drop_schema", "DROP SCHEMA {r}_dropped CASCADE"),
];

/// The tables that a statement finds.
const TABLES: [&str; 10] =
    ["source", "insert", "update", "delete", "merge", "truncate", "replace", "drop", "rename", "alter"];

struct Ground {
    context: TestContext,
    warehouse: Warehouse,
    random: fastrand::Rng,
    rounds: usize,
}

impl Ground {
    fn new() -> Self {
        let context = TestContext::new();
        let warehouse = Warehouse::start(&context);
        let wanted = std::env::var("API2BQ_SEED").ok();
        let seed = wanted.map_or_else(|| fastrand::u64(..1 << 32), |seed| seed.parse().expect("a number"));
        println!("API2BQ_SEED={seed}");
        Ground { context, warehouse, random: fastrand::Rng::with_seed(seed), rounds: 0 }
    }

    fn rest(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        rest(&self.warehouse.url(), method, path, body)
    }

    /// A dataset, and one more, in which no statement has run yet.
    fn next_round(&mut self) -> String {
        self.rounds += 1;
        let round = format!("r{}", self.rounds);
        let mut script = format!("CREATE SCHEMA {round}; CREATE SCHEMA {round}_dropped;");
        script += &format!(
            "CREATE TABLE {round}.t_source (x INT64, y INT64) \
             PARTITION BY RANGE_BUCKET(x, GENERATE_ARRAY(0, 1000, 200)) \
             AS SELECT x, MOD(x, 7) AS y FROM UNNEST(GENERATE_ARRAY(0, 999)) AS x;"
        );
        for table in &TABLES[1..] {
            script += &format!("CREATE TABLE {round}.t_{table} COPY {round}.t_source;");
        }
        for table in ["a", "b", "c"] {
            script += &format!("CREATE TABLE {round}_dropped.{table} COPY {round}.t_source;");
        }
        let (status, answer) =
            self.rest("POST", "queries", Some(json!({"query": script, "useLegacySql": false})));
        assert_eq!((status, &answer["jobComplete"]), (200, &json!(true)), "{answer}");
        round
    }

    /// Sends all statements at once, in a random order; how long it took until all were answered and done, or
    /// until nobody answered any more. `ids` of those that were seen to be done come back too.
    fn send(&mut self, round: &str, kill_after: Option<Duration>) -> (Duration, Vec<String>) {
        let mut order: Vec<usize> = (0..STATEMENTS.len()).collect();
        self.random.shuffle(&mut order);
        let (url, started) = (self.warehouse.url(), Instant::now());
        let warehouse = &mut self.warehouse;
        std::thread::scope(|scope| {
            let sent: Vec<_> = order
                .into_iter()
                .map(|index| {
                    let (name, sql) = STATEMENTS[index];
                    let (url, id) = (&url, format!("{round}-{name}"));
                    let query = json!({"query": sql.replace("{r}", round), "useLegacySql": false});
                    let body = json!({"jobReference": {"jobId": id}, "configuration": {"query": query}});
                    scope.spawn(move || {
                        let mut answer = try_rest(url, "POST", "jobs", Some(body));
                        loop {
                            let (status, job) = answer?;
                            assert_eq!(status, 200, "{job}");
                            assert!(job["status"].get("errorResult").is_none(), "{sql}: {job}");
                            if job["status"]["state"] == "DONE" {
                                return Some(id);
                            }
                            answer = try_rest(url, "GET", &format!("jobs/{id}"), None);
                        }
                    })
                })
                .collect();
            if let Some(wait) = kill_after {
                std::thread::sleep(wait.saturating_sub(started.elapsed()));
                warehouse.kill();
            }
            let done = sent.into_iter().filter_map(|sent| sent.join().expect("no panic")).collect();
            (started.elapsed(), done)
        })
    }

    /// Everything that a statement may change, as text.
    fn seen(&self, round: &str, name: &str) -> String {
        match name {
            "create" => self.table(round, "created"),
            "clone" => self.table(round, "cloned"),
            "rename" => format!("{} {}", self.table(round, "rename"), self.table(round, "renamed")),
            "create_schema" => self.schema(&format!("{round}_created")),
            "alter_schema" => {
                self.rest("GET", &format!("datasets/{round}"), None).1["description"].to_string()
            }
            "drop_schema" => self.schema(&format!("{round}_dropped")),
            table => self.table(round, table),
        }
    }

    fn schema(&self, id: &str) -> String {
        let (status, dataset) = self.rest("GET", &format!("datasets/{id}"), None);
        let (_, tables) = self.rest("GET", &format!("datasets/{id}/tables"), None);
        format!("{status} {} {}", dataset["description"], tables["totalItems"])
    }

    fn table(&self, round: &str, table: &str) -> String {
        let sql = format!("SELECT COUNT(*), SUM(x), SUM(y), SUM(x * y) FROM {round}.t_{table}");
        let (status, answer) =
            self.rest("POST", "queries", Some(json!({"query": sql, "useLegacySql": false})));
        let (_, resource) = self.rest("GET", &format!("datasets/{round}/tables/t_{table}"), None);
        format!("{status} {} {}", answer["rows"], resource["numRows"])
    }

    fn seen_by_all(&self, round: &str) -> Vec<String> {
        STATEMENTS.iter().map(|(name, _)| self.seen(round, name)).collect()
    }
}

#[test]
fn a_statement_under_kill_9_happened_whole_or_not_at_all_and_its_job_says_which() {
    let mut ground = Ground::new();
    let calm = ground.next_round();
    let before = ground.seen_by_all(&calm);
    let (whole, done) = ground.send(&calm, None);
    assert_eq!(done.len(), STATEMENTS.len(), "{done:?}");
    let after = ground.seen_by_all(&calm);
    for ((name, _), (before, after)) in STATEMENTS.iter().zip(before.iter().zip(&after)) {
        assert_ne!(before, after, "{name}");
    }
    let kills = std::env::var("API2BQ_STATEMENT_KILLS").map_or(4, |n| n.parse().expect("a number"));
    // By what was found: never arrived, without effect, done and not seen to be, seen to be done.
    let mut found = [0; 4];
    for _ in 0..kills {
        let round = ground.next_round();
        let instant = whole.mul_f64(ground.random.f64());
        let (_, done) = ground.send(&round, Some(instant));
        ground.warehouse.restart(&ground.context);
        for (index, (name, sql)) in STATEMENTS.iter().enumerate() {
            let id = format!("{round}-{name}");
            let (status, job) = ground.rest("GET", &format!("jobs/{id}"), None);
            let error = job["status"].get("errorResult");
            let (kind, expected) = match (status, error) {
                (404, _) => (0, &before[index]),
                (200, Some(error)) => {
                    let message = error["message"].as_str().expect("a message");
                    assert!(message.contains("it had no effect"), "{sql}: {job}");
                    (1, &before[index])
                }
                (200, None) => (2 + usize::from(done.contains(&id)), &after[index]),
                _ => panic!("{sql}: {job}"),
            };
            assert!(kind == 0 || job["status"]["state"] == "DONE", "{sql}: {job}");
            assert!(kind == 3 || !done.contains(&id), "{sql} was seen to be done: {job}");
            assert_eq!(&ground.seen(&round, name), expected, "{sql}: {job}");
            found[kind] += 1;
        }
        for dataset in [round.clone(), format!("{round}_created"), format!("{round}_dropped")] {
            ground.rest("DELETE", &format!("datasets/{dataset}?deleteContents=true"), None);
        }
    }
    let [absent, without, unseen, seen] = found;
    println!(
        "{kills} kills within {whole:?}, {} statements: {absent} never arrived, {without} without effect, \
         {unseen} done and not told, {seen} told to be done",
        STATEMENTS.len() * kills
    );
}
