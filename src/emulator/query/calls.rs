//! Function calls: what may be called, and what each becomes.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, DuplicateTreatment, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList, FunctionArguments, NullTreatment,
    ObjectNamePart, Value, WindowFrame, WindowSpec, WindowType,
};

use super::aggregates::{self, Aggregate};
use super::analytic;
use super::library;
use super::merge::SEEING;
use super::parameters::{self, literal};
use super::rewrite::{Rewriter, call, integer_literal, refuse_if, string_literal};
use super::scope::COERCED;
use super::syntax::RANGE_LITERAL;
use super::visible::Shape;
use crate::emulator::fields::Kind;
use crate::emulator::wire::{Failure, Outcome};

/// A call, taken apart.
#[derive(Debug)]
pub(super) struct Call {
    pub upper: String,
    pub args: Vec<FunctionArg>,
    pub is_distinct: bool,
    pub clauses: Vec<FunctionArgumentClause>,
    pub over: Option<WindowType>,
    pub nulls: Option<NullTreatment>,
}

impl Call {
    pub(super) fn is_star(args: &[FunctionArg]) -> bool {
        matches!(args, [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)])
    }

    pub(super) fn plain(name: &str, arg: FunctionArg) -> Outcome<Expr> {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
            other => Err(Failure::unsupported_sql(format!("the argument {other} of {name}"))),
        }
    }
}

