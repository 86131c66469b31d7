use super::detect::{Guess, kind_of_text};
use super::*;
use crate::emulator::fields::{Kind, documents};

#[test]
fn the_narrowest_kind_of_a_text_is_found() {
    for (text, kind) in [
        ("12", Kind::Int64),
        ("-12", Kind::Int64),
        ("9223372036854775808", Kind::Float64),
        ("1.5e3", Kind::Float64),
        ("True", Kind::Bool),
        ("t", Kind::String),
        ("nan", Kind::String),
        ("2024-01-02", Kind::Date),
        ("11:41:43", Kind::Time),
        ("2024-01-02 03:04:05", Kind::Timestamp),
        ("2024/01/02 03:04:05", Kind::Timestamp),
        ("2024-01-02T03:04:05.5Z", Kind::Timestamp),
        ("2024-13-02", Kind::String),
        ("10.0.0.1", Kind::String),
        ("", Kind::String),
    ] {
        assert_eq!(kind_of_text(text), kind, "{text:?}");
    }
}

#[test]
fn columns_take_the_kind_that_holds_all_of_their_values() {
    let mut guess = Guess::default();
    for row in [
        json!({"n": 1, "mixed": "1", "t": ["x"], "r": {"a": null}, "never": null, "d": "2024-01-02"}),
        json!({"n": 1.5, "mixed": true, "t": [], "r": {"a": "2", "b": [{"c": 1}]}, "d": "2024-01-02 03:04:05"}),
    ] {
        guess.add(&row).unwrap();
    }
    let fields = guess.fields(&[]).unwrap();
    let kinds: Vec<_> = fields.iter().map(|f| (f.name.as_str(), f.kind.sql(), f.mode.name())).collect();
    let expected = [
        ("n", "FLOAT64", "NULLABLE"),
        ("mixed", "STRING", "NULLABLE"),
        ("t", "STRING", "REPEATED"),
        ("r", "STRUCT", "NULLABLE"),
        ("never", "STRING", "NULLABLE"),
        ("d", "TIMESTAMP", "NULLABLE"),
    ];
    assert_eq!(kinds, expected);
    let nested = documents(&fields[3].fields);
    assert_eq!((&nested[0]["type"], &nested[1]["mode"]), (&json!("INTEGER"), &json!("REPEATED")));
    assert!(guess.add(&json!({"r": 1})).unwrap_err().contains("Conflicting"));
    assert!(guess.add(&json!({"n": [1]})).unwrap_err().contains("non-repeated"));
}

#[tokio::test]
async fn other_encodings_and_gzip_become_plain_text() {
    let dir = tempfile::tempdir().unwrap();
    let draft = || OwnedFile::draft(dir.path().join(unique_name()));
    let utf16: Vec<u8> = "aé😀\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, encoding, expected) in [
        (b"a\xe9\n".to_vec(), "ISO-8859-1", "aé\n"),
        (utf16, "UTF-16LE", "aé😀\n"),
        (b"\0\0\0a\0\x01\xf6\0".to_vec(), "UTF-32BE", "a😀"),
    ] {
        let path = dir.path().join("in");
        std::fs::write(&path, bytes).unwrap();
        let encoding = text::Encoding::parse(encoding).unwrap();
        let plain = text::plain(&path, encoding, draft).await.unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(plain.path()).unwrap(), expected);
    }
    let path = dir.path().join("cut");
    std::fs::write(&path, b"ab").unwrap();
    let cut = text::plain(&path, text::Encoding::parse("UTF-32LE").unwrap(), draft).await;
    assert_eq!(cut.unwrap_err().code, 400);
    std::fs::write(&path, b"\x1f\x8bnot gzip").unwrap();
    assert_eq!(text::plain(&path, text::Encoding::Utf8, draft).await.unwrap_err().code, 400);
    assert!(text::plain(&dir.path().join("in"), text::Encoding::Utf8, draft).await.unwrap().is_none());
}
