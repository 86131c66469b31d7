//! What analytic functions may stand in, and the numbers that they are given.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Query, UnaryOperator, Value, Visit, Visitor, WindowFrameBound, WindowFrameUnits,
};

use crate::emulator::wire::{Failure, Outcome};

/// The first analytic function of an expression, but for those of its subqueries.
pub(super) fn found_in(expr: &Expr) -> Option<String> {
    match expr.visit(&mut Finder { depth: 0 }) {
        ControlFlow::Break(name) => Some(name.to_uppercase()),
        ControlFlow::Continue(()) => None,
    }
}

struct Finder {
    depth: usize,
}

impl Visitor for Finder {
    type Break = String;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<String> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<String> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<String> {
        match expr {
            Expr::Function(function) if function.over.is_some() && self.depth == 0 => {
                ControlFlow::Break(function.name.to_string())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// The offsets of LAG and LEAD and the places of NTH_VALUE and NTILE, as far as they are literals.
pub(super) fn check_numbers(upper: &str, args: &[Expr]) -> Outcome<()> {
    let (at, least) = match upper {
        "LAG" | "LEAD" => (1, 0),
        "NTH_VALUE" => (1, 1),
        "NTILE" => (0, 1),
        _ => return Ok(()),
    };
    let fits = match args.get(at) {
        Some(Expr::Value(value)) => match &value.value {
            Value::Number(text, _) => text.parse::<i64>().is_ok_and(|number| number >= least),
            _ => false,
        },
        Some(Expr::UnaryOp { op: UnaryOperator::Minus, .. }) => false,
        _ => true,
    };
    match fits {
        true => Ok(()),
        false => Err(Failure::invalid_query(format!(
            "Argument {} to {upper} must be an INT64 that is at least {least}",
            at + 1
        ))),
    }
}

/// Rows are counted in whole numbers.
pub(super) fn check_bound(units: WindowFrameUnits, bound: &WindowFrameBound) -> Outcome<()> {
    let (WindowFrameBound::Preceding(Some(by)) | WindowFrameBound::Following(Some(by))) = bound else {
        return Ok(());
    };
    match by.as_ref() {
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) if units == WindowFrameUnits::Range || text.parse::<i64>().is_ok() => {
                Ok(())
            }
            Value::Number(text, _) => Err(Failure::invalid_query(format!(
                "A window frame of ROWS has bounds of type INT64, which {text} is not"
            ))),
            _ => Err(Failure::invalid_query("The bounds of a window frame are numbers")),
        },
        _ => Err(Failure::unsupported_sql("window frames that are no literal numbers")),
    }
}
