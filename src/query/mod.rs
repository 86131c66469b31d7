//! GoogleSQL in BigQuery for a user: what it would cost first, then the answer.

mod as_of;
mod parameters;
mod price;

use crate::bigquery::{Answered, BigQuery, DryRun, JobFailure, Need, Query, Running, in_utc};
use crate::error::{Error, Kind, Result};
use crate::excerpt::excerpt;
use crate::tables::{parse_duration, parse_time};

pub use parameters::parse_parameters;
pub use price::{Price, USD_PER_TIB, parse_bytes, price, price_of};

/// A job that failed in a bad moment of the service is run again, under another id.
const RUNS_MAX: u32 = 3;

/// `sql` with its tables as they were `time` ago, as in `1h`, or at `time`.
pub fn as_of(sql: &str, time: &str) -> Result<String> {
    let expression = match parse_duration(time) {
        // The service's clock counts, not ours.
        Ok(ms) => format!("TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL {} SECOND)", ms / 1000),
        Err(_) => {
            let at = parse_time(time).ok().and_then(|ms| i64::try_from(ms).ok());
            let at = at.and_then(chrono::DateTime::from_timestamp_millis).ok_or_else(|| {
                Error::usage(format!("`--as-of {time}` is neither a duration nor a time"))
                    .hint("write `1h`, `30m`, `2026-12-31T12:00:00Z` or milliseconds since 1970")
            })?;
            format!("TIMESTAMP '{} UTC'", at.format("%Y-%m-%d %H:%M:%S%.3f"))
        }
    };
    as_of::as_of(sql, &expression)
}

/// Plans the query, at no cost. What is wrong with its text is found here.
pub async fn plan(bigquery: &BigQuery, query: &Query) -> Result<DryRun> {
    let planned = bigquery.dry_run(query).await?;
    planned.map_err(|failure| explain(&failure, query, Kind::Usage))
}

/// Runs the query to its end. Its rows, where it has some, are read afterwards.
pub async fn run(bigquery: &BigQuery, query: &Query, running: &Running) -> Result<Answered> {
    let mut run = 1;
    loop {
        let id = format!("api2bq_query_{:016x}", fastrand::u64(..));
        match bigquery.run_query(&id, query, running).await? {
            Ok(answered) => return Ok(answered),
            // A statement that failed has done nothing; of a script the first ones may be done.
            Err(failure) if failure.transient && run < RUNS_MAX && !is_script(&query.sql) => {
                tracing::warn!(job_id = id, reason = failure.reason, "query failed, running it again");
                run += 1;
            }
            Err(failure) => return Err(explain(&failure, query, Kind::Failed)),
        }
    }
}

/// Perhaps more than one statement.
fn is_script(sql: &str) -> bool {
    sql.trim_end().trim_end_matches(';').contains(';')
}

/// BigQuery's own words, and the line that they are about.
fn explain(failure: &JobFailure, query: &Query, kind: Kind) -> Error {
    let JobFailure { reason, message, .. } = failure;
    let message = in_utc(message);
    let message = match excerpt(&query.sql, &message) {
        Some(excerpt) => format!("{message}\n{excerpt}"),
        None => message,
    };
    let error = Error::new(kind, message);
    match reason.as_str() {
        "duplicate" if query.destination.is_some() => {
            error.hint("`--write append` adds to its rows, `--write truncate` replaces them")
        }
        "notFound" => {
            error.hint("bare table names are looked for in `--default-dataset`, and all in `--project`")
        }
        "bytesBilledLimitExceeded" => error.hint("raise `--max-bytes`, or read fewer columns or partitions"),
        "accessDenied" => error.hint(Need::GET_DATA.hint()),
        "stopped" => error.hint("somebody cancelled the job"),
        _ if failure.message.contains("without a filter over column") => {
            error.hint("name the partitions: `WHERE _PARTITIONTIME >= TIMESTAMP '2026-01-01'`")
        }
        _ => error,
    }
}

