//! What DataFusion says, in words of SQL: types as GoogleSQL names them, and no names of its parts.

use std::borrow::Cow;
use std::sync::LazyLock;

use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use regex::{Captures, Regex};

use crate::error::{Error, Kind, Result};
use crate::excerpt::excerpt;

/// Names that are at least so alike may have been meant; the same for keys of a pipeline.toml.
const SIMILARITY_MIN: f64 = 0.8;
/// More names than these nobody reads.
const NAMES_SHOWN: usize = 20;

/// What is wrong with a query, with the place in its text.
pub(super) fn wrong(error: &DataFusionError, sql: &str) -> Error {
    if let Some(error) = ours(error) {
        return error;
    }
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let place = span.map(|span| (span.start.line, span.start.column));
    let (message, hint) = match error.find_root() {
        DataFusionError::SchemaError(error, _) => schema(error),
        DataFusionError::SQL(error, _) => (syntax(error), None),
        DataFusionError::ResourcesExhausted(_) => return failed_as(error),
        root => (said(&root.message()), meant(&root.message())),
    };
    let error = Error::usage(placed(sql, &message, place));
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// `message` with its place behind it, and that line of the text below.
pub(super) fn placed(sql: &str, message: &str, place: Option<(u64, u64)>) -> String {
    // The parser counts a tab as one column.
    let sql = sql.replace('\t', " ");
    let message = match place {
        Some((line, column)) if !PLACE.is_match(message) => format!("{message} at [{line}:{column}]"),
        _ => message.to_owned(),
    };
    match excerpt(&sql, &message) {
        Some(line) => format!("{message}\n{line}"),
        None => message,
    }
}

static PLACE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[\d+:\d+\]$").expect("a constant"));

/// What the engine says, in a user's words.
pub fn said_of(error: &DataFusionError) -> String {
    said(&error.find_root().message())
}

/// What is wrong with the syntax of `sql`, with the place in it.
pub(super) fn syntax_error(error: &ParserError, sql: &str) -> String {
    placed(sql, &syntax(error), None)
}

fn syntax(error: &ParserError) -> String {
    static AT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r",? ?(?:at )?Line: (\d+), Column:? (\d+)").expect("a constant"));
    let text = match error {
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => "it is nested too deeply",
    };
    said(&AT.replace(text, |place: &Captures<'_>| format!(" at [{}:{}]", &place[1], &place[2])))
}

fn schema(error: &SchemaError) -> (String, Option<String>) {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let names: Vec<&str> = valid_fields.iter().map(Column::name).collect();
            (format!("there is no column `{}`", field.name), near(&field.name, &names, "columns"))
        }
        SchemaError::AmbiguousReference { field } => {
            (format!("several tables have a column `{}`", field.name), Some("write `table.column`".into()))
        }
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => {
            (format!("two columns are called `{name}`"), Some("give one of them another name with AS".into()))
        }
    }
}

/// The function that the engine guesses was meant.
fn meant(text: &str) -> Option<String> {
    static MEANT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"Did you mean '([^']+)'").expect("a constant"));
    MEANT.captures(text).map(|found| format!("did you mean `{}`?", &found[1]))
}

/// The names that may have been meant by `name`, else all that there are.
pub(super) fn near(name: &str, names: &[&str], what: &str) -> Option<String> {
    let lower = name.to_lowercase();
    if let Some(same) = names.iter().find(|known| known.to_lowercase() == lower) {
        return Some(format!("in quotes it is as it is written: \"{same}\""));
    }
    let alike = |known: &&&str| strsim::jaro_winkler(&known.to_lowercase(), &lower);
    let nearest = names.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    if alike(&nearest) >= SIMILARITY_MIN {
        return Some(format!("did you mean `{nearest}`?"));
    }
    let shown: Vec<_> = names.iter().take(NAMES_SHOWN).map(|name| format!("`{name}`")).collect();
    let more = if names.len() > NAMES_SHOWN { ", …" } else { "" };
    Some(format!("the {what} are {}{more}", shown.join(", ")))
}

