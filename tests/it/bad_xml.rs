//! Bad XML bodies, by the ids of the list; `bad_decode.rs` says what was chosen.

use std::fmt::Write as _;

use api2bq::decode::Options;
use api2bq::schema::Format;

use crate::bad_decode::Outcome::{self, Fails, Rejects, Rows};
use crate::bad_decode::{check, check_with, r, records, src_of, with_src};

/// A body with `what` in the place of `C1065` in the middle one of three records.
fn bytes_in_value(what: &[u8]) -> Vec<u8> {
    let body = records(&format!("{}{}{}", r(1), with_src("@@"), r(3)));
    let at = body.windows(2).position(|w| w == b"@@").expect("it is there");
    [&body[..at], what, &body[at + 2..]].concat()
}

#[test]
fn xml_bodies() {
    let (r1, r2, r3) = (r(1), r(2), r(3));
    let between = |what: &str| records(&format!("{r1}{what}{r2}"));
    let value = |what: &str| records(&format!("{r1}{}{r3}", with_src(what)));
    let head = |what: &str| format!("{what}<records>{r1}{r2}</records>").into_bytes();
    let deep = |n: usize| format!("{}{}", "<a>".repeat(n), "</a>".repeat(n));
    let field = |what: &str| records(&format!("{r1}{}{r3}", r2.replace("<id>2</id>", what)));
    let table: Vec<(&str, Vec<u8>, Outcome)> = vec![
        ("X03", format!("<records>{r1}{r2}{r3}").into(), Fails("unclosed_root")),
        ("X03 in a record", format!("<records>{r1}<record><id>1</id>").into(), Fails("truncated")),
        ("X03 in a tag", format!("<records>{r1}<record").into(), Fails("truncated")),
        ("X03 in a reference", format!("<records>{r1}&am").into(), Fails("truncated")),
        ("X03 nothing", vec![], Fails("no_root")),
        ("X03 white space", b" \n ".to_vec(), Fails("no_root")),
        ("X03 mark only", b"\xef\xbb\xbf".to_vec(), Fails("no_root")),
        ("X04", between(""), Rows(2)),
        ("X07", value("<![CDATA[a]]]]><![CDATA[>]]>b&amp;"), Rows(3)),
        ("X09", between("<!-- <record></record> -->"), Rows(2)),
        ("X09 hyphens", between("<!-- <record> --></record> -->"), Fails("not_well_formed")),
        ("X09 two hyphens", between("<!-- a -- b -->"), Fails("not_well_formed")),
        ("X09 three at the end", between("<!-- a --->"), Fails("not_well_formed")),
        ("X09 short", between("<!-->"), Fails("unterminated_comment")),
        ("X09 inside a record", value("<!-- x -->C1065<!---->"), Rows(3)),
        (
            "X13 external and own",
            head("<!DOCTYPE a SYSTEM 'x' [<!ENTITY b 'c'>]>"),
            Fails("dtd_entity_forbidden"),
        ),
        (
            "X13 parameter entity",
            head("<!DOCTYPE a [<!ENTITY % b SYSTEM 'file:///etc/passwd'>%b;]>"),
            Fails("dtd_entity_forbidden"),
        ),
        ("X13 empty subset", head("<!DOCTYPE a []>"), Fails("dtd_entity_forbidden")),
        ("X17", head("<!DOCTYPE HOST_LIST SYSTEM \"https://127.0.0.1:9/x.dtd\">"), Rows(2)),
        ("X17 bracket and angle in the name", head("<!DOCTYPE a SYSTEM 'https://x/[1]>.dtd'\n>"), Rows(2)),
        ("X17 public", head("<!DOCTYPE a PUBLIC '-//X//Y' \"http://x/y\" >"), Rows(2)),
        ("X17 twice", head("<!DOCTYPE a><!DOCTYPE b>"), Fails("not_well_formed")),
        ("X17 late", between("<!DOCTYPE a>"), Fails("not_well_formed")),
        ("X17 in a record", value("<!DOCTYPE a>"), Fails("not_well_formed")),
        ("X17 without name", head("<!DOCTYPE>"), Fails("not_well_formed")),
        ("X18", value("a&nbsp;b"), Rejects(2, vec!["undefined_entity:src_comp"])),
        ("X18 in an attribute", between("<record a='&nbsp;'/>"), Rejects(2, vec!["undefined_entity"])),
        ("X18 outside", between("&nbsp;"), Fails("undefined_entity")),
        ("X18 bare", value("a & b"), Fails("not_well_formed")),
        ("X18 bare with a semicolon", value("AT&T rocks; yes"), Fails("not_well_formed")),
        ("X18 empty", value("&;"), Fails("not_well_formed")),
        ("X19", value("&#0;"), Rejects(2, vec!["illegal_char:src_comp"])),
        ("X19 one", value("&#x1;"), Rejects(2, vec!["illegal_char:src_comp"])),
        ("X19 FFFE", value("&#xFFFE;"), Rejects(2, vec!["illegal_char:src_comp"])),
        ("X19 legal ones", value("&#9;&#10;&#13;&#x10FFFF;&#127;"), Rows(3)),
        ("X20", value("&#xD800;"), Rejects(2, vec!["illegal_char_ref:src_comp"])),
        ("X20 too high", value("&#x110000;"), Rejects(2, vec!["illegal_char_ref:src_comp"])),
        (
            "X20 endless",
            value(&format!("&#{};", "9".repeat(1000))),
            Rejects(2, vec!["illegal_char_ref:src_comp"]),
        ),
        ("X20 no digits", value("&#x;&#;"), Rejects(2, vec!["illegal_char_ref:src_comp"])),
        ("X22", bytes_in_value(b"a\0b"), Fails("illegal_char")),
        ("X22 other control", bytes_in_value(b"\x1f"), Fails("illegal_char")),
        ("X22 in CDATA", value("<![CDATA[\u{8}]]>"), Fails("illegal_char")),
        ("X22 in a comment", between("<!-- \u{1b} -->"), Fails("illegal_char")),
        ("X22 in an attribute", between("<record a='\u{0}'/>"), Fails("illegal_char")),
        ("X22 between", between("\u{1}"), Fails("illegal_char")),
        ("X22 FFFF", value("a\u{ffff}"), Fails("illegal_char")),
        ("X22 after bytes that are no text", bytes_in_value(b"\xff\x01"), Fails("illegal_char")),
        ("X22 DEL and C1 are legal", value("\u{7f}\u{85}\u{9f}"), Rows(3)),
        ("X25", bytes_in_value(b"\xc0\xaf"), Rejects(2, vec!["invalid_utf8:src_comp"])),
        ("X25 surrogate", bytes_in_value(b"\xed\xa0\x80"), Rejects(2, vec!["invalid_utf8:src_comp"])),
        ("X25 cut character", bytes_in_value(b"\xe2\x82"), Rejects(2, vec!["invalid_utf8:src_comp"])),
        ("X25 in CDATA", bytes_in_value(b"<![CDATA[\xff]]>"), Rejects(2, vec!["invalid_utf8:src_comp"])),
        ("X25 in a comment", bytes_in_value(b"<!--\xff-->"), Rejects(2, vec!["invalid_utf8:src_comp"])),
        ("X25 and a wrong tag", bytes_in_value(b"\xff</wrong>"), Fails("not_well_formed")),
        ("X25 in a name", bytes_in_value(b"<a\xff>"), Fails("invalid_utf8")),
        (
            "X25 between",
            [b"<records>", &b"\xff"[..], r1.as_bytes(), b"</records>"].concat(),
            Fails("invalid_utf8"),
        ),
        ("X34", b"<?xml verion='1.0'?><records/>".to_vec(), Fails("bad_declaration")),
        ("X34 empty", b"<?xml ?><records/>".to_vec(), Fails("bad_declaration")),
        (
            "X34 no encoding",
            b"<?xml version='1.0' encoding=''?><records/>".to_vec(),
            Fails("bad_declaration"),
        ),
        ("X34 order", b"<?xml encoding='utf-8' version='1.0'?><records/>".to_vec(), Fails("bad_declaration")),
        (
            "X34 standalone",
            b"<?xml version='1.0' standalone='maybe'?><records/>".to_vec(),
            Fails("bad_declaration"),
        ),
        ("X34 version 2", b"<?xml version='2.0'?><records/>".to_vec(), Fails("bad_declaration")),
        ("X34 late", head(" <?xml version='1.0'?>"), Fails("bad_declaration")),
        ("X34 twice", head("<?xml version='1.0'?><?xml version='1.0'?>"), Fails("bad_declaration")),
        ("X34 capitals", head("<?XML version='1.0'?>"), Fails("bad_declaration")),
        ("X34 in order", head("<?xml version = \"1.0\"\tencoding='utf-8' standalone=\"yes\" ?>"), Rows(2)),
        ("X34 never closed", format!("<?xml version='1.0' {}", " ".repeat(3000)).into(), Fails("truncated")),
        ("X35", b"<records/>".to_vec(), Rows(0)),
        (
            "X35 open",
            b"<?xml version='1.0'?>\n<records >\n</records\t>\n<!-- end --><?end?>\n".to_vec(),
            Rows(0),
        ),
        ("X37", b"{}".to_vec(), Fails("not_xml")),
        ("X37 CDATA", b"<![CDATA[x]]><records/>".to_vec(), Fails("not_xml")),
        ("X38", b"<html><body>log in</body></html>".to_vec(), Fails("unexpected_root:html")),
        ("X38 doctype", b"<!DOCTYPE html>\n<html lang=en><p>".to_vec(), Fails("not_well_formed")),
        ("X40", records(&r1.replace("</record>", &format!("{}</record>", deep(1000)))), Fails("depth")),
        ("X40 above records", format!("<records>{}</records>", deep(1000)).into(), Fails("depth")),
        ("X40 at the limit", records(&r1.replace("</record>", &format!("{}</record>", deep(64)))), Rows(1)),
        ("X48", records(&r1.replace("<record>", "<record a=\"1\" b='2&lt;>'>")), Rows(1)),
        ("X49", namespaced(&r1), Rows(1)),
        ("X49 other prefix at the end", b"<a:records></b:records>".to_vec(), Fails("not_well_formed")),
        ("X49 other prefix in a record", field("<a:id>2</b:id>"), Fails("not_well_formed")),
        (
            "X50",
            format!("<records>{}</records>", "<other><a>1</a></other>".repeat(50_000)).into(),
            Fails("no_records_matched"),
        ),
        ("X50 nested one too deep", records(&format!("<page>{r1}</page>")), Fails("no_records_matched")),
        ("X53", field("<id>1</id><id>2</id>"), Rejects(2, vec!["duplicate_field:id"])),
        ("X53 missing", field(""), Rejects(2, vec!["missing_field:id"])),
        ("X53 empty", field("<id/>"), Rejects(2, vec!["not_an_integer:id"])),
        ("X61", [&records(&r1)[..], &[0; 10]].concat(), Fails("content_after_root")),
        ("X61 element", [&records(&r1)[..], b"<records/>"].concat(), Fails("content_after_root")),
        ("X61 text", [&records(&r1)[..], b"\n x"].concat(), Fails("content_after_root")),
        ("X61 mark", [&records(&r1)[..], b"\xef\xbb\xbf"].concat(), Fails("content_after_root")),
        ("X61 CDATA", [&records(&r1)[..], b"<![CDATA[]]>"].concat(), Fails("content_after_root")),
        ("X61 end tag", [&records(&r1)[..], b"</records>"].concat(), Fails("not_well_formed")),
        ("X67", between("<record a='<'/>"), Fails("not_well_formed")),
        ("X67 unquoted", between("<record a=1/>"), Fails("not_well_formed")),
        ("X67 no value", between("<record a/>"), Fails("not_well_formed")),
        ("X67 no space", between("<record a='1'b='2'/>"), Fails("not_well_formed")),
        ("X67 twice", between("<record a='1' a='2'/>"), Fails("not_well_formed")),
        ("X67 in the root", format!("<records a=1>{r1}</records>").into(), Fails("not_well_formed")),
        ("X67 in a field", field("<id a=1>2</id>"), Fails("not_well_formed")),
        ("X67 name with a digit first", between("<1/>"), Fails("not_well_formed")),
        ("X67 space before the name", between("< record/>"), Fails("not_well_formed")),
        ("X67 attribute on an end tag", field("<id>2</id a='1'>"), Fails("not_well_formed")),
        ("X67 slash in a tag", between("<record / >"), Fails("not_well_formed")),
        ("X67 wrong nesting", field("<id>2</time>"), Fails("not_well_formed")),
        ("X67 wrong nesting in the unknown", field("<id>2</id><a><b></a></b>"), Fails("not_well_formed")),
        (
            "X67 root not closed by its name",
            format!("<records>{r1}</record>").into(),
            Fails("not_well_formed"),
        ),
        ("X67 stray CDATA end", value("a]]>b"), Fails("not_well_formed")),
        ("X67 stray CDATA end between", between("]]>"), Fails("not_well_formed")),
        ("X67 no markup", between("<!ELEMENT a>"), Fails("not_well_formed")),
        ("X67 CDATA in small letters", value("<![cdata[x]]>"), Fails("not_well_formed")),
        ("X67 instruction", between("<?a <record> ?>"), Rows(2)),
        ("X67 instruction without target", between("<? a?>"), Fails("not_well_formed")),
        ("X67 text between records is no record", between("hello"), Rows(2)),
        ("X70", value("'; DROP TABLE flows; --"), Rows(3)),
    ];
    assert!(table.len() > 100, "the table is all there");
    for (id, body, outcome) in &table {
        check(id, Format::Xml, body, outcome);
    }
}

