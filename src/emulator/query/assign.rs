//! What may be assigned to a column, and how: GoogleSQL converts literals and widens numbers, nothing else.

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, ExactNumberInfo, Expr, Ident, ObjectName, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::dialect::BigQueryDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::Prepared;
use super::dml::Layout;
use super::rewrite::string_literal;
use super::select::null;
use crate::emulator::fields::{Field, Kind, Mode};
use crate::emulator::files::same_name;
use crate::emulator::versions::Definition;
use crate::emulator::wire::{Failure, Outcome};

/// The parts of a dotted name, without backticks.
pub(super) fn name_parts(name: &ObjectName) -> Vec<String> {
    name.0.iter().filter_map(|part| part.as_ident()).map(|ident| ident.value.clone()).collect()
}

pub(super) fn column_index(definition: &Definition, name: &str) -> Outcome<usize> {
    definition.fields.iter().position(|f| same_name(&f.name, name)).ok_or_else(|| {
        Failure::invalid_query(format!("Column {name} is not present in table {}", definition.name))
    })
}

/// The expression whose value is stored: DEFAULT becomes the column's own, a literal takes the column's type.
pub(super) fn assigned(expr: Expr, field: &Field) -> Outcome<Expr> {
    let expr = match expr {
        Expr::Identifier(ident)
            if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("DEFAULT") =>
        {
            default_value(field)?
        }
        other => other,
    };
    if field.mode == Mode::Repeated && matches!(&expr, Expr::Array(array) if array.elem.is_empty()) {
        return typed_empty(field);
    }
    Ok(match expr {
        Expr::Array(mut array) if field.mode == Mode::Repeated => {
            let one = Field { mode: Mode::Nullable, rest: serde_json::Map::new(), ..field.clone() };
            array.elem =
                array.elem.into_iter().map(|item| literal_assigned(item, &one)).collect::<Outcome<_>>()?;
            Expr::Array(array)
        }
        expr if field.mode == Mode::Repeated => expr,
        expr => literal_assigned(expr, field)?,
    })
}

/// A literal as one of a column's type; the values of a STRUCT belong to its fields in their order, whatever
/// they are called.
fn literal_assigned(expr: Expr, field: &Field) -> Outcome<Expr> {
    Ok(match expr {
        Expr::Struct { values, fields } if is_record_of(field, &values) && fields.is_empty() => {
            record(values, field)?
        }
        Expr::Tuple(values) if is_record_of(field, &values) => record(values, field)?,
        expr => literal_as(&expr, field.kind).unwrap_or(expr),
    })
}

fn is_record_of(field: &Field, values: &[Expr]) -> bool {
    field.kind == Kind::Record && field.fields.len() == values.len()
}

/// Whether the fields of a STRUCT may be called otherwise than those of its column: it is no literal.
pub(super) fn is_open_record(expr: &Expr, field: &Field) -> bool {
    if field.kind != Kind::Record {
        return false;
    }
    match expr {
        Expr::Value(_) => false,
        Expr::Array(array) => array.elem.iter().any(|item| is_open_record(item, field)),
        Expr::Struct { values, fields } if fields.is_empty() && is_record_of(field, values) => {
            values.iter().zip(&field.fields).any(|(value, field)| match value {
                Expr::Named { expr, .. } => is_open_record(expr, field),
                value => is_open_record(value, field),
            })
        }
        _ => true,
    }
}

fn record(values: Vec<Expr>, field: &Field) -> Outcome<Expr> {
    let named = |(value, field): (Expr, &Field)| {
        let value = match value {
            Expr::Named { expr, .. } => *expr,
            value => value,
        };
        let name = Ident::with_quote('`', field.name.clone());
        Ok(Expr::Named { expr: Box::new(assigned(value, field)?), name })
    };
    let values = values.into_iter().zip(&field.fields).map(named).collect::<Outcome<_>>()?;
    Ok(Expr::Struct { values, fields: Vec::new() })
}