impl Rewriter<'_> {
    pub(super) fn function(&mut self, function: Function) -> Outcome<(Expr, Shape)> {
        let Function { name, uses_odbc_syntax, parameters, args, filter, null_treatment, over, within_group } =
            function;
        refuse_if(uses_odbc_syntax, "ODBC functions")?;
        refuse_if(!matches!(parameters, FunctionArguments::None), "function parameters")?;
        refuse_if(filter.is_some(), "FILTER")?;
        refuse_if(!within_group.is_empty(), "WITHIN GROUP")?;
        let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else {
            return Err(Failure::invalid_query(format!("Function not found: {name}")));
        };
        let shown = ident.value.clone();
        let upper = shown.to_ascii_uppercase();
        let (is_distinct, args, clauses) = match args {
            FunctionArguments::None => (false, Vec::new(), Vec::new()),
            FunctionArguments::Subquery(query) if upper == "ARRAY" => return self.array_of_query(*query),
            FunctionArguments::Subquery(_) => {
                return Err(Failure::unsupported_sql(format!("a query in {upper}()")));
            }
            FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args, clauses }) => {
                (duplicate_treatment == Some(DuplicateTreatment::Distinct), args, clauses)
            }
        };
        if upper == RANGE_LITERAL {
            return range_literal(&args).map(|range| (range, Shape::Opaque));
        }
        if upper == SEEING {
            return self.seeing(args);
        }
        if let Some(suffix) = upper.strip_prefix(COERCED) {
            let args = self.plain_args("CREATE FUNCTION", args)?;
            return Ok((call(&format!("bq_coerce_{}", suffix.to_lowercase()), args), Shape::Opaque));
        }
        let given = Call { upper, args, is_distinct, clauses, over, nulls: null_treatment };
        if aggregates::target_of(&given.upper).is_some() {
            return self.aggregate(given);
        }
        if let Some((target, counts)) = window_function(&given.upper) {
            return Ok((self.numbering(given, target, counts)?, Shape::Opaque));
        }
        let Call { upper, args, is_distinct, clauses, over, nulls } = given;
        refuse_if(is_distinct, &format!("DISTINCT in {upper}()"))?;
        refuse_if(!clauses.is_empty() || nulls.is_some(), &format!("clauses inside of {upper}()"))?;
        if over.is_some() {
            return Err(Failure::invalid_query(format!("Function {upper} does not support an OVER clause")));
        }
        self.scalar(&shown, &upper, args)
    }

    /// Functions that only exist with OVER.
    fn numbering(&mut self, given: Call, target: &'static str, counts: &[usize]) -> Outcome<Expr> {
        let Call { upper, args, is_distinct, clauses, over, mut nulls } = given;
        refuse_if(is_distinct, &format!("DISTINCT in {upper}()"))?;
        let Some(over) = over else {
            return Err(Failure::invalid_query(format!(
                "Analytic function {upper} cannot be called without an OVER clause"
            )));
        };
        for clause in clauses {
            match clause {
                FunctionArgumentClause::IgnoreOrRespectNulls(treatment) => nulls = Some(treatment),
                other => return Err(Failure::unsupported_sql(format!("{other} in {upper}()"))),
            }
        }
        let takes_nulls = matches!(target, "first_value" | "last_value" | "nth_value");
        refuse_if(nulls.is_some() && !takes_nulls, &format!("IGNORE NULLS and RESPECT NULLS in {upper}()"))?;
        let args = self.plain_args(&upper, args)?;
        check_count(&upper, &args, counts)?;
        analytic::check_numbers(&upper, &args)?;
        let over = Some(self.window(over)?);
        let windowed = Aggregate::new(target, args).nulls(nulls).over(over).expr();
        Ok(match target {
            // DataFusion counts without a sign. Its own cast is one that its optimizer sees through, so that
            // `ROW_NUMBER() OVER (…) = 1` stays what it is.
            "row_number" | "rank" | "dense_rank" | "ntile" => Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(windowed),
                data_type: DataType::BigInt(None),
                array: false,
                format: None,
            },
            _ => windowed,
        })
    }

    fn scalar(&mut self, shown: &str, upper: &str, mut args: Vec<FunctionArg>) -> Outcome<(Expr, Shape)> {
        let (name, prefix) = match upper.strip_prefix("SAFE.") {
            Some(name) => (name, "bq_safe_"),
            None => (upper, "bq_"),
        };
        let opaque = |expr: Expr| Ok((expr, Shape::Opaque));
        match name {
            "CURRENT_TIMESTAMP" | "CURRENT_DATE" | "CURRENT_DATETIME" | "CURRENT_TIME" => {
                let zone = self.plain_args(name, args)?;
                check_count(name, &zone, if name == "CURRENT_TIMESTAMP" { &[0] } else { &[0, 1] })?;
                let now = call("bq_timestamp_micros", vec![integer_literal(self.now_us)]);
                return opaque(match name.strip_prefix("CURRENT_").unwrap_or(name) {
                    "TIMESTAMP" => now,
                    part => call(&format!("bq_{}", part.to_lowercase()), [vec![now], zone].concat()),
                });
            }
            "SESSION_USER" => {
                check_count(name, &args, &[0])?;
                return opaque(string_literal("anonymous@example.com"));
            }
            "IF" => {
                let args = self.shaped_args(name, args)?;
                let [condition, result, otherwise] =
                    <[(Expr, Shape); 3]>::try_from(args).map_err(|_| count_error(name))?;
                let conditions = vec![CaseWhen { condition: condition.0, result: result.0 }];
                return Ok((case(conditions, Some(otherwise.0)), result.1));
            }
            "COALESCE" | "IFNULL" | "NULLIF" | "GREATEST" | "LEAST" => return self.choice(name, args),
            _ => {}
        }
        // Units of time are bare words, and amounts of them intervals.
        let (function, args) = match name {
            "DATE_ADD"
            | "DATE_SUB"
            | "DATETIME_ADD"
            | "DATETIME_SUB"
            | "TIMESTAMP_ADD"
            | "TIMESTAMP_SUB"
            | "TIME_ADD"
            | "TIME_SUB"
            | "GENERATE_TIMESTAMP_ARRAY"
            | "GENERATE_DATE_ARRAY" => {
                if name == "GENERATE_DATE_ARRAY" && args.len() == 2 {
                    let args = self.plain_args(name, args)?;
                    (name, [args, vec![integer_literal(1), string_literal("DAY")]].concat())
                } else {
                    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Interval(interval)))) =
                        args.pop()
                    else {
                        return Err(Failure::invalid_query(format!(
                            "{name} expects INTERVAL as its last argument"
                        )));
                    };
                    let args = self.plain_args(name, args)?;
                    let (amount, unit) = self.interval(interval)?;
                    (name, [args, vec![amount, unit]].concat())
                }
            }
            "DATE_TRUNC" | "DATETIME_TRUNC" | "TIMESTAMP_TRUNC" | "TIME_TRUNC" if args.len() > 1 => {
                let zone = args.split_off(2);
                let unit = unit_of(name, args.pop())?;
                (name, [self.plain_args(name, args)?, vec![unit], self.plain_args(name, zone)?].concat())
            }
            "DATE_DIFF" | "DATETIME_DIFF" | "TIMESTAMP_DIFF" | "TIME_DIFF" => {
                let unit = unit_of(name, args.pop())?;
                (name, [self.plain_args(name, args)?, vec![unit]].concat())
            }
            "LAST_DAY" => {
                let unit = match args.len() {
                    1 => string_literal(library::LAST_DAY_DEFAULT),
                    _ => unit_of(name, args.pop())?,
                };
                (name, [self.plain_args(name, args)?, vec![unit]].concat())
            }
            "SAFE_DIVIDE" => return opaque(call("bq_safe_divide", self.plain_args(name, args)?)),
            _ => (name, self.plain_args(name, args)?),
        };
        let Some(found) = library::find(function) else {
            return Err(Failure::invalid_query(format!("Function not found: {shown}")));
        };
        let signatures = found.signatures();
        if !signatures.is_empty() && !signatures.iter().any(|s| s.takes(args.len())) {
            return Err(count_error(upper));
        }
        let count = args.len();
        let args = args.into_iter().enumerate().map(|(index, arg)| coerced(arg, index, count, signatures));
        let args = args.collect();
        let shape = match function {
            "SPLIT" | "ARRAY_CONCAT" | "ARRAY_REVERSE" => Shape::Array(Box::default()),
            _ => Shape::Opaque,
        };
        Ok((call(&format!("{prefix}{}", function.to_lowercase()), args), shape))
    }

    /// Functions that give one of their arguments.
    fn choice(&mut self, name: &str, args: Vec<FunctionArg>) -> Outcome<(Expr, Shape)> {
        let args = self.shaped_args(name, args)?;
        let least = if matches!(name, "IFNULL" | "NULLIF") { 2 } else { 1 };
        let most = if matches!(name, "IFNULL" | "NULLIF") { 2 } else { usize::MAX };
        if args.len() < least || args.len() > most {
            return Err(count_error(name));
        }
        let shape = args.first().map(|(_, shape)| shape.clone()).unwrap_or_default();
        let args: Vec<Expr> = args.into_iter().map(|(expr, _)| expr).collect();
        let expr = match name {
            "IFNULL" => call("coalesce", args),
            "GREATEST" | "LEAST" => {
                let null = args.iter().cloned().map(|e| Expr::IsNull(Box::new(e))).reduce(|left, right| {
                    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Or, right: Box::new(right) }
                });
                let condition = null.ok_or_else(|| count_error(name))?;
                let result = literal(Value::Null);
                case(vec![CaseWhen { condition, result }], Some(call(&name.to_lowercase(), args)))
            }
            _ => call(&name.to_lowercase(), args),
        };
        Ok((expr, shape))
    }

    pub(super) fn plain_args(&mut self, name: &str, args: Vec<FunctionArg>) -> Outcome<Vec<Expr>> {
        Ok(self.shaped_args(name, args)?.into_iter().map(|(expr, _)| expr).collect())
    }

    fn shaped_args(&mut self, name: &str, args: Vec<FunctionArg>) -> Outcome<Vec<(Expr, Shape)>> {
        args.into_iter().map(|arg| self.shaped(Call::plain(name, arg)?)).collect()
    }

    pub(super) fn window(&mut self, over: WindowType) -> Outcome<WindowType> {
        let spec = match over {
            WindowType::WindowSpec(spec) => self.resolved_window(spec)?,
            WindowType::NamedWindow(name) => self.window_named(&name)?,
        };
        let WindowSpec { window_name: _, partition_by, order_by, window_frame } = spec;
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
        analytic::check_bound(units, &start_bound)?;
        end_bound.as_ref().map_or(Ok(()), |bound| analytic::check_bound(units, bound))?;
        Ok(WindowFrame { units, start_bound, end_bound })
    }
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
        "NTH_VALUE" => ("nth_value", &[2]),
        _ => return None,
    })
}

