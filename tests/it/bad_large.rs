//! Bodies that are large where they should not be: what is kept of them stays small.

use api2bq::decode::{Decoder, Options};
use api2bq::schema::Format;

use crate::bad_decode::Outcome::{Fails, Rejects, Rows};
use crate::bad_decode::{check, check_with, flows, j, r, records};

#[test]
fn xml_tags_have_limits() {
    let between = |what: &str| records(&format!("{}{what}{}", r(1), r(2)));
    let attributes: String = (0..80_000).map(|n| format!(" a{n}='x'")).collect();
    let namespaces: String = (0..1_000_000).map(|n| format!(" xmlns:a{n}='u'")).collect();
    let some = |n: usize| (0..n).map(|n| format!(" a{n}='x'")).collect::<String>();
    for (id, body, outcome) in [
        ("X41", between(&format!("<record{attributes}/>")), Fails("too_many_attributes")),
        ("X41 in the root", format!("<records{attributes}/>").into(), Fails("too_many_attributes")),
        ("X41 at the limit", records(&r(1).replace("<record>", &format!("<record{}>", some(256)))), Rows(1)),
        ("X41 one over", between(&format!("<record{}/>", some(257))), Fails("too_many_attributes")),
        ("X42", between(&format!("<record{namespaces}/>")), Fails("too_many_namespaces")),
        ("X43", between(&format!("<{}/>", "a".repeat(10 << 20))), Fails("tag_too_large")),
        (
            "X43 attribute",
            between(&format!("<record a='{}'/>", "a".repeat(10 << 20))),
            Fails("tag_too_large"),
        ),
        (
            "X43 in a record",
            records(&r(1).replace("<id>", &format!("<{}>", "a".repeat(2 << 20)))),
            Fails("tag_too_large"),
        ),
        ("X46", format!("<records><!-- {}", "x".repeat(20 << 20)).into(), Fails("record_too_large")),
        ("X46 short", format!("<records><!-- {}", "x".repeat(1 << 20)).into(), Fails("unterminated_comment")),
        (
            "X46 instruction",
            format!("<records><?a {}", "x".repeat(20 << 20)).into(),
            Fails("record_too_large"),
        ),
        (
            "X46 CDATA",
            records(&r(1).replace("C1065", &format!("<![CDATA[{}]]>", "x".repeat(17 << 20)))),
            Fails("record_too_large"),
        ),
        ("X46 reference", format!("<records>&{}", "x".repeat(20 << 20)).into(), Fails("record_too_large")),
        (
            "X46 DOCTYPE",
            format!("<!DOCTYPE a SYSTEM '{}", "x".repeat(20 << 20)).into(),
            Fails("record_too_large"),
        ),
        ("text between", between(&" x".repeat(10 << 20)), Rows(2)),
    ] {
        check(id, Format::Xml, &body, &outcome);
    }
}

/// A limit is met at the same byte however the bytes came, also where something is wrong behind it.
#[test]
fn a_record_is_as_long_as_its_limit_and_no_longer() {
    let options = |bytes| Options { record_bytes_max: bytes, ..Options::default() };
    let (first, last) = (r(1), r(3));
    let long = r(2).replace("C1065", &"C".repeat(3000));
    let body = records(&format!("{first}{long}\n{last}"));
    check_with("at the limit", Format::Xml, &options(long.len()), &body, &Rows(3));
    check_with("one over", Format::Xml, &options(long.len() - 1), &body, &Fails("record_too_large"));
    let wrong = records(&format!("{first}{}{last}", long.replace("<dst_comp>", "\0")));
    check_with("wrong behind the limit", Format::Xml, &options(1500), &wrong, &Fails("record_too_large"));
    check_with("wrong before it", Format::Xml, &options(4000), &wrong, &Fails("illegal_char"));
    let long = j(2).replace("C1065", &"C".repeat(3000));
    for (format, body) in [
        (Format::Ndjson, format!("{}\n{long}\n{}", j(1), j(3))),
        (Format::Json, format!("[{},{long},{}]", j(1), j(3))),
        (Format::Json, format!("{}{long}{}", j(1), j(3))),
    ] {
        check_with("at the limit", format, &options(long.len()), body.as_bytes(), &Rows(3));
        check_with("one over", format, &options(long.len() - 1), body.as_bytes(), &Fails("record_too_large"));
    }
}

