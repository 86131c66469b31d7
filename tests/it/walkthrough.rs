//! The README's walk-through, run as it is written.
//!
//! In its blocks ```console a line `$ command` is run by a shell, a line `> …` goes on with it, and what
//! follows is what it says, stdout and stderr together. `…` stands for anything within a line, and alone
//! for any lines. `API2BQ_README=update cargo test walkthrough` writes what is said now in place of what
//! does not fit, and keeps what is drawn; look at it before it is committed, and put `…` where it changes from run to run.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::context::TestContext;

const SECTION: &str = "\n## A walk-through\n";
/// Ports in the README; the test takes free ones.
const PORTS: [&str; 3] = ["5000", "5001", "9050"];

#[test]
fn the_readmes_walk_through_says_what_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).expect("a README");
    let start = readme.find(SECTION).expect("the section") + SECTION.len();
    let end = readme[start..].find("\n## ").map_or(readme.len(), |length| start + length);
    let context = TestContext::new();
    let mut shell = Shell::new(&context);
    let mut wrong = Vec::new();
    let mut num_commands = 0;
    // What is drawn is shown in the README as well.
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/walkthrough");
    let mut redrawn = Vec::new();
    let mut written = readme[..start].to_owned();
    let mut blocks = readme[start..end].split("```");
    written += blocks.next().unwrap_or_default();
    // Text and blocks take turns.
    while let (Some(block), Some(text)) = (blocks.next(), blocks.next()) {
        written += "```";
        match block.strip_prefix("console\n") {
            None => written += block,
            Some(session) => {
                written += "console\n";
                for step in steps(session) {
                    num_commands += 1;
                    let said = shell.run(&step.command);
                    written += &step.shown;
                    if fits(&step.expected, &said.lines().collect::<Vec<_>>()) {
                        step.expected.iter().for_each(|line| written += &format!("{line}\n"));
                    } else {
                        written += &said;
                        wrong.push(format!("{}{said}", step.shown));
                    }
                    if let Some(name) = drawn(&step.command) {
                        let now = std::fs::read(context.path(name)).unwrap_or_default();
                        if std::fs::read(pictures.join(name)).unwrap_or_default() != now {
                            wrong.push(format!("{}draws another {name}", step.shown));
                            redrawn.push((pictures.join(name), now));
                        }
                    }
                    if step.blank_behind {
                        written += "\n";
                    }
                }
            }
        }
        written += "```";
        written += text;
    }
    written += &readme[end..];
    if std::env::var("API2BQ_README").is_ok_and(|wish| wish == "update") {
        std::fs::write(path, written).expect("written");
        redrawn.into_iter().for_each(|(path, picture)| std::fs::write(path, picture).expect("written"));
    }
    assert!(num_commands > 10, "only {num_commands} commands found");
    assert!(wrong.is_empty(), "{} say something else now:\n\n{}", wrong.len(), wrong.join("\n"));
}

/// The picture that a command makes.
fn drawn(command: &str) -> Option<&str> {
    command.split("--chart-out ").nth(1)?.split_whitespace().next()
}

struct Step<'a> {
    /// As in the README.
    shown: String,
    command: String,
    expected: Vec<&'a str>,
    blank_behind: bool,
}

fn steps(session: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for line in session.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            let (shown, command) = (format!("{line}\n"), command.to_owned());
            steps.push(Step { shown, command, expected: Vec::new(), blank_behind: false });
            continue;
        }
        let step = steps.last_mut().expect("a block begins with a command");
        match line.strip_prefix("> ") {
            Some(more) if step.expected.is_empty() => {
                step.shown += &format!("{line}\n");
                step.command += &format!("\n{more}");
            }
            _ => step.expected.push(line),
        }
    }
    for step in &mut steps {
        step.blank_behind = step.expected.last() == Some(&"");
        step.expected.truncate(step.expected.len() - usize::from(step.blank_behind));
    }
    steps
}

/// Whether the lines are those expected, with anything where they have `…`.
fn fits(expected: &[&str], said: &[&str]) -> bool {
    match expected {
        [] => said.is_empty(),
        ["…", rest @ ..] => (0..=said.len()).any(|skipped| fits(rest, &said[skipped..])),
        [first, rest @ ..] => {
            said.first().is_some_and(|line| line_fits(first, line.trim_end())) && fits(rest, &said[1..])
        }
    }
}

fn line_fits(pattern: &str, line: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('…') else { return pattern == line };
    let Some(mut line) = line.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('…').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(place) = line.find(part) else { return false };
        line = &line[place + part.len()..];
    }
    line.ends_with(last)
}

/// One shell after the other, in one folder, with what earlier ones exported.
struct Shell<'a> {
    context: &'a TestContext,
    exported: Vec<String>,
    /// Those of [`PORTS`], and those taken.
    ports: Vec<(&'static str, String)>,
    servers: Vec<Child>,
}

impl<'a> Shell<'a> {
    fn new(context: &'a TestContext) -> Self {
        // All are held until the last is taken, or one might come twice.
        let listeners = PORTS.map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let free = listeners.map(|listener| listener.local_addr().expect("an address").port().to_string());
        Shell {
            context,
            exported: Vec::new(),
            ports: PORTS.into_iter().zip(free).collect(),
            servers: Vec::new(),
        }
    }

    fn run(&mut self, command: &str) -> String {
        let command = self.ports.iter().fold(command.to_owned(), |command, (port, free)| {
            let command = command.replace(&format!("--port {port}"), &format!("--port {free}"));
            command.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"))
        });
        if command.starts_with("export ") {
            self.exported.push(command);
            return String::new();
        }
        if let Some(server) = command.strip_suffix(" &") {
            let mut shell = self.shell(&format!("exec {server}"));
            self.servers.push(shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a shell"));
            let is_named = |(_, free): &&(&str, String)| server.contains(free.as_str());
            self.wait_for_server(&self.ports.iter().find(is_named).expect("a port in the command").1);
            return String::new();
        }
        let output =
            self.shell(&format!("{{ {command}\n}} 2>&1")).stdin(Stdio::null()).output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        self.ports.iter().fold(said, |said, (port, free)| {
            said.replace(&format!("127.0.0.1:{free}"), &format!("127.0.0.1:{port}"))
        })
    }

    fn shell(&self, script: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_api2bq")).parent().expect("a folder").display();
        let exports = self.exported.join("\n");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("PATH={program}:$PATH\n{exports}\n{script}"));
        let folder = self.context.path("");
        shell.current_dir(&folder).env_clear().env("HOME", &folder).env("PATH", "/usr/bin:/bin");
        shell
    }

    fn wait_for_server(&self, port: &str) {
        for _ in 0..500 {
            if std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("the server does not listen");
    }
}

impl Drop for Shell<'_> {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
