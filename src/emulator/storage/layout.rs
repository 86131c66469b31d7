//! Where objects are in a bucket's folder: a key's segments are folders, its last one a file.
//!
//! People see these files, and drop files of their own beside them, so a key is its path wherever it can be.
//! What no path can hold is escaped, in such a way that a path leads back to one key only:
//! `%XX` is a byte, `%` alone an empty segment, `%-` ends a piece of a segment that is too long for one name,
//! and `%f` ends the name of an object whose key is also a folder's.

use std::path::{Path, PathBuf};

use crate::emulator::wire::{Failure, Outcome};

/// File systems take 255 bytes.
const NAME_BYTES_MAX: usize = 240;
const KEY_BYTES_MAX: usize = 1024;
const CONTINUED: &str = "%-";
const ALSO_A_FOLDER: &str = "%f";

/// A bucket's name: legal, so that it can only be the name of one folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::emulator) struct Bucket(String);

impl Bucket {
    pub(in crate::emulator) fn parse(name: &str) -> Outcome<Self> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let legal = name.bytes().all(|b| inner(b) || matches!(b, b'-' | b'_' | b'.'));
        let ends = name.bytes().next().is_some_and(inner) && name.bytes().last().is_some_and(inner);
        if legal && ends && (3..=222).contains(&name.len()) && !name.contains("..") {
            return Ok(Bucket(name.to_owned()));
        }
        let shown: String = name.chars().take(100).collect();
        Err(Failure::invalid(format!("Invalid bucket name: '{shown}'")))
    }

    pub(in crate::emulator) fn as_str(&self) -> &str {
        &self.0
    }
}

pub(super) fn check_key(key: &str) -> Outcome<()> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.contains(['\r', '\n']) {
        return Err(Failure::invalid("The specified object name is not valid."));
    }
    Ok(())
}

/// The path of an object in its bucket's folder, and the one that it has when that is a folder already.
pub(super) fn paths_of(key: &str) -> [PathBuf; 2] {
    let mut path = key.split('/').map(escaped).collect::<Vec<_>>().join("/");
    let plain = PathBuf::from(&path);
    path.push_str(ALSO_A_FOLDER);
    [plain, PathBuf::from(path)]
}

/// The name that a file gives up for a folder of that name.
pub(super) fn also_a_folder(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ALSO_A_FOLDER);
    PathBuf::from(name)
}

/// The key of a file at this path in its bucket's folder; `None` when no key would be kept there.
pub(super) fn key_of(path: &str) -> Option<String> {
    let plain = path.strip_suffix(ALSO_A_FOLDER).unwrap_or(path);
    let mut key = Vec::with_capacity(plain.len());
    let mut names = plain.split('/').peekable();
    while let Some(name) = names.next() {
        let (name, continued) = match name.strip_suffix(CONTINUED) {
            Some(name) if names.peek().is_some() => (name, true),
            _ => (name, false),
        };
        if name != "%" {
            unescape(name, &mut key);
        }
        if !continued && names.peek().is_some() {
            key.push(b'/');
        }
    }
    let key = String::from_utf8(key).ok()?;
    let is_canonical = check_key(&key).is_ok() && paths_of(&key).iter().any(|p| p.as_os_str() == path);
    is_canonical.then_some(key)
}

fn escaped(segment: &str) -> String {
    match segment {
        "" => return "%".into(),
        "." => return "%2E".into(),
        ".." => return "%2E%2E".into(),
        _ => {}
    }
    let bytes = segment.as_bytes();
    let mut path = String::with_capacity(segment.len());
    let mut name_bytes = 0;
    for (index, c) in segment.char_indices() {
        let rest = &bytes[index + 1..];
        let is_escape = c == '%' && (rest.len() < 2 || is_hex(rest[0]) && is_hex(rest[1]));
        let is_alone = c == '.' && name_bytes == 0 && index > 0;
        let written = if c.is_ascii_control() || c == '\\' || is_escape || is_alone {
            path.push_str(&format!("%{:02X}", bytes[index]));
            3
        } else {
            path.push(c);
            c.len_utf8()
        };
        name_bytes += written;
        if name_bytes > NAME_BYTES_MAX && index + c.len_utf8() < segment.len() {
            path.push_str(CONTINUED);
            path.push('/');
            name_bytes = 0;
        }
    }
    path
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'F')
}

fn unescape(name: &str, key: &mut Vec<u8>) {
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|hex| first == b'%' && hex.iter().all(|b| is_hex(*b)));
        let code = code.and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                key.push(byte);
                rest = &after[2..];
            }
            None => {
                key.push(first);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(key: &str) -> String {
        paths_of(key)[0].to_str().unwrap().to_owned()
    }

    #[test]
    fn keys_that_are_paths_stay_as_they_are() {
        for key in ["a", "dir/day=2024-01-05/é 1.parquet", "100% sure.csv", ".hidden", "a/b:c*?"] {
            assert_eq!(path(key), key);
        }
        for (key, expected) in [
            ("../../etc/passwd", "%2E%2E/%2E%2E/etc/passwd"),
            ("/a//b/", "%/a/%/b/%"),
            ("a\\b\0", "a%5Cb%00"),
            ("a%41", "a%2541"),
            ("a%f", "a%25f"),
            ("%", "%25"),
        ] {
            assert_eq!(path(key), expected);
            assert_eq!(key_of(expected).as_deref(), Some(key));
        }
        assert_eq!(key_of("a%41"), None, "it would be kept as `aA`");
        assert_eq!(key_of("dir%f").as_deref(), Some("dir"));
    }

    #[test]
    fn only_legal_names_are_buckets() {
        for name in ["abc", "my-bucket", "a.b_c-9"] {
            assert!(Bucket::parse(name).is_ok(), "{name}");
        }
        for name in ["", "ab", "..", "a..b", ".api2bq", "a/b", "Bucket", "-ab", "ab-", &"x".repeat(223)] {
            assert!(Bucket::parse(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_key_has_paths_of_its_own(key in "[a%2fE/.\\\\\u{e9}-]{1,12}|.{1,300}|[.]{230,500}", other in "[a%2fE/.-]{1,12}") {
            prop_assume!(check_key(&key).is_ok());
            for path in paths_of(&key) {
                let text = path.to_str().unwrap();
                prop_assert_eq!(key_of(text), Some(key.clone()));
                for name in text.split('/') {
                    prop_assert!(!name.is_empty() && name.len() <= 255 && name != "." && name != "..");
                }
            }
            prop_assert!(key == other || path(&key) != path(&other));
        }
    }
}
