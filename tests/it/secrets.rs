//! No secret is shown: canaries stand in every place where secrets are, runs end well and badly in every
//! way, with all that can be logged; then every byte that was written is searched, in four spellings.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

mod canaries;

use crate::context::{Ended, answer};
use canaries::{
    BODY, Canaries, Case, HEADER, IN_QUERY, IN_URL, KEY, PASSWORD, PROXY, Server, USER, XML, backfill,
    encoded, fixed, leak, with_secrets,
};

const HEADERS: [&str; 2] = ["--set", "source.headers_file=headers.secret"];
const STAGE: [&str; 4] = ["--until", "stage", HEADERS[0], HEADERS[1]];

#[test]
fn a_spelling_of_a_secret_is_found() {
    for text in [
        format!("Basic {}", STANDARD_NO_PAD.encode(format!("{USER}:{PASSWORD}"))),
        format!("?token={}", encoded(IN_URL)),
        format!("{{\"key\":\"{}\"}}", HEADER.to_lowercase()),
        format!("api_key={}", url::form_urlencoded::byte_serialize(IN_QUERY.as_bytes()).collect::<String>()),
    ] {
        assert!(leak(text.as_bytes()).is_some(), "{text}");
    }
    assert_eq!(leak(b"nothing here"), None);
}

#[test]
fn runs_that_end_well_show_no_secret() {
    let mut canaries = Canaries::new();
    let emulator = canaries.context.emulator();
    let source = fixed("200 OK", XML, BODY);
    let url = with_secrets("http", &source.host);
    let load = [&HEADERS[..], &["--summary-json", "run.json"]].concat();
    let emulator_host = vec![("BIGQUERY_EMULATOR_HOST", emulator.url.clone())];
    let case =
        |name, arguments, says| Case { name, arguments, environment: emulator_host.clone(), code: 0, says };
    canaries.run(&case("load", backfill(&url, &load), "1 records in = 1 staged"));
    canaries.run(&case("load again", backfill(&url, &[&load[..], &["--new-run"]].concat()), "1 records in"));
    canaries.run(&case(
        "settings",
        backfill(&url, &[&load[..], &["--show-settings"]].concat()),
        "source.query.api_key",
    ));
    let show = ["backfill", "flows", "--show-settings"].map(str::to_owned).to_vec();
    let mut from_environment = case("settings from the environment", show, "environment API2BQ_SOURCE_URL");
    from_environment.environment.extend([
        ("API2BQ_SOURCE_URL", url.clone()),
        ("API2BQ_SOURCE_QUERY_FORMAT", IN_QUERY.to_owned()),
        ("API2BQ_SOURCE_QUERY_SCANNED_AFTER", format!("{{{KEY}}}")),
    ]);
    canaries.run(&from_environment);
    // The secrets were on their way, or the search proves nothing.
    let received = source.received();
    for secret in [
        format!("x-api-key: {HEADER}"),
        format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}"))),
        encoded(IN_URL),
        url::form_urlencoded::byte_serialize(IN_QUERY.as_bytes()).collect(),
    ] {
        assert!(received.contains(&secret), "{received}");
    }
    canaries.verdict();
}