fn namespaced(record: &str) -> Vec<u8> {
    let inside =
        record.replace("</", "</ns:").replace("<ns:", "<").replace('<', "<ns:").replace("<ns:/", "</");
    let inside = inside.replace("</ns:ns:", "</ns:");
    format!("<ns:records xmlns:ns='u'>{inside}</ns:records>").into_bytes()
}

#[test]
fn xml_values_are_exact() {
    let value = |what: &str| records(&with_src(what));
    for (id, written, read) in [
        ("X07", "<![CDATA[a]]]]><![CDATA[>]]>b&amp;", "a]]>b&"),
        ("X70", "'; DROP TABLE flows; --", "'; DROP TABLE flows; --"),
        ("X19", "&#9;&#xe9;\u{85}", "\t\u{e9}\u{85}"),
        ("ends of lines", "a\r\nb\rc\n<![CDATA[d\r\n]]>&#13;", "a\nb\nc\nd\n\r"),
        ("comment", "a<!-- b -->c<?d e?>f", "acf"),
        ("white space", "  a  ", "  a  "),
        ("greater", "a>b]]", "a>b]]"),
    ] {
        let seen = check(id, Format::Xml, &value(written), &Rows(1));
        assert_eq!(src_of(&seen, 0), read, "{id}");
    }
}

