//! What becomes of a window whose body is bad: exit code, what is staged, and what is said.

use std::io::Write;

use crate::bad_decode::{j, r, records};
use crate::bad_http::{Server, with_length};
use crate::context::{Ended, RawSource, TestContext, answer};

const XML: &str = "Content-Type: application/xml\r\n";

fn stage(url: &str, days: u32, more: &[&str]) -> (TestContext, Ended) {
    let context = TestContext::new();
    let ended = context.backfill(None, url, days, &[&["--until", "stage"], more].concat());
    (context, ended)
}

fn xml(records: &[u8]) -> Vec<u8> {
    with_length(XML, records)
}

/// H02: a day is not slept, and the next attempt not made.
#[test]
fn a_wait_of_a_day_ends_the_window() {
    let source = RawSource::start(vec![answer("429 Too Many Requests", "Retry-After: 86400\r\n", "")]);
    let (_context, ended) = stage(&source.url, 1, &[]);
    assert_eq!((ended.code, source.requests()), (3, 1), "{ended:?}");
    assert!(ended.stderr.contains("(rate_limited)"), "{}", ended.stderr);
}

/// H03: a past date, a negative number and nonsense are no hint.
#[test]
fn nonsense_in_retry_after_is_no_hint() {
    for hint in ["Wed, 21 Oct 2015 07:28:00 GMT", "-5", "abc"] {
        let busy = answer("429 Too Many Requests", &format!("Retry-After: {hint}\r\n"), "");
        let source = RawSource::start(vec![busy, xml(&records(&r(1)))]);
        let (_context, ended) = stage(&source.url, 1, &["--set", "limits.attempts=2"]);
        ended.success();
        assert_eq!(source.requests(), 2, "{hint}");
    }
}

/// H05 and H33: the first attempt breaks off and the second brings something else; only that counts.
#[test]
fn the_attempt_that_is_whole_is_the_one_that_counts() {
    let second = records(&r(7));
    let (alone, ended) = stage(&RawSource::start(vec![xml(&second)]).url, 1, &[]);
    ended.success();
    let first = records(&(1..200).map(r).collect::<String>());
    let whole = xml(&first);
    for cut in [whole.len() / 2, whole.len() - 1] {
        let source = RawSource::start(vec![whole[..cut].to_vec(), xml(&second)]);
        let (context, ended) = stage(&source.url, 1, &["--set", "limits.attempts=2"]);
        let ended = ended.success();
        assert!(ended.stdout.contains("1 records in = 1 staged"), "{}", ended.stdout);
        assert_eq!(context.staged("stage"), alone.staged("stage"), "cut at {cut}");
    }
}