#[test]
fn windows_that_fail_show_no_secret() {
    let mut canaries = Canaries::new();
    canaries.context.write("drop.sql", "DROP TABLE records");
    canaries.context.write("none.sql", "SELECT nothing FROM records");
    let echo = |status: &'static str| {
        Server::start(move |request| answer(status, "", &String::from_utf8_lossy(request)))
    };
    let (unauthorized, broken) = (echo("401 Unauthorized"), echo("500 Internal Server Error"));
    let elsewhere = Server::start(|_| {
        let location = format!("Location: {}\r\n", with_secrets("http", "127.0.0.2:1"));
        answer("302 Found", &location, "")
    });
    let around = Server::start(|request| {
        let path = String::from_utf8_lossy(request).split(' ').nth(1).unwrap_or("/").to_owned();
        answer("302 Found", &format!("Location: {path}\r\n"), "")
    });
    let wrong = fixed("200 OK", XML, "<records><record><id>x</id></record></records>");
    let html = fixed("200 OK", XML, "<html><body>login</body></html>");
    let unknown = fixed("200 OK", "Content-Type: text/plain\r\n", "hello");
    let cut =
        Server::start(|_| format!("HTTP/1.1 200 OK\r\n{XML}Content-Length: 9000\r\n\r\n{BODY}").into_bytes());
    let packed = fixed("200 OK", "Content-Type: application/xml\r\nContent-Encoding: gzip\r\n", "no gzip");
    let silent = Server::start(|_| Vec::new());
    let good = fixed("200 OK", XML, BODY);
    let gzip = [&STAGE[..], &["--set", "source.gzip=on"]].concat();
    let sql = |file: &'static str| [&STAGE[..], &["--set", file]].concat();
    let http = |server: &Server| with_secrets("http", &server.host);
    let cases = [
        ("401", backfill(&http(&unauthorized), &STAGE), 3, "answered 401"),
        ("500", backfill(&http(&broken), &STAGE), 3, "answered 500"),
        ("another origin", backfill(&http(&elsewhere), &STAGE), 3, "redirect"),
        ("redirected for ever", backfill(&http(&around), &STAGE), 3, "redirect"),
        ("rejects", backfill(&http(&wrong), &STAGE), 3, "1 records were rejected"),
        ("an error page", backfill(&http(&html), &STAGE), 3, "html"),
        ("a body of no format", backfill(&http(&unknown), &STAGE), 3, "text/plain"),
        ("a body cut off", backfill(&http(&cut), &STAGE), 3, "broke off"),
        ("no gzip", backfill(&http(&packed), &gzip), 3, "gzip"),
        ("no answer", backfill(&http(&silent), &STAGE), 3, "cannot reach source"),
        ("unreachable", backfill(&with_secrets("http", "127.0.0.1:1"), &STAGE), 3, "cannot reach source"),
        ("no TLS there", backfill(&with_secrets("https", &good.host), &STAGE), 3, "cannot reach source"),
        ("SQL that drops", backfill(&http(&good), &sql("transform.sql=./drop.sql")), 2, "SELECT"),
        ("SQL of no column", backfill(&http(&good), &sql("transform.sql=./none.sql")), 2, "nothing"),
    ];
    for (name, arguments, code, says) in cases {
        canaries.run(&Case { name, arguments, environment: Vec::new(), code, says });
    }
    let proxy = format!("http://{PROXY}:{PROXY}@127.0.0.1:1");
    let environment =
        vec![("HTTP_PROXY", proxy.clone()), ("http_proxy", proxy.clone()), ("HTTPS_PROXY", proxy)];
    for scheme in ["http", "https"] {
        let arguments = backfill(&with_secrets(scheme, "api.invalid"), &STAGE);
        let says = "cannot reach source";
        canaries.run(&Case { name: "proxy", arguments, environment: environment.clone(), code: 3, says });
    }
    assert!(unauthorized.received().contains(HEADER));
    canaries.verdict();
}

