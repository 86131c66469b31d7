//! Functions on STRING, and on BYTES where it is cheap: positions count characters (or bytes) from 1.

use std::cell::RefCell;
use std::collections::HashMap;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use regex::Regex;

use super::Function;
use super::rows::{binaries, bools, given, ints, text_lists, texts};
use crate::emulator::query::wording::exec_err;

/// What one value of a query may grow to.
const VALUE_BYTES_MAX: usize = 1 << 20;

pub(super) fn functions() -> Vec<Function> {
    let f = Function::listed;
    vec![
        f("LENGTH", "STRING -> INT64 | BYTES -> INT64", |args, n| match is_bytes(args) {
            true => byte_length(args, n),
            false => char_length(args, n),
        }),
        f("CHAR_LENGTH", "STRING -> INT64", char_length),
        f("CHARACTER_LENGTH", "STRING -> INT64", char_length),
        f("BYTE_LENGTH", "STRING -> INT64 | BYTES -> INT64", byte_length),
        f("OCTET_LENGTH", "STRING -> INT64 | BYTES -> INT64", byte_length),
        f("UPPER", "STRING -> STRING", |args, n| {
            texts(args, n, |row| Ok(row.text(0).map(str::to_uppercase)))
        }),
        f("LOWER", "STRING -> STRING", |args, n| {
            texts(args, n, |row| Ok(row.text(0).map(str::to_lowercase)))
        }),
        f("TRIM", "STRING -> STRING | STRING, STRING -> STRING", |args, n| trim(args, n, true, true)),
        f("LTRIM", "STRING -> STRING | STRING, STRING -> STRING", |args, n| trim(args, n, true, false)),
        f("RTRIM", "STRING -> STRING | STRING, STRING -> STRING", |args, n| trim(args, n, false, true)),
        f("REPLACE", "STRING, STRING, STRING -> STRING | BYTES, BYTES, BYTES -> BYTES", |args, n| {
            if is_bytes(args) {
                return binaries(args, n, |row| {
                    Ok(Some(replaced(given!(row.bytes(0)), given!(row.bytes(1)), given!(row.bytes(2)))))
                });
            }
            texts(args, n, |row| {
                let (text, from, to) = (given!(row.text(0)), given!(row.text(1)), given!(row.text(2)));
                Ok(Some(if from.is_empty() { text.to_owned() } else { text.replace(from, to) }))
            })
        }),
        f("TRANSLATE", "STRING, STRING, STRING -> STRING", |args, n| {
            texts(args, n, |row| {
                let (text, from, to) = (given!(row.text(0)), given!(row.text(1)), given!(row.text(2)));
                let to: Vec<char> = to.chars().collect();
                let one = |c: char| match from.chars().position(|f| f == c) {
                    Some(at) => to.get(at).copied(),
                    None => Some(c),
                };
                Ok(Some(text.chars().filter_map(one).collect()))
            })
        }),
        f("REVERSE", "STRING -> STRING | BYTES -> BYTES", |args, n| {
            if is_bytes(args) {
                return binaries(args, n, |row| Ok(row.bytes(0).map(|b| b.iter().rev().copied().collect())));
            }
            texts(args, n, |row| Ok(row.text(0).map(|text| text.chars().rev().collect())))
        }),
        f("CONCAT", "STRING... -> STRING | BYTES... -> BYTES", concat),
        f("STARTS_WITH", "STRING, STRING -> BOOL | BYTES, BYTES -> BOOL", |args, n| {
            let is_bytes = is_bytes(args);
            bools(args, n, |row| {
                let either = |at| if is_bytes { row.bytes(at) } else { row.text(at).map(str::as_bytes) };
                Ok(Some(given!(either(0)).starts_with(given!(either(1)))))
            })
        }),
        f("ENDS_WITH", "STRING, STRING -> BOOL | BYTES, BYTES -> BOOL", |args, n| {
            let is_bytes = is_bytes(args);
            bools(args, n, |row| {
                let either = |at| if is_bytes { row.bytes(at) } else { row.text(at).map(str::as_bytes) };
                Ok(Some(given!(either(0)).ends_with(given!(either(1)))))
            })
        }),
        f("CONTAINS_SUBSTR", "STRING, STRING -> BOOL", |args, n| {
            bools(args, n, |row| {
                let (text, part) = (given!(row.text(0)), given!(row.text(1)));
                Ok(Some(text.to_lowercase().contains(&part.to_lowercase())))
            })
        }),
        f("SPLIT", "STRING -> ARRAY<STRING> | STRING, STRING -> ARRAY<STRING>", |args, n| {
            text_lists(args, n, |row| {
                let text = given!(row.text(0));
                let delimiter = if row.is_given(1) { given!(row.text(1)) } else { "," };
                Ok(Some(match delimiter {
                    "" if text.is_empty() => vec![String::new()],
                    "" => text.chars().map(String::from).collect(),
                    delimiter => text.split(delimiter).map(str::to_owned).collect(),
                }))
            })
        }),
        f("STRPOS", "STRING, STRING -> INT64", |args, n| {
            ints(args, n, |row| {
                let (text, part) = (given!(row.text(0)), given!(row.text(1)));
                Ok(Some(text.find(part).map_or(0, |at| length(text[..at].chars().count()) + 1)))
            })
        }),
        f(
            "INSTR",
            "STRING, STRING -> INT64 | STRING, STRING, INT64 -> INT64 | STRING, STRING, INT64, INT64 -> INT64",
            instr,
        ),
        f("SUBSTR", SUBSTR, substr),
        f("SUBSTRING", SUBSTR, substr),
        f("LEFT", "STRING, INT64 -> STRING", |args, n| {
            texts(args, n, |row| {
                let (text, count) = (given!(row.text(0)), not_negative("LEFT", given!(row.int(1)))?);
                Ok(Some(text.chars().take(count).collect()))
            })
        }),
        f("RIGHT", "STRING, INT64 -> STRING", |args, n| {
            texts(args, n, |row| {
                let (text, count) = (given!(row.text(0)), not_negative("RIGHT", given!(row.int(1)))?);
                Ok(Some(text.chars().skip(text.chars().count().saturating_sub(count)).collect()))
            })
        }),
        f("LPAD", PAD, |args, n| pad(args, n, true)),
        f("RPAD", PAD, |args, n| pad(args, n, false)),
        f("REPEAT", "STRING, INT64 -> STRING", |args, n| {
            texts(args, n, |row| {
                let (text, count) = (given!(row.text(0)), not_negative("REPEAT", given!(row.int(1)))?);
                if text.len().saturating_mul(count) > VALUE_BYTES_MAX {
                    return exec_err!("Output of REPEAT exceeds max allowed output size of 1MB");
                }
                Ok(Some(text.repeat(count)))
            })
        }),
        f("INITCAP", "STRING -> STRING | STRING, STRING -> STRING", initcap),
        f("ASCII", "STRING -> INT64", |args, n| {
            ints(args, n, |row| match given!(row.text(0)).chars().next() {
                None => Ok(Some(0)),
                Some(c) if c.is_ascii() => Ok(Some(i64::from(u32::from(c)))),
                Some(_) => exec_err!("Non-ASCII character found in ASCII"),
            })
        }),
        f("UNICODE", "STRING -> INT64", |args, n| {
            ints(args, n, |row| {
                Ok(Some(given!(row.text(0)).chars().next().map_or(0, |c| i64::from(u32::from(c)))))
            })
        }),
        f("CHR", "INT64 -> STRING", |args, n| {
            texts(args, n, |row| match given!(row.int(0)) {
                0 => Ok(Some(String::new())),
                code => match u32::try_from(code).ok().and_then(char::from_u32) {
                    Some(c) => Ok(Some(c.to_string())),
                    None => exec_err!("Invalid codepoint {code}"),
                },
            })
        }),
        f("EDIT_DISTANCE", "STRING, STRING -> INT64", |args, n| {
            ints(args, n, |row| {
                Ok(Some(length(strsim::levenshtein(given!(row.text(0)), given!(row.text(1))))))
            })
        }),
        f("REGEXP_CONTAINS", "STRING, STRING -> BOOL", |args, n| {
            let patterns = Patterns::default();
            bools(args, n, |row| {
                let (text, pattern) = (given!(row.text(0)), given!(row.text(1)));
                patterns.with(pattern, |regex| Ok(Some(regex.is_match(text))))
            })
        }),
        f("REGEXP_EXTRACT", REGEXP_POSITIONS_TO_STRING, regexp_extract),
        f("REGEXP_SUBSTR", REGEXP_POSITIONS_TO_STRING, regexp_extract),
        f("REGEXP_EXTRACT_ALL", "STRING, STRING -> ARRAY<STRING>", |args, n| {
            let patterns = Patterns::default();
            text_lists(args, n, |row| {
                let (text, pattern) = (given!(row.text(0)), given!(row.text(1)));
                patterns.with(pattern, |regex| {
                    let group = captured_group(regex)?;
                    let found = regex.captures_iter(text);
                    Ok(Some(found.filter_map(|c| c.get(group)).map(|m| m.as_str().to_owned()).collect()))
                })
            })
        }),
        f("REGEXP_REPLACE", "STRING, STRING, STRING -> STRING", |args, n| {
            let patterns = Patterns::default();
            texts(args, n, |row| {
                let (text, pattern, with) = (given!(row.text(0)), given!(row.text(1)), given!(row.text(2)));
                patterns.with(pattern, |regex| regexp_replace(regex, text, with).map(Some))
            })
        }),
        f("REGEXP_INSTR", "STRING, STRING -> INT64", |args, n| {
            let patterns = Patterns::default();
            ints(args, n, |row| {
                let (text, pattern) = (given!(row.text(0)), given!(row.text(1)));
                patterns.with(pattern, |regex| {
                    let group = captured_group(regex)?;
                    let found = regex.captures(text).and_then(|c| c.get(group));
                    Ok(Some(found.map_or(0, |m| length(text[..m.start()].chars().count()) + 1)))
                })
            })
        }),
    ]
}

