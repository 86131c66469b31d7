//! One SELECT, clause by clause, in the order in which their names are resolved.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Distinct, Expr, GroupByExpr, Ident, NamedWindowDefinition, NamedWindowExpr, Select,
    SelectFlavor, SelectItem, TableWithJoins, Value, ValueTableMode, WindowSpec,
};

use super::aggregates::Aggregate;
use super::analytic;
use super::rewrite::{Output, Rewriter, call, integer_literal, lower, quoted, refuse_if, string_literal};
use super::visible::{Column, Shape, Visible};
use crate::emulator::wire::{Failure, Outcome};

/// The name of the column that is a whole row.
pub(super) const ROW: &str = "#row";

/// An item of the SELECT list.
#[derive(Debug)]
struct Item {
    expr: Expr,
    column: Column,
    /// `None` when nothing names it: `f0_`, or `_field_1` in a struct.
    name: Option<String>,
    /// Written with AS, so that other clauses may use it.
    is_alias: bool,
}

impl Rewriter<'_> {
    /// The scope is returned for the ORDER BY that may follow.
    pub(super) fn select(&mut self, select: Select) -> Outcome<(Select, Output, Visible)> {
        self.scopes.push(Visible::default());
        let rewritten = self.select_clauses(select);
        let scope = self.scopes.pop().unwrap_or_default();
        let (select, output) = rewritten?;
        Ok((select, output, scope))
    }

    fn select_clauses(&mut self, select: Select) -> Outcome<(Select, Output)> {
        let Select {
            select_token,
            optimizer_hints,
            distinct,
            select_modifiers,
            top,
            top_before_distinct,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify,
            value_table_mode,
            flavor,
        } = select;
        refuse_if(!optimizer_hints.is_empty() || select_modifiers.is_some(), "SELECT hints")?;
        refuse_if(top.is_some() || top_before_distinct, "TOP")?;
        refuse_if(exclude.is_some(), "SELECT * EXCLUDE")?;
        refuse_if(into.is_some(), "SELECT INTO")?;
        refuse_if(!lateral_views.is_empty(), "LATERAL VIEW")?;
        refuse_if(prewhere.is_some(), "PREWHERE")?;
        refuse_if(!connect_by.is_empty(), "CONNECT BY")?;
        let sorts = !cluster_by.is_empty() || !distribute_by.is_empty() || !sort_by.is_empty();
        refuse_if(sorts, "CLUSTER BY, DISTRIBUTE BY or SORT BY")?;
        refuse_if(!matches!(flavor, SelectFlavor::Standard), "FROM before SELECT")?;
        let mut distinct = match distinct {
            None | Some(Distinct::All) => None,
            Some(Distinct::Distinct) => Some(Distinct::Distinct),
            Some(Distinct::On(_)) => return Err(Failure::unsupported_sql("DISTINCT ON")),
        };
        let (as_struct, as_value) = match value_table_mode {
            None => (false, false),
            Some(ValueTableMode::AsStruct | ValueTableMode::DistinctAsStruct) => (true, false),
            Some(ValueTableMode::AsValue | ValueTableMode::DistinctAsValue) => (false, true),
        };
        if matches!(
            value_table_mode,
            Some(ValueTableMode::DistinctAsStruct | ValueTableMode::DistinctAsValue)
        ) {
            distinct = Some(Distinct::Distinct);
        }

        let mut from_tables = Vec::with_capacity(from.len());
        for table in from {
            let table: TableWithJoins = self.table_with_joins(table)?;
            from_tables.push(table);
        }
        self.named_windows(named_window)?;
        let items = self.items(projection)?;
        let selection = self.optional(selection)?;
        if let Some(function) = selection.as_ref().and_then(analytic::found_in) {
            return Err(Failure::invalid_query(format!(
                "Analytic function {function} not allowed in WHERE clause"
            )));
        }
        let totals = is_grand_total(&group_by);
        let group_by = self.group_by(group_by, &items)?;
        if let Some(scope) = self.scopes.last_mut() {
            let aliases = items.iter().filter(|item| item.is_alias);
            let alias =
                |item: &Item| (item.column.name.to_lowercase(), item.expr.clone(), item.column.shape.clone());
            scope.aliases = aliases.map(alias).collect();
        }
        let having = self.optional(having)?;
        // One row, whatever is selected: an aggregate makes it so.
        let having = match (totals, having) {
            (false, having) => having,
            (true, having) => {
                let counted = Aggregate::new("count", vec![integer_literal(1)]).expr();
                let whatever = binary(counted, BinaryOperator::GtEq, integer_literal(0));
                Some(match having {
                    Some(having) => binary(Expr::Nested(Box::new(having)), BinaryOperator::And, whatever),
                    None => whatever,
                })
            }
        };
        let qualify = self.optional(qualify)?;
        let (projection, output) = if as_struct {
            let columns = unnamed_as_fields(&items);
            let fields = items.into_iter().zip(&columns);
            let args = fields.flat_map(|(item, column)| [string_literal(&column.name), item.expr]).collect();
            row(call("bq_struct", args), Shape::Struct(columns))
        } else if as_value {
            let [item] = <[Item; 1]>::try_from(items)
                .map_err(|_| Failure::invalid_query("SELECT AS VALUE query must have exactly one column"))?;
            row(item.expr, item.column.shape)
        } else {
            let columns: Vec<Column> = items.iter().map(|item| item.column.clone()).collect();
            let mut seen = BTreeSet::new();
            if let Some(twice) = columns.iter().find(|c| !seen.insert(c.name.to_lowercase())) {
                return Err(Failure::invalid_query(format!(
                    "Duplicate column names in the result are not supported. Found duplicate(s): {}",
                    twice.name
                )));
            }
            (items.into_iter().map(Item::select_item).collect(), Output { columns, is_value: false })
        };
        let select = Select {
            select_token,
            optimizer_hints: Vec::new(),
            distinct,
            select_modifiers: None,
            top: None,
            top_before_distinct: false,
            projection,
            exclude: None,
            into: None,
            from: from_tables,
            lateral_views: Vec::new(),
            prewhere: None,
            selection,
            connect_by: Vec::new(),
            group_by,
            cluster_by: Vec::new(),
            distribute_by: Vec::new(),
            sort_by: Vec::new(),
            having,
            named_window: Vec::new(),
            qualify,
            window_before_qualify,
            value_table_mode: None,
            flavor,
        };
        Ok((select, output))
    }

    fn items(&mut self, projection: Vec<SelectItem>) -> Outcome<Vec<Item>> {
        let mut items = Vec::new();
        for item in projection {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let name = implicit_name(&expr);
                    let (expr, shape) = self.shaped(expr)?;
                    let column = Column { name: name.clone().unwrap_or_default(), shape };
                    items.push(Item { expr, column, name, is_alias: false });
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let (expr, shape) = self.shaped(expr)?;
                    let column = Column { name: alias.value.clone(), shape };
                    items.push(Item { expr, column, name: Some(alias.value), is_alias: true });
                }
                SelectItem::ExprWithAliases { .. } => {
                    return Err(Failure::unsupported_sql("several aliases of one expression"));
                }
                SelectItem::Wildcard(options) => {
                    let expanded = self.star(options)?;
                    items.extend(expanded.into_iter().map(Item::of_star));
                }
                SelectItem::QualifiedWildcard(kind, options) => {
                    let expanded = self.qualified_star(kind, options)?;
                    items.extend(expanded.into_iter().map(Item::of_star));
                }
            }
        }
        for (at, item) in items.iter_mut().filter(|item| item.name.is_none()).enumerate() {
            item.column.name = format!("f{at}_");
        }
        Ok(items)
    }

    fn group_by(&mut self, group_by: GroupByExpr, items: &[Item]) -> Outcome<GroupByExpr> {
        let list = match group_by {
            GroupByExpr::Expressions(list, modifiers) => {
                refuse_if(!modifiers.is_empty(), "GROUP BY modifiers")?;
                list
            }
            GroupByExpr::All(modifiers) => {
                refuse_if(!modifiers.is_empty(), "GROUP BY modifiers")?;
                let keys = items.iter().filter(|item| !super::aggregates::is_aggregated(&item.expr));
                let keys = keys.filter(|item| !matches!(item.expr, Expr::Value(_)));
                return Ok(GroupByExpr::Expressions(
                    keys.map(|item| item.expr.clone()).collect(),
                    Vec::new(),
                ));
            }
        };
        let keys = list
            .into_iter()
            .filter(|key| !is_empty(key))
            .map(|key| self.group_key(key, items))
            .collect::<Outcome<_>>()?;
        Ok(GroupByExpr::Expressions(keys, Vec::new()))
    }

    /// An alias of the SELECT list comes before a column of that name; a number counts the list.
    fn group_key(&mut self, key: Expr, items: &[Item]) -> Outcome<Expr> {
        let mut sets = |sets: Vec<Vec<Expr>>| {
            let keys = |set: Vec<Expr>| set.into_iter().map(|key| self.group_key(key, items)).collect();
            sets.into_iter().map(keys).collect::<Outcome<Vec<Vec<Expr>>>>()
        };
        match key {
            Expr::Rollup(list) => Ok(Expr::Rollup(sets(list)?)),
            Expr::Cube(list) => Ok(Expr::Cube(sets(list)?)),
            Expr::GroupingSets(list) => Ok(Expr::GroupingSets(sets(list)?)),
            Expr::Value(value) if matches!(value.value, Value::Number(..)) => {
                let at = value.value.to_string().parse::<usize>().ok().and_then(|n| n.checked_sub(1));
                match at.and_then(|at| items.get(at)) {
                    Some(item) => Ok(item.expr.clone()),
                    None => Err(Failure::invalid_query(format!(
                        "GROUP BY is out of SELECT column number range: {}",
                        value.value
                    ))),
                }
            }
            Expr::Identifier(ident) => {
                let name = ident.value.to_lowercase();
                match items.iter().find(|item| item.is_alias && item.column.name.to_lowercase() == name) {
                    Some(item) => Ok(item.expr.clone()),
                    None => self.expr(Expr::Identifier(ident)),
                }
            }
            other => self.expr(other),
        }
    }

    /// Windows with a name are written out where they are used.
    fn named_windows(&mut self, windows: Vec<NamedWindowDefinition>) -> Outcome<()> {
        for NamedWindowDefinition(name, definition) in windows {
            let spec = match definition {
                NamedWindowExpr::WindowSpec(spec) => self.resolved_window(spec)?,
                NamedWindowExpr::NamedWindow(other) => self.window_named(&other)?,
            };
            if let Some(scope) = self.scopes.last_mut() {
                scope.windows.push((name.value.to_lowercase(), spec));
            }
        }
        Ok(())
    }

    pub(super) fn window_named(&self, name: &Ident) -> Outcome<WindowSpec> {
        let lower = name.value.to_lowercase();
        let windows = self.scopes.last().map(|scope| scope.windows.as_slice()).unwrap_or_default();
        let found = windows.iter().find(|(name, _)| *name == lower).map(|(_, spec)| spec.clone());
        found.ok_or_else(|| Failure::invalid_query(format!("Unrecognized window alias {}", name.value)))
    }

    /// `(w ROWS …)`: what the named window says, and more.
    pub(super) fn resolved_window(&self, spec: WindowSpec) -> Outcome<WindowSpec> {
        let WindowSpec { window_name, partition_by, order_by, window_frame } = spec;
        let Some(name) = window_name else {
            return Ok(WindowSpec { window_name: None, partition_by, order_by, window_frame });
        };
        let base = self.window_named(&name)?;
        refuse_if(!partition_by.is_empty(), "PARTITION BY behind the name of a window")?;
        Ok(WindowSpec {
            window_name: None,
            partition_by: base.partition_by,
            order_by: if order_by.is_empty() { base.order_by } else { order_by },
            window_frame: window_frame.or(base.window_frame),
        })
    }
}

