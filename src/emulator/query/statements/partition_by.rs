//! `PARTITION BY` of CREATE TABLE, as the partitioning member of a table document.

use datafusion::sql::sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, FunctionArguments};
use serde_json::{Map, Value, json};

use super::options;
use crate::emulator::wire::{Failure, Outcome};

/// Adds `timePartitioning` or `rangePartitioning` to `body`.
pub(in crate::emulator::query) fn partitioning(expr: &Expr, body: &mut Map<String, Value>) -> Outcome<()> {
    let (function, arguments) = match expr {
        Expr::Function(function) => (function.name.to_string().to_uppercase(), arguments(&function.args)),
        other => ("COLUMN".to_owned(), vec![other]),
    };
    let name = arguments.first().and_then(|e| column(e)).ok_or_else(unexpected)?;
    let unit = match arguments.get(1) {
        Some(Expr::Identifier(unit)) => unit.value.to_uppercase(),
        _ => "DAY".to_owned(),
    };
    let upper = name.to_uppercase();
    match (function.as_str(), upper.as_str(), arguments.len()) {
        ("COLUMN", "_PARTITIONDATE", 1) | ("DATE", "_PARTITIONTIME", 1) => {
            time(body, "DAY", None);
            Ok(())
        }
        ("TIMESTAMP_TRUNC", "_PARTITIONTIME", 2) | ("DATE_TRUNC", "_PARTITIONDATE", 2) => {
            time(body, &unit, None);
            Ok(())
        }
        ("COLUMN" | "DATE", _, 1) => {
            time(body, "DAY", Some(&name));
            Ok(())
        }
        ("TIMESTAMP_TRUNC" | "DATETIME_TRUNC" | "DATE_TRUNC", _, 2) => {
            time(body, &unit, Some(&name));
            Ok(())
        }
        ("RANGE_BUCKET", _, 2) => {
            let Some(Expr::Function(array)) = arguments.get(1) else { return Err(unexpected()) };
            if !array.name.to_string().eq_ignore_ascii_case("GENERATE_ARRAY") {
                return Err(unexpected());
            }
            let bounds: Option<Vec<i64>> =
                self::arguments(&array.args).iter().map(|e| options::constant(e)?.as_i64()).collect();
            let (start, end, interval) = match bounds.as_deref() {
                Some([start, end]) => (*start, *end, 1),
                Some([start, end, interval]) => (*start, *end, *interval),
                _ => return Err(unexpected()),
            };
            let range = json!({
                "start": start.to_string(), "end": end.to_string(), "interval": interval.to_string(),
            });
            body.insert("rangePartitioning".into(), json!({"field": name, "range": range}));
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

fn time(body: &mut Map<String, Value>, unit: &str, field: Option<&str>) {
    let mut document = json!({"type": unit});
    if let Some(field) = field {
        document["field"] = json!(field);
    }
    body.insert("timePartitioning".into(), document);
}

fn arguments(arguments: &FunctionArguments) -> Vec<&Expr> {
    let FunctionArguments::List(list) = arguments else { return Vec::new() };
    let mut plain = Vec::with_capacity(list.args.len());
    for arg in &list.args {
        // Without one that is not plain the count is wrong, and the whole is refused.
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg {
            plain.push(expr);
        }
    }
    plain
}

fn column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(ident.value.clone()),
        _ => None,
    }
}

fn unexpected() -> Failure {
    Failure::invalid_query(
        "PARTITION BY expression must be _PARTITIONDATE, DATE(_PARTITIONTIME), DATE(<timestamp_column>), \
         DATE(<datetime_column>), DATETIME_TRUNC(<datetime_column>, DAY/HOUR/MONTH/YEAR), a DATE column, \
         TIMESTAMP_TRUNC(<timestamp_column>, DAY/HOUR/MONTH/YEAR), DATE_TRUNC(<date_column>, MONTH/YEAR), or \
         RANGE_BUCKET(<int64_column>, GENERATE_ARRAY(<int64_value>, <int64_value>[, <int64_value>]))",
    )
}
