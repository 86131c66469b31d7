//! The gateway behind TLS. `tests/data/tls/README.md` says how its certificates were made.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api2bq::serve::Tls;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::loads::{Site, row};
use super::{Answer, Gateway, ROW, Settings, ann, authorization, connect, parse};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

async fn gateway() -> Gateway {
    let tls = Tls::read(&data("server.pem"), &data("server-key.pem")).expect("a certificate");
    Gateway::start_with(Settings { tls: Some(tls), ..Settings::default() }).await
}

/// A connection by TLS, its certificate checked against the root of the tests.
fn speak(addr: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(data("ca.pem")).expect("a root")).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions");
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(config, name).expect("a client"), connect(addr))
}

/// Sends bytes by TLS and reads until the other side closes.
async fn raw(addr: SocketAddr, bytes: String) -> String {
    let asked = tokio::task::spawn_blocking(move || {
        let (mut stream, mut answer) = (speak(addr), Vec::new());
        stream.write_all(bytes.as_bytes()).expect("sent");
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    });
    asked.await.expect("no panic")
}

async fn post(gateway: &Gateway, headers: &str) -> Answer {
    let length = ROW.len();
    let head = format!(
        "POST /v1/inventory HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    parse(&raw(gateway.addr, format!("{head}{ROW}")).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_by_tls_and_what_is_refused_without_it_is_refused_with_it() {
    let gateway = gateway().await;
    assert_eq!(post(&gateway, &ann()).await.status, 200);
    assert_eq!(post(&gateway, &authorization("ann:wrong")).await.problem(), "401 unauthorized");
    // What hyper would mend is seen inside of TLS too.
    let twice = format!("{}Transfer-Encoding: chunked\r\n", ann());
    assert_eq!(post(&gateway, &twice).await.status, 400);
    let bare = format!("GET /healthz HTTP/1.1\nHost: localhost\r\n{}\r\n", ann());
    assert!(raw(gateway.addr, bare).await.starts_with("HTTP/1.1 400"));
    assert_eq!(gateway.letters().await.len(), 1);
    let page =
        raw(gateway.addr, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".into()).await;
    assert!(page.contains("https://HOST/v1/inventory"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_speak_tls_is_told_so_and_who_says_nothing_is_cut_off() {
    let gateway = gateway().await;
    // As a client of HTTP sends it, password and all.
    let answer = gateway.post("", ROW).await;
    assert_eq!((answer.status, answer.body.trim()), (400, "this port speaks TLS: ask for https://"));
    // Half a handshake, by more clients than one.
    let started = Instant::now();
    let silent: Vec<TcpStream> = (0..20)
        .map(|n| {
            let mut stream = connect(gateway.addr);
            stream.write_all(&[0x16, 3, 1, 2, 0, 1][..n % 6 + usize::from(n % 6 == 0)]).expect("sent");
            stream
        })
        .collect();
    assert_eq!(post(&gateway, &ann()).await.status, 200, "others are served meanwhile");
    let cut_off = tokio::task::spawn_blocking(move || {
        for mut stream in silent {
            let mut nothing = Vec::new();
            let _ = stream.read_to_end(&mut nothing);
            assert!(!nothing.starts_with(b"HTTP"), "no plaintext to one who began a handshake");
        }
    });
    cut_off.await.expect("no panic");
    let took = started.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(40)).contains(&took), "{took:?}");
    assert_eq!(gateway.letters().await.len(), 1);
}

#[test]
fn a_wrong_certificate_or_key_is_told_at_the_start() {
    let site = Site::new();
    let garbage = site.context.write("garbage.pem", "-----BEGIN PRIVATE KEY-----\nhunter2\n");
    let none = site.context.path("none.pem");
    let (server, key) = (data("server.pem"), data("server-key.pem"));
    let cases = [
        (&server, &data("other-key.pem"), "is not that of the certificate"),
        (&key, &key, "there is no certificate in"),
        (&server, &server, "there is no private key in"),
        (&server, &garbage, "there is no private key in"),
        (&none, &key, "cannot read the certificate in"),
        (&server, &none, "cannot read the private key in"),
    ];
    for (certificate, key, expected) in cases {
        let mut command = site.command();
        let ended = command.arg("--tls-cert").arg(certificate).arg("--tls-key").arg(key).output();
        let ended = ended.expect("it runs");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && !said.contains("hunter2"), "{said}");
    }
    let mut alone = site.command();
    let ended = alone.arg("--tls-cert").arg(&server).output().expect("it runs");
    assert_eq!(ended.status.code(), Some(2), "a certificate needs its key");
}

#[test]
fn a_renewed_certificate_is_shown_after_a_hangup_and_a_broken_one_is_not() {
    let site = Site::new();
    let put = |name: &str, from: &str, mode: u32| {
        let path = site.context.path(name);
        std::fs::copy(data(from), &path).expect("copied");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("permitted");
    };
    put("cert.pem", "server.pem", 0o644);
    put("key.pem", "server-key.pem", 0o644);
    let mut command = site.command();
    command.args(["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    let gateway = site.gateway_by(command);
    assert!(site.said().contains("every user of this machine can read the key"), "{}", site.said());
    let addr = SocketAddr::from(([127, 0, 0, 1], site.port));
    let shown = || {
        let mut stream = speak(addr);
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
        stream.conn.peer_certificates().expect("shown")[0].clone().into_owned()
    };
    let certificate = |name: &str| CertificateDer::from_pem_file(data(name)).expect("a certificate");
    assert_eq!(shown(), certificate("server.pem"));

    site.context.write("cert.pem", "nothing");
    gateway.signal("-HUP");
    let wait_for = |what: &str, is_there: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !is_there() {
            assert!(started.elapsed() < Duration::from_secs(30), "no {what}: {}", site.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for("complaint", &|| site.said().contains("the certificate stays as it was"));
    assert_eq!(shown(), certificate("server.pem"));
    put("cert.pem", "other.pem", 0o644);
    put("key.pem", "other-key.pem", 0o600);
    gateway.signal("-HUP");
    wait_for("new certificate", &|| shown() == certificate("other.pem"));
    gateway.signal("-TERM");
    assert!(gateway.end().success(), "{}", site.said());
    assert_eq!(site.post("", &row("a")), None, "it has ended");
}
