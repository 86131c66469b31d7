//! Against DataFusion's own plan of the same SQL, on tables made to be awkward.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::{Result, exec_err};
use datafusion::datasource::MemTable;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, collect, displayable, execute_stream};
use datafusion::prelude::SessionContext;
use fastrand::Rng;
use futures::{StreamExt, stream};

use super::{LatestPerKeyExec, Limits, RULE, duplicates, install};
use crate::engine::{Engine, Options};

const TINY: Limits =
    Limits { spool_bytes: 4096, chunk_bytes: 2048, candidate_bytes: 16, late_rows: 4, winner_bytes: 6 << 10 };

fn engine(options: Options) -> Engine {
    Engine::new(options).unwrap()
}

fn session(limits: Limits) -> SessionContext {
    let engine = engine(Options::default());
    SessionContext::new_with_state(install(engine.state_builder(engine.config()), limits).build())
}

/// `a` and `b` are keys, `x` and `f` have ties and NULLs, `s` is text, `seq` is unique.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8View, true),
        Field::new("x", DataType::Int64, true),
        Field::new("f", DataType::Float64, true),
        Field::new("u", DataType::UInt64, false),
        Field::new("s", DataType::Utf8View, false),
        Field::new("seq", DataType::Int64, false),
    ]))
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    rows: usize,
    batch_rows: usize,
    /// Keys are drawn from this many values; 0 lets them rise with few repeats.
    keys: i64,
    nulls: bool,
}

fn batches(shape: Shape, seed: u64) -> Vec<RecordBatch> {
    let mut rng = Rng::with_seed(seed);
    let mut next = 0;
    let mut made = Vec::new();
    let mut row = 0;
    while row < shape.rows {
        let rows = rng.usize(1..=shape.batch_rows).min(shape.rows - row);
        let (mut a, mut b, mut x, mut f, mut u, mut s, mut seq) =
            (vec![], vec![], vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..rows {
            let null = |rng: &mut Rng| shape.nulls && rng.u8(..) < 32;
            let key = if shape.keys > 0 {
                rng.i64(0..shape.keys)
            } else if next > 0 && rng.u8(..) < 12 {
                rng.i64((next - 300).max(0)..next)
            } else {
                next += 1;
                next
            };
            a.push((!null(&mut rng)).then_some(key));
            b.push((!null(&mut rng)).then(|| format!("key {} of the table", key % 97)));
            x.push((!null(&mut rng)).then(|| rng.i64(-3..3)));
            let floats = [0.0, -0.0, f64::NAN, 1.5, f64::NEG_INFINITY];
            f.push((!null(&mut rng)).then(|| floats[rng.usize(..floats.len())]));
            u.push(if rng.bool() { key as u64 } else { u64::MAX - key as u64 });
            s.push(format!("{row} {}", "text ".repeat(rng.usize(..6))));
            seq.push(row as i64);
            row += 1;
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(a)),
            Arc::new(StringViewArray::from_iter(b)),
            Arc::new(Int64Array::from(x)),
            Arc::new(Float64Array::from(f)),
            Arc::new(UInt64Array::from(u)),
            Arc::new(StringViewArray::from_iter_values(s)),
            Arc::new(Int64Array::from(seq)),
        ];
        made.push(RecordBatch::try_new(schema(), columns).unwrap());
    }
    made
}

async fn run(
    ctx: &SessionContext,
    data: &[RecordBatch],
    sql: &str,
) -> (Arc<dyn ExecutionPlan>, Vec<RecordBatch>) {
    let _ = ctx.deregister_table("t");
    ctx.register_table("t", Arc::new(MemTable::try_new(schema(), vec![data.to_vec()]).unwrap())).unwrap();
    let plan = ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    let out = collect(Arc::clone(&plan), ctx.task_ctx()).await.unwrap();
    (plan, out)
}

fn text(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).unwrap().to_string()
}

fn find(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if plan.is::<LatestPerKeyExec>() {
        return Some(Arc::clone(plan));
    }
    plan.children().into_iter().find_map(find)
}

