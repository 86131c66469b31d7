use super::*;

/// Fields and whether each was quoted, position, line, and whether the record is broken.
type Split = (Vec<(String, bool)>, u64, u64, bool);

fn split(text: &str, quoted_newlines: bool) -> Vec<Split> {
    let mut splitter = Splitter::new(text.as_bytes(), b',', Some(b'"'), quoted_newlines);
    let mut record = Record::default();
    let mut found = Vec::new();
    while splitter.next(&mut record).unwrap() {
        let fields = (0..record.num_fields()).map(|i| (record.text(i).into_owned(), record.is_quoted(i)));
        found.push((fields.collect(), record.position, record.line, record.error.is_some()));
    }
    found
}

fn plain(fields: &[&str]) -> Vec<(String, bool)> {
    fields.iter().map(|f| ((*f).to_owned(), false)).collect()
}

#[test]
fn records_end_at_every_kind_of_line_end_and_know_where_they_began() {
    let found = split("a,b\r\nc,\rd,e\n\n,", false);
    let expected = [
        (plain(&["a", "b"]), 0, 1, false),
        (plain(&["c", ""]), 5, 2, false),
        (plain(&["d", "e"]), 8, 3, false),
        (plain(&[""]), 12, 4, false),
        (plain(&["", ""]), 13, 5, false),
    ];
    assert_eq!(found, expected);
}

#[test]
fn quotes_hold_delimiters_and_doubled_quotes_and_newlines_when_allowed() {
    let found = split("\"a,\"\"b\",\"\"\n", false);
    assert_eq!(found[0].0, [("a,\"b".to_owned(), true), (String::new(), true)]);
    let found = split("\"x\r\ny\nz\",1\n2,3", true);
    assert_eq!(found[0].0[0].0, "x\r\ny\nz");
    assert_eq!((found[1].1, found[1].2), (11, 4));
    let broken = split("\"x\ny,1\n\"a\"b,2\n3,4\n\"end", false);
    let errors: Vec<bool> = broken.iter().map(|r| r.3).collect();
    assert_eq!(errors, [true, false, true, false, true]);
}