/// Why a query that was right came to no end.
pub(super) fn failed(error: DataFusionError) -> Error {
    ours(&error).unwrap_or_else(|| failed_as(&error))
}

fn failed_as(error: &DataFusionError) -> Error {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => Error::failed("the query ran out of memory").hint(
            "raise it with `--set limits.memory_mib=N` (of `sql`: `limits.query_memory_mib`), or point `limits.spill_dir` to a disk with more space",
        ),
        root if root.to_string().contains("No space left") => Error::failed("the query cannot spill to disk")
            .hint("free some space, or point `limits.spill_dir` to a larger disk"),
        root => Error::failed(said(&root.message())),
    }
}

/// Our own errors pass through DataFusion and come out as they went in, but for their cause.
fn ours(error: &DataFusionError) -> Option<Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<Error>() {
            let copy = Error::new(found.kind(), found.to_string());
            return Some(match found.hint_text() {
                Some(hint) => copy.hint(hint),
                None => copy,
            });
        }
        cause = match error.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::ArrowError(inner, _)) => Some(inner.as_ref()),
            Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
            _ => match error.downcast_ref::<ArrowError>() {
                Some(ArrowError::ExternalError(inner)) => Some(inner.as_ref()),
                _ => error.source(),
            },
        };
    }
    None
}

/// A sentence without the names that only who wrote the engine knows.
pub(super) fn said(text: &str) -> String {
    static PREFIX: LazyLock<Regex> = LazyLock::new(|| {
        let kinds = "Error during planning|Execution error|External error|Optimizer rule '[^']*' failed|\
                     This feature is not implemented|(?:Arrow|Parquet|Cast|Parser|Csv|Json|Schema|SQL|\
                     Compute|Invalid argument|Internal|sql parser|ParserError|TokenizerError) error|type_coercion";
        Regex::new(&format!(r"^(?:(?:{kinds}):?\s*(?:caused by\s*)?)+")).expect("a constant")
    });
    let line = PREFIX.replace(text.trim(), "");
    let line = line.lines().next().unwrap_or_default();
    // What follows is of use to who writes functions for the engine.
    let details =
        [" No function matches", ", errors: ", ": While expanding wildcard", "This issue was likely"];
    let line = details.iter().fold(line, |line, detail| line.split(detail).next().unwrap_or_default());
    let line = line.replace("failed to match any signature", "does not take arguments of these types");
    let line = reworded(&line);
    let line = typed(&line).replace("DataFusion", "the engine").replace("Arrow", "the engine");
    let line = line.trim_end().trim_end_matches('.');
    let mut chars = line.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().collect::<String>() + chars.as_str()
        }
        _ => line.to_owned(),
    }
}

/// Sentences that a user would not write.
fn reworded(line: &str) -> Cow<'_, str> {
    static SENTENCES: LazyLock<[(Regex, &str); 3]> = LazyLock::new(|| {
        let sentence = |pattern, ours| (Regex::new(pattern).expect("a constant"), ours);
        [
            sentence(r"^Invalid function '([^']+)'", "there is no function `$1`"),
            sentence(
                r"^Cannot coerce arithmetic expression (.+) (\S+) (.+) to valid types",
                "`$2` does not take $1 and $3",
            ),
            sentence(r"^(Expected: .+), found: EOF.*", "$1, and the query ends"),
        ]
    });
    let found = SENTENCES.iter().find(|(pattern, _)| pattern.is_match(line));
    found.map_or(Cow::Borrowed(line), |(pattern, ours)| pattern.replace(line, *ours))
}

/// `text` with its literals as they were written: `INT64(1)` is what the engine makes of `1`.
pub(super) fn literals(text: &str) -> String {
    static LITERAL: LazyLock<Regex> = LazyLock::new(|| {
        let types = r"U?Int\d+|Float\d+|Utf8View|LargeUtf8|Utf8|Boolean";
        Regex::new(&format!(r"\b(?:{types})\(([^()]*)\)")).expect("a constant")
    });
    LITERAL.replace_all(text, "$1").into_owned()
}

