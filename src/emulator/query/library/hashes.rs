//! Digests and encodings of BYTES.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::Function;
use super::rows::{Row, binaries, given, texts};
use super::text::is_bytes;
use crate::emulator::query::wording::exec_err;

pub(super) fn functions() -> Vec<Function> {
    let f = Function::listed;
    vec![
        f("MD5", DIGEST, digest::<Md5>),
        f("SHA1", DIGEST, digest::<Sha1>),
        f("SHA256", DIGEST, digest::<Sha256>),
        f("SHA512", DIGEST, digest::<Sha512>),
        f("TO_HEX", "BYTES -> STRING", |args, n| texts(args, n, |row| Ok(row.bytes(0).map(hex)))),
        f("FROM_HEX", "STRING -> BYTES", |args, n| {
            binaries(args, n, |row| from_hex(given!(row.text(0))).map(Some))
        }),
        f("TO_BASE64", "BYTES -> STRING", |args, n| {
            texts(args, n, |row| Ok(row.bytes(0).map(|bytes| STANDARD.encode(bytes))))
        }),
        f("FROM_BASE64", "STRING -> BYTES", |args, n| {
            binaries(args, n, |row| match STANDARD.decode(given!(row.text(0))) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(_) => exec_err!("Failed to decode invalid base64 string"),
            })
        }),
        f("SAFE_CONVERT_BYTES_TO_STRING", "BYTES -> STRING", |args, n| {
            texts(args, n, |row: Row<'_>| {
                Ok(row.bytes(0).map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
            })
        }),
    ]
}

const DIGEST: &str = "STRING -> BYTES | BYTES -> BYTES";

fn digest<D: Digest>(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let is_bytes = is_bytes(args);
    binaries(args, n, |row| {
        let bytes = if is_bytes { row.bytes(0) } else { row.text(0).map(str::as_bytes) };
        Ok(bytes.map(|bytes| D::digest(bytes).to_vec()))
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    // An odd first digit has a zero before it.
    let padded = if text.len() % 2 == 1 { format!("0{text}") } else { text.to_owned() };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pairs = padded.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    match pairs.collect::<Option<Vec<u8>>>() {
        Some(bytes) => Ok(bytes),
        None => exec_err!("Failed to decode invalid hexadecimal string {text}"),
    }
}
