//! What a test needs: a folder of its own, the program's servers as processes, and Google's client.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder, removed at the end, and commands that run in it with a clean environment.
pub struct TestContext {
    dir: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl TestContext {
    pub fn new() -> Self {
        TestContext { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    /// The program, without whatever the tester's own environment would tell it.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_api2bq"));
        command.args(arguments).current_dir(self.dir.path()).env_clear().env("HOME", self.dir.path());
        command
    }

    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ended {
        self.command(arguments).output().expect("it runs").into()
    }

    /// Starts one of the program's servers on a free port and waits until it says where.
    pub fn server(&self, arguments: &[&str]) -> Running {
        self.server_with(arguments, &[])
    }

    pub fn server_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Running {
        let mut command = self.command(arguments.iter().copied().chain(["--port", "0"]));
        command.envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let start = line.find("http://").unwrap_or_else(|| panic!("no URL in `{line}`"));
        let url = line[start..].split_whitespace().next().expect("a URL");
        let origin = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        Running { child, url: origin }
    }

    pub fn source(&self, arguments: &[&str]) -> Running {
        let all: Vec<&str> = ["source"].into_iter().chain(arguments.iter().copied()).collect();
        self.server(&all)
    }

    pub fn emulator(&self) -> Running {
        let data_dir = self.path("wh");
        self.server(&["emulator", "--data-dir", data_dir.to_str().expect("UTF-8")])
    }

    /// `backfill flows` over `days` from `source_url` into folder `stage`.
    pub fn backfill(&self, emulator: Option<&Running>, source_url: &str, days: u32, more: &[&str]) -> Ended {
        let stage = format!("stage.url={}", self.path("stage").display());
        let url = format!("source.url={source_url}");
        let to = days.to_string();
        let fixed = ["backfill", "flows", "--from", "1", "--to", &to, "--set", &url, "--set", &stage];
        let mut command = self.command(fixed.into_iter().chain(more.iter().copied()));
        if let Some(emulator) = emulator {
            command.env("BIGQUERY_EMULATOR_HOST", &emulator.url);
        }
        command.output().expect("it runs").into()
    }

    pub fn promote(&self, emulator: &Running) -> Ended {
        let mut command = self.command(["promote", "flows"]);
        command.env("BIGQUERY_EMULATOR_HOST", &emulator.url).output().expect("it runs").into()
    }

    /// `<partition>/<logical hash>` of every staged file: equal rows, equal hashes.
    pub fn staged(&self, stage: &str) -> Vec<String> {
        fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => walk(&path, found),
                    path => found.push(path),
                }
            }
        }
        let mut files = Vec::new();
        walk(&self.path(stage), &mut files);
        let parquet = files.iter().filter(|f| f.extension().is_some_and(|e| e == "parquet"));
        let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
        let mut names: Vec<String> =
            parquet.map(|f| format!("{}/{}", name(f.parent().expect("a folder")), &name(f)[..32])).collect();
        names.sort();
        names
    }
}

/// A server process. Killed when dropped.
pub struct Running {
    child: Child,
    pub url: String,
}

impl Running {
    pub fn flows(&self) -> String {
        format!("{}/api/v1/stream/flows", self.url)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A script of `tests/python` in a virtual environment with Google's client, both pinned.
#[track_caller]
pub fn python(script: &str, arguments: &[&str]) -> Ended {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python");
    let output = Command::new(interpreter()).arg(root.join(script)).args(arguments).output();
    let ended: Ended = output.expect("Python starts").into();
    ended.success()
}

/// Lets the oracle count what `source` serves over `days`, and Google's client compare `emulator` with
/// it. Returns what the oracle and the judge said, as JSON.
#[track_caller]
pub fn judge(
    context: &TestContext,
    source: &Running,
    emulator: &Running,
    days: u32,
    more: &[&str],
) -> (String, String) {
    let to = days.to_string();
    let oracle = python("oracle.py", &[&source.url, "--from", "1", "--to", &to, "--format", "json"]).stdout;
    let expected = context.write("oracle.json", &oracle);
    let expected = expected.to_str().expect("UTF-8");
    let fixed = [&*emulator.url, "api2gbq", "LANL", "--from", "1", "--to", &to, "--expect", expected];
    (oracle, python("judge.py", &[&fixed[..], more].concat()).stdout)
}

/// The virtual environment's Python. Made once under `target/tmp`, and again when the pins change.
pub fn interpreter() -> &'static Path {
    static INTERPRETER: OnceLock<PathBuf> = OnceLock::new();
    INTERPRETER.get_or_init(|| {
        let pins = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/requirements.txt");
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv");
        let python = venv.join("bin/python");
        let stamp = venv.join("installed.txt");
        let wanted =
            std::fs::read_to_string(&pins).expect("tests/python/requirements.txt is in the repository");
        if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return python;
        }
        let _ = std::fs::remove_dir_all(&venv);
        let step = |what: &str, command: &mut Command| {
            let output =
                command.output().unwrap_or_else(|e| panic!("{what}: {e}; the tests need Python 3 with venv"));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "{what} failed; the tests need Google's client from PyPI:\n{said}"
            );
        };
        step("python3 -m venv", Command::new("python3").args(["-m", "venv"]).arg(&venv));
        step(
            "pip install",
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(&pins),
        );
        std::fs::write(stamp, wanted).expect("written");
        python
    })
}

/// A source that misbehaves: answers request number `n` with `answers[n]`, raw bytes and a closed
/// connection; requests beyond the last get the last.
pub struct RawSource {
    pub url: String,
    requests: std::sync::Arc<AtomicUsize>,
}

impl RawSource {
    pub fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/flows", listener.local_addr().expect("an address"));
        let requests = std::sync::Arc::new(AtomicUsize::new(0));
        let counter = std::sync::Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                    request.push(byte[0]);
                }
                let _ = stream.write_all(&answers[number.min(answers.len() - 1)]);
            }
        });
        RawSource { url, requests }
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// A whole HTTP answer with a body of known length.
pub fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}
