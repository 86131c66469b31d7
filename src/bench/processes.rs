//! This program's own servers and measuring children, as processes that end with what started them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use tokio::sync::mpsc;

use super::task::{Line, Sample, Task};
use crate::error::{Error, Result};

/// A process that is killed when this is dropped.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(arguments: &[&str], stdin: Stdio) -> Result<Process> {
        let cannot = |e| Error::failed(format!("cannot start `api2bq {}`", arguments.join(" "))).caused_by(e);
        let program = std::env::current_exe().map_err(cannot)?;
        let mut command = Command::new(program);
        // What is measured is on this machine, whatever the environment says of BigQuery and proxies.
        for name in ["BIGQUERY_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"] {
            command.env_remove(name);
        }
        command.args(arguments).stdin(stdin).stdout(Stdio::piped());
        Ok(Process(command.spawn().map_err(cannot)?))
    }

    fn stdout(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.0.stdout.take().expect("it is piped, and taken once"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server of this program on a port of its own.
#[derive(Debug)]
pub(super) struct Server {
    process: Process,
    pub(super) url: String,
}

impl Server {
    /// Starts it, and waits until it says where it is.
    pub(super) fn start(arguments: &[&str]) -> Result<Server> {
        let arguments = [arguments, &["--port", "0"]].concat();
        let mut process = Process::start(&arguments, Stdio::null())?;
        let mut line = String::new();
        let _ = process.stdout().read_line(&mut line);
        let url = line.split_whitespace().find(|word| word.starts_with("http://"));
        // Of the source's URL only the origin: it shows the path too.
        let origin = url.map(|url| url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/"));
        let url =
            origin.ok_or_else(|| Error::failed(format!("`api2bq {}` did not start", arguments.join(" "))))?;
        Ok(Server { process, url })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

/// Runs a task in a child, and gives its samples.
pub(super) async fn measure(task: &Task) -> Result<Vec<Sample>> {
    let mut child = Process::start(&["bench-stage", "--progress", "off"], Stdio::piped())?;
    let text = serde_json::to_string(task).map_err(|e| Error::failed("cannot write a task").caused_by(e))?;
    let mut stdin = child.0.stdin.take().expect("it is piped");
    stdin.write_all(text.as_bytes()).map_err(|e| Error::failed("a child took no task").caused_by(e))?;
    drop(stdin);
    let stdout = child.stdout();
    let (lines, mut said) = mpsc::channel(16);
    // A thread, so that whoever stops waiting here stops the child too; it ends with the child's output.
    std::thread::spawn(move || {
        stdout.lines().map_while(|line| line.ok()).all(|line| lines.blocking_send(line).is_ok())
    });
    let mut samples = Vec::new();
    while let Some(line) = said.recv().await {
        let line = serde_json::from_str(&line)
            .map_err(|e| Error::failed(format!("a child said `{line}`")).caused_by(e))?;
        match line {
            Line::WarmedUp => {}
            Line::Sample(sample) => samples.push(sample),
            Line::Failed { message, hint, usage } => {
                let error = if usage { Error::usage(message) } else { Error::failed(message) };
                return Err(match hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                });
            }
        }
    }
    if samples.len() as u64 != u64::from(task.runs) {
        return Err(Error::failed(format!(
            "its process ended after {} of {} runs",
            samples.len(),
            task.runs
        ))
        .hint("its last words, if it had any, are above; memory is what most often ends a process"));
    }
    Ok(samples)
}