pub(super) fn check_count<T>(name: &str, args: &[T], counts: &[usize]) -> Outcome<()> {
    if counts.contains(&args.len()) { Ok(()) } else { Err(count_error(name)) }
}

fn count_error(name: &str) -> Failure {
    Failure::invalid_query(format!("Number of arguments does not match for function {name}"))
}

/// A date part given as a bare word, `DAY` or `WEEK(MONDAY)`, as a text argument.
fn unit_of(name: &str, arg: Option<FunctionArg>) -> Outcome<Expr> {
    match &arg {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(
            expr @ (Expr::Identifier(_) | Expr::Function(_)),
        ))) => Ok(string_literal(&expr.to_string().to_ascii_uppercase())),
        Some(arg) => Err(Failure::invalid_query(format!(
            "A valid date part name is required but found {arg} in {name}"
        ))),
        None => Err(count_error(name)),
    }
}

/// `[a, b)`, with UNBOUNDED or NULL where it has no bound.
fn range_literal(args: &[FunctionArg]) -> Outcome<Expr> {
    let text = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => value.value.clone().into_string(),
        _ => None,
    };
    let texts: Vec<String> = args.iter().filter_map(text).collect();
    let [of, literal] = texts.as_slice() else { return Err(count_error("RANGE")) };
    let invalid = || Failure::invalid_query(format!("Invalid RANGE<{of}> literal: \"{literal}\""));
    let Some(Kind::Range(of)) = Kind::parse(&format!("RANGE<{of}>")) else { return Err(invalid()) };
    let bounds = literal.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(')'));
    let (start, end) = bounds.and_then(|bounds| bounds.split_once(',')).ok_or_else(invalid)?;
    let bound = |text: &str| {
        let text = Some(text.trim()).filter(|t| !t.eq_ignore_ascii_case("UNBOUNDED") && *t != "NULL");
        parameters::scalar(of.kind(), text).map_err(|_| invalid())
    };
    Ok(call(parameters::range_function(of), vec![bound(start)?, bound(end)?]))
}

/// A literal text where a date or time is wanted is one.
fn coerced(arg: Expr, index: usize, count: usize, signatures: &[library::Signature]) -> Expr {
    let is_text = matches!(&arg, Expr::Value(v) if matches!(v.value, Value::SingleQuotedString(_)));
    if !is_text {
        return arg;
    }
    let mut kinds = signatures.iter().filter(|s| s.takes(count)).filter_map(|s| s.kind(index));
    let first = kinds.next();
    let target = match first {
        _ if first.into_iter().chain(kinds).any(|kind| kind == Kind::String) => None,
        Some(Kind::Date) => Some("date"),
        Some(Kind::DateTime) => Some("datetime"),
        Some(Kind::Timestamp) => Some("timestamp"),
        Some(Kind::Time) => Some("time"),
        _ => None,
    };
    match target {
        Some(target) => call(&format!("bq_cast_{target}"), vec![arg]),
        None => arg,
    }
}

pub(super) fn case(conditions: Vec<CaseWhen>, otherwise: Option<Expr>) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions,
        else_result: otherwise.map(Box::new),
    }
}
