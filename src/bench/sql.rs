//! Queries over staged rows, timed one after the other and many at once.

use std::sync::Arc;
use std::time::Instant;

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::machine::{Build, Machine};
use super::report::FORMAT;
use super::staged::staged;
use super::statistics::quantile;
use super::usage::Usage;
use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::explore::Explorer;
use crate::telemetry::peak_rss_bytes;

/// Which queries, over which rows, how often.
#[derive(Debug, Clone)]
pub struct Options {
    pub pipeline: String,
    pub set: Vec<String>,
    /// Start of a run's id; the newest that is staged when `None`.
    pub run: Option<String>,
    /// Separated by `;`. The table has the pipeline's name.
    pub sql: String,
    /// Queries at once, in the second round.
    pub concurrency: usize,
    pub runs: u32,
    pub warm_up: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub format: u32,
    pub machine: Machine,
    pub build: Build,
    /// Also the name of the table.
    pub pipeline: String,
    pub run: String,
    /// Staged rows, and bytes of their files.
    pub rows: u64,
    pub bytes: u64,
    pub concurrency: usize,
    pub runs: u32,
    pub warm_up: u32,
    pub queries: Vec<Query>,
    pub serial: Round,
    pub concurrent: Round,
    pub peak_rss_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Query {
    pub sql: String,
    /// That it gave, the same in each run.
    pub rows: u64,
    pub serial: Latency,
    pub concurrent: Latency,
}

/// Seconds from the question to the last row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub min: f64,
    pub max: f64,
}

/// All queries together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Round {
    pub seconds: f64,
    pub queries_per_second: f64,
    pub cpu_seconds: f64,
}

pub async fn run(options: &Options) -> Result<Report> {
    let pipeline = Pipeline::resolve(&options.pipeline, &options.set)?;
    let queries: Arc<Vec<String>> = Arc::new(split(&options.sql));
    if queries.is_empty() {
        return Err(Error::usage("there is no query in the file"));
    }
    let staged = staged(&pipeline, options.run.as_deref()).await?;
    let explorer = Arc::new(Explorer::new(vec![pipeline.clone()], Some(staged.run.clone()))?);

    let mut rows = Vec::with_capacity(queries.len());
    for (number, query) in queries.iter().enumerate() {
        // The first answer, at least, is not measured: it says what the query is, and whether it is right.
        let mut given = 0;
        for _ in 0..options.warm_up.max(1) {
            given = ask(&explorer, query).await.map_err(|e| e.context(format!("query {}", number + 1)))?.rows;
        }
        rows.push(given);
    }
    let (serial, serially) = round(&explorer, &queries, 1, options.runs).await?;
    let (concurrent, concurrently) = round(&explorer, &queries, options.concurrency, options.runs).await?;
    let mut reports = Vec::with_capacity(queries.len());
    for (number, sql) in queries.iter().enumerate() {
        let latency = |answers: &[Answer]| latency(answers, number, rows[number]);
        reports.push(Query {
            sql: sql.clone(),
            rows: rows[number],
            serial: latency(&serially)?,
            concurrent: latency(&concurrently)?,
        });
    }
    Ok(Report {
        format: FORMAT,
        machine: Machine::this(),
        build: Build::this(),
        pipeline: pipeline.name.clone(),
        rows: staged.rows(),
        bytes: staged.bytes(),
        run: staged.run,
        concurrency: options.concurrency,
        runs: options.runs,
        warm_up: options.warm_up,
        queries: reports,
        serial,
        concurrent,
        peak_rss_bytes: peak_rss_bytes(),
    })
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    query: usize,
    rows: u64,
    seconds: f64,
}

async fn ask(explorer: &Explorer, sql: &str) -> Result<Answer> {
    let started = Instant::now();
    let answer = explorer.plan(sql, None).await?.rows()?;
    let rows = answer.try_fold(0, async |sum, batch| Ok(sum + batch.num_rows() as u64)).await?;
    Ok(Answer { query: 0, rows, seconds: started.elapsed().as_secs_f64() })
}

