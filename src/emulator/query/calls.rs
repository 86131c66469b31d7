//! Function calls: the list of what may be called, and what each becomes.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, ObjectNamePart, Value, WindowFrame,
    WindowFrameBound, WindowSpec, WindowType,
};

use super::parameters::literal;
use super::rewrite::{Rewriter, call, integer_literal, refuse_if, string_literal};
use crate::emulator::wire::{Failure, Outcome};

impl Rewriter<'_> {
    pub(super) fn function(&mut self, function: Function) -> Outcome<Expr> {
        let Function { name, uses_odbc_syntax, parameters, args, filter, null_treatment, over, within_group } =
            function;
        refuse_if(uses_odbc_syntax, "ODBC functions")?;
        refuse_if(!matches!(parameters, FunctionArguments::None), "function parameters")?;
        refuse_if(filter.is_some(), "FILTER")?;
        refuse_if(null_treatment.is_some(), "IGNORE NULLS and RESPECT NULLS")?;
        refuse_if(!within_group.is_empty(), "WITHIN GROUP")?;
        let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else {
            return Err(Failure::invalid_query(format!("Function not found: {name}")));
        };
        let shown = ident.value.clone();
        let upper = shown.to_ascii_uppercase();
        let (distinct, args) = match args {
            FunctionArguments::None => (false, Vec::new()),
            FunctionArguments::Subquery(_) => {
                return Err(Failure::unsupported_sql(format!("a query in {upper}()")));
            }
            FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args, clauses }) => {
                refuse_if(!clauses.is_empty(), &format!("clauses inside of {upper}()"))?;
                (duplicate_treatment == Some(DuplicateTreatment::Distinct), args)
            }
        };
        if let Some(target) = over_aggregate(&upper) {
            return self.aggregate(&upper, target, distinct, args, over);
        }
        refuse_if(distinct, &format!("DISTINCT in {upper}()"))?;
        if let Some((target, counts)) = window_function(&upper) {
            let Some(over) = over else {
                return Err(Failure::invalid_query(format!(
                    "Analytic function {upper} cannot be called without an OVER clause"
                )));
            };
            let args = self.plain_args(&upper, args)?;
            check_count(&upper, &args, counts)?;
            let over = Some(self.window(over)?);
            let windowed = with_over(call(target, args), false, over);
            return Ok(match target {
                "row_number" | "rank" | "dense_rank" | "ntile" => call("bq_cast_int64", vec![windowed]),
                _ => windowed,
            });
        }
        if over.is_some() {
            return Err(Failure::invalid_query(format!("Function {upper} does not support an OVER clause")));
        }
        self.scalar(&shown, &upper, args)
    }

    fn aggregate(
        &mut self,
        upper: &str,
        target: &str,
        distinct: bool,
        args: Vec<FunctionArg>,
        over: Option<WindowType>,
    ) -> Outcome<Expr> {
        let over = over.map(|o| self.window(o)).transpose()?;
        let star = matches!(args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]);
        if star {
            if upper != "COUNT" || distinct {
                return Err(Failure::invalid_query(format!(
                    "Argument * can only be used in COUNT(*), not {upper}"
                )));
            }
            // COUNT(1) counts rows as COUNT(*) does, and it can carry a window.
            return Ok(with_over(call(target, vec![integer_literal(1)]), false, over));
        }
        let mut args = self.plain_args(upper, args)?;
        let counts: &[usize] = if upper == "STRING_AGG" { &[1, 2] } else { &[1] };
        check_count(upper, &args, counts)?;
        let distinct = match upper {
            "APPROX_COUNT_DISTINCT" => true,
            _ => distinct,
        };
        if upper == "STRING_AGG" && args.len() == 1 {
            args.push(string_literal(","));
        }
        if upper == "COUNTIF" {
            let condition = args.swap_remove(0);
            let conditions = vec![CaseWhen { condition, result: integer_literal(1) }];
            args = vec![case(conditions, None)];
        }
        if distinct && over.is_some() {
            return Err(Failure::unsupported_sql(format!("DISTINCT in {upper}() with OVER")));
        }
        match upper {
            // DataFusion's sum of INT64 wraps around.
            "SUM" => {
                let widened = call("bq_widen", args);
                Ok(call("bq_narrow", vec![with_over(call(target, vec![widened]), distinct, over)]))
            }
            "AVG" => Ok(call("bq_narrow", vec![with_over(call(target, args), distinct, over)])),
            _ => Ok(with_over(call(target, args), distinct, over)),
        }
    }

    fn scalar(&mut self, shown: &str, upper: &str, args: Vec<FunctionArg>) -> Outcome<Expr> {
        match upper {
            "CURRENT_TIMESTAMP" => {
                check_count(upper, &args, &[0])?;
                return Ok(call("bq_timestamp_micros", vec![integer_literal(self.now_us)]));
            }
            "CURRENT_DATE" => {
                check_count(upper, &args, &[0])?;
                let days = self.now_us.div_euclid(86_400_000_000);
                return Ok(call("bq_date_from_unix_date", vec![integer_literal(days)]));
            }
            "TIMESTAMP_ADD" | "TIMESTAMP_SUB" | "DATE_ADD" | "DATE_SUB" => return self.shifted(upper, args),
            "TIMESTAMP_TRUNC" | "DATE_TRUNC" => return self.truncated(upper, args),
            "TIMESTAMP_DIFF" | "DATE_DIFF" => {
                let [from, to, unit] = three(upper, args)?;
                let unit = unit_of(upper, unit)?;
                let (from, to) = (self.time_arg(upper, from)?, self.time_arg(upper, to)?);
                return Ok(call(&format!("bq_{}", upper.to_lowercase()), vec![from, to, unit]));
            }
            _ => {}
        }
        let mut args = self.plain_args(upper, args)?;
        let (target, counts): (&str, &[usize]) = match upper {
            "IF" => {
                check_count(upper, &args, &[3])?;
                let otherwise = args.pop();
                let result = args.swap_remove(1);
                let condition = args.swap_remove(0);
                return Ok(case(vec![CaseWhen { condition, result }], otherwise));
            }
            "CONCAT" => {
                let first = args.first().cloned();
                let first = first.ok_or_else(|| count_error(upper))?;
                // NULL makes the whole NULL, as in BigQuery and unlike DataFusion's concat().
                let joined = args.drain(1..).fold(first, |left, right| {
                    let (left, right) = (Box::new(left), Box::new(right));
                    Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right }
                });
                return Ok(Expr::Nested(Box::new(joined)));
            }
            "GREATEST" | "LEAST" => {
                check_count(upper, &args, &[1, 2, 3, 4, 5, 6, 7, 8])?;
                let null = args.iter().cloned().map(|e| Expr::IsNull(Box::new(e))).reduce(|left, right| {
                    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Or, right: Box::new(right) }
                });
                let condition = null.ok_or_else(|| count_error(upper))?;
                let result = literal(Value::Null);
                let otherwise = call(&upper.to_lowercase(), args);
                return Ok(case(vec![CaseWhen { condition, result }], Some(otherwise)));
            }
            "COALESCE" => ("coalesce", &[1, 2, 3, 4, 5, 6, 7, 8]),
            "IFNULL" => ("coalesce", &[2]),
            "NULLIF" => ("nullif", &[2]),
            "UPPER" => ("upper", &[1]),
            "LOWER" => ("lower", &[1]),
            "TRIM" => ("btrim", &[1, 2]),
            "LTRIM" => ("ltrim", &[1, 2]),
            "RTRIM" => ("rtrim", &[1, 2]),
            "REPLACE" => ("replace", &[3]),
            "REVERSE" => ("reverse", &[1]),
            "STARTS_WITH" => ("starts_with", &[2]),
            "ENDS_WITH" => ("ends_with", &[2]),
            "REGEXP_CONTAINS" => ("regexp_like", &[2]),
            "ABS" => ("abs", &[1]),
            "ROUND" => ("round", &[1, 2]),
            "CEIL" | "CEILING" => ("ceil", &[1]),
            "FLOOR" => ("floor", &[1]),
            "LENGTH" | "CHAR_LENGTH" | "CHARACTER_LENGTH" => ("character_length", &[1]),
            "STRPOS" => ("strpos", &[2]),
            "SUBSTR" | "SUBSTRING" => ("bq_substr", &[2, 3]),
            "MOD" => ("bq_mod", &[2]),
            "DIV" => ("bq_div", &[2]),
            "SAFE_DIVIDE" => ("bq_safe_divide", &[2]),
            "DATE" => ("bq_date", &[1, 3]),
            "TIMESTAMP" => ("bq_cast_timestamp", &[1]),
            "DATETIME" => ("bq_cast_datetime", &[1]),
            "STRING" => ("bq_cast_string", &[1]),
            "TIMESTAMP_SECONDS" => ("bq_timestamp_seconds", &[1]),
            "TIMESTAMP_MILLIS" => ("bq_timestamp_millis", &[1]),
            "TIMESTAMP_MICROS" => ("bq_timestamp_micros", &[1]),
            "UNIX_SECONDS" => ("bq_unix_seconds", &[1]),
            "UNIX_MILLIS" => ("bq_unix_millis", &[1]),
            "UNIX_MICROS" => ("bq_unix_micros", &[1]),
            "UNIX_DATE" => ("bq_unix_date", &[1]),
            "DATE_FROM_UNIX_DATE" => ("bq_date_from_unix_date", &[1]),
            "FORMAT_TIMESTAMP" => ("bq_format_timestamp", &[2]),
            "FORMAT_DATE" => ("bq_format_date", &[2]),
            _ => return Err(Failure::invalid_query(format!("Function not found: {shown}"))),
        };
        check_count(upper, &args, counts)?;
        if matches!(target, "round" | "ceil" | "floor") {
            let first = args.swap_remove(0);
            args.insert(0, call("bq_float", vec![first]));
        }
        let called = call(target, args);
        Ok(match target {
            "character_length" | "strpos" => call("bq_cast_int64", vec![called]),
            _ => called,
        })
    }

    /// `TIMESTAMP_ADD(x, INTERVAL n unit)` and its kin.
    fn shifted(&mut self, upper: &str, args: Vec<FunctionArg>) -> Outcome<Expr> {
        let [value, interval] = <[FunctionArg; 2]>::try_from(args).map_err(|_| count_error(upper))?;
        let value = self.time_arg(upper, value)?;
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Interval(interval))) = interval else {
            return Err(Failure::invalid_query(format!("{upper} expects INTERVAL as its second argument")));
        };
        let (amount, unit) = self.interval(interval)?;
        Ok(call(&format!("bq_{}", upper.to_lowercase()), vec![value, amount, unit]))
    }

    fn truncated(&mut self, upper: &str, mut args: Vec<FunctionArg>) -> Outcome<Expr> {
        if args.len() == 3 && upper == "TIMESTAMP_TRUNC" {
            let zone = args.pop().map(|a| a.to_string()).unwrap_or_default();
            let utc = matches!(zone.trim_matches(['\'', '"']), "UTC" | "Etc/UTC" | "+00:00");
            refuse_if(!utc, "time zones other than UTC")?;
        }
        let [value, unit] = <[FunctionArg; 2]>::try_from(args).map_err(|_| count_error(upper))?;
        let unit = unit_of(upper, unit)?;
        Ok(call(&format!("bq_{}", upper.to_lowercase()), vec![self.time_arg(upper, value)?, unit]))
    }

    /// A literal text becomes the DATE or TIMESTAMP that the function works on.
    fn time_arg(&mut self, upper: &str, arg: FunctionArg) -> Outcome<Expr> {
        let arg = self.plain_arg(upper, arg)?;
        let is_text = matches!(&arg, Expr::Value(v) if matches!(v.value, Value::SingleQuotedString(_)));
        Ok(match is_text {
            true if upper.starts_with("DATE_") => call("bq_cast_date", vec![arg]),
            true => call("bq_cast_timestamp", vec![arg]),
            false => arg,
        })
    }

    fn plain_args(&mut self, name: &str, args: Vec<FunctionArg>) -> Outcome<Vec<Expr>> {
        args.into_iter().map(|a| self.plain_arg(name, a)).collect()
    }

    fn plain_arg(&mut self, name: &str, arg: FunctionArg) -> Outcome<Expr> {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.expr(expr),
            other => Err(Failure::unsupported_sql(format!("the argument {other} of {name}"))),
        }
    }

    fn window(&mut self, over: WindowType) -> Outcome<WindowType> {
        let WindowType::WindowSpec(spec) = over else {
            return Err(Failure::unsupported_sql("named windows"));
        };
        let WindowSpec { window_name, partition_by, order_by, window_frame } = spec;
        refuse_if(window_name.is_some(), "named windows")?;
        let window_frame = window_frame.map(|f| self.frame(f)).transpose()?;
        Ok(WindowType::WindowSpec(WindowSpec {
            window_name: None,
            partition_by: self.exprs(partition_by)?,
            order_by: self.order_exprs(order_by)?,
            window_frame,
        }))
    }

    fn frame(&mut self, frame: WindowFrame) -> Outcome<WindowFrame> {
        let WindowFrame { units, start_bound, end_bound } = frame;
        let bound = |bound: WindowFrameBound| match bound {
            WindowFrameBound::Preceding(Some(e)) | WindowFrameBound::Following(Some(e)) if !matches!(&*e, Expr::Value(v) if matches!(v.value, Value::Number(..))) => {
                Err(Failure::unsupported_sql("window frames that are no literal numbers"))
            }
            other => Ok(other),
        };
        Ok(WindowFrame {
            units,
            start_bound: bound(start_bound)?,
            end_bound: end_bound.map(bound).transpose()?,
        })
    }
}