/// A literal that stands where a value of a kind is wanted, and takes that kind without a CAST.
pub(super) fn literal_as(expr: &Expr, kind: Kind) -> Option<Expr> {
    let (value, sign) = match expr {
        Expr::Value(value) => (value, ""),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(value) if matches!(value.value, Value::Number(..)) => (value, "-"),
            _ => return None,
        },
        _ => return None,
    };
    let text = match (&value.value, kind) {
        (Value::Number(text, _), Kind::Numeric | Kind::BigNumeric) => format!("{sign}{text}"),
        (Value::Number(..), _) => return None,
        (value, Kind::Date | Kind::DateTime | Kind::Time | Kind::Timestamp) => value.clone().into_string()?,
        _ => return None,
    };
    Some(Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(string_literal(&text)),
        data_type: literal_target(kind)?,
        array: false,
        format: None,
    })
}

fn literal_target(kind: Kind) -> Option<DataType> {
    Some(match kind {
        Kind::Numeric => DataType::Numeric(ExactNumberInfo::None),
        Kind::BigNumeric => DataType::BigNumeric(ExactNumberInfo::None),
        Kind::Date => DataType::Date,
        Kind::DateTime => DataType::Datetime(None),
        Kind::Time => DataType::Time(None, datafusion::sql::sqlparser::ast::TimezoneInfo::None),
        Kind::Timestamp => DataType::Timestamp(None, datafusion::sql::sqlparser::ast::TimezoneInfo::None),
        _ => return None,
    })
}

/// `[]` alone is an ARRAY<INT64>; what it is assigned to says what it is an array of.
fn typed_empty(field: &Field) -> Outcome<Expr> {
    let text = format!("CAST([] AS {})", type_name(field));
    let parsed = Parser::new(&BigQueryDialect {}).try_with_sql(&text).and_then(|mut p| p.parse_expr());
    parsed.map_err(|e| Failure::invalid_query(format!("an empty array for {}: {e}", field.name)))
}

/// A column's DEFAULT, or NULL.
pub(super) fn default_value(field: &Field) -> Outcome<Expr> {
    let Some(text) = field.rest.get("defaultValueExpression").and_then(|v| v.as_str()) else {
        return Ok(null());
    };
    let parsed = Parser::new(&BigQueryDialect {}).try_with_sql(text).and_then(|mut p| p.parse_expr());
    let expr = parsed.map_err(|e| {
        Failure::invalid_query(format!("Invalid default value of column {}: {e}", field.name))
    })?;
    // A default may be any constant; written out as a literal it takes the column's type like one.
    assigned(expr, &Field { rest: serde_json::Map::new(), ..field.clone() })
}

/// Whether the types of the planned values fit their columns.
pub(super) fn check(prepared: &Prepared, layout: &Layout, definition: &Definition) -> Outcome<()> {
    for &(column, index) in &layout.columns {
        let (Some(value), Some(field)) = (prepared.fields.get(column), definition.fields.get(index)) else {
            return Err(Failure::backend("a plan has fewer columns than it was made with"));
        };
        if !prepared.is_untyped(column) && !fits(value, field) {
            return Err(Failure::invalid_query(format!(
                "Value has type {} which cannot be inserted into column {}, which has type {}",
                type_name(value),
                field.name,
                type_name(field)
            )));
        }
    }
    Ok(())
}

/// Whether values of one type may be stored as another.
pub(super) fn fits(value: &Field, field: &Field) -> bool {
    let widens = matches!(
        (value.kind, field.kind),
        (Kind::Int64, Kind::Numeric | Kind::BigNumeric | Kind::Float64)
            | (Kind::Numeric, Kind::BigNumeric | Kind::Float64)
            | (Kind::BigNumeric, Kind::Float64)
    );
    let repeated = (value.mode == Mode::Repeated, field.mode == Mode::Repeated);
    match repeated {
        (true, true) | (false, false) if value.kind == Kind::Record && field.kind == Kind::Record => {
            value.fields.len() == field.fields.len()
                && value.fields.iter().zip(&field.fields).all(|(value, field)| fits(value, field))
        }
        // An array of another type is converted only when it is a literal, whose values are NULL or numbers.
        (true, true) => value.kind == field.kind || widens,
        (false, false) => value.kind == field.kind || widens,
        _ => false,
    }
}

pub(super) fn type_name(field: &Field) -> String {
    let name = match field.kind {
        Kind::Record => {
            let inner: Vec<String> =
                field.fields.iter().map(|f| format!("{} {}", f.name, type_name(f))).collect();
            format!("STRUCT<{}>", inner.join(", "))
        }
        kind => kind.sql().to_owned(),
    };
    if field.mode == Mode::Repeated { format!("ARRAY<{name}>") } else { name }
}
