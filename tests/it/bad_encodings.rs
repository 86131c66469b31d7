//! XML bodies that are not UTF-8, or say so.

use api2bq::decode::Options;
use api2bq::schema::Format;

use crate::bad_decode::Outcome::{Fails, Rejects, Rows};
use crate::bad_decode::{check, check_with, records, src_of, with_src};

fn utf16(text: &str, big: bool) -> Vec<u8> {
    text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
}

/// X27 to X33, and what else a body may be encoded in.
#[test]
fn xml_in_other_encodings() {
    let text = |label: &str, src: &str| {
        format!(
            "<?xml version='1.0' encoding='{label}'?>\n{}",
            String::from_utf8_lossy(&records(&with_src(src)))
        )
    };
    // `label` in the declaration, and these bytes for the value.
    let bytes = |label: &str, src: &[u8]| {
        let text = text(label, "@@").into_bytes();
        let at = text.windows(2).position(|w| w == b"@@").expect("it is there");
        [&text[..at], src, &text[at + 2..]].concat()
    };
    let (big, little) = (b"\xfe\xff", b"\xff\xfe");
    let korean = "가각 한글";
    for (id, body, read) in [
        ("X26", ["\u{feff}", &text("UTF-8", "é")].concat().into_bytes(), "é"),
        ("X27", [&little[..], &utf16(&text("UTF-16", "é€😀"), false)].concat(), "é€😀"),
        ("X27 big", [&big[..], &utf16(&text("UTF-16", "é€😀"), true)].concat(), "é€😀"),
        ("X27 declared UTF-8", [&little[..], &utf16(&text("utf-8", "é"), false)].concat(), "é"),
        ("X28", utf16(&text("UTF-16BE", "é"), true), "é"),
        ("X28 little", utf16(&text("UTF-16LE", "é"), false), "é"),
        ("X29", bytes("ISO-8859-1", b"\xe9"), "é"),
        ("X29 control", bytes("iso-8859-1", b"\x85\x80"), "\u{85}\u{80}"),
        ("X29 Windows", bytes("windows-1252", b"\x80\xe9"), "€é"),
        ("X29 ISO-8859-15", bytes("ISO-8859-15", b"\xa4"), "€"),
        ("X29 Cyrillic", bytes("windows-1251", b"\xcf\xf0"), "Пр"),
        ("X30", bytes("EUC-KR", b"\xb0\xa1\xb0\xa2 \xc7\xd1\xb1\xdb"), korean),
        ("X30 Shift_JIS", bytes("Shift_JIS", b"\x93\xfa\x96\x7b"), "日本"),
        ("X30 GB18030", bytes("gb18030", b"\xc4\xe3\x81\x30\x81\x30"), "你\u{80}"),
        ("X33 known under another name", bytes("utf8", "é".as_bytes()), "é"),
    ] {
        let seen = check(id, Format::Xml, &body, &Rows(1));
        assert_eq!(src_of(&seen, 0), read, "{id}");
    }
    for (id, body, outcome) in [
        (
            "X27 lone surrogate",
            utf16_with_surrogate(&text("UTF-16", "@")),
            Rejects(0, vec!["invalid_encoding:src_comp"]),
        ),
        (
            "X27 half a unit at the end",
            [&utf16(&text("UTF-16LE", "a"), false)[..], b"\n"].concat(),
            Fails("content_after_root"),
        ),
        ("X28 says UTF-8", utf16(&text("UTF-8", "a"), true), Fails("encoding_mismatch")),
        ("X28 says UTF-16 and is not", bytes("UTF-16", b"a"), Fails("encoding_mismatch")),
        ("X29 ASCII is not", bytes("us-ascii", b"\xc3\xa9"), Rejects(0, vec!["invalid_encoding:src_comp"])),
        ("X30 broken", bytes("EUC-KR", b"\xb0\xff"), Rejects(0, vec!["invalid_encoding:src_comp"])),
        ("X32", bytes("UTF-7", b"+ADw-script+AD4-"), Fails("unsupported_encoding:utf-7")),
        ("X33", bytes("x-does-not-exist", b"a"), Fails("unsupported_encoding:x-does-not-exist")),
        (
            "X33 for browsers only",
            bytes("x-user-defined", b"a"),
            Fails("unsupported_encoding:x-user-defined"),
        ),
        ("X33 stateful", bytes("iso-2022-kr", b"a"), Fails("unsupported_encoding:iso-2022-kr")),
        ("X33 UTF-32", b"\xff\xfe\0\0<\0\0\0".to_vec(), Fails("unsupported_encoding:utf-32")),
        ("X33 UTF-32 without mark", b"\0\0\0<\0\0\0r".to_vec(), Fails("unsupported_encoding:utf-32")),
        ("X33 EBCDIC", b"\x4c\x6f\xa7\x94\x93".to_vec(), Fails("unsupported_encoding:ebcdic")),
        ("X34 encoding", bytes("<>", b"a"), Fails("bad_declaration")),
    ] {
        check(id, Format::Xml, &body, &outcome);
    }
    // The charset of the Content-Type goes before the declaration, a byte order mark before both.
    let charset = |name: &str| Options { charset: Some(name.into()), ..Options::default() };
    let latin = charset("ISO-8859-1");
    let seen = check_with("charset", Format::Xml, &latin, &bytes("UTF-8", b"\xe9"), &Rows(1));
    assert_eq!(src_of(&seen, 0), "é");
    assert!(seen.notices.iter().any(|n| n.what == "encoding_conflict:UTF-8"), "{:?}", seen.notices);
    let marked = ["\u{feff}", &text("UTF-8", "é")].concat();
    let seen = check_with("mark", Format::Xml, &latin, marked.as_bytes(), &Rows(1));
    assert_eq!(src_of(&seen, 0), "é");
    let wrong = charset("utf-7");
    check_with("charset", Format::Xml, &wrong, &bytes("UTF-8", b"a"), &Fails("unsupported_encoding:utf-7"));
}

/// UTF-16 with half a pair in the place of `@`.
fn utf16_with_surrogate(text: &str) -> Vec<u8> {
    let mut units: Vec<u16> = std::iter::once(0xfeff).chain(text.encode_utf16()).collect();
    let at = units.iter().position(|u| *u == u16::from(b'@')).expect("it is there");
    units[at] = 0xd800;
    units.into_iter().flat_map(u16::to_be_bytes).collect()
}