/// Passes over the spool, and bytes on disk.
fn effort(plan: &Arc<dyn ExecutionPlan>) -> (usize, usize) {
    let metrics = find(plan).expect("the plan has the operator").metrics().unwrap();
    (metrics.sum_by_name("passes").unwrap().as_usize(), metrics.spilled_bytes().unwrap())
}

fn rows(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

/// Runs `window` with and without the rule; the answers have to be the same, to the byte.
async fn same(limits: Limits, shape: Shape, seed: u64, window: &str) -> Arc<dyn ExecutionPlan> {
    let (ours, plain) = (session(limits), session(limits));
    assert!(plain.remove_optimizer_rule(RULE));
    let data = batches(shape, seed);
    let sql = format!("SELECT *, x + 1 AS y FROM t QUALIFY ROW_NUMBER() OVER ({window}) = 1");
    let (plan, fast) = run(&ours, &data, &sql).await;
    let (slow_plan, slow) = run(&plain, &data, &format!("{sql} ORDER BY seq")).await;
    assert!(find(&plan).is_some() && find(&slow_plan).is_none());
    // Ours is in the order of arrival already.
    if rows(&slow) > 0 {
        let plan = displayable(plan.as_ref()).indent(true);
        assert!(text(&fast) == text(&slow), "{shape:?} seed {seed} {window}\n{plan}");
    }
    assert_eq!(rows(&fast), rows(&slow));
    assert_eq!(duplicates(&plan), Some((shape.rows - rows(&slow)) as u64));
    plan
}

const WINDOWS: [&str; 8] = [
    "PARTITION BY a ORDER BY seq DESC",
    "PARTITION BY a ORDER BY x DESC NULLS LAST, seq",
    "PARTITION BY b ORDER BY x ASC NULLS FIRST, seq DESC",
    "PARTITION BY a, b ORDER BY x DESC, s DESC, seq",
    "PARTITION BY (a - 1) / 50, b ORDER BY f ASC NULLS LAST, seq",
    "PARTITION BY f ORDER BY s, seq",
    "PARTITION BY u, a ORDER BY f DESC, seq DESC",
    "PARTITION BY x, f ORDER BY b DESC NULLS FIRST, seq",
];

#[tokio::test]
async fn answers_are_those_of_row_number() {
    for (seed, window) in (0..).zip(WINDOWS) {
        for keys in [0, 1, 7, 900] {
            for nulls in [false, true] {
                let shape = Shape { rows: 1500, batch_rows: 400, keys, nulls };
                same(Limits::default(), shape, seed, window).await;
                same(TINY, shape, seed + 100, window).await;
            }
        }
    }
}

#[tokio::test]
async fn answers_are_those_of_row_number_for_few_rows_and_many_small_batches() {
    for (seed, window) in (0..).zip(WINDOWS) {
        for rows in [0, 1, 2, 300] {
            let shape = Shape { rows, batch_rows: 3, keys: 40, nulls: seed % 2 == 0 };
            same(Limits::default(), shape, seed, window).await;
            same(TINY, shape, seed, window).await;
        }
    }
}

#[tokio::test]
async fn rising_keys_are_decided_in_one_pass_and_without_disk() {
    let shape = Shape { rows: 20_000, batch_rows: 4000, keys: 0, nulls: false };
    let plan = same(Limits::default(), shape, 5, "PARTITION BY a, x ORDER BY seq DESC").await;
    assert_eq!(effort(&plan), (1, 0));
}

#[tokio::test]
async fn a_spool_on_disk_and_many_passes_give_the_same_answer() {
    let shape = Shape { rows: 20_000, batch_rows: 1000, keys: 15_000, nulls: true };
    for window in ["PARTITION BY a ORDER BY seq DESC", "PARTITION BY b, a ORDER BY x, seq"] {
        let plan = same(TINY, shape, 6, window).await;
        let (passes, spilled) = effort(&plan);
        assert!(spilled > 1 << 20 && passes > 100, "{spilled} bytes, {passes} passes");
    }
}

#[tokio::test]
async fn a_pool_with_next_to_nothing_left_is_enough() {
    let engine = engine(Options { memory_bytes: 1 << 20, ..Options::default() });
    let ctx = engine.session();
    let shape = Shape { rows: 60_000, batch_rows: 2000, keys: 50_000, nulls: false };
    let (data, sql) =
        (batches(shape, 8), "SELECT * FROM t QUALIFY ROW_NUMBER() OVER (PARTITION BY a ORDER BY seq) = 1");
    let (plan, out) = run(&ctx, &data, sql).await;
    let (_, distinct) = run(&session(Limits::default()), &data, "SELECT DISTINCT a FROM t").await;
    assert_eq!(rows(&out), rows(&distinct));
    let (passes, spilled) = effort(&plan);
    assert!(spilled > 1 << 20 && passes > 2, "{spilled} bytes, {passes} passes");
}

#[tokio::test]
async fn the_first_to_arrive_wins_a_tie() {
    let ctx = session(Limits::default());
    let data = batches(Shape { rows: 500, batch_rows: 50, keys: 9, nulls: false }, 1);
    let (_, out) = run(&ctx, &data, "SELECT seq FROM t QUALIFY ROW_NUMBER() OVER (PARTITION BY a) = 1").await;
    let (_, first) = run(&ctx, &data, "SELECT min(seq) AS seq FROM t GROUP BY a ORDER BY seq").await;
    assert_eq!(text(&out), text(&first));
}

async fn explain(sql: &str) -> String {
    let ctx = session(Limits::default());
    let (_, plan) = run(
        &ctx,
        &batches(Shape { rows: 9, batch_rows: 9, keys: 3, nulls: false }, 1),
        &format!("EXPLAIN {sql}"),
    )
    .await;
    text(&plan)
}

#[tokio::test]
async fn the_rule_knows_every_way_to_say_first() {
    let window = "ROW_NUMBER() OVER (PARTITION BY a, (seq - 1) / 7 ORDER BY x DESC, seq)";
    for first in ["rn = 1", "1 = rn", "rn <= 1", "rn < 2", "1 >= rn", "2 > rn", "rn = 1 AND x > s::BIGINT"] {
        for sql in [
            format!("SELECT a, rn, x FROM (SELECT *, {window} AS rn FROM t) WHERE {first}"),
            format!(
                "WITH n AS (SELECT *, {window} AS rn FROM t WHERE x > 0) SELECT a, b FROM n AS m WHERE {first}"
            ),
            format!("SELECT a, {window} AS rn FROM t QUALIFY {first}"),
        ] {
            let plan = explain(&sql).await;
            assert!(
                plan.contains("LatestPerKey: key=[") && plan.contains("LatestPerKeyExec: key=[a@"),
                "{sql}\n{plan}"
            );
            assert!(!plan.contains("Window") && !plan.contains("RoundRobin"), "{sql}\n{plan}");
        }
    }
}

#[tokio::test]
async fn the_rule_leaves_what_it_does_not_know() {
    let over = "OVER (PARTITION BY a ORDER BY seq)";
    for (number, test) in [
        (format!("rank() {over}"), "n = 1"),
        (format!("count(*) {over}"), "n = 1"),
        (format!("row_number() {over}"), "n = 2"),
        (format!("row_number() {over}"), "n <= 3"),
        (format!("row_number() {over}"), "n >= 1"),
        (format!("row_number() {over}"), "2 < n"),
        (format!("row_number() {over}"), "n = 1 OR x = 1"),
        (format!("row_number() {over}, max(x) {over} AS m"), "n = 1"),
        ("row_number() OVER (ORDER BY seq)".into(), "n = 1"),
        ("row_number() OVER (PARTITION BY [a] ORDER BY seq)".into(), "n = 1"),
        ("row_number() OVER (PARTITION BY random() ORDER BY seq)".into(), "n = 1"),
        (
            "row_number() OVER (PARTITION BY a ORDER BY seq ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)".into(),
            "n = 1",
        ),
    ] {
        let number = match number.split_once(", max") {
            Some((first, rest)) => format!("{first} AS n, max{rest}"),
            None => format!("{number} AS n"),
        };
        let sql = format!("SELECT * FROM (SELECT *, {number} FROM t) WHERE {test}");
        let plan = explain(&sql).await;
        assert!(plan.contains("Window") && !plan.contains("LatestPerKey"), "{sql}\n{plan}");
    }
}

#[tokio::test]
async fn columns_nobody_reads_are_pruned_below_the_operator() {
    let sql = "SELECT b FROM t QUALIFY ROW_NUMBER() OVER (PARTITION BY a ORDER BY seq) = 1";
    let ctx = session(Limits::default());
    let data = batches(Shape { rows: 50, batch_rows: 9, keys: 3, nulls: false }, 1);
    let (plan, _) = run(&ctx, &data, sql).await;
    let names: Vec<String> =
        find(&plan).unwrap().schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["a", "b", "seq"]);
    assert_eq!(duplicates(&plan), Some(47));
    let (plan, _) = run(&ctx, &data, "SELECT a FROM t").await;
    assert_eq!(duplicates(&plan), None);
}

