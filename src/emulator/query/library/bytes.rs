//! BYTES: texts that need not be texts, their bits, and the characters that texts are made of.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Builder, ListBuilder};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;

use super::Function;
use super::rows::{binaries, bools, given, ints, texts};
use super::text::is_bytes;
use crate::emulator::query::likes::ends_in_escape;
use crate::emulator::query::wording::exec_err;

pub(super) fn functions() -> Vec<Function> {
    let f = Function::listed;
    vec![
        f("like_bytes", "BYTES, BYTES -> BOOL", |args, n| {
            bools(args, n, |row| {
                let (bytes, pattern) = (given!(row.bytes(0)), given!(row.bytes(1)));
                refuse_open_escape(pattern)?;
                Ok(Some(is_like(bytes, pattern)))
            })
        }),
        // A pattern, looked at; whether it may be one is for the operator to say.
        Function::generic(
            "like_pattern",
            |given| Ok((given.to_vec(), given.first().cloned().unwrap_or(DataType::Null))),
            |args, _| {
                if args[0].data_type() == &DataType::Utf8 {
                    let patterns = args[0].as_string::<i32>();
                    patterns.iter().flatten().try_for_each(|text| refuse_open_escape(text.as_bytes()))?;
                }
                Ok(Arc::clone(&args[0]))
            },
        )
        .refusing_json(),
        f("shift_left", "INT64, INT64 -> INT64", |args, n| {
            ints(args, n, |row| Ok(Some(shifted(given!(row.int(0)), given!(row.int(1)), u64::checked_shl)?)))
        }),
        f("shift_right", "INT64, INT64 -> INT64", |args, n| {
            ints(args, n, |row| Ok(Some(shifted(given!(row.int(0)), given!(row.int(1)), u64::checked_shr)?)))
        }),
        f("TO_CODE_POINTS", "STRING -> ARRAY<INT64> | BYTES -> ARRAY<INT64>", to_code_points),
        f("CODE_POINTS_TO_STRING", "ARRAY<INT64> -> STRING", |args, n| {
            texts(args, n, |row| {
                let items = given!(row.items(0));
                let text = |code: Option<i64>| {
                    let Some(code) = code else { return Ok(None) };
                    match u32::try_from(code).ok().and_then(char::from_u32) {
                        Some(c) => Ok(Some(c)),
                        None => exec_err!("Invalid codepoint {code}"),
                    }
                };
                items.as_primitive::<Int64Type>().iter().map(text).collect()
            })
        }),
        f("CODE_POINTS_TO_BYTES", "ARRAY<INT64> -> BYTES", |args, n| {
            binaries(args, n, |row| {
                let items = given!(row.items(0));
                let byte = |code: Option<i64>| {
                    let Some(code) = code else { return Ok(None) };
                    match u8::try_from(code) {
                        Ok(byte) => Ok(Some(byte)),
                        Err(_) => exec_err!("Invalid extended ASCII code points {code}"),
                    }
                };
                items.as_primitive::<Int64Type>().iter().map(byte).collect()
            })
        }),
        f("SOUNDEX", "STRING -> STRING", |args, n| texts(args, n, |row| Ok(row.text(0).map(soundex)))),
    ]
}

fn refuse_open_escape(pattern: &[u8]) -> Result<()> {
    if ends_in_escape(pattern) { exec_err!("LIKE pattern ends with a backslash") } else { Ok(()) }
}

/// `%` stands for any bytes, `_` for one, and what a backslash precedes for itself.
fn is_like(bytes: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut next) = (0, 0);
    // Behind the last `%`, and what it does not stand for any more.
    let mut retry: Option<(usize, usize)> = None;
    while at < bytes.len() {
        let (is_same, length) = match pattern.get(next) {
            Some(b'%') => {
                retry = Some((next + 1, at));
                next += 1;
                continue;
            }
            Some(b'_') => (true, 1),
            Some(b'\\') => (pattern.get(next + 1) == bytes.get(at), 2),
            byte => (byte == bytes.get(at), 1),
        };
        if is_same {
            (at, next) = (at + 1, next + length);
            continue;
        }
        let Some((behind, start)) = retry else { return false };
        retry = Some((behind, start + 1));
        (at, next) = (start + 1, behind);
    }
    pattern[next..].iter().all(|byte| *byte == b'%')
}

/// The sign is a bit as any other.
fn shifted(value: i64, by: i64, shift: fn(u64, u32) -> Option<u64>) -> Result<i64> {
    let Ok(by) = u64::try_from(by) else { return exec_err!("Bitwise shift by negative offset.") };
    let by = u32::try_from(by).unwrap_or(u32::MAX);
    Ok(shift(value.cast_unsigned(), by).unwrap_or(0).cast_signed())
}

fn to_code_points(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let mut lists = ListBuilder::new(Int64Builder::new());
    for row in 0..n {
        let codes: Option<Vec<i64>> = args[0].is_valid(row).then(|| match is_bytes(args) {
            true => args[0].as_binary::<i32>().value(row).iter().map(|byte| (*byte).into()).collect(),
            false => args[0].as_string::<i32>().value(row).chars().map(|c| u32::from(c).into()).collect(),
        });
        match codes {
            Some(codes) => lists.append_value(codes.into_iter().map(Some)),
            None => lists.append_null(),
        }
    }
    Ok(Arc::new(lists.finish()))
}

/// The first letter, and what the next consonants sound like: three digits.
fn soundex(text: &str) -> String {
    let digit = |c: char| match c.to_ascii_uppercase() {
        'B' | 'F' | 'P' | 'V' => Some('1'),
        'C' | 'G' | 'J' | 'K' | 'Q' | 'S' | 'X' | 'Z' => Some('2'),
        'D' | 'T' => Some('3'),
        'L' => Some('4'),
        'M' | 'N' => Some('5'),
        'R' => Some('6'),
        _ => None,
    };
    let mut letters = text.chars().filter(char::is_ascii_alphabetic);
    let Some(first) = letters.next() else { return String::new() };
    let (mut code, mut before) = (String::from(first.to_ascii_uppercase()), digit(first));
    for letter in letters {
        let this = digit(letter);
        if let Some(digit) = this.filter(|_| this != before) {
            code.push(digit);
        }
        // H and W do not part letters of one sound; vowels do.
        if !matches!(letter.to_ascii_uppercase(), 'H' | 'W') {
            before = this;
        }
    }
    code.extend(['0'; 3]);
    code.chars().take(4).collect()
}
