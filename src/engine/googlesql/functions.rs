//! Functions by name: those that mean the same, and what to write in place of those that do not.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::Typed;
use super::build::{binary, call, cast, number, text};
use super::query::{Clause, Translator};
use crate::error::{Error, Result};
use crate::schema::ColumnType::{self, Bool, Float64, Int64, String};

/// What differs, and the nearest thing that does not.
const INSTEAD: [(&str, &str, &str); 12] = [
    ("CEIL", "CEIL gives a FLOAT64", "whole numbers are divided by DIV(a, b)"),
    ("FLOOR", "FLOOR gives a FLOAT64", "whole numbers are divided by DIV(a, b)"),
    ("ROUND", "ROUND gives a FLOAT64", "whole numbers are divided by DIV(a, b)"),
    (
        "GREATEST",
        "GREATEST is NULL in BigQuery where a value is, and not here",
        "CASE WHEN a >= b THEN a ELSE b END",
    ),
    (
        "LEAST",
        "LEAST is NULL in BigQuery where a value is, and not here",
        "CASE WHEN a <= b THEN a ELSE b END",
    ),
    ("NVL", "NVL is no function of BigQuery", "IFNULL(a, b) or COALESCE(a, b)"),
    ("ARRAY_AGG", "there are no arrays in staged rows", "ROW_NUMBER() OVER (…) = 1 keeps one row"),
    ("ANY_VALUE", "ANY_VALUE leaves open which value it is", "MIN(x) or MAX(x)"),
    (
        "SUM",
        "SUM fails on overflow in BigQuery, and wraps around here",
        "sums are for production: promote.sql",
    ),
    ("AVG", "AVG rounds in other ways here", "averages are for production: promote.sql"),
    (
        "REGEXP_CONTAINS",
        "regular expressions are others here",
        "x LIKE '%y%', STARTS_WITH(x, y) or ENDS_WITH(x, y)",
    ),
    (
        "CURRENT_TIMESTAMP",
        "the same records are to become the same rows at any time",
        "a column of the record",
    ),
];

