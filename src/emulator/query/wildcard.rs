//! `events_*`: the tables of a dataset whose names begin alike, as one; and tables as they were.

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::Expr as PlanExpr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{
    Expr, SelectItem, SetExpr, SetOperator, SetQuantifier, TableAlias, TableFactor, TableVersion,
    TableWithJoins, Value,
};

use super::nested::derived;
use super::parameters::literal;
use super::rewrite::{Rewriter, plain_query, plain_select, quoted, string_literal};
use super::tables::plain_table;
use super::visible::{Column, Source};
use crate::emulator::names::TableName;
use crate::emulator::wire::{Failure, Outcome};

const SUFFIX: &str = "_table_suffix";

impl Rewriter<'_> {
    /// All tables with the prefix, and `_TABLE_SUFFIX`; the columns are those of the newest one.
    pub(super) fn wildcard(
        &mut self,
        parts: &[String],
        alias: TableAlias,
        time_ms: Option<i64>,
    ) -> Outcome<TableFactor> {
        if time_ms.is_some() {
            return Err(Failure::invalid_query("FOR SYSTEM_TIME AS OF cannot be used with a wildcard table"));
        }
        let mut plain = parts.to_vec();
        let prefix = plain.pop().unwrap_or_default().trim_end_matches('*').to_owned();
        // Any name will do to find the dataset.
        plain.push("t".into());
        let at = self.resolve(&plain)?;
        let dataset = self.catalog.dataset(&at.project, &at.dataset)?;
        let mut tables: Vec<_> = dataset
            .tables()
            .into_iter()
            .map(|table| table.current())
            .filter(|version| version.definition.name.table.as_str().starts_with(&prefix))
            .collect();
        tables.sort_by_key(|version| (version.definition.created_ms, version.definition.name.table.clone()));
        let Some(newest) = tables.last() else {
            return Err(Failure::not_found(format!(
                "{}:{}.{prefix}* does not match any table.",
                at.project, at.dataset
            )));
        };
        let columns: Vec<Column> = newest.definition.fields.iter().map(Column::of_field).collect();
        let names: Vec<TableName> = tables.iter().map(|version| version.definition.name.clone()).collect();
        let mut union: Option<SetExpr> = None;
        for name in names {
            let version = self.readable(&name, None)?;
            let (scan, source) = self.scan(version, "t");
            let suffix = name.table.as_str().strip_prefix(&prefix).unwrap_or_default().to_owned();
            let item = |column: &Column| {
                let lower = column.name.to_lowercase();
                let has = source.columns.iter().any(|c| c.name.to_lowercase() == lower);
                let expr = if has { source.column(&lower) } else { literal(Value::Null) };
                SelectItem::ExprWithAlias { expr, alias: quoted(&lower) }
            };
            let mut projection: Vec<SelectItem> = columns.iter().map(item).collect();
            let expr = string_literal(&suffix);
            projection.push(SelectItem::ExprWithAlias { expr, alias: quoted(SUFFIX) });
            let table = TableAlias { explicit: true, name: quoted("t"), columns: Vec::new(), at: None };
            let from = vec![TableWithJoins { relation: plain_table(scan, table), joins: Vec::new() }];
            let select = SetExpr::Select(Box::new(datafusion::sql::sqlparser::ast::Select {
                projection,
                from,
                ..plain_select()
            }));
            union = Some(match union {
                None => select,
                Some(left) => SetExpr::SetOperation {
                    op: SetOperator::Union,
                    set_quantifier: SetQuantifier::All,
                    left: Box::new(left),
                    right: Box::new(select),
                },
            });
        }
        let Some(union) = union else { return Err(Failure::not_found("no table")) };
        let source = Source::new(&alias.name.value, columns);
        self.add(Source { hidden: vec![SUFFIX.to_owned()], ..source })?;
        Ok(derived(plain_query(union), &alias.name.value))
    }

    /// The instant of FOR SYSTEM_TIME AS OF, which is the same for all rows.
    pub(super) fn system_time(&mut self, version: TableVersion) -> Outcome<i64> {
        let TableVersion::ForSystemTimeAsOf(expr) = version else {
            return Err(Failure::unsupported_sql("this version of a table"));
        };
        let us = self.constant_timestamp(expr)?;
        let us = us.ok_or_else(|| {
            Failure::invalid_query(
                "FOR SYSTEM_TIME AS OF expression must be a constant TIMESTAMP that is not NULL",
            )
        })?;
        if us > self.now_us {
            return Err(Failure::invalid_query(
                "Invalid time travel timestamp: it is in the future; FOR SYSTEM_TIME AS OF needs a time in the past",
            ));
        }
        Ok(us.div_euclid(1000))
    }

    fn constant_timestamp(&mut self, expr: Expr) -> Outcome<Option<i64>> {
        let scopes = std::mem::take(&mut self.scopes);
        let rewritten = self.expr(expr);
        self.scopes = scopes;
        let text = rewritten?.to_string();
        let failed = |e: datafusion::common::DataFusionError| super::query_failure(&e);
        let schema = std::sync::Arc::new(DFSchema::empty());
        let state = super::session(self.emulator).state();
        let plan = state.create_logical_expr(&text, &schema).map_err(failed)?;
        let context = SimplifyContext::builder().with_schema(schema).build();
        let simplified = ExprSimplifier::new(context).simplify(plan).map_err(failed)?;
        Ok(match simplified {
            PlanExpr::Literal(ScalarValue::TimestampMicrosecond(us, _), _) => us,
            _ => None,
        })
    }
}
