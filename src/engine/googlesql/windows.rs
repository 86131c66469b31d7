//! Window functions that number rows: the ones that keep the latest record.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, Ident, ObjectName, OrderByExpr, OrderByOptions, WindowSpec, WindowType,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::build;
use super::query::{Clause, Translator};
use super::{Typed, place_of};
use crate::error::Result;
use crate::schema::ColumnType;

impl Translator<'_> {
    pub(super) fn window(
        &mut self,
        name: &str,
        function: Function,
        over: WindowType,
        place: Span,
    ) -> Result<Typed> {
        let WindowType::WindowSpec(WindowSpec { window_name, partition_by, order_by, window_frame }) = over
        else {
            return Err(self.text.unlisted(place, "WINDOW with a name"));
        };
        if !["ROW_NUMBER", "RANK", "DENSE_RANK"].contains(&name) {
            return Err(self.text.unlisted(place, &format!("{name} OVER")));
        }
        self.refuse_if(window_name.is_some(), place, "WINDOW with a name")?;
        self.refuse_if(window_frame.is_some(), place, &format!("{name} with ROWS or RANGE"))?;
        if !self.arguments(function)?.is_empty() {
            return Err(self.text.refused(place, &format!("{name} takes no values"), None));
        }
        let clause = std::mem::replace(&mut self.scope.clause, Clause::Inside);
        let mut keys = Vec::with_capacity(partition_by.len());
        for key in partition_by {
            let place = place_of(&key);
            let key = self.expr(key)?;
            self.key(&key, place, "PARTITION BY")?;
            keys.push(key.expr);
        }
        let unique = build::column(&self.scope.table, self.subject.unique);
        let mut order = Vec::with_capacity(order_by.len());
        for OrderByExpr { expr, options, with_fill } in order_by {
            let place = place_of(&expr);
            self.refuse_if(with_fill.is_some(), place, "WITH FILL")?;
            let key = self.expr(expr)?;
            self.key(&key, place, "ORDER BY")?;
            let OrderByOptions { asc, nulls_first } = options;
            let ascending = asc.unwrap_or(true);
            // NULL is the smallest value in BigQuery and the largest in DataFusion.
            let nulls_first = Some(nulls_first.unwrap_or(ascending));
            let options = OrderByOptions { asc: Some(ascending), nulls_first };
            order.push(OrderByExpr { expr: key.expr, options, with_fill: None });
        }
        self.scope.clause = clause;
        let decides = order.iter().any(|key| key.expr == unique);
        if name == "ROW_NUMBER" && !decides {
            let what = "ROW_NUMBER whose order leaves open which of equal rows comes first";
            let instead = format!("end it with `{}`: ORDER BY …, {0} DESC", self.subject.unique);
            return Err(self.text.refused(place, what, Some(&instead)));
        }
        if order.is_empty() {
            return Err(self.text.refused(place, &format!("{name} without ORDER BY"), None));
        }
        let spec = WindowSpec { window_name: None, partition_by: keys, order_by: order, window_frame: None };
        let mut function = build::function(&name.to_lowercase(), Vec::new());
        function.name = ObjectName::from(vec![Ident::new(name.to_lowercase())]);
        function.over = Some(WindowType::WindowSpec(spec));
        // Numbers of rows are unsigned in DataFusion.
        Ok(Typed::new(build::cast(Expr::Function(function), ColumnType::Int64), ColumnType::Int64))
    }
}

/// A number of a row as it is compared with a literal: without the CAST, which would hide `ROW_NUMBER() = 1`
/// from the operator that keeps the latest record.
pub(super) fn unsigned(left: Expr, right: Expr) -> (Expr, Expr) {
    let is_literal = |expr: &Expr| matches!(expr, Expr::Value(_));
    let bare = |expr: Expr| match expr {
        Expr::Cast { expr, .. } if matches!(&*expr, Expr::Function(function) if function.over.is_some()) => {
            *expr
        }
        other => other,
    };
    match (is_literal(&left), is_literal(&right)) {
        (false, true) => (bare(left), right),
        (true, false) => (left, bare(right)),
        _ => (left, right),
    }
}