const REGEXP_POSITIONS_TO_STRING: &str = "STRING, STRING -> STRING | STRING, STRING, INT64 -> STRING | \
                                          STRING, STRING, INT64, INT64 -> STRING";

const PAD: &str = "STRING, INT64 -> STRING | STRING, INT64, STRING -> STRING | BYTES, INT64 -> BYTES | \
                   BYTES, INT64, BYTES -> BYTES";

const SUBSTR: &str = "STRING, INT64 -> STRING | STRING, INT64, INT64 -> STRING | BYTES, INT64 -> BYTES | \
                      BYTES, INT64, INT64 -> BYTES";

pub(super) fn is_bytes(args: &[ArrayRef]) -> bool {
    args.first().is_some_and(|a| a.data_type() == &DataType::Binary)
}

pub(super) fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn not_negative(name: &str, count: i64) -> Result<usize> {
    match usize::try_from(count) {
        Ok(count) => Ok(count),
        Err(_) => exec_err!("Second argument in {name}() cannot be negative"),
    }
}

fn char_length(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    ints(args, n, |row| Ok(Some(length(given!(row.text(0)).chars().count()))))
}

fn byte_length(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let is_bytes = is_bytes(args);
    ints(args, n, |row| match is_bytes {
        true => Ok(row.bytes(0).map(|bytes| length(bytes.len()))),
        false => Ok(row.text(0).map(|text| length(text.len()))),
    })
}