/// `text` with the types in it as GoogleSQL calls them.
pub(super) fn typed(text: &str) -> String {
    static TYPE: LazyLock<Regex> = LazyLock::new(|| {
        let simple =
            r"LargeUtf8|Utf8View|Utf8|U?Int\d+|Float\d+|Boolean|Date32|Date64|Decimal\d+|\w*Binary\w*";
        let timestamp = r"Timestamp\([^()]*(?:\([^()]*\))?[^()]*\)";
        Regex::new(&format!(r"\b(?:(?:{simple})\b|{timestamp})")).expect("a constant")
    });
    TYPE.replace_all(text, |found: &Captures<'_>| word(&found[0])).into_owned()
}

fn word(name: &str) -> &'static str {
    match name {
        "Utf8" | "LargeUtf8" | "Utf8View" => "STRING",
        "Boolean" => "BOOL",
        "Date32" | "Date64" => "DATE",
        name if name.contains("Int") => "INT64",
        name if name.starts_with("Float") => "FLOAT64",
        name if name.starts_with("Decimal") => "NUMERIC",
        name if name.starts_with("Timestamp") => "TIMESTAMP",
        _ => "BYTES",
    }
}

/// A type as GoogleSQL calls it.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("ARRAY<{}>", type_name(item.data_type()))
        }
        DataType::Struct(_) => "STRUCT".into(),
        DataType::Dictionary(_, values) => type_name(values),
        DataType::Timestamp(_, None) => "DATETIME".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".into(),
        DataType::Null => "NULL".into(),
        other => word(&other.to_string()).into(),
    }
}

/// A query that is none.
pub(super) fn refused(what: &str) -> Result<()> {
    Err(Error::new(Kind::Usage, format!("{what}: only one SELECT is run, and nothing is changed by it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_has_no_words_of_the_engine() {
        let given = "Optimizer rule 'type_coercion' failed\ncaused by\nError during planning: Cannot coerce \
                     Utf8View and Int64 for Timestamp(Microsecond, Some(\"UTC\")) in DataFusion.";
        assert_eq!(said(given), "cannot coerce STRING and INT64 for TIMESTAMP in the engine");
        assert_eq!(literals("Int64(1) + count(flows.id)"), "1 + count(flows.id)");
        assert_eq!(said("SQL error: odd"), "odd");
        assert_eq!(said("Invalid function 'nope'.\nDid you mean 'now'?"), "there is no function `nope`");
        let sum = "Cannot coerce arithmetic expression Int64 + Timestamp(s) to valid types";
        assert_eq!(said(sum), "`+` does not take INT64 and TIMESTAMP");
        assert_eq!(said("Expected: FROM"), "expected: FROM");
    }

    #[test]
    fn types_are_called_as_in_bigquery() {
        use arrow::datatypes::{Field, TimeUnit};
        let list = DataType::List(Field::new("item", DataType::Utf8View, true).into());
        let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let types = [list, zoned, DataType::UInt32, DataType::Decimal128(38, 9), DataType::Boolean];
        let names = types.map(|t| type_name(&t));
        assert_eq!(names, ["ARRAY<STRING>", "TIMESTAMP", "INT64", "NUMERIC", "BOOL"]);
    }

    #[test]
    fn names_that_are_alike_are_offered_and_else_all() {
        let names = ["flows", "runs"];
        assert_eq!(near("flws", &names, "tables").as_deref(), Some("did you mean `flows`?"));
        assert_eq!(near("xyz", &names, "tables").as_deref(), Some("the tables are `flows`, `runs`"));
        let quoted = near("name", &["Name"], "columns");
        assert_eq!(quoted.as_deref(), Some("in quotes it is as it is written: \"Name\""));
    }
}
