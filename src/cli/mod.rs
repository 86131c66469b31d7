//! The command line: what was typed, turned into what the flows take. One file per command.

mod access;
mod backfill;
mod bench;
mod completions;
mod connect;
mod demo;
mod diff;
mod emulator;
mod gateway;
mod gc;
mod load_test;
mod output;
mod promote;
mod query;
mod rejects;
mod replacing;
mod rows_output;
mod source;
mod sql;
mod status;
mod table;
mod track;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tokio::runtime::Runtime;

use crate::error::{Error, Kind, Result};
use crate::telemetry::{Show, say};

/// Streams an HTTP API's XML or JSON records into BigQuery day partitions, every record accounted for.
#[derive(Debug, Parser)]
#[command(name = "api2bq", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

const EXAMPLES: &str = "\
Examples:
  api2bq demo                                     the whole main job, offline
  api2bq backfill flows --from 1 --to 3           three days into BigQuery
  api2bq status flows                             runs, windows, rows per day, what is missing
  api2bq verify flows                             prove it again: journal, files, BigQuery
  api2bq promote flows --days 30                  rebuild production from staging
  api2bq sql -c 'SELECT COUNT(*) FROM flows'      SQL over staged rows, the journal and files
  api2bq query 'SELECT COUNT(*) FROM LANL.flows'  GoogleSQL, with its price first
  api2bq table show LANL.flows                    columns, partitions, times and labels
  api2bq gateway inventory --auth-file users.txt  take rows by HTTP, and load them
  api2bq track inventory WH2 --user ann           what became of requests that the gateway took
  api2bq load-test inventory --user ann           how fast a gateway answers
  api2bq bench                                    how fast the stages are on this machine

Exit codes:
  0 complete   1 failed   2 usage or configuration   3 incomplete (windows or rejects named)
  4 another run owns the table   5 damaged journal or staged data   7 counts do not add up
  130 interrupted

Environment:
  GOOGLE_APPLICATION_CREDENTIALS, GOOGLE_CLOUD_PROJECT, BIGQUERY_EMULATOR_HOST,
  STORAGE_EMULATOR_HOST, API2BQ_<KEY> for any pipeline key, API2BQ_GATEWAY_PASSWORD, RUST_LOG,
  NO_COLOR";

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Backfill(backfill::Args),
    Status(status::Args),
    Verify(verify::Args),
    Rejects(rejects::Args),
    Gc(gc::Args),
    Promote(promote::Args),
    Sql(sql::Args),
    Diff(diff::Args),
    Query(query::Args),
    Table(table::Args),
    Source(source::Args),
    Emulator(emulator::Args),
    Gateway(gateway::Args),
    Track(track::Args),
    LoadTest(load_test::Args),
    Bench(bench::Args),
    #[command(hide = true)]
    BenchStage(bench::StageArgs),
    Completions(completions::CompletionArgs),
    Man(completions::ManArgs),
}

#[derive(Debug, Clone, clap::Args)]
struct Global {
    /// Show progress: bars on a terminal, a line every ten seconds elsewhere
    #[arg(long, global = true, value_enum, default_value = "auto", help_heading = "Global options")]
    progress: ProgressArg,
    /// How log lines are written to stderr
    #[arg(long, global = true, value_enum, default_value = "text", help_heading = "Global options")]
    log_format: LogFormat,
    /// Only errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    quiet: bool,
    /// More log lines; twice for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    verbose: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProgressArg {
    Auto,
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// How a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    // As commands that print rows call what is for people.
    #[value(alias = "table")]
    Text,
    Json,
}

impl Global {
    fn show(&self) -> Show {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        match self.progress {
            ProgressArg::Off => Show::Off,
            ProgressArg::Auto if self.quiet => Show::Off,
            _ if terminal => Show::Bars,
            _ => Show::Lines,
        }
    }
}

