//! Tables against their source, row by row, by a Python process that shares no code with the program.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// Knows every row that must be there. One process for many tables: it reads the source once.
pub struct Compare {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub expected_rows: u64,
}

impl Compare {
    /// Reads days 1 to `days` of the demo source at `source_url`.
    pub fn with(source_url: &str, days: u32) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/compare.py");
        // The standard library is enough: no virtual environment.
        let mut command = Command::new("python3");
        command.arg(script).args([source_url, "--to", &days.to_string()]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the tests need Python 3");
        let asks = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut compare = Compare { child, asks, answers, expected_rows: 0 };
        compare.expected_rows = compare.answer()["expected"].as_u64().expect("a number");
        compare
    }

    /// The staging table of a dataset has every row of the source once, in its partition, and no other.
    #[track_caller]
    pub fn staging(&mut self, emulator_url: &str, dataset: &str) {
        self.equal(&format!("{emulator_url} api2gbq {dataset}"), Some(self.expected_rows));
    }

    /// Table `flows` has the latest row of every id, and no other.
    #[track_caller]
    pub fn production(&mut self, emulator_url: &str, dataset: &str) {
        self.equal(&format!("{emulator_url} api2gbq {dataset} flows"), None);
    }

    #[track_caller]
    fn equal(&mut self, ask: &str, rows: Option<u64>) {
        writeln!(self.asks, "{ask}").expect("the comparison takes a line");
        let found = self.answer();
        for what in ["lost", "doubled", "wrong", "foreign"] {
            assert_eq!(found[what], 0, "{ask}: {found}");
        }
        if let Some(rows) = rows {
            assert_eq!(found["rows"], rows, "{ask}: {found}");
        }
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the comparison answers");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("the comparison said `{line}`: {e}"))
    }
}

impl Drop for Compare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