#[tokio::test]
async fn columns_of_every_kind_come_back_from_the_files() {
    let sql = "SELECT arrow_cast(b, 'Dictionary(Int32, Utf8)') AS d, named_struct('s', s, 'x', x) AS st,
            [s, b, NULL] AS li, arrow_cast(x, 'Decimal128(20, 3)') AS de, x > 0 AS bo, NULL AS nu,
            arrow_cast(seq, 'Timestamp(Microsecond, Some(\"UTC\"))') AS ts, arrow_cast(s, 'BinaryView') AS bi, seq
        FROM t";
    let data = batches(Shape { rows: 3000, batch_rows: 300, keys: 2500, nulls: true }, 11);
    for window in [
        "PARTITION BY d, de ORDER BY seq",
        "PARTITION BY ts ORDER BY de DESC, seq",
        "PARTITION BY bo, 1 ORDER BY d, seq",
    ] {
        let latest = format!("SELECT * FROM ({sql}) QUALIFY ROW_NUMBER() OVER ({window}) = 1");
        let (ours, plain) = (session(TINY), session(TINY));
        assert!(plain.remove_optimizer_rule(RULE));
        let (plan, fast) = run(&ours, &data, &latest).await;
        let (_, slow) = run(&plain, &data, &format!("{latest} ORDER BY seq")).await;
        assert!(effort(&plan).1 > 0);
        assert_eq!(text(&fast), text(&slow), "{window}");
    }
}