impl Translator<'_> {
    pub(super) fn function(&mut self, function: Function, place: Span) -> Result<Typed> {
        let name = function.name.to_string().to_uppercase();
        let special = function.uses_odbc_syntax
            || function.filter.is_some()
            || function.null_treatment.is_some()
            || !function.within_group.is_empty()
            || !matches!(function.parameters, FunctionArguments::None);
        self.refuse_if(special, place, &format!("what stands in or behind {name}(…)"))?;
        if let Some(over) = function.over.clone() {
            return self.window(&name, function, over, place);
        }
        if INSTEAD.iter().any(|(known, ..)| *known == name) {
            return Err(self.instead(&name, place));
        }
        if ["COUNT", "COUNTIF", "MIN", "MAX"].contains(&name.as_str()) {
            return self.aggregate(&name, function, place);
        }
        let mut args = Vec::new();
        for arg in self.arguments(function)? {
            args.push(self.expr(arg)?);
        }
        self.scalar(&name, args, place)
    }

    /// What to write in place of a function.
    pub(super) fn instead(&self, name: &str, place: Span) -> Error {
        match INSTEAD.iter().find(|(known, ..)| *known == name) {
            Some((_, what, instead)) => self.text.refused(place, what, Some(instead)),
            None => self.text.unlisted(place, name),
        }
    }

    fn scalar(&self, name: &str, args: Vec<Typed>, place: Span) -> Result<Typed> {
        // Each with its types; a function of other types is not on the list.
        let typed = |kinds: &[ColumnType]| -> Result<Vec<Expr>> {
            if args.len() != kinds.len() {
                let what = format!("{name} takes {} values and not {}", kinds.len(), args.len());
                return Err(self.text.refused(place, &what, None));
            }
            let pairs = args.iter().zip(kinds);
            pairs.map(|(arg, kind)| self.given(name, arg, *kind, place)).collect()
        };
        let same = |name: &str, least: usize| -> Result<Option<ColumnType>> {
            match args.len() >= least {
                true => self.common(&args, place, name),
                false => Err(self.text.refused(place, &format!("{name} takes {least} values or more"), None)),
            }
        };
        let count = |function: &str, mut args: Vec<Expr>| {
            // DataFusion counts in 32 bits.
            Typed::new(cast(call(function, vec![args.remove(0)]), Int64), Int64)
        };
        Ok(match name {
            "DIV" => {
                let [a, b] = two(typed(&[Int64, Int64])?);
                Typed::new(binary(a, BinaryOperator::Divide, b), Int64)
            }
            "MOD" => {
                let [a, b] = two(typed(&[Int64, Int64])?);
                Typed::new(binary(a, BinaryOperator::Modulo, b), Int64)
            }
            "IF" => {
                let [condition, then, otherwise] = args.as_slice() else {
                    return Err(self.text.refused(place, "IF takes three values", None));
                };
                let condition = self.given(name, condition, Bool, place)?;
                let kind = self.common(&args[1..], place, name)?;
                Typed { expr: case(condition, then.expr.clone(), Some(otherwise.expr.clone())), kind }
            }
            "COALESCE" => {
                let kind = same(name, 1)?;
                Typed { expr: call("coalesce", args.into_iter().map(|arg| arg.expr).collect()), kind }
            }
            "IFNULL" => {
                let kind = same(name, 2)?;
                if args.len() > 2 {
                    return Err(self.text.refused(
                        place,
                        "IFNULL takes two values",
                        Some("COALESCE(a, b, c)"),
                    ));
                }
                Typed { expr: call("coalesce", args.into_iter().map(|arg| arg.expr).collect()), kind }
            }
            "NULLIF" => {
                let [left, right] = args.as_slice() else {
                    return Err(self.text.refused(place, "NULLIF takes two values", None));
                };
                self.comparable(left, right, place)?;
                let kind = left.kind.or(right.kind);
                Typed { expr: call("nullif", vec![left.expr.clone(), right.expr.clone()]), kind }
            }
            "CONCAT" => {
                let texts = typed(&vec![String; args.len().max(1)])?;
                let joined = texts.into_iter().reduce(|a, b| binary(a, BinaryOperator::StringConcat, b));
                Typed::new(joined.unwrap_or_else(|| text("")), String)
            }
            "LENGTH" | "CHAR_LENGTH" | "CHARACTER_LENGTH" => count("character_length", typed(&[String])?),
            "BYTE_LENGTH" | "OCTET_LENGTH" => count("octet_length", typed(&[String])?),
            "LOWER" | "UPPER" => Typed::new(call(&name.to_lowercase(), typed(&[String])?), String),
            "STARTS_WITH" | "ENDS_WITH" => {
                Typed::new(call(&name.to_lowercase(), typed(&[String, String])?), Bool)
            }
            "REPLACE" => {
                let [value, from, to] = args.as_slice() else {
                    return Err(self.text.refused(place, "REPLACE takes three values", None));
                };
                if self.plain_text(&from.expr, place, "what REPLACE looks for")?.is_empty() {
                    let what = "REPLACE of nothing changes nothing in BigQuery, and every place here";
                    return Err(self.text.refused(place, what, None));
                }
                let value = self.given(name, value, String, place)?;
                let to = self.given(name, to, String, place)?;
                Typed::new(call("replace", vec![value, from.expr.clone(), to]), String)
            }
            _ => return Err(self.text.unlisted(place, name)),
        })
    }

    fn given(&self, name: &str, arg: &Typed, kind: ColumnType, place: Span) -> Result<Expr> {
        match (arg.is(kind), arg.kind) {
            // A NULL has a type too.
            (true, None) => Ok(cast(arg.expr.clone(), kind)),
            (true, _) => Ok(arg.expr.clone()),
            (false, _) => Err(self.wrong_type(place, name, arg, kind)),
        }
    }

    fn aggregate(&mut self, name: &str, function: Function, place: Span) -> Result<Typed> {
        if !matches!(self.scope.clause, Clause::Select | Clause::Having | Clause::Qualify) {
            return Err(self.text.refused(place, &format!("{name} stands where no rows are grouped"), None));
        }
        if name == "COUNT" && is_of_rows(&function.args) {
            return Ok(Typed::new(call("count", vec![number("1")]), Int64));
        }
        let clause = std::mem::replace(&mut self.scope.clause, Clause::Inside);
        let mut args = self.arguments(function)?.into_iter();
        let (Some(arg), None) = (args.next(), args.next()) else {
            return Err(self.text.refused(place, &format!("{name} takes one value"), None));
        };
        let arg = self.expr(arg)?;
        self.scope.clause = clause;
        Ok(match name {
            "COUNT" => Typed::new(call("count", vec![arg.expr]), Int64),
            "COUNTIF" => {
                let condition = self.given(name, &arg, Bool, place)?;
                Typed::new(call("count", vec![case(condition, number("1"), None)]), Int64)
            }
            _ if matches!(arg.kind, Some(Float64 | Bool) | None) => {
                return Err(self.text.unlisted(place, &format!("{name} of {}", arg.type_name())));
            }
            _ => Typed { expr: call(&name.to_lowercase(), vec![arg.expr]), kind: arg.kind },
        })
    }

    pub(super) fn arguments(&self, function: Function) -> Result<Vec<Expr>> {
        let name = function.name.to_string().to_uppercase();
        let place = datafusion::sql::sqlparser::ast::Spanned::span(&function);
        let FunctionArguments::List(list) = function.args else {
            return Err(self.text.unlisted(place, &format!("{name} without brackets or of a query")));
        };
        let FunctionArgumentList { duplicate_treatment, args, clauses } = list;
        let special = duplicate_treatment.is_some() || !clauses.is_empty();
        self.refuse_if(special, place, &format!("DISTINCT or a clause in {name}(…)"))?;
        let plain = |arg: FunctionArg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
            other => Err(self.text.unlisted(place, &format!("`{other}` in {name}(…)"))),
        };
        args.into_iter().map(plain).collect()
    }
}

fn is_of_rows(args: &FunctionArguments) -> bool {
    let FunctionArguments::List(list) = args else { return false };
    let all = [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)];
    list.args == all && list.duplicate_treatment.is_none() && list.clauses.is_empty()
}

fn case(condition: Expr, result: Expr, otherwise: Option<Expr>) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: otherwise.map(Box::new),
    }
}

fn two(args: Vec<Expr>) -> [Expr; 2] {
    <[Expr; 2]>::try_from(args).expect("as many as were asked for")
}