#[test]
fn mistakes_in_the_settings_show_no_secret() {
    let mut canaries = Canaries::new();
    let write = |name: &str, text: String| canaries.context.write(name, text);
    write("colon.secret", format!("Authorization Bearer {HEADER}\n"));
    write("name.secret", format!("Bearer {HEADER} x: y\n"));
    write("value.secret", format!("Authorization: {HEADER}\u{1}\n"));
    let toml = |url: &str| format!("name = \"mine\"\n[source]\nurl = {url}\n");
    let quoted = format!("{:?}", with_secrets("https", "api.example"));
    write("array.toml.secret", toml(&format!("[{quoted}]")));
    write("table.toml.secret", toml(&format!("{{ x = {quoted} }}")));
    write("syntax.toml.secret", toml(&quoted[..quoted.len() - 1]));
    let url = with_secrets("https", "api.example");
    let good = "http://127.0.0.1:1/flows";
    let headers = |file: &'static str| backfill(good, &["--until", "stage", "--set", file]);
    let stage = |stage: String| backfill(good, &["--until", "stage", "--set", &format!("stage.url={stage}")]);
    let set = |pair: String| backfill(good, &["--until", "stage", "--set", &pair]);
    let file = |name: &str| ["backfill", name, "--from", "1", "--to", "1"].map(str::to_owned).to_vec();
    let cases = [
        ("one slash", backfill(&url.replace("://", ":/"), &STAGE), "source.url"),
        ("no slash", backfill(&url.replace("://", ":"), &STAGE), "source.url"),
        ("bad port", backfill(&with_secrets("https", "api.example:99999"), &STAGE), "source.url"),
        ("bad host", backfill(&with_secrets("https", "[::"), &STAGE), "source.url"),
        ("bad scheme", backfill(&with_secrets("ht!tp", "api.example"), &STAGE), "source.url"),
        ("other scheme", backfill(&with_secrets("ftp", "api.example"), &STAGE), "scheme"),
        (
            "file with a host",
            backfill(&format!("file://api.example/x?k={}", encoded(IN_URL)), &STAGE),
            "is no local file",
        ),
        ("no colon", headers("source.headers_file=colon.secret"), "line 1"),
        ("a header's name", headers("source.headers_file=name.secret"), "line 1"),
        ("a header's value", headers("source.headers_file=value.secret"), "cannot be sent"),
        ("no headers file", headers("source.headers_file=nowhere"), "nowhere"),
        ("stage with password", stage(with_secrets("gs", "bucket")), "stage.url"),
        ("stage with user", stage(format!("gs://{USER}@bucket/x")), "stage.url"),
        ("stage with query", stage(format!("gs://bucket/x?sig={}", encoded(IN_URL))), "stage.url"),
        ("stage of no kind", stage(with_secrets("ftp", "api.example")), "stage.url"),
        ("stage is no URL", stage(with_secrets("gs", "[::")), "stage.url"),
        ("no key", set(url.replace('=', "~")), "--set"),
        ("no key but a query", set(url.clone()), "unknown key"),
        ("misspelt key", set(format!("source.ulr={url}")), "did you mean"),
        ("URL for a pipeline", file(&url), "pipeline"),
        ("URL in an array", file("./array.toml.secret"), "source.url"),
        ("URL in a table", file("./table.toml.secret"), "unknown key"),
        ("syntax", file("./syntax.toml.secret"), "line 3"),
    ];
    for (name, arguments, says) in cases {
        canaries.run(&Case { name, arguments, environment: Vec::new(), code: 2, says });
    }
    // The command that resumes is shown as it was typed, but for what may be a secret.
    for (name, argument) in [
        ("joined query", format!("--set=source.query.key={IN_QUERY}")),
        ("joined URL", format!("--set=source.url={}", with_secrets("http", "127.0.0.1:1"))),
        ("query in braces", format!("--set=source.query.key={{{IN_QUERY}}}")),
    ] {
        let arguments = backfill("http://127.0.0.1:1/flows", &[&STAGE[..], &[&argument]].concat());
        canaries.run(&Case { name, arguments, environment: Vec::new(), code: 3, says: "resume with" });
    }
    canaries.verdict();
}

/// A key file as Google writes them, with a token endpoint of our own.
pub fn key_file(private_key: &str, token_uri: &str) -> String {
    serde_json::json!({
        "type": "service_account", "project_id": "api2gbq", "private_key_id": KEY, "private_key": private_key,
        "client_email": "robot@api2gbq.iam.gserviceaccount.com", "client_id": "1", "token_uri": token_uri,
        "auth_uri": token_uri, "auth_provider_x509_cert_url": token_uri, "client_x509_cert_url": token_uri,
    })
    .to_string()
}

/// A key that signs, made here: none is in the repository.
pub fn real_key() -> String {
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        .output();
    let made = made.expect("openssl makes the key of this test; install it");
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).expect("PEM is text")
}

