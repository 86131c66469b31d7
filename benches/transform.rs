//! Decoded batches through the pipeline's SQL, beside SQL that does less.
//!
//! Bytes are those of the Arrow values that go in.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

use corpus::{DECODED, ROWS, RUNTIME};

#[allow(dead_code, reason = "each bench uses a part of it")]
mod corpus;

fn main() {
    divan::main();
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn a_latest_per_id_and_day(bencher: Bencher) {
    bench(bencher, &corpus::pipeline(&[]).stage_sql);
}

/// What the same rows cost without looking for duplicates.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn b_anchor_only_the_day(bencher: Bencher) {
    bench(bencher, "SELECT *, DIV(time - 1, 86400) + 1 AS day FROM records");
}

/// Half of the join form: which place is the newest, without fetching the row that is there.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn c_anchor_group_by_id_newest_seq(bencher: Bencher) {
    // The other columns are constants: only the work on the keys is meant.
    bench(
        bencher,
        "SELECT id, newest AS time, 1 AS duration, '' AS src_comp, '' AS src_port, '' AS dst_comp,
         '' AS dst_port, 6 AS protocol, 1 AS packet_count, 46 AS byte_count, day
         FROM (SELECT id, MAX(_seq) AS newest, DIV(time - 1, 86400) + 1 AS day FROM records GROUP BY id, day)",
    );
}

fn bench(bencher: Bencher, sql: &str) {
    let transform = corpus::transform(sql);
    // As a task, since that is where a backfill runs it.
    let run = || {
        let transform = transform.clone();
        let task = RUNTIME.spawn(async move { corpus::run(&transform, &DECODED).await });
        RUNTIME.block_on(task).expect("no panic")
    };
    assert!(run().iter().map(|batch| batch.num_rows()).sum::<usize>() > ROWS * 9 / 10);
    bencher.counter(ItemsCount::new(ROWS)).counter(BytesCount::new(corpus::arrow_bytes(&DECODED))).bench(run);
}
