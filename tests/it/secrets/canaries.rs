//! Where the canaries are, how they are looked for, and the runs that may show one.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::context::{Ended, TestContext, answer};

/// User, password, query of the URL, query of the settings, header, service account, proxy.
pub const USER: &str = "cAnaryUser1";
pub const PASSWORD: &str = "cAnary/pass wörd2";
pub const IN_URL: &str = "cAnaryInUrl3+&=";
pub const IN_QUERY: &str = "cAnaryInQuery4 ü";
pub const HEADER: &str = "cAnaryHeader5";
pub const KEY: &str = "cAnaryKey6";
pub const PROXY: &str = "cAnaryProxy7";
const CANARIES: [&str; 7] = [USER, PASSWORD, IN_URL, IN_QUERY, HEADER, KEY, PROXY];

pub const BODY: &str = "<records><record><id>1</id><time>1</time><duration>0</duration><src_comp>C1</src_comp>\
    <src_port>1</src_port><dst_comp>C2</dst_comp><dst_port>2</dst_port><protocol>6</protocol>\
    <packet_count>1</packet_count><byte_count>1</byte_count></record></records>";
pub const XML: &str = "Content-Type: application/xml\r\n";

pub fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// `http://user:password@host/path?query`, with a canary wherever one fits.
pub fn with_secrets(scheme: &str, host: &str) -> String {
    format!(
        "{scheme}://{}:{}@{host}/v1/flows?token={}&after={{after}}",
        encoded(USER),
        encoded(PASSWORD),
        encoded(IN_URL)
    )
}

/// How `secret` may be spelled: as it is, percent-encoded, as a form, and in base64 at any of three places.
pub fn spellings(secret: &str) -> Vec<String> {
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let mut spellings = vec![secret.to_owned(), encoded(secret), encoded(secret).to_lowercase(), form];
    let escaped = serde_json::to_string(secret).expect("text");
    spellings.push(escaped.trim_matches('"').to_owned());
    for before in 0..3 {
        let bytes = [&b"xyz"[..before], secret.as_bytes()].concat();
        // What the neighbours have a part in is cut off.
        let (first, last) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for alphabet in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            spellings.push(alphabet.encode(&bytes)[first..last].to_owned());
        }
    }
    spellings
}

/// Where a secret is in `bytes`, if one is, with what is around it.
pub fn leak(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let folded = text.to_lowercase();
    for secret in CANARIES {
        for spelling in spellings(secret) {
            // Base64 needs its case; everything else may have lost it.
            let found = text.find(&spelling).or_else(|| folded.find(&secret.to_lowercase()));
            if let Some(at) = found {
                let around: String =
                    text.chars().skip(text[..at].chars().count().saturating_sub(120)).take(300).collect();
                return Some(format!("`{secret}` as `{spelling}` in: …{around}…"));
            }
        }
    }
    None
}

/// A server that answers each request with `reply(request)` and remembers what it was sent.
pub struct Server {
    pub host: String,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    pub fn start(reply: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (mut request, mut byte) = (Vec::new(), [0]);
                // A handshake has no empty line: its first byte says what it is.
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                    request.push(byte[0]);
                    if request[0] == 0x16 {
                        break;
                    }
                }
                let _ = stream.write_all(&reply(&request));
                log.lock().expect("no panic in here").extend(request);
            }
        });
        Server { host, received }
    }

    pub fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().expect("no panic in here")).into_owned()
    }
}

pub fn fixed(status: &'static str, headers: &'static str, body: &'static str) -> Server {
    Server::start(move |_| answer(status, headers, body))
}

/// One way to end, and what shows that it ended that way.
pub struct Case<'a> {
    pub name: &'a str,
    pub arguments: Vec<String>,
    pub environment: Vec<(&'a str, String)>,
    pub code: i32,
    pub says: &'a str,
}

pub struct Canaries {
    pub context: TestContext,
    pub leaks: Vec<String>,
    runs: usize,
}

impl Canaries {
    pub fn new() -> Self {
        let context = TestContext::new();
        context.write("headers.secret", format!("Authorization: Bearer {HEADER}\nX-Api-Key: {HEADER}\n"));
        Canaries { context, leaks: Vec::new(), runs: 0 }
    }

    /// Runs a case with everything logged as text and as JSON, and searches what it left.
    #[track_caller]
    pub fn run(&mut self, case: &Case<'_>) {
        for (more, level) in [(&["-vv"][..], None), (&["--log-format", "json"], Some("trace"))] {
            self.runs += 1;
            let mut command =
                self.context.command(case.arguments.iter().map(String::as_str).chain(more.iter().copied()));
            command.envs(case.environment.iter().map(|(name, value)| (*name, value.as_str())));
            command.envs(level.map(|level| ("RUST_LOG", level)));
            let output = command.output().expect("it runs");
            for (what, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
                if let Some(leak) = leak(bytes) {
                    self.leaks.push(format!("{} {more:?}, {what}: {leak}", case.name));
                }
            }
            let ended: Ended = output.into();
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert!(!said.contains("panicked"), "{}: {said}", case.name);
            assert!(
                ended.code == case.code && said.contains(case.says),
                "{}: exit {}, want {} and `{}`:\n{said}",
                case.name,
                ended.code,
                case.code,
                case.says
            );
        }
        self.search(case.name, &self.context.path(""));
    }

    /// Every file but those that the test itself put secrets into.
    fn search(&mut self, name: &str, folder: &Path) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                self.search(name, &path);
            } else if path.extension().is_none_or(|e| e != "secret") {
                let bytes = std::fs::read(&path).expect("readable");
                let named = path.to_string_lossy().into_owned();
                for (what, bytes) in [("the name of", named.as_bytes()), ("", &bytes)] {
                    if let Some(leak) = leak(bytes) {
                        self.leaks.push(format!("{name}, {what} {}: {leak}", path.display()));
                    }
                }
            }
        }
    }

    #[track_caller]
    pub fn verdict(self) {
        assert!(
            self.leaks.is_empty(),
            "{} leaks in {} runs:\n{}",
            self.leaks.len(),
            self.runs,
            self.leaks.join("\n\n")
        );
    }
}

/// `backfill flows` of one day from `url`, with secrets in the query and the headers too.
pub fn backfill(url: &str, more: &[&str]) -> Vec<String> {
    let url = format!("source.url={url}");
    let query = format!("source.query.api_key={IN_QUERY}");
    let fixed = ["backfill", "flows", "--from", "1", "--to", "1", "--set", &url, "--set", &query];
    let more = [&["--set", "stage.url=stage", "--set", "limits.attempts=1"], more].concat();
    fixed.iter().chain(&more).map(|argument| (*argument).to_owned()).collect()
}