/// Pushes `piece` over and over; returns the most that was kept back, and the decoder.
fn pushed(format: Format, start: &[u8], piece: &[u8], times: usize) -> (usize, Decoder, Option<String>) {
    let mut decoder = Decoder::new(format, &flows(), &Options::default()).expect("a decoder");
    let mut kept = 0;
    let mut error = decoder.push(start).err();
    for _ in 0..times {
        if error.is_some() {
            break;
        }
        error = decoder.push(piece).err();
        kept = kept.max(decoder.buffered_bytes());
        while decoder.next_batch().is_some() {}
    }
    (kept, decoder, error.map(|e| e.to_string()))
}

/// X46, X43 and their like, 200 MiB of each: what is kept is a record's limit, twice at most.
#[test]
fn what_never_ends_is_not_kept() {
    const MIB: usize = 1 << 20;
    let x = vec![b'x'; MIB];
    let spaces = vec![b' '; MIB];
    for (id, format, start, piece, code, kept_max) in [
        ("X46", Format::Xml, &b"<records><!-- "[..], &x, Some("record_too_large"), 36 * MIB),
        ("X43", Format::Xml, b"<records><", &x, Some("tag_too_large"), 6 * MIB),
        ("attribute", Format::Xml, b"<records><a b='", &x, Some("tag_too_large"), 6 * MIB),
        ("value", Format::Xml, b"<records><record><id>", &x, Some("record_too_large"), 36 * MIB),
        ("text", Format::Xml, b"<records>", &x, None, 6 * MIB),
        ("line", Format::Ndjson, b"{\"id\":\"", &x, Some("record_too_large"), 36 * MIB),
        ("text in an array", Format::Json, b"[{\"id\":\"", &x, Some("record_too_large"), 36 * MIB),
        ("number", Format::Json, b"[1", &vec![b'1'; MIB], Some("record_too_large"), 36 * MIB),
        ("white space", Format::Json, b"[", &spaces, None, MIB),
        ("CSV", Format::Csv, b"1,", &x, Some("record_too_large"), 36 * MIB),
    ] {
        let (kept, _, error) = pushed(format, start, piece, 200);
        match (code, &error) {
            (Some(code), Some(error)) => assert!(error.ends_with(&format!("({code})")), "{id}: {error}"),
            (code, error) => assert_eq!((code.is_some(), error), (false, &None), "{id}"),
        }
        assert!(kept <= kept_max, "{id}: {kept} bytes were kept");
    }
}

/// X47: rejects without end are counted, and few are kept.
#[test]
fn ten_million_empty_records_are_counted() {
    let piece = b"<record/>".repeat(100_000);
    let (kept, mut decoder, error) = pushed(Format::Xml, b"<records>", &piece, 100);
    assert_eq!(error, None);
    decoder.push(b"</records>").and_then(|()| decoder.finish()).expect("it is whole");
    let counts = decoder.counts();
    assert_eq!((counts.records, counts.rows, counts.rejects), (10_000_000, 0, 10_000_000));
    let rejects = decoder.take_rejects();
    assert_eq!(rejects.len(), Options::default().rejects_kept);
    assert!(rejects.iter().all(|r| r.reason == "missing_field:id" && r.raw == b"<record/>"));
    assert!(kept < 4 << 20, "{kept} bytes were kept");
    // The same in small, with the places.
    let reasons = vec!["missing_field:id"; 3];
    let seen = check("X47", Format::Xml, &records("<record/>\n<record/><record />"), &Rejects(0, reasons));
    let places: Vec<_> = seen.rejects.iter().map(|r| (r.1, r.2)).collect();
    assert_eq!(places, [(1, 10), (2, 1), (2, 10)]);
}
