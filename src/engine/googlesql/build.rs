//! Pieces of SQL that are written here and not by the user.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, Value,
};

use crate::schema::ColumnType;

pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))).collect();
    Expr::Function(function(name, args))
}

pub(super) fn function(name: &str, args: Vec<FunctionArg>) -> Function {
    let args = FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() };
    Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(args),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}

pub(super) fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    // In brackets: what was written without them may have been put together in another order.
    Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }))
}

pub(super) fn cast(expr: Expr, kind: ColumnType) -> Expr {
    let data_type = match kind {
        ColumnType::String => DataType::Text,
        ColumnType::Int64 => DataType::BigInt(None),
        ColumnType::Float64 => DataType::DoublePrecision,
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Numeric => DataType::Decimal(ExactNumberInfo::PrecisionAndScale(38, 9)),
        ColumnType::Date => DataType::Date,
        ColumnType::Timestamp => {
            DataType::Timestamp(Some(6), datafusion::sql::sqlparser::ast::TimezoneInfo::Tz)
        }
    };
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

pub(super) fn number(value: &str) -> Expr {
    Expr::value(Value::Number(value.to_owned(), false))
}

pub(super) fn text(value: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(value.to_owned()))
}

/// A name as it is, whatever is in it.
pub(super) fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

pub(super) fn column(table: &str, name: &str) -> Expr {
    Expr::CompoundIdentifier(vec![quoted(table), quoted(name)])
}