pub(super) fn concat(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    if is_bytes(args) {
        return binaries(args, n, |row| {
            let pieces = (0..args.len()).map(|index| row.bytes(index));
            Ok(pieces.collect::<Option<Vec<_>>>().map(|pieces| pieces.concat()))
        });
    }
    texts(args, n, |row| {
        let pieces = (0..args.len()).map(|index| row.text(index));
        Ok(pieces.collect::<Option<Vec<_>>>().map(|pieces| pieces.concat()))
    })
}

fn trim(args: &[ArrayRef], n: usize, start: bool, end: bool) -> Result<ArrayRef> {
    texts(args, n, |row| {
        let mut text = given!(row.text(0));
        let set = if row.is_given(1) { Some(given!(row.text(1))) } else { None };
        let cut = |c: char| set.map_or(c.is_whitespace(), |set| set.contains(c));
        if start {
            text = text.trim_start_matches(cut);
        }
        if end {
            text = text.trim_end_matches(cut);
        }
        Ok(Some(text.to_owned()))
    })
}

/// Where a cut begins, from 0, and how long it is: SUBSTR's positions are from 1, from the end when negative.
fn cut(count: usize, from: i64, wanted: Option<i64>) -> Result<(usize, usize)> {
    let wanted = match wanted.map(usize::try_from) {
        None => usize::MAX,
        Some(Ok(wanted)) => wanted,
        Some(Err(_)) => return exec_err!("Third argument in SUBSTR() cannot be negative"),
    };
    let start = match usize::try_from(from) {
        Ok(from) => from.saturating_sub(1),
        Err(_) => count.saturating_sub(usize::try_from(from.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    Ok((start, wanted))
}

fn substr(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    if is_bytes(args) {
        return binaries(args, n, |row| {
            let (bytes, from) = (given!(row.bytes(0)), given!(row.int(1)));
            let wanted = if row.is_given(2) { Some(given!(row.int(2))) } else { None };
            let (skip, take) = cut(bytes.len(), from, wanted)?;
            Ok(Some(bytes.iter().copied().skip(skip).take(take).collect()))
        });
    }
    texts(args, n, |row| {
        let (text, from) = (given!(row.text(0)), given!(row.int(1)));
        let wanted = if row.is_given(2) { Some(given!(row.int(2))) } else { None };
        let (skip, take) = cut(text.chars().count(), from, wanted)?;
        Ok(Some(text.chars().skip(skip).take(take).collect()))
    })
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let Some(first) = rest.first() {
        match rest.strip_prefix(from).filter(|_| !from.is_empty()) {
            Some(behind) => {
                out.extend_from_slice(to);
                rest = behind;
            }
            None => {
                out.push(*first);
                rest = &rest[1..];
            }
        }
    }
    out
}

fn pad(args: &[ArrayRef], n: usize, left: bool) -> Result<ArrayRef> {
    let name = if left { "LPAD" } else { "RPAD" };
    let check = |size: usize, is_empty: bool| match is_empty {
        true => exec_err!("Third argument (pad pattern) for {name}() cannot be empty"),
        false if size > VALUE_BYTES_MAX => {
            exec_err!("Output of {name} exceeds max allowed output size of 1MB")
        }
        false => Ok(()),
    };
    if is_bytes(args) {
        return binaries(args, n, |row| {
            let (bytes, size) = (given!(row.bytes(0)), not_negative(name, given!(row.int(1)))?);
            let pattern: &[u8] = if row.is_given(2) { given!(row.bytes(2)) } else { b" " };
            check(size, pattern.is_empty())?;
            let padding = pattern.iter().cycle().take(size.saturating_sub(bytes.len())).copied();
            let bytes = bytes.iter().take(size).copied();
            Ok(Some(if left { padding.chain(bytes).collect() } else { bytes.chain(padding).collect() }))
        });
    }
    texts(args, n, |row| {
        let (text, size) = (given!(row.text(0)), not_negative(name, given!(row.int(1)))?);
        let pattern = if row.is_given(2) { given!(row.text(2)) } else { " " };
        check(size, pattern.is_empty())?;
        let missing = size.saturating_sub(text.chars().count());
        let padding = pattern.chars().cycle().take(missing);
        let text = text.chars().take(size);
        Ok(Some(if left { padding.chain(text).collect() } else { text.chain(padding).collect() }))
    })
}

fn instr(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    ints(args, n, |row| {
        let (text, part) = (given!(row.text(0)), given!(row.text(1)));
        let from = if row.is_given(2) { given!(row.int(2)) } else { 1 };
        let occurrence = if row.is_given(3) { given!(row.int(3)) } else { 1 };
        if from == 0 || occurrence < 1 {
            return exec_err!("Position cannot be 0 and occurrence must be positive in INSTR()");
        }
        if part.is_empty() {
            return Ok(Some(0));
        }
        let (text, part): (Vec<char>, Vec<char>) = (text.chars().collect(), part.chars().collect());
        let matches = |at: &usize| text[*at..].starts_with(&part);
        let skip = usize::try_from(occurrence - 1).unwrap_or(usize::MAX);
        let found = match usize::try_from(from) {
            Ok(from) => (from - 1..text.len()).filter(matches).nth(skip),
            Err(_) => {
                let back = usize::try_from(from.unsigned_abs()).unwrap_or(usize::MAX);
                let end = (text.len() + 1).saturating_sub(back);
                (0..end.min(text.len())).rev().filter(matches).nth(skip)
            }
        };
        Ok(Some(found.map_or(0, |at| length(at) + 1)))
    })
}

fn initcap(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    // The separators of the reference.
    const DEFAULT: &str = " \t\n\r\u{b}\u{c}[](){}/|<>!?@\"^#$&~_,.:;*%+-";
    texts(args, n, |row| {
        let text = given!(row.text(0));
        let separators = if row.is_given(1) { given!(row.text(1)) } else { DEFAULT };
        let (mut result, mut starts) = (String::with_capacity(text.len()), true);
        for c in text.chars() {
            if starts {
                result.extend(c.to_uppercase())
            } else {
                result.extend(c.to_lowercase())
            }
            starts = separators.contains(c);
        }
        Ok(Some(result))
    })
}

fn regexp_extract(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let patterns = Patterns::default();
    texts(args, n, |row| {
        let (text, pattern) = (given!(row.text(0)), given!(row.text(1)));
        let from = if row.is_given(2) { given!(row.int(2)) } else { 1 };
        let occurrence = if row.is_given(3) { given!(row.int(3)) } else { 1 };
        let (Ok(from @ 1..), Ok(occurrence @ 1..)) = (usize::try_from(from), usize::try_from(occurrence))
        else {
            return exec_err!("Position and occurrence must be positive in REGEXP_EXTRACT()");
        };
        let Some(start) = text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(from - 1) else {
            return Ok(None);
        };
        patterns.with(pattern, |regex| {
            let group = captured_group(regex)?;
            let found = regex.captures_iter(&text[start..]).nth(occurrence - 1);
            Ok(found.and_then(|c| c.get(group)).map(|m| m.as_str().to_owned()))
        })
    })
}

/// The only group, or the whole match.
fn captured_group(regex: &Regex) -> Result<usize> {
    match regex.captures_len() {
        1 => Ok(0),
        2 => Ok(1),
        _ => exec_err!(
            "Regular expressions passed into extraction functions must not have more than 1 capturing group"
        ),
    }
}

/// `\1` to `\9` are groups, `\0` is the whole match, `\\` a backslash.
fn regexp_replace(regex: &Regex, text: &str, with: &str) -> Result<String> {
    let mut pieces: Vec<(String, Option<usize>)> = Vec::new();
    let (mut literal, mut chars) = (String::new(), with.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\\') => literal.push('\\'),
                Some(digit @ '0'..='9') => {
                    let group = digit.to_digit(10).unwrap_or(0) as usize;
                    if group >= regex.captures_len() {
                        return exec_err!("Invalid REGEXP_REPLACE pattern");
                    }
                    pieces.push((std::mem::take(&mut literal), Some(group)));
                }
                _ => return exec_err!("Invalid REGEXP_REPLACE pattern"),
            },
            c => literal.push(c),
        }
    }
    pieces.push((literal, None));
    let replaced = regex.replace_all(text, |captures: &regex::Captures<'_>| {
        let mut expanded = String::new();
        for (literal, group) in &pieces {
            expanded.push_str(literal);
            expanded.push_str(group.and_then(|g| captures.get(g)).map_or("", |m| m.as_str()));
        }
        expanded
    });
    Ok(replaced.into_owned())
}