#[test]
fn credentials_show_no_secret() {
    let mut canaries = Canaries::new();
    let source = fixed("200 OK", XML, BODY);
    let refuses = Server::start(|_| {
        let body = format!("{{\"error\":\"invalid_grant\",\"error_description\":\"{KEY}\"}}");
        answer("400 Bad Request", "Content-Type: application/json\r\n", &body)
    });
    let garbage = format!("-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----\n");
    let real = real_key();
    // No part of the real key may be seen either: its lines are looked for below.
    let nowhere = "http://127.0.0.1:1/token".to_owned();
    let token = format!("http://{}/token", refuses.host);
    let url = with_secrets("http", &source.host);
    for (name, content) in [
        ("text", KEY.to_owned()),
        ("a JSON string", format!("{KEY:?}")),
        ("JSON cut off", key_file(&garbage, &nowhere)[..200].to_owned()),
        ("a type of no kind", format!("{{\"type\":[\"{KEY}\"]}}")),
        ("a key that is none", key_file(&garbage, &nowhere)),
        (
            "a field of another type",
            key_file(&garbage, &nowhere).replace("\"1\"", &format!("{{\"{KEY}\":1}}")),
        ),
        ("a real key, no endpoint", key_file(&real, &nowhere)),
        ("a real key, refused", key_file(&real, &token)),
        (
            "a login",
            format!(
                "{{\"type\":\"authorized_user\",\"client_id\":\"x\",\"client_secret\":\"{KEY}\",\"refresh_token\":[\"{KEY}\"]}}"
            ),
        ),
    ] {
        let path = canaries.context.write("key.secret", content);
        let environment = vec![("GOOGLE_APPLICATION_CREDENTIALS", path.display().to_string())];
        // An endpoint that is away is waited for.
        let code = if name == "a real key, no endpoint" { 3 } else { 2 };
        let arguments = backfill(&url, &[&HEADERS[..], &["--set", "limits.attempts=1"]].concat());
        canaries.run(&Case { name, arguments, environment: environment.clone(), code, says: "hint" });
        // The staging area in a bucket has a client and a reader of key files of its own.
        let mut command = canaries
            .context
            .command(backfill(&url, &[&STAGE[..], &["--set", "stage.url=gs://bucket/x"]].concat()));
        let stage = command.envs(environment).env("RUST_LOG", "trace").arg("-vv");
        if name.starts_with("a real key") {
            continue; // It would ask Google.
        }
        let output = stage.output().expect("it runs");
        for bytes in [&output.stdout, &output.stderr] {
            canaries.leaks.extend(leak(bytes).map(|leak| format!("{name}, bucket: {leak}")));
        }
        let ended: Ended = output.into();
        assert_eq!(ended.code, 2, "{name}: {}", ended.stderr);
    }
    // The signed question went out, or the refusal proves nothing.
    assert!(refuses.received().starts_with("POST /token"), "{}", refuses.received());

    let secret_host = format!("http://{USER}:{}@127.0.0.1:1", encoded(PASSWORD));
    for variable in ["BIGQUERY_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"] {
        let stage =
            if variable.starts_with("STORAGE") { "stage.url=gs://bucket/x" } else { "stage.url=stage" };
        let until = if variable.starts_with("STORAGE") { "stage" } else { "load" };
        let arguments = backfill(&url, &[&HEADERS[..], &["--set", stage, "--until", until]].concat());
        let environment = vec![(variable, secret_host.clone())];
        let mut command = canaries.context.command(&arguments);
        let output =
            command.envs(environment.clone()).env("RUST_LOG", "trace").arg("-vv").output().expect("it runs");
        for bytes in [&output.stdout, &output.stderr] {
            canaries.leaks.extend(leak(bytes).map(|leak| format!("{variable}: {leak}")));
        }
        assert_ne!(Ended::from(output).code, 0);
    }
    canaries.verdict();
}

#[test]
fn a_load_test_shows_no_password() {
    let mut canaries = Canaries::new();
    let echo = Server::start(|request| {
        let request = String::from_utf8_lossy(request).into_owned();
        let error = serde_json::json!({ "status": 500, "reason": request, "message": request });
        answer("500 Internal Server Error", "", &serde_json::json!({ "error": error }).to_string())
    });
    let arguments = ["load-test", "inventory", "--user", USER, "--url", &format!("http://{}", echo.host)];
    canaries.run(&Case {
        name: "load test",
        arguments: arguments.map(str::to_owned).to_vec(),
        environment: vec![("API2BQ_GATEWAY_PASSWORD", PASSWORD.to_owned())],
        code: 1,
        says: "answered 500: GET /v1/inventory/metadata",
    });
    assert!(echo.received().contains(&STANDARD.encode(format!("{USER}:{PASSWORD}"))), "it was sent");
    canaries.verdict();
}
