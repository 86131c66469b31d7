//! Aggregate functions: DataFusion's where they mean the same, else those that collect an array and finish it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CaseWhen, DuplicateTreatment, Expr, Function, FunctionArgumentClause, FunctionArguments, HavingBound,
    HavingBoundKind, Ident, NullTreatment, ObjectName, OrderByExpr, OrderByOptions, WindowType,
    visit_expressions,
};

use super::arguments;
use super::calls::{Call, case, check_count};
use super::rewrite::{Rewriter, call, integer_literal, refuse_if, string_literal};
use super::visible::Shape;
use crate::emulator::wire::{Failure, Outcome};

/// A call of one of DataFusion's aggregates.
#[derive(Debug, Clone)]
pub(super) struct Aggregate {
    target: &'static str,
    args: Vec<Expr>,
    is_distinct: bool,
    order_by: Vec<OrderByExpr>,
    filter: Option<Expr>,
    nulls: Option<NullTreatment>,
    over: Option<WindowType>,
}

impl Aggregate {
    pub(super) fn new(target: &'static str, args: Vec<Expr>) -> Self {
        let (is_distinct, order_by, filter, nulls, over) = (false, Vec::new(), None, None, None);
        Aggregate { target, args, is_distinct, order_by, filter, nulls, over }
    }

    pub(super) fn ordered(self, order_by: Vec<OrderByExpr>) -> Self {
        Aggregate { order_by, ..self }
    }

    pub(super) fn over(self, over: Option<WindowType>) -> Self {
        Aggregate { over, ..self }
    }

    pub(super) fn nulls(self, nulls: Option<NullTreatment>) -> Self {
        Aggregate { nulls, ..self }
    }

    /// Without the rows in which `value` is NULL.
    fn without_nulls(self, value: &Expr) -> Self {
        Aggregate { filter: Some(Expr::IsNotNull(Box::new(value.clone()))), ..self }
    }

    pub(super) fn expr(self) -> Expr {
        let Expr::Function(function) = call(self.target, self.args) else {
            unreachable!("a call is a function")
        };
        let mut args = function.args;
        if let FunctionArguments::List(list) = &mut args {
            list.duplicate_treatment = self.is_distinct.then_some(DuplicateTreatment::Distinct);
            if !self.order_by.is_empty() {
                list.clauses.push(FunctionArgumentClause::OrderBy(self.order_by));
            }
        }
        Expr::Function(Function {
            name: ObjectName::from(vec![Ident::new(self.target)]),
            args,
            filter: self.filter.map(Box::new),
            null_treatment: self.nulls,
            over: self.over,
            ..function
        })
    }
}

/// DataFusion's name for an aggregate, and how many arguments it takes.
pub(super) fn target_of(upper: &str) -> Option<(&'static str, &'static [usize])> {
    Some(match upper {
        "COUNT" | "COUNTIF" | "APPROX_COUNT_DISTINCT" => ("count", &[1]),
        "SUM" => ("sum", &[1]),
        "MIN" => ("min", &[1]),
        "MAX" => ("max", &[1]),
        "AVG" => ("avg", &[1]),
        "STRING_AGG" => ("string_agg", &[1, 2]),
        "ARRAY_AGG" => ("array_agg", &[1]),
        "ANY_VALUE" => ("first_value", &[1]),
        "MAX_BY" | "MIN_BY" => ("first_value", &[2]),
        "APPROX_QUANTILES" | "APPROX_TOP_COUNT" | "PERCENTILE_CONT" => ("array_agg", &[2]),
        "LOGICAL_AND" => ("bool_and", &[1]),
        "LOGICAL_OR" => ("bool_or", &[1]),
        "BIT_AND" => ("bit_and", &[1]),
        "BIT_OR" => ("bit_or", &[1]),
        "BIT_XOR" => ("bit_xor", &[1]),
        "STDDEV" | "STDDEV_SAMP" => ("stddev", &[1]),
        "STDDEV_POP" => ("stddev_pop", &[1]),
        "VARIANCE" | "VAR_SAMP" => ("var", &[1]),
        "VAR_POP" => ("var_pop", &[1]),
        "CORR" => ("corr", &[2]),
        "COVAR_POP" => ("covar_pop", &[2]),
        "COVAR_SAMP" => ("covar_samp", &[2]),
        "GROUPING" => ("grouping", &[1]),
        _ => return None,
    })
}

