//! What the errors of a query say: our own sentences as they are, BigQuery's where DataFusion says something else.
//!
//! A function or plan of ours can only fail with a `DataFusionError`, and DataFusion quotes that within errors of
//! its own. So our sentences stand between two characters that nobody types, and are cut out again for the user.
//! What DataFusion says by itself speaks of its types and plans: the texts that users meet are known here by their
//! shape, and the others are for the log.

use std::sync::LazyLock;

use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};
use regex::{Captures, Regex};

use super::library::signature_name;
use crate::emulator::wire::Failure;

/// Noncharacters: Unicode keeps them out of texts.
const START: char = '\u{fdd0}';
const END: char = '\u{fdd1}';

/// A sentence for the user, to go through DataFusion.
pub(super) fn marked(sentence: impl std::fmt::Display) -> String {
    format!("{START}{sentence}{END}")
}

/// A mistake in the text of a query.
macro_rules! plan_err {
    ($($sentence:tt)*) => {
        Err(datafusion::common::DataFusionError::Plan($crate::emulator::query::wording::marked(format_args!(
            $($sentence)*
        ))))
    };
}

/// A mistake that is met in the data.
macro_rules! exec_err {
    ($($sentence:tt)*) => {
        Err(datafusion::common::DataFusionError::Execution($crate::emulator::query::wording::marked(format_args!(
            $($sentence)*
        ))))
    };
}

pub(super) use {exec_err, plan_err};

/// What the client is told of an error.
pub(super) fn query_failure(error: &DataFusionError) -> Failure {
    let (root, text) = (error.find_root(), error.to_string());
    if let Some(sentence) = own(&text) {
        return match root {
            DataFusionError::NotImplemented(_) => Failure::unsupported_sql(sentence),
            _ => Failure::invalid_query(sentence),
        };
    }
    match root {
        DataFusionError::ResourcesExhausted(detail) => {
            tracing::info!(detail, "a query needs more memory than there is for queries");
            let message = "Resources exceeded during query execution: The query could not be executed in the allotted \
                           memory.";
            Failure { reason: "resourcesExceeded".into(), ..Failure::invalid_query(message) }
        }
        // A file that is not there, above all.
        DataFusionError::External(error) => Failure::backend(error.to_string()),
        DataFusionError::SchemaError(error, _) => schema_failure(error),
        DataFusionError::ExecutionJoin(death) => {
            tracing::error!(%death, "a part of a query died");
            Failure::not_implemented("what this query asks for: it died of it, and its log says how")
        }
        _ => Failure::invalid_query(translated(&text).unwrap_or_else(|| {
            let detail = error.strip_backtrace();
            tracing::warn!(detail, "a query failed in words that are not BigQuery's");
            match function_in(&text) {
                Some(name) => format!("The embedded server cannot run this call of {name}; its log says why"),
                None => "The embedded server cannot run this query; its log says why".to_owned(),
            }
        })),
    }
}

/// Values that a column does not take.
pub(super) fn unfit(what: &str, error: &ArrowError) -> Failure {
    let detail = error.to_string();
    match translated(&detail) {
        Some(sentence) => Failure::invalid_query(format!("{what}: {sentence}")),
        None => {
            tracing::warn!(detail, "values do not fit a column");
            Failure::invalid_query(what)
        }
    }
}

/// The first of our sentences in a text. One that quotes another has that one's marks in it.
fn own(text: &str) -> Option<String> {
    let (_, rest) = text.split_once(START)?;
    let (mut depth, mut sentence) = (1_usize, String::new());
    for c in rest.chars() {
        match c {
            START => depth += 1,
            END => depth -= 1,
            c => sentence.push(c),
        }
        if depth == 0 {
            break;
        }
    }
    Some(sentence)
}

fn schema_failure(error: &SchemaError) -> Failure {
    Failure::invalid_query(match error {
        SchemaError::FieldNotFound { field, .. } => format!("Unrecognized name: {}", field.name),
        SchemaError::AmbiguousReference { field } => format!("Column name {} is ambiguous", field.name),
        SchemaError::DuplicateQualifiedField { qualifier, .. } => {
            format!("Duplicate table alias {} in the same FROM clause", qualifier.table())
        }
        SchemaError::DuplicateUnqualifiedField { name } => {
            format!("Duplicate column name {name} in the result")
        }
    })
}

