//! Processes that tests kill, put to sleep and wait for, with an end to all patience.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::context::TestContext;

/// Longer than any run takes; who needs more hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Several cases at once: most of their time they wait.
pub fn at_once<T: Sync>(cases: &[T], run: impl Fn(usize, &T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    let Some(case) = cases.get(index) else { return };
                    run(index, case);
                }
            });
        }
    });
}

/// A process that is told to end when the test does.
pub struct Process {
    child: Child,
    said: PathBuf,
}

impl Process {
    pub fn start(mut command: Command, said: PathBuf) -> Self {
        let file = File::create(&said).expect("a file");
        let child = command.stdout(Stdio::null()).stderr(file).spawn().expect("it starts");
        Process { child, said }
    }

    /// Waits for the end.
    #[track_caller]
    pub fn end(mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            let said = || std::fs::read_to_string(&self.said).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "it hangs and said: {}", said());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kills it after a while, unless it ends before. True when the kill was what ended it.
    #[track_caller]
    pub fn kill_after(mut self, wait: Duration) -> bool {
        std::thread::sleep(wait);
        let _ = self.child.kill();
        let status = self.child.wait().expect("a child of ours");
        assert!(status.signal() == Some(9) || status.code() == Some(0), "{status}");
        status.signal() == Some(9)
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The embedded BigQuery, on a port that stays its own when it is killed.
pub struct Warehouse {
    process: Option<Process>,
    data_dir: PathBuf,
    port: u16,
}

impl Warehouse {
    pub fn start(context: &TestContext) -> Self {
        let mut warehouse = Warehouse { process: None, data_dir: context.path("wh"), port: free_port() };
        warehouse.restart(context);
        warehouse
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Starts it, after killing it if it runs; back when it takes connections.
    pub fn restart(&mut self, context: &TestContext) {
        self.restart_with(context, &[]);
    }

    /// The same with more arguments, such as faults.
    pub fn restart_with(&mut self, context: &TestContext, more: &[&str]) {
        self.kill();
        let mut command = context.command(["emulator", "--port", &self.port.to_string(), "--data-dir"]);
        command.arg(&self.data_dir).args(more).env("STORAGE_EMULATOR_HOST", self.url());
        let mut process = Process::start(command, context.path("warehouse.txt"));
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let said = || std::fs::read_to_string(context.path("warehouse.txt")).unwrap_or_default();
            assert!(process.is_alive() && started.elapsed() < PATIENCE, "{}", said());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.process = Some(process);
    }
}

/// Below the ports that the system hands out, so that nobody else gets it while the warehouse is dead.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::SeqCst) + std::process::id() * 7;
        let port = 20_000 + u16::try_from(number % 12_000).expect("below 12,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