/// Whether a rewritten expression has an aggregate that is no window function.
pub(super) fn is_aggregated(expr: &Expr) -> bool {
    const TARGETS: [&str; 17] = [
        "count",
        "sum",
        "min",
        "max",
        "avg",
        "string_agg",
        "array_agg",
        "first_value",
        "bool_and",
        "bool_or",
        "bit_and",
        "bit_or",
        "bit_xor",
        "corr",
        "covar_pop",
        "covar_samp",
        "grouping",
    ];
    let found = visit_expressions(expr, |e| match e {
        Expr::Function(f) if f.over.is_none() => {
            let name = f.name.to_string();
            let statistic = name.starts_with("stddev") || name.starts_with("var");
            if TARGETS.contains(&name.as_str()) || statistic {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// What stands in the brackets of an aggregate besides its arguments.
#[derive(Debug, Default)]
struct Clauses {
    nulls: Option<NullTreatment>,
    order_by: Vec<OrderByExpr>,
    limit: Option<Expr>,
    having: Option<HavingBound>,
}

impl Rewriter<'_> {
    pub(super) fn aggregate(&mut self, given: Call) -> Outcome<(Expr, Shape)> {
        let Call { upper, args, is_distinct, clauses, over, nulls } = given;
        let Some((target, counts)) = target_of(&upper) else {
            return Err(Failure::invalid_query(format!("Function not found: {upper}")));
        };
        let over = over.map(|o| self.window(o)).transpose()?;
        if Call::is_star(&args) {
            if upper != "COUNT" || is_distinct {
                let message = format!("Argument * can only be used in COUNT(*), not {upper}");
                return Err(Failure::invalid_query(message));
            }
            // COUNT(1) counts rows as COUNT(*) does, and it can carry a window.
            return Ok((Aggregate::new(target, vec![integer_literal(1)]).over(over).expr(), Shape::Opaque));
        }
        let Clauses { nulls, order_by, limit, having } = self.clauses(&upper, clauses, nulls)?;
        let mut shapes = Vec::with_capacity(args.len());
        let mut exprs = Vec::with_capacity(args.len());
        for arg in args {
            let (expr, shape) = self.shaped(Call::plain(&upper, arg)?)?;
            exprs.push(expr);
            shapes.push(shape);
        }
        check_count(&upper, &exprs, counts)?;
        let unchecked = exprs.first().cloned();
        let exprs = arguments::checked(&upper, exprs);
        let shape = shapes.into_iter().next().unwrap_or_default();
        let has_order = matches!(upper.as_str(), "ARRAY_AGG" | "STRING_AGG");
        refuse_if(!order_by.is_empty() && !has_order, &format!("ORDER BY in {upper}()"))?;
        refuse_if(limit.is_some() && !has_order, &format!("LIMIT in {upper}()"))?;
        refuse_if(having.is_some() && upper != "ANY_VALUE", &format!("HAVING in {upper}()"))?;
        let takes_nulls =
            matches!(upper.as_str(), "ARRAY_AGG" | "STRING_AGG" | "APPROX_QUANTILES" | "PERCENTILE_CONT");
        refuse_if(nulls.is_some() && !takes_nulls, &format!("IGNORE NULLS and RESPECT NULLS in {upper}()"))?;
        if is_distinct && over.is_some() {
            return Err(Failure::unsupported_sql(format!("DISTINCT in {upper}() with OVER")));
        }
        let value = exprs.first().cloned().unwrap_or_else(|| integer_literal(1));
        let plain =
            |args: Vec<Expr>| Aggregate { is_distinct, ..Aggregate::new(target, args).over(over.clone()) };
        // DataFusion takes the order of another aggregate for that of a DISTINCT one.
        let sorted = match (order_by.as_slice(), is_distinct) {
            ([], _) | (_, false) => None,
            ([key], true) if Some(&key.expr) == unchecked.as_ref() => Some(match key.options.asc {
                Some(false) => "bq_sorted_descending",
                _ => "bq_sorted",
            }),
            _ => {
                return Err(Failure::invalid_query(
                    "An aggregate function that has both DISTINCT and ORDER BY arguments can only ORDER BY expressions \
                     that are arguments to the function",
                ));
            }
        };
        let order_by = if sorted.is_some() { Vec::new() } else { order_by };
        let collected = |without_nulls: bool| {
            let all = Aggregate { is_distinct, ..Aggregate::new("array_agg", vec![value.clone()]) };
            let all = all.ordered(order_by.clone()).over(over.clone());
            if without_nulls { all.without_nulls(&value) } else { all }
        };
        let head = |array: Expr| {
            let array = sorted.map_or(array.clone(), |sort| call(sort, vec![array]));
            match &limit {
                Some(limit) => call("bq_head", vec![array, limit.clone()]),
                None => array,
            }
        };
        Ok(match upper.as_str() {
            "COUNTIF" => {
                let conditions = vec![CaseWhen { condition: value, result: integer_literal(1) }];
                (plain(vec![case(conditions, None)]).expr(), Shape::Opaque)
            }
            "APPROX_COUNT_DISTINCT" => {
                (Aggregate { is_distinct: true, ..plain(vec![value]) }.expr(), Shape::Opaque)
            }
            // DataFusion's sum of INT64 wraps around.
            "SUM" => {
                (call("bq_narrow", vec![plain(vec![call("bq_widen", vec![value])]).expr()]), Shape::Opaque)
            }
            "AVG" => (call("bq_narrow", vec![plain(vec![value]).expr()]), Shape::Opaque),
            "GROUPING" => (call("bq_cast_int64", vec![plain(vec![value]).expr()]), Shape::Opaque),
            "ARRAY_AGG" => {
                let array = collected(nulls == Some(NullTreatment::IgnoreNulls)).expr();
                (head(array), Shape::Array(Box::new(shape)))
            }
            "STRING_AGG" => {
                let separator = exprs.get(1).cloned().unwrap_or_else(|| string_literal(","));
                if over.is_some() {
                    return Ok((plain(vec![value, separator]).ordered(order_by).expr(), Shape::Opaque));
                }
                let array = head(collected(true).expr());
                (call("bq_array_to_string", vec![array, separator]), Shape::Opaque)
            }
            "ANY_VALUE" => match having {
                Some(HavingBound(kind, by)) => {
                    let by = self.expr(by)?;
                    (extreme(value, by, kind == HavingBoundKind::Max, over), shape)
                }
                None if over.is_some() => {
                    (plain(vec![value]).nulls(Some(NullTreatment::IgnoreNulls)).expr(), shape)
                }
                None => (plain(vec![value.clone()]).without_nulls(&value).expr(), shape),
            },
            "MAX_BY" | "MIN_BY" => {
                let by = exprs.get(1).cloned().unwrap_or_else(|| value.clone());
                (extreme(value, by, upper == "MAX_BY", over), shape)
            }
            "APPROX_QUANTILES" => {
                let number = exprs.get(1).cloned().unwrap_or_else(|| integer_literal(1));
                let array = collected(nulls != Some(NullTreatment::RespectNulls)).expr();
                (call("bq_quantiles", vec![array, number]), Shape::Array(Box::new(shape)))
            }
            "APPROX_TOP_COUNT" => {
                let number = exprs.get(1).cloned().unwrap_or_else(|| integer_literal(1));
                let fields = vec![
                    super::visible::Column { name: "value".into(), shape },
                    super::visible::Column::plain("count"),
                ];
                let shape = Shape::Array(Box::new(Shape::Struct(fields)));
                (call("bq_top_count", vec![collected(false).expr(), number]), shape)
            }
            "PERCENTILE_CONT" => {
                refuse_if(over.is_none(), "PERCENTILE_CONT without OVER")?;
                let percentile = exprs.get(1).cloned().unwrap_or_else(|| integer_literal(1));
                let floats = call("bq_cast_float64", vec![value]);
                let array = Aggregate::new("array_agg", vec![floats]).over(over).expr();
                (call("bq_percentile_cont", vec![array, percentile]), Shape::Opaque)
            }
            "MIN" | "MAX" => (plain(exprs).expr(), shape),
            _ => (plain(exprs).expr(), Shape::Opaque),
        })
    }

    fn clauses(
        &mut self,
        upper: &str,
        given: Vec<FunctionArgumentClause>,
        nulls: Option<NullTreatment>,
    ) -> Outcome<Clauses> {
        let mut clauses = Clauses { nulls, ..Clauses::default() };
        for clause in given {
            match clause {
                FunctionArgumentClause::IgnoreOrRespectNulls(nulls) => clauses.nulls = Some(nulls),
                FunctionArgumentClause::OrderBy(order_by) => clauses.order_by = self.order_exprs(order_by)?,
                FunctionArgumentClause::Limit(limit) => clauses.limit = Some(self.count(limit, "LIMIT")?),
                FunctionArgumentClause::Having(bound) => clauses.having = Some(bound),
                other => return Err(Failure::unsupported_sql(format!("{other} in {upper}()"))),
            }
        }
        Ok(clauses)
    }
}

/// The value in the row where `by` is largest or smallest.
fn extreme(value: Expr, by: Expr, largest: bool, over: Option<WindowType>) -> Expr {
    let options = OrderByOptions { asc: Some(!largest), nulls_first: Some(false) };
    let key = OrderByExpr { expr: by.clone(), options, with_fill: None };
    Aggregate::new("first_value", vec![value]).ordered(vec![key]).without_nulls(&by).over(over).expr()
}