/// H26: one window of ten is missing; the others are not, and the report names it.
#[test]
fn one_window_that_is_not_found_stops_no_other() {
    let source = Server::start(|_, request, stream| {
        let after = request.split("after=").nth(1).expect("the window is asked for");
        let after: i64 =
            after.split(|c: char| !c.is_ascii_digit()).next().expect("a number").parse().expect("one");
        let record = r(1).replace("<time>1<", &format!("<time>{}<", after + 1));
        let bytes = match after {
            259_200 => answer("404 Not Found", "", "no such day"),
            _ => xml(&records(&record)),
        };
        drop(stream.write_all(&bytes));
    });
    let (context, ended) = stage(&source.url, 10, &[]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(
        ended.stderr.contains("incomplete: day 4") && ended.stderr.contains("(http_404)"),
        "{}",
        ended.stderr
    );
    assert_eq!(context.staged("stage").len(), 9);
}

/// H34: the source's clock is nobody's.
#[test]
fn a_date_of_another_year_changes_nothing() {
    let (usual, ended) = stage(&RawSource::start(vec![xml(&records(&r(1)))]).url, 1, &[]);
    ended.success();
    let dated = with_length(&format!("{XML}Date: Mon, 01 Jan 2035 00:00:00 GMT\r\n"), &records(&r(1)));
    let (context, ended) = stage(&RawSource::start(vec![dated]).url, 1, &[]);
    ended.success();
    assert_eq!(context.staged("stage"), usual.staged("stage"));
}

/// J03: what is missing behind the cut is the transfer's fault, and no bad record.
#[test]
fn lines_that_break_off_are_not_rejects() {
    let body = format!("{}\n{}\n{}", j(1), j(2), &j(3)[..60]);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
        body.len() + 99
    );
    let source = RawSource::start(vec![[head.as_bytes(), body.as_bytes()].concat()]);
    let (context, ended) = stage(&source.url, 1, &["--set", "limits.attempts=1", "--max-rejects", "9"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("(truncated)"), "{}", ended.stderr);
    assert_eq!(context.staged("stage"), [""; 0]);
    assert!(!context.path("stage/flows/rejects").exists());
}

/// X38: what came instead is shown, and a secret that it repeats is not.
#[test]
fn a_login_page_is_shown_without_secrets() {
    for content_type in ["text/html; charset=utf-8", "application/xml"] {
        let page =
            "<html><body>please log in, canary-1234 (session 0123456789abcdef0123456789abcdef)</body></html>";
        let headers = format!("Content-Type: {content_type}\r\n");
        let source = RawSource::start(vec![with_length(&headers, page.as_bytes())]);
        let context = TestContext::new();
        context.write("headers", "Authorization: Bearer canary-1234\n");
        let more = ["--until", "stage", "--set", "source.headers_file=headers"];
        let ended = context.backfill(None, &source.url, 1, &more);
        assert_eq!((ended.code, source.requests()), (3, 1), "{ended:?}");
        let said = ended.stderr;
        assert!(said.contains("(unexpected_root:html)"), "{said}");
        assert!(said.contains("the body starts with `<html><body>please log in, … (session …)"), "{said}");
    }
}

/// X29 over HTTP: the Content-Type names the encoding.
#[test]
fn the_charset_of_the_content_type_is_heeded() {
    let body = records(&r(1).replace("C1065", "@"));
    let at = body.iter().position(|b| *b == b'@').expect("it is there");
    let latin = [&body[..at], b"\xe9", &body[at + 1..]].concat();
    let utf8 = [&body[..at], "é".as_bytes(), &body[at + 1..]].concat();
    let staged = |headers: &str, body: &[u8]| {
        let (context, ended) = stage(&RawSource::start(vec![with_length(headers, body)]).url, 1, &[]);
        ended.success();
        context.staged("stage")
    };
    let said = "Content-Type: text/xml; charset=\"iso-8859-1\"\r\n";
    assert_eq!(staged(said, &latin), staged(XML, &utf8));
}

/// X47 and the kept rejects: their file says that it has not all of them; each has its place.
#[test]
fn a_file_of_rejects_says_how_many_there_were() {
    let wrong = r(2).replace("<protocol>6", "<protocol>six");
    let body = format!("<records>\n{}\n  {wrong}{wrong}\n{wrong}</records>", r(1));
    let source = RawSource::start(vec![xml(body.as_bytes())]);
    for (kept, name_end) in [("2", "-first-2-of-3.ndjson"), ("0", "-first-0-of-3.ndjson"), ("3", ".ndjson")] {
        let setting = format!("limits.rejects_kept={kept}");
        let (context, ended) = stage(&source.url, 1, &["--set", &setting]);
        assert_eq!(ended.code, 3, "{ended:?}");
        assert!(ended.stderr.contains("3 records were rejected"), "{}", ended.stderr);
        let run = std::fs::read_dir(context.path("stage/flows/rejects")).expect("rejects").flatten().next();
        let mut files = std::fs::read_dir(run.expect("a run").path()).expect("files").flatten();
        let file = files.next().expect("a file").path();
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name.ends_with(name_end) && name.contains("-first-") == (kept != "3"), "{name}");
        let lines = std::fs::read_to_string(&file).expect("readable");
        assert_eq!(lines.lines().count().to_string(), kept);
        if let Some(first) = lines.lines().next() {
            let first: serde_json::Value = serde_json::from_str(first).expect("JSON");
            assert_eq!((first["line"].as_u64(), first["column"].as_u64()), (Some(3), Some(3)), "{first}");
            assert_eq!(first["offset"].as_u64(), body.find(&wrong).map(|at| at as u64));
        }
    }
}

/// X17 and X56: what is no error is said once, where people look.
#[test]
fn notices_are_logged() {
    let drifted = r(2).replace("</record>", "<flags>x</flags></record>");
    let body = format!(
        "<!DOCTYPE HOST_LIST SYSTEM 'https://127.0.0.1:9/x.dtd'><records>{}{drifted}</records>",
        r(1)
    );
    let source = RawSource::start(vec![xml(body.as_bytes())]);
    let (_context, ended) = stage(&source.url, 1, &["-v"]);
    let said = ended.success().stderr;
    assert!(said.contains("doctype_ignored"), "{said}");
    assert!(said.contains("new_field:flags") && said.contains("first_record=2"), "{said}");
    let (context, ended) = stage(&source.url, 1, &["--set", "source.strict_schema=true"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("(schema_drift)"), "{}", ended.stderr);
    assert_eq!(context.staged("stage"), [""; 0]);
}
