//! Types as they are written in CAST, and what CAST becomes.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType as ArrowType, Field as ArrowField, Fields};
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, CastKind, DataType, ExactNumberInfo, Expr};
use datafusion::sql::sqlparser::dialect::BigQueryDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::rewrite::{Rewriter, call, string_literal};
use super::select::null;
use super::visible::{Column, Shape};
use crate::emulator::fields::Kind;
use crate::emulator::wire::{Failure, Outcome};

impl Rewriter<'_> {
    pub(super) fn cast(&mut self, kind: &CastKind, expr: Expr, target: &DataType) -> Outcome<(Expr, Shape)> {
        let safe = match kind {
            CastKind::Cast => "",
            CastKind::SafeCast => "safe_",
            CastKind::TryCast => return Err(Failure::unsupported_sql("TRY_CAST")),
            CastKind::DoubleColon => return Err(Failure::unsupported_sql("the operator ::")),
        };
        let is_empty = matches!(&expr, Expr::Array(array) if array.elem.is_empty());
        let expr = self.expr(expr)?;
        if let Some(suffix) = self::kind(target).and_then(cast_suffix) {
            return Ok((call(&format!("bq_{safe}cast_{suffix}"), vec![expr]), Shape::Opaque));
        }
        if matches!(target, DataType::Timestamp(Some(_), _)) {
            // As in every project that Google has not enabled it for.
            return Err(Failure::invalid_query("Timestamp precision type parameter is not supported"));
        }
        let Some(shape) = nested_shape(target) else {
            return Err(Failure::unsupported_sql(format!("CAST to {target}")));
        };
        let name = format!("bq_{safe}cast_nested");
        let cast = |expr| call(&name, vec![expr, string_literal(&target.to_string())]);
        if is_empty && matches!(shape, Shape::Array(_)) {
            // `[]` is an array of whatever it is cast to, of which its own type, ARRAY<INT64>, says nothing.
            return Ok((call("bq_or_empty", vec![cast(null())]), shape));
        }
        Ok((cast(expr), shape))
    }
}

/// The suffix of our cast function for a kind.
pub(super) fn cast_suffix(kind: Kind) -> Option<&'static str> {
    super::casts::TARGETS.iter().find(|(_, target)| *target == kind).map(|(suffix, _)| *suffix)
}

/// Of a type that is no array and no struct, and has no parameters.
pub(super) fn kind(data_type: &DataType) -> Option<Kind> {
    Some(match data_type {
        DataType::Int64
        | DataType::Int(None)
        | DataType::Integer(None)
        | DataType::BigInt(None)
        | DataType::SmallInt(None)
        | DataType::TinyInt(None) => Kind::Int64,
        DataType::Float64 => Kind::Float64,
        DataType::String(None) => Kind::String,
        DataType::Bytes(None) => Kind::Bytes,
        DataType::Bool | DataType::Boolean => Kind::Bool,
        DataType::Numeric(ExactNumberInfo::None) | DataType::Decimal(ExactNumberInfo::None) => Kind::Numeric,
        DataType::BigNumeric(ExactNumberInfo::None) | DataType::BigDecimal(ExactNumberInfo::None) => {
            Kind::BigNumeric
        }
        DataType::Date => Kind::Date,
        DataType::Datetime(None) => Kind::DateTime,
        DataType::Time(None, _) => Kind::Time,
        DataType::Timestamp(None, _) => Kind::Timestamp,
        DataType::JSON => Kind::Json,
        _ => return None,
    })
}

fn nested_shape(data_type: &DataType) -> Option<Shape> {
    match data_type {
        DataType::Array(ArrayElemTypeDef::AngleBracket(item)) => {
            Some(Shape::Array(Box::new(nested_shape(item)?)))
        }
        DataType::Struct(fields, _) => {
            let column = |(at, field): (usize, &datafusion::sql::sqlparser::ast::StructField)| {
                Some(Column { name: field_name(at, field), shape: nested_shape(&field.field_type)? })
            };
            Some(Shape::Struct(fields.iter().enumerate().map(column).collect::<Option<_>>()?))
        }
        other => kind(other).map(|_| Shape::Opaque),
    }
}

fn field_name(at: usize, field: &datafusion::sql::sqlparser::ast::StructField) -> String {
    field.field_name.as_ref().map_or_else(|| format!("_field_{}", at + 1), |name| name.value.clone())
}

/// The Arrow type of a type written in GoogleSQL.
pub(super) fn arrow_type(text: &str) -> Option<ArrowType> {
    let dialect = BigQueryDialect {};
    let parsed = Parser::new(&dialect).try_with_sql(text).ok()?.parse_data_type().ok()?;
    arrow_of(&parsed)
}

fn arrow_field(name: &str, data_type: &DataType) -> Option<ArrowField> {
    let metadata = kind(data_type).map(Kind::metadata).unwrap_or_default();
    Some(ArrowField::new(name, arrow_of(data_type)?, true).with_metadata(metadata))
}

fn arrow_of(data_type: &DataType) -> Option<ArrowType> {
    match data_type {
        DataType::Array(ArrayElemTypeDef::AngleBracket(item)) => {
            Some(ArrowType::List(Arc::new(arrow_field("item", item)?)))
        }
        DataType::Struct(fields, _) => {
            let field = |(at, field): (usize, &datafusion::sql::sqlparser::ast::StructField)| {
                arrow_field(&field_name(at, field), &field.field_type)
            };
            Some(ArrowType::Struct(fields.iter().enumerate().map(field).collect::<Option<Fields>>()?))
        }
        other => kind(other)?.arrow_type(),
    }
}