/// Runs the program. The exit code says how it ended; see `api2bq --help`.
pub fn run() -> ExitCode {
    let cli = Cli::parse_from(std::env::args_os().map(no_flag));
    output::start_log(&cli.global);
    end_without_threads();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&Error::failed("cannot start").caused_by(error)),
    };
    let ended = runtime.block_on(async {
        let (serves, stops_itself) = (cli.command.serves(), cli.command.stops_itself());
        let interrupted_hint = cli.command.interrupted_hint();
        let measures = matches!(cli.command, Command::Bench(_));
        let command = cli.command.run(&cli.global);
        let ended = tokio::select! {
            ended = command => Some(ended),
            () = interrupted(), if !stops_itself => None,
        };
        match ended {
            Some(ended) => ended,
            // That is how a server is stopped.
            None if serves => Ok(()),
            // It leaves nothing behind that could be resumed.
            None if measures => Err(Error::new(Kind::Interrupted, "interrupted")),
            None => {
                // Its windows were dropped with it: what the journal says now, it will say tomorrow.
                if let Some(missing) = backfill::missing().await {
                    say(&missing);
                }
                Err(Error::new(Kind::Interrupted, "interrupted").hint(interrupted_hint))
            }
        }
    });
    // Reading threads of sources may hang in a read that nobody waits for any more.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::fail(&error),
    }
}

/// Tokio panics where a thread cannot be had, here and when a query wants threads of its own. That is a lack
/// of memory, and told as such.
///
/// The program ends at once, and nothing is unwound: on the way tokio would wait for those threads that it
/// has got, and they for work.
fn end_without_threads() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some_and(|said| said.starts_with("OS can't spawn worker thread")) {
            let error = Error::failed("the system gives it no threads")
                .hint("allow it more memory or more processes; `ulimit -a` says what it has");
            output::fail(&error);
            std::process::exit(i32::from(error.kind().exit_code()));
        }
        hook(panic);
    }));
}

/// SQL may begin with a comment, `-- as this one`; no flag has a blank behind its dashes.
fn no_flag(argument: OsString) -> OsString {
    match argument.to_str() {
        Some(text) if text.starts_with("--") && text[2..].starts_with(char::is_whitespace) => {
            format!(" {text}").into()
        }
        _ => argument,
    }
}

impl Command {
    /// Runs until it is told to stop.
    fn serves(&self) -> bool {
        matches!(self, Command::Source(_) | Command::Emulator(_))
    }

    /// Has something to end elsewhere, and listens for Ctrl-C itself.
    fn stops_itself(&self) -> bool {
        match self {
            Command::Query(_) | Command::Gateway(_) | Command::LoadTest(_) => true,
            Command::Table(args) => args.stops_itself(),
            Command::Sql(args) => args.opens_shell(),
            _ => false,
        }
    }

    /// What there is after Ctrl-C.
    fn interrupted_hint(&self) -> String {
        match self {
            Command::Status(_)
            | Command::Verify(_)
            | Command::Rejects(_)
            | Command::Sql(_)
            | Command::Track(_)
            | Command::Diff(_) => ONLY_READS.to_owned(),
            Command::Promote(args) if args.only_reads() => ONLY_READS.to_owned(),
            Command::Table(args) => args.interrupted_hint(),
            _ => format!("what was done stays; the same command resumes: `{}`", backfill::resume_command()),
        }
    }

    async fn run(self, global: &Global) -> Result<()> {
        match self {
            Command::Demo(args) => demo::run(args, global).await,
            Command::Backfill(args) => backfill::run(args, global).await,
            Command::Status(args) => status::run(args).await,
            Command::Verify(args) => verify::run(args).await,
            Command::Rejects(args) => rejects::run(args).await,
            Command::Gc(args) => gc::run(args).await,
            Command::Promote(args) => promote::run(args, global).await,
            Command::Sql(args) => sql::run(args, global).await,
            Command::Diff(args) => diff::run(args).await,
            Command::Query(args) => query::run(args, global).await,
            Command::Table(args) => table::run(args, global).await,
            Command::Source(args) => source::run(args).await,
            Command::Emulator(args) => emulator::run(args).await,
            Command::Gateway(args) => gateway::run(args).await,
            Command::Track(args) => track::run(args).await,
            Command::LoadTest(args) => load_test::run(args, global).await,
            Command::Bench(args) => bench::run(args, global).await,
            Command::BenchStage(_) => bench::run_stage().await,
            Command::Completions(args) => completions::completions(&args),
            Command::Man(args) => completions::man(&args),
        }
    }
}

/// `24h`, `2d`, `30m`, `0s`, `500ms`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let parsed = units.iter().find_map(|(unit, millis)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*millis)
    });
    let millis = parsed.ok_or_else(|| "want a time as `24h`, `2d`, `30m`, `0s` or `500ms`".to_owned())?;
    Ok(std::time::Duration::from_millis(millis))
}

const ONLY_READS: &str = "this command only reads: nothing was changed";

/// Ctrl-C, or the SIGTERM that service managers send.
async fn interrupted() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return,
            _ = terminate.recv() => return,
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