fn over_aggregate(upper: &str) -> Option<&'static str> {
    Some(match upper {
        "COUNT" | "COUNTIF" | "APPROX_COUNT_DISTINCT" => "count",
        "SUM" => "sum",
        "MIN" => "min",
        "MAX" => "max",
        "AVG" => "avg",
        "STRING_AGG" => "string_agg",
        "LOGICAL_AND" => "bool_and",
        "LOGICAL_OR" => "bool_or",
        "STDDEV" | "STDDEV_SAMP" => "stddev",
        "VARIANCE" | "VAR_SAMP" => "var",
        _ => return None,
    })
}

fn window_function(upper: &str) -> Option<(&'static str, &'static [usize])> {
    Some(match upper {
        "ROW_NUMBER" => ("row_number", &[0]),
        "RANK" => ("rank", &[0]),
        "DENSE_RANK" => ("dense_rank", &[0]),
        "PERCENT_RANK" => ("percent_rank", &[0]),
        "CUME_DIST" => ("cume_dist", &[0]),
        "NTILE" => ("ntile", &[1]),
        "LAG" => ("lag", &[1, 2, 3]),
        "LEAD" => ("lead", &[1, 2, 3]),
        "FIRST_VALUE" => ("first_value", &[1]),
        "LAST_VALUE" => ("last_value", &[1]),
        _ => return None,
    })
}