#[tokio::test]
async fn one_key_for_all_rows_and_no_column_but_the_key() {
    let data = batches(Shape { rows: 3000, batch_rows: 300, keys: 2500, nulls: true }, 12);
    for limits in [TINY, Limits::default()] {
        let ctx = session(limits);
        let sql =
            "SELECT count(*) AS n FROM (SELECT 1 FROM t QUALIFY ROW_NUMBER() OVER (PARTITION BY 1) = 1)";
        let (_, one) = run(&ctx, &data, sql).await;
        assert!(text(&one).contains("| 1 |"), "{}", text(&one));
        let sql =
            "SELECT count(*) AS n FROM (SELECT a FROM t QUALIFY ROW_NUMBER() OVER (PARTITION BY a) = 1)";
        let (plan, some) = run(&ctx, &data, sql).await;
        let (_, distinct) = run(&ctx, &data, "SELECT count(*) AS n FROM (SELECT DISTINCT a FROM t)").await;
        assert!(find(&plan).is_some());
        assert_eq!(text(&some), text(&distinct));
    }
}

#[tokio::test]
async fn slices_of_a_large_batch_count_with_their_own_size() {
    let whole = batches(Shape { rows: 5000, batch_rows: 1, keys: 3, nulls: false }, 1);
    let whole = arrow::compute::concat_batches(&schema(), &whole).unwrap();
    let (slice, bytes) = super::compact::compact(whole.slice(70, 20)).unwrap();
    assert_eq!(slice, whole.slice(70, 20));
    assert!(bytes < 20 << 10 && bytes < whole.get_array_memory_size() / 10, "{bytes}");
}