/// What a statement without rows did, in words.
pub fn sentence(answered: &Answered) -> String {
    let statistics = &answered.statistics;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let count = |value: &serde_json::Value| value.as_str().and_then(|n| n.parse::<u64>().ok());
    let rows = |n: u64| format!("{} row{}", indicatif::HumanCount(n), if n == 1 { "" } else { "s" });
    let target = ["ddlTargetTable", "ddlTargetDataset", "ddlTargetRoutine"].map(|member| &statistics[member]);
    let target = target.into_iter().find(|target| target.is_object()).map(|target| {
        let parts = ["projectId", "datasetId", "tableId", "routineId"].map(|part| target[part].as_str());
        parts.into_iter().flatten().collect::<Vec<_>>().join(".")
    });
    if let Some(affected) = count(&statistics["numDmlAffectedRows"]) {
        let dml = &statistics["dmlStats"];
        let kinds = [
            ("inserted", "insertedRowCount"),
            ("updated", "updatedRowCount"),
            ("deleted", "deletedRowCount"),
        ];
        let kinds = kinds.iter().filter_map(|(word, member)| {
            count(&dml[*member]).filter(|n| *n > 0).map(|n| format!("{} {word}", indicatif::HumanCount(n)))
        });
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        return match kinds.as_str() {
            "" => format!("{} affected", rows(affected)),
            kinds => format!("{} affected: {kinds}", rows(affected)),
        };
    }
    let target = target.map_or_else(String::new, |target| format!(" `{target}`"));
    match text(&statistics["ddlOperationPerformed"]).as_str() {
        "CREATE" => format!("created{target}"),
        "REPLACE" => format!("replaced{target}"),
        "SKIP" => format!("left as it is:{target}"),
        "DROP" => format!("dropped{target}"),
        "ALTER" => format!("altered{target}"),
        "" => format!("{} done", answered.statement_type.replace('_', " ").to_lowercase())
            .trim_start()
            .to_owned(),
        other => format!("{}{target}", other.to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_ago_by_the_services_clock_or_a_point() {
        let sql = |time: &str| as_of("SELECT 1 FROM d.t", time);
        assert_eq!(
            sql("1h").expect("a duration"),
            "SELECT 1 FROM d.t FOR SYSTEM_TIME AS OF TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 3600 SECOND)"
        );
        for time in ["2026-12-31T01:00:00+01:00", "2026-12-31", "1798675200000"] {
            let expected = "SELECT 1 FROM d.t FOR SYSTEM_TIME AS OF TIMESTAMP '2026-12-31 00:00:00.000 UTC'";
            assert_eq!(sql(time).expect(time), expected);
        }
        assert!(sql("yesterday").is_err());
    }

    #[test]
    fn statements_say_what_they_did() {
        let said = |statistics: serde_json::Value| {
            sentence(&Answered {
                job_id: "j".into(),
                location: None,
                statement_type: "DROP_TABLE".into(),
                statements: 0,
                started_ms: None,
                bytes_processed: 0,
                bytes_billed: 0,
                from_cache: false,
                fields: Vec::new(),
                rows: 0,
                statistics,
            })
        };
        let merge = serde_json::json!({"numDmlAffectedRows": "1203", "dmlStats":
            {"insertedRowCount": "1200", "updatedRowCount": "3", "deletedRowCount": "0"}});
        assert_eq!(said(merge), "1,203 rows affected: 1,200 inserted, 3 updated");
        assert_eq!(said(serde_json::json!({"numDmlAffectedRows": "1"})), "1 row affected");
        let table = serde_json::json!({"projectId": "p", "datasetId": "d", "tableId": "t"});
        let made = serde_json::json!({"ddlOperationPerformed": "CREATE", "ddlTargetTable": table});
        assert_eq!(said(made), "created `p.d.t`");
        assert_eq!(said(serde_json::json!({})), "drop table done");
    }
}