fn check_count<T>(name: &str, args: &[T], counts: &[usize]) -> Outcome<()> {
    if counts.contains(&args.len()) { Ok(()) } else { Err(count_error(name)) }
}

fn count_error(name: &str) -> Failure {
    Failure::invalid_query(format!("Number of arguments does not match for function {name}"))
}

fn three(name: &str, args: Vec<FunctionArg>) -> Outcome<[FunctionArg; 3]> {
    args.try_into().map_err(|_| count_error(name))
}

/// A date part given as a bare word, as a text argument.
fn unit_of(name: &str, arg: FunctionArg) -> Outcome<Expr> {
    match &arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(ident))) => {
            Ok(string_literal(&ident.value.to_ascii_uppercase()))
        }
        _ => Err(Failure::unsupported_sql(format!("the date part {arg} of {name}"))),
    }
}

fn case(conditions: Vec<CaseWhen>, otherwise: Option<Expr>) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions,
        else_result: otherwise.map(Box::new),
    }
}

fn with_over(expr: Expr, distinct: bool, over: Option<WindowType>) -> Expr {
    let Expr::Function(mut function) = expr else { return expr };
    function.over = over;
    if let FunctionArguments::List(list) = &mut function.args
        && distinct
    {
        list.duplicate_treatment = Some(DuplicateTreatment::Distinct);
    }
    // DataFusion knows its own functions by lower-case names.
    function.name = ObjectName::from(vec![Ident::new(function.name.to_string().to_lowercase())]);
    Expr::Function(function)
}