/// Yields `data`, then an error, or nothing ever again.
#[derive(Debug)]
struct Source {
    data: Vec<RecordBatch>,
    fails: bool,
}

impl PartitionStream for Source {
    fn schema(&self) -> &SchemaRef {
        static SCHEMA: std::sync::LazyLock<SchemaRef> = std::sync::LazyLock::new(schema);
        &SCHEMA
    }

    fn execute(
        &self,
        _: Arc<datafusion::execution::TaskContext>,
    ) -> datafusion::execution::SendableRecordBatchStream {
        let end = if self.fails {
            stream::once(async { exec_err!("the API hung up") }).boxed()
        } else {
            stream::pending::<Result<RecordBatch>>().boxed()
        };
        let data = stream::iter(self.data.clone().into_iter().map(Ok)).chain(end);
        Box::pin(RecordBatchStreamAdapter::new(schema(), data))
    }
}

fn on(source: Source) -> Arc<dyn ExecutionPlan> {
    let input = StreamingTableExec::try_new(schema(), vec![Arc::new(source)], None, [], false, None).unwrap();
    let key = datafusion::physical_expr::expressions::col("a", &schema()).unwrap();
    Arc::new(LatestPerKeyExec::new(Arc::new(input), vec![key], vec![], TINY))
}

fn files_in(dir: &Path) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        files += if path.is_dir() { files_in(&path) } else { 1 };
    }
    files
}

/// Files are given back by the thread that wrote last, a moment after the stream is gone.
async fn no_files_in(dir: &Path) {
    for _ in 0..500 {
        if files_in(dir) == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{} files are left", files_in(dir));
}

#[tokio::test]
async fn an_error_of_the_input_ends_the_stream_and_removes_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = engine(Options { spill_dir: Some(dir.path().into()), ..Options::default() }).session();
    let data = batches(Shape { rows: 4000, batch_rows: 500, keys: 900, nulls: false }, 3);
    let error = collect(on(Source { data, fails: true }), ctx.task_ctx()).await.unwrap_err();
    assert!(error.to_string().contains("the API hung up"), "{error}");
    no_files_in(dir.path()).await;
}

#[tokio::test]
async fn a_dropped_stream_gives_back_its_files_and_memory() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(Options { spill_dir: Some(dir.path().into()), ..Options::default() });
    let ctx = engine.session();
    let data = batches(Shape { rows: 4000, batch_rows: 500, keys: 900, nulls: false }, 3);

    // While it collects.
    let mut stream = execute_stream(on(Source { data: data.clone(), fails: false }), ctx.task_ctx()).unwrap();
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), stream.next()).await.is_err());
    assert_eq!(files_in(dir.path()), 2);
    drop(stream);
    no_files_in(dir.path()).await;

    // While it emits.
    ctx.register_table("t", Arc::new(MemTable::try_new(schema(), vec![data]).unwrap())).unwrap();
    let ctx = SessionContext::new_with_state(install(engine.state_builder(engine.config()), TINY).build());
    let data = batches(Shape { rows: 4000, batch_rows: 500, keys: 900, nulls: false }, 3);
    ctx.register_table("t", Arc::new(MemTable::try_new(schema(), vec![data]).unwrap())).unwrap();
    let sql = "SELECT * FROM t QUALIFY ROW_NUMBER() OVER (PARTITION BY a ORDER BY seq) = 1";
    let mut stream = ctx.sql(sql).await.unwrap().execute_stream().await.unwrap();
    assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
    assert_eq!(files_in(dir.path()), 2);
    drop(stream);
    no_files_in(dir.path()).await;
    assert_eq!(ctx.runtime_env().memory_pool.reserved(), 0);
    assert_eq!(ctx.runtime_env().disk_manager.used_disk_space(), 0);
}