type Sentence = fn(&Captures<'_>) -> Option<String>;

/// DataFusion's and Arrow's texts by their shape, and what BigQuery says in such a case.
static KNOWN: LazyLock<Vec<(Regex, Sentence)>> = LazyLock::new(|| {
    let known: Vec<(&str, Sentence)> = vec![
        (
            r"(?s)Column in (SELECT|HAVING|QUALIFY|ORDER BY) must be in GROUP BY.*?column (.+?) must appear",
            ungrouped,
        ),
        (r"(?s)(HAVING) clause references: (.+?) must appear in the GROUP BY", ungrouped),
        (r"(?s)For SELECT DISTINCT, ORDER BY expressions (.+?) must appear in select list", |found| {
            let column = column(&found[1]);
            Some(format!(
                "ORDER BY clause expression references {column} which is not visible after SELECT DISTINCT"
            ))
        }),
        (r"Aggregate functions are not allowed in the WHERE clause", |_| {
            Some("Aggregate functions are not allowed in WHERE clause".into())
        }),
        (r"Aggregate function calls cannot be nested|contains? nested aggregate", |_| {
            Some("Aggregations of aggregations are not allowed".into())
        }),
        (r"contain window function calls|Window function calls cannot be nested", |_| {
            Some("Analytic function cannot be an argument of an aggregate or analytic function".into())
        }),
        (r"to grouping function is not in grouping columns", |_| {
            Some("GROUPING must have an argument that exists within the group-by expression list".into())
        }),
        (r"unnest\(\) can only be applied to", |_| Some("Values referenced in UNNEST must be arrays".into())),
        (
            r"Order by column out of bounds, specified: (\d+)|Cannot find column with position (\d+)",
            |found| {
                let number = found.get(1).or(found.get(2))?.as_str();
                Some(format!("ORDER BY is out of SELECT column number range: {number}"))
            },
        ),
        (r"Expected an integer value|only support Literal types for field at idx", |_| {
            Some("An argument of an analytic function must be an INT64 literal or query parameter".into())
        }),
        (r"QUALIFY clause requires window functions", |_| {
            Some(
                "The QUALIFY clause requires analytic function to be present in the QUALIFY clause or the SELECT list"
                    .into(),
            )
        }),
        (r"(?s)non-boolean predicate.* returning (.+)", |found| {
            Some(format!(
                "A condition of WHERE, HAVING or QUALIFY should return type BOOL, but returns {}",
                sql_type(&found[1])?
            ))
        }),
        (r"must be boolean type, but got (.+)", |found| {
            Some(format!("A condition should return type BOOL, but returns {}", sql_type(&found[1])?))
        }),
        (r"Unary operator '(.+?)' requires a boolean expression, got (.+)", |found| {
            Some(format!(
                "No matching signature for operator {} for argument types: {}",
                &found[1],
                sql_type(&found[2])?
            ))
        }),
        (r"Unary operator '(.)' only supports|(Negation) only supports", |found| {
            let operator = found.get(1).map_or("-", |operator| operator.as_str());
            Some(format!("No matching signature for operator {operator}: it takes numbers"))
        }),
        (
            r"(?s)Cannot (?:infer common .*?operation|coerce arithmetic expression) (.+?)(?: to valid types|$)",
            operation,
        ),
        (r"(?s)Cannot get result type for .*? operation (.+?):", operation),
        (r"There isn't a common type to coerce (.+) and (.+) in (\w+) expression", |found| {
            let (left, right) = (sql_type(&found[1])?, sql_type(&found[2])?);
            Some(format!(
                "No matching signature for operator {} for argument types: {left}, {right}",
                &found[3]
            ))
        }),
        (r"Can not find compatible types to compare (.+) with \[(.+)\]", |found| {
            Some(format!(
                "No matching signature for operator IN for argument types: {}, {{{}}}",
                sql_type(&found[1])?,
                sql_type(&found[2])?
            ))
        }),
        (r"expr type (.+) can't cast to (.+) in (?:InSubquery|SetComparison)", |found| {
            let (left, right) = (sql_type(&found[1])?, sql_type(&found[2])?);
            Some(format!("Cannot execute IN subquery with uncomparable types {left} and {right}"))
        }),
        (r"to common types in CASE|CASE expression 'then' values had", |_| {
            Some("No matching signature for operator CASE: its results have no common supertype".into())
        }),
        (r"Incompatible inputs for Union.*on column '(.+)'", |found| {
            Some(format!("Column {} in UNION has incompatible types", column(&found[1])))
        }),
        (
            r"(?s)(?:UNION|INTERSECT/EXCEPT) quer(?:y|ies) .*number of columns|recursive term must have the same",
            |_| Some("Queries in a set operation have mismatched column count".into()),
        ),
        (
            r"[Cc]orrelated scalar subquery|scalar correlated|outer reference|subquery can only be used",
            |_| {
                Some(
                    "Correlated subqueries that reference other tables are not supported unless they can be \
                     de-correlated, such as by transforming them into an efficient JOIN."
                        .into(),
                )
            },
        ),
        (r"Physical plan does not support logical expression", |_| {
            Some("not supported by the embedded server: a subquery in this place".into())
        }),
        (r"returned more than one row|more than one row", |_| {
            Some("Scalar subquery produced more than one element".into())
        }),
        (r"RANGE requires exactly one ORDER BY column", |_| {
            Some("Window RANGE frame with an offset requires exactly one ORDER BY key".into())
        }),
        (r"(?s)Invalid window frame: (.+)", |_| {
            Some("Starting or ending bound of the window frame is invalid".into())
        }),
        (r"(?s)Cannot cast string '(.*)' to value of (.+?) type", |found| {
            Some(format!("Could not cast literal \"{}\" to type {}", &found[1], sql_type(&found[2])?))
        }),
        (r"(?s)Error parsing timestamp from '(.*)': ", |found| {
            Some(format!("Could not cast literal \"{}\" to type TIMESTAMP", &found[1]))
        }),
        (r"Overflow happened on: (.+)", |found| Some(format!("int64 overflow: {}", &found[1]))),
        (r"[Dd]ivi(?:de|sion) by zero", |_| Some("division by zero".into())),
        (r"Multiple recursive references", |_| {
            Some("Multiple self-references of a recursive query are not supported".into())
        }),
    ];
    let compiled = |(shape, sentence): (&str, Sentence)| (Regex::new(shape).expect("a constant"), sentence);
    known.into_iter().map(compiled).collect()
});

fn translated(text: &str) -> Option<String> {
    KNOWN.iter().find_map(|(shape, sentence)| sentence(&shape.captures(text)?))
}

fn ungrouped(found: &Captures<'_>) -> Option<String> {
    let clause = match &found[1] {
        "SELECT" => "SELECT list expression",
        "HAVING" => "HAVING clause expression",
        "QUALIFY" => "QUALIFY clause expression",
        _ => "ORDER BY clause expression",
    };
    Some(format!("{clause} references {} which is neither grouped nor aggregated", column(&found[2])))
}

/// DataFusion writes `t.c`, `"#0".c` or an expression.
fn column(shown: &str) -> String {
    let name = shown.rsplit('.').next().unwrap_or(shown).replace(['"', '`'], "");
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_name { format!("column {name}") } else { "an expression".to_owned() }
}

/// `Int64 + Utf8` of two types.
fn operation(found: &Captures<'_>) -> Option<String> {
    const OPERATORS: [&str; 19] = [
        "=",
        "!=",
        "<>",
        "<=",
        ">=",
        "<",
        ">",
        "AND",
        "OR",
        "+",
        "-",
        "*",
        "/",
        "%",
        "||",
        "&",
        "|",
        "IS DISTINCT FROM",
        "IS NOT DISTINCT FROM",
    ];
    OPERATORS.iter().find_map(|operator| {
        let (left, right) = found[1].split_once(&format!(" {operator} "))?;
        let (left, right) = (sql_type(left)?, sql_type(right)?);
        Some(format!("No matching signature for operator {operator} for argument types: {left}, {right}"))
    })
}

fn sql_type(shown: &str) -> Option<String> {
    shown.trim().trim_matches('`').parse::<DataType>().ok().map(|data_type| signature_name(&data_type))
}

/// The function that an error is about, as GoogleSQL calls it.
fn function_in(text: &str) -> Option<String> {
    static FUNCTION: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[Ff]unction '(\w+)'|call to '(\w+)'").expect("a constant"));
    let found = FUNCTION.captures(text)?;
    let name = found.iter().skip(1).flatten().next()?.as_str();
    let name = name.trim_start_matches("bq_").trim_start_matches("safe_");
    Some(match name {
        "bool_and" => "LOGICAL_AND".to_owned(),
        "bool_or" => "LOGICAL_OR".to_owned(),
        "var" => "VARIANCE".to_owned(),
        name => name.to_uppercase(),
    })
}