/// `askers` at once, each with every query `runs` times; each begins with another one.
async fn round(
    explorer: &Arc<Explorer>,
    queries: &Arc<Vec<String>>,
    askers: usize,
    runs: u32,
) -> Result<(Round, Vec<Answer>)> {
    let (started, before) = (Instant::now(), Usage::now());
    let mut at_work = JoinSet::new();
    for asker in 0..askers.max(1) {
        let (explorer, queries) = (Arc::clone(explorer), Arc::clone(queries));
        at_work.spawn(async move {
            let mut answers = Vec::new();
            for turn in 0..runs as usize * queries.len() {
                let query = (asker + turn) % queries.len();
                answers.push(Answer { query, ..ask(&explorer, &queries[query]).await? });
            }
            Ok::<_, Error>(answers)
        });
    }
    let mut answers = Vec::new();
    while let Some(ended) = at_work.join_next().await {
        answers.extend(ended.map_err(|e| Error::failed("a query's task died").caused_by(e))??);
    }
    let seconds = started.elapsed().as_secs_f64();
    let cpu_seconds = Usage::now().since(before).cpu.as_secs_f64();
    let queries_per_second = answers.len() as f64 / seconds.max(1e-9);
    Ok((Round { seconds, queries_per_second, cpu_seconds }, answers))
}

fn latency(answers: &[Answer], query: usize, rows: u64) -> Result<Latency> {
    let of_query = answers.iter().filter(|answer| answer.query == query);
    if let Some(other) = of_query.clone().find(|answer| answer.rows != rows) {
        return Err(Error::failed(format!(
            "query {} gave {rows} rows, and then {} over the same files",
            query + 1,
            other.rows
        )));
    }
    let mut seconds: Vec<f64> = of_query.map(|answer| answer.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let at = |share| quantile(&seconds, share).ok_or_else(|| Error::usage("`--runs` must be at least 1"));
    Ok(Latency { p50: at(0.5)?, p95: at(0.95)?, p99: at(0.99)?, min: at(0.0)?, max: at(1.0)? })
}

/// The queries of a text: cut at `;`, but for those in quotes and comments.
fn split(sql: &str) -> Vec<String> {
    let mut queries = vec![String::new()];
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let whole = match first {
            quote @ ('\'' | '"' | '`') => rest[1..].find(quote).map_or(rest.len(), |at| at + 2),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            _ => first.len_utf8(),
        };
        let (token, left) = rest.split_at(whole);
        match first {
            ';' => queries.push(String::new()),
            // A comment is no part of what is measured, or of what is shown.
            '-' | '/' if whole > 1 => queries.last_mut().expect("there is one").push(' '),
            _ => queries.last_mut().expect("there is one").push_str(token),
        }
        rest = left;
    }
    let trimmed = queries.iter().map(|query| query.trim().to_owned());
    trimmed.filter(|query| !query.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_cut_where_they_end() {
        let text = "-- first; of two\nSELECT ';' AS a, 1-1;\n/* none; here */ SELECT \"b;\" FROM `t;`;\n;";
        assert_eq!(split(text), ["SELECT ';' AS a, 1-1", "SELECT \"b;\" FROM `t;`"]);
        assert_eq!(split("SELECT 'it''s; one'"), ["SELECT 'it''s; one'"]);
        assert_eq!(split("SELECT 'open;"), ["SELECT 'open;"]);
        assert!(split(" ; -- nothing").is_empty());
    }

    #[test]
    fn answers_that_differ_are_no_figure() {
        let answer = |rows| Answer { query: 0, rows, seconds: 0.1 };
        assert!(latency(&[answer(5), answer(5)], 0, 5).is_ok());
        assert!(latency(&[answer(5), answer(6)], 0, 5).is_err());
    }
}