/// X13: the time would be that of the expansion; there is none.
#[test]
fn xml_billion_laughs_are_not_laughed() {
    let mut dtd = String::from("<!DOCTYPE lolz [<!ENTITY lol0 \"lol\">");
    for level in 1..10 {
        let inner = format!("&lol{};", level - 1).repeat(10);
        write!(dtd, "<!ENTITY lol{level} \"{inner}\">").expect("a string takes all");
    }
    let body = format!("{dtd}]><records>{}</records>", with_src("&lol9;"));
    check("X13", Format::Xml, body.as_bytes(), &Fails("dtd_entity_forbidden"));
}

fn told(seen: &crate::bad_decode::Seen) -> Vec<(&str, u64, u64)> {
    seen.notices.iter().map(|n| (n.what.as_str(), n.first_record, n.count)).collect()
}

#[test]
fn xml_notices_say_what_was_passed_over() {
    let doctype = format!("<!DOCTYPE a SYSTEM 'https://127.0.0.1:9/x.dtd'><records>{}</records>", r(1));
    assert_eq!(told(&check("X17", Format::Xml, doctype.as_bytes(), &Rows(1))), [("doctype_ignored", 0, 1)]);

    let attributes =
        r(2).replace("<record>", "<record a='1' b='2' xmlns:c='3'>").replace("<id>", "<id d='4'>");
    let body = records(&format!("{}{attributes}{attributes}", r(1)));
    assert_eq!(told(&check("X48", Format::Xml, &body, &Rows(3))), [("attributes_ignored", 2, 6)]);

    let flags = r(2).replace("</record>", "<flags>x</flags></record>");
    let body = records(&format!("{}{flags}{flags}", r(1).repeat(4)));
    let seen = check("X56", Format::Xml, &body, &Rows(6));
    assert_eq!(told(&seen), [("new_field:flags", 5, 2)]);
    assert!(seen.notices[0].is_drift());
    let strict = Options { strict_schema: true, ..Options::default() };
    let seen = check_with("X56 strict", Format::Xml, &strict, &body, &Fails("schema_drift"));
    assert!(seen.error.expect("fails").contains("record 5 has the field `flags`"));

    // Names that a source makes up do not fill the memory.
    let many: String = (0..300).map(|n| format!("<f{n}/>")).collect();
    let body = records(&r(1).replace("</record>", &format!("{many}</record>")));
    let seen = check("X56 many", Format::Xml, &body, &Rows(1));
    assert_eq!(seen.notices.len(), 101);
    assert!(told(&seen).contains(&("new_fields_not_listed", 1, 200)));
}

/// A reject says where it is: byte, line and column, in a document of several lines and in one of one.
#[test]
fn xml_rejects_have_a_place() {
    let wrong = r(2).replace("<id>2", "<id>x");
    let body = format!("<?xml version='1.0'?>\r\n<records>\n  {}\n\t{wrong}{wrong}\n</records>", r(1));
    let seen = check("place", Format::Xml, body.as_bytes(), &Rejects(1, vec!["not_an_integer:id"; 2]));
    let at = body.find(&wrong).expect("inside") as u64;
    let second = wrong.len() as u64;
    let places: Vec<_> = seen.rejects.iter().map(|r| (r.0, r.1, r.2)).collect();
    assert_eq!(places, [(at, 4, 2), (at + second, 4, 2 + second)]);
}