impl Item {
    fn of_star((expr, column): (Expr, Column)) -> Item {
        Item { expr, name: Some(column.name.clone()), column, is_alias: false }
    }

    fn select_item(self) -> SelectItem {
        let name = self.column.name.to_lowercase();
        match &self.expr {
            // A column under its own name keeps the table it is of.
            Expr::CompoundIdentifier(parts) if parts.last().is_some_and(|p| p.value == name) => {
                SelectItem::UnnamedExpr(self.expr)
            }
            _ => SelectItem::ExprWithAlias { expr: self.expr, alias: quoted(&name) },
        }
    }
}

/// `GROUP BY ()`.
fn is_grand_total(group_by: &GroupByExpr) -> bool {
    matches!(group_by, GroupByExpr::Expressions(keys, _) if !keys.is_empty() && keys.iter().all(is_empty))
}

fn is_empty(key: &Expr) -> bool {
    matches!(key, Expr::Tuple(list) if list.is_empty())
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// The last name of a path names the column.
fn implicit_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) if ident.value.starts_with('@') => None,
        Expr::Identifier(ident) => Some(ident.value.clone()),
        Expr::CompoundIdentifier(parts) => parts.last().map(|p| p.value.clone()),
        Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last() {
            Some(datafusion::sql::sqlparser::ast::AccessExpr::Dot(Expr::Identifier(ident))) => {
                Some(ident.value.clone())
            }
            _ => None,
        },
        Expr::Nested(inner) => implicit_name(inner),
        _ => None,
    }
}

fn unnamed_as_fields(items: &[Item]) -> Vec<Column> {
    let fields = items.iter().enumerate().map(|(at, item)| Column {
        name: item.name.clone().unwrap_or_else(|| format!("_field_{}", at + 1)),
        shape: item.column.shape.clone(),
    });
    fields.collect()
}

fn row(expr: Expr, shape: Shape) -> (Vec<SelectItem>, Output) {
    let alias = lower(&Ident::new(ROW));
    let columns = vec![Column { name: ROW.to_owned(), shape }];
    (vec![SelectItem::ExprWithAlias { expr, alias }], Output { columns, is_value: true })
}