/// Compiled once for a batch; a column of patterns may hold a few.
#[derive(Default)]
struct Patterns(RefCell<HashMap<String, Regex>>);

impl Patterns {
    fn with<T>(&self, pattern: &str, f: impl FnOnce(&Regex) -> Result<T>) -> Result<T> {
        let mut compiled = self.0.borrow_mut();
        if compiled.len() >= 64 {
            compiled.clear();
        }
        if let Some(regex) = compiled.get(pattern) {
            return f(regex);
        }
        match Regex::new(&from_re2(pattern)) {
            Ok(regex) => f(compiled.entry(pattern.to_owned()).or_insert(regex)),
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
                exec_err!("Cannot parse regular expression: {reason}")
            }
        }
    }
}

/// RE2's classes `\d`, `\w`, `\s` and `\b` are ASCII, and `[` in a class is itself.
fn from_re2(pattern: &str) -> String {
    let mut translated = String::with_capacity(pattern.len() + 16);
    let mut in_class = false;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('d') => translated.push_str("[0-9]"),
                Some('D') => translated.push_str("[^0-9]"),
                Some('w') => translated.push_str("[0-9A-Za-z_]"),
                Some('W') => translated.push_str("[^0-9A-Za-z_]"),
                Some('s') => translated.push_str("[\\t\\n\\f\\r ]"),
                Some('S') => translated.push_str("[^\\t\\n\\f\\r ]"),
                Some('b') if !in_class => translated.push_str("(?-u:\\b)"),
                Some('B') if !in_class => translated.push_str("(?-u:\\B)"),
                Some(escaped) => translated.extend(['\\', escaped]),
                None => translated.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                translated.push('[');
                if chars.peek() == Some(&'^') {
                    translated.extend(chars.next());
                }
                // A closing bracket that comes first is itself.
                if chars.peek() == Some(&']') {
                    chars.next();
                    translated.push_str("\\]");
                }
            }
            '[' if chars.peek() == Some(&':') => {
                translated.push('[');
                for c in chars.by_ref() {
                    translated.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '[' | '&' | '~' if in_class => translated.extend(['\\', c]),
            ']' if in_class => {
                in_class = false;
                translated.push(']');
            }
            c => translated.push(c),
        }
    }
    translated
}
