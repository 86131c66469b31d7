//! Windows that append: a day of staging holds what several of them brought.

use crate::context::{Running, TestContext};

fn query(context: &TestContext, emulator: &Running, sql: &str) -> String {
    let mut command = context.command(["query", "--format", "csv", sql]);
    let output = command.env("BIGQUERY_EMULATOR_HOST", &emulator.url).output().expect("it runs");
    crate::context::Ended::from(output).success().stdout
}

/// Once only the partition decided, and of two rows in one day whichever was read first stayed.
#[test]
fn of_equally_late_records_promote_keeps_the_same_one_in_whatever_order_they_came() {
    let context = TestContext::new();
    let emulator = context.emulator();
    let pipeline = ["--from-pipeline", "flows", "--create-dataset"];
    let row = |time: u32, bytes: u32, comp: &str| {
        format!("(TIMESTAMP '2011-01-01', 1, {time}, 1, '{comp}', '80', 'C2', '443', 6, 1, {bytes})")
    };
    let rows = [row(4, 900, "C1"), row(5, 100, "C1"), row(5, 200, "C1"), row(5, 200, "C3")];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        let set = format!("warehouse.dataset=d{}", order[0]);
        let table = format!("d{}.flows_staging", order[0]);
        let mut create = context.command(["table", "create", &table].into_iter().chain(pipeline));
        create.env("BIGQUERY_EMULATOR_HOST", &emulator.url).output().expect("it runs");
        for at in order {
            let columns = "_PARTITIONTIME, id, time, duration, src_comp, src_port, dst_comp, dst_port, protocol, \
                           packet_count, byte_count";
            query(&context, &emulator, &format!("INSERT INTO {table} ({columns}) VALUES {}", rows[at]));
        }
        let mut promote = context.command(["promote", "flows", "--set", &set]);
        let promoted = promote.env("BIGQUERY_EMULATOR_HOST", &emulator.url).output().expect("it runs");
        crate::context::Ended::from(promoted).success();
        let sql = format!("SELECT time, byte_count, src_comp FROM d{}.flows", order[0]);
        assert_eq!(query(&context, &emulator, &sql), "time,byte_count,src_comp\n5,200,C3\n", "{order:?}");
    }
}
