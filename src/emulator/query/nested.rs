//! Arrays and structs: literals, fields, elements, and queries in `ARRAY(…)`.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, OrderBy, OrderByExpr, OrderByKind,
    Query, Select, SelectItem, SetExpr, Subscript, TableAlias, TableFactor, TableWithJoins,
};

use super::aggregates::Aggregate;
use super::rewrite::{Output, Rewriter, call, plain_query, plain_select, quoted, refuse_if, string_literal};
use super::visible::{Column, Shape, field_of};
use crate::emulator::wire::{Failure, Outcome};

type Shaped = (Expr, Shape);

impl Rewriter<'_> {
    /// `STRUCT(1 AS a, b)`, in which columns give their names, and `(1, 2)`, in which nothing does.
    pub(super) fn record(&mut self, values: Vec<Expr>, is_named: bool) -> Outcome<Shaped> {
        let (mut args, mut columns) = (Vec::new(), Vec::new());
        for (at, value) in values.into_iter().enumerate() {
            let (value, name) = match value {
                Expr::Named { expr, name } => (*expr, Some(name.value)),
                Expr::Identifier(ident) if is_named && !ident.value.starts_with('@') => {
                    (Expr::Identifier(ident.clone()), Some(ident.value))
                }
                Expr::CompoundIdentifier(parts) if is_named => {
                    let name = parts.last().map(|p| p.value.clone());
                    (Expr::CompoundIdentifier(parts), name)
                }
                other => (other, None),
            };
            let (expr, shape) = self.shaped(value)?;
            let name = name.unwrap_or_else(|| format!("_field_{}", at + 1));
            args.extend([string_literal(&name), expr]);
            columns.push(Column { name, shape });
        }
        Ok((call("bq_struct", args), Shape::Struct(columns)))
    }

    pub(super) fn array(&mut self, elements: Vec<Expr>) -> Outcome<Shaped> {
        let (mut items, mut shape) = (Vec::with_capacity(elements.len()), Shape::Opaque);
        for element in elements {
            let (item, of_item) = self.shaped(element)?;
            if shape == Shape::Opaque {
                shape = of_item;
            }
            items.push(item);
        }
        Ok((call("bq_array", items), Shape::Array(Box::new(shape))))
    }

    /// `root.f[OFFSET(0)].g`.
    pub(super) fn access(&mut self, root: Expr, chain: Vec<AccessExpr>) -> Outcome<Shaped> {
        let mut chain = chain.into_iter().peekable();
        // The names at the start are one path, whose first may be a table.
        let (mut expr, mut shape) = match root {
            Expr::Identifier(first) if !first.value.starts_with('@') => {
                let mut path = vec![first];
                while let Some(AccessExpr::Dot(Expr::Identifier(_))) = chain.peek() {
                    if let Some(AccessExpr::Dot(Expr::Identifier(ident))) = chain.next() {
                        path.push(ident);
                    }
                }
                self.path(&path)?
            }
            other => self.shaped(other)?,
        };
        for access in chain {
            (expr, shape) = match access {
                AccessExpr::Dot(Expr::Identifier(ident)) => {
                    let inner = shape.field(&ident.value);
                    (field_of(expr, &ident.value), inner)
                }
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    let (function, index) = subscript(index)?;
                    (call(function, vec![expr, self.expr(index)?]), shape.item())
                }
                other => return Err(Failure::unsupported_sql(format!("the access {other}"))),
            };
        }
        Ok((expr, shape))
    }

    /// `ARRAY(SELECT …)`: the rows in their order.
    pub(super) fn array_of_query(&mut self, query: Query) -> Outcome<Shaped> {
        let (query, output) = self.query(query)?;
        let [column] = output.columns.as_slice() else {
            return Err(Failure::invalid_query(
                "ARRAY subquery cannot have more than one column unless using SELECT AS STRUCT to build STRUCT \
                 values",
            ));
        };
        let name = column.name.to_lowercase();
        let (query, order_by) = with_keys(query, &name)?;
        let collected = Aggregate::new("array_agg", vec![Expr::Identifier(quoted(&name))]).ordered(order_by);
        let select = Select {
            projection: vec![SelectItem::UnnamedExpr(collected.expr())],
            from: vec![TableWithJoins { relation: derived(query, "#rows"), joins: Vec::new() }],
            ..plain_select()
        };
        let subquery = Expr::Subquery(Box::new(plain_query(SetExpr::Select(Box::new(select)))));
        Ok((call("bq_or_empty", vec![subquery]), Shape::Array(Box::new(column.shape.clone()))))
    }

    /// `x IN UNNEST(array)`.
    pub(super) fn in_unnest(&mut self, expr: Expr, array: Expr, negated: bool) -> Outcome<Expr> {
        let found = call("bq_in_array", vec![self.expr(expr)?, self.expr(array)?]);
        Ok(match negated {
            true => Expr::UnaryOp {
                op: datafusion::sql::sqlparser::ast::UnaryOperator::Not,
                expr: Box::new(found),
            },
            false => found,
        })
    }

    /// A whole result whose rows are structs shows their fields as columns.
    pub(super) fn flattened(&mut self, query: Query, output: Output) -> Outcome<(Query, Output)> {
        let [Column { name, shape }] = output.columns.as_slice() else { return Ok((query, output)) };
        let Shape::Struct(columns) = shape else {
            let columns = vec![Column { name: "f0_".into(), shape: shape.clone() }];
            return Ok((query, Output { columns, is_value: false }));
        };
        refuse_if(
            query.order_by.is_some(),
            "ORDER BY in a SELECT AS VALUE or AS STRUCT that is no subquery",
        )?;
        let row = Expr::CompoundIdentifier(vec![quoted("#rows"), quoted(&name.to_lowercase())]);
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = columns.iter().find(|c| !seen.insert(c.name.to_lowercase())) {
            return Err(Failure::invalid_query(format!(
                "Duplicate column names in the result are not supported. Found duplicate(s): {}",
                twice.name
            )));
        }
        let item = |column: &Column| SelectItem::ExprWithAlias {
            expr: field_of(row.clone(), &column.name),
            alias: quoted(&column.name.to_lowercase()),
        };
        let select = Select {
            projection: columns.iter().map(item).collect(),
            from: vec![TableWithJoins { relation: derived(query, "#rows"), joins: Vec::new() }],
            ..plain_select()
        };
        let output = Output { columns: columns.clone(), is_value: false };
        Ok((plain_query(SetExpr::Select(Box::new(select))), output))
    }
}

pub(super) fn derived(query: Query, alias: &str) -> TableFactor {
    let alias = TableAlias { explicit: true, name: quoted(alias), columns: Vec::new(), at: None };
    TableFactor::Derived { lateral: false, subquery: Box::new(query), alias: Some(alias), sample: None }
}

/// `OFFSET(n)` and its kin, as the function that they are here; what stands alone may also be of JSON.
fn subscript(index: Expr) -> Outcome<(&'static str, Expr)> {
    let Expr::Function(function) = &index else { return Ok(("bq_subscript", index)) };
    let name = match function.name.to_string().to_ascii_uppercase().as_str() {
        "OFFSET" => "bq_element",
        "ORDINAL" => "bq_element_ordinal",
        "SAFE_OFFSET" => "bq_element_or_null",
        "SAFE_ORDINAL" => "bq_element_ordinal_or_null",
        _ => return Ok(("bq_subscript", index)),
    };
    let one = match &function.args {
        FunctionArguments::List(list) => match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(one))] => Some(one.clone()),
            _ => None,
        },
        _ => None,
    };
    let one = one.ok_or_else(|| Failure::invalid_query("Syntax error: an array element needs one index"))?;
    Ok((name, one))
}

/// The query with the keys of its ORDER BY as further columns, and the order by those: the order of a
/// subquery's rows is not kept on the way to an aggregate.
fn with_keys(mut query: Query, column: &str) -> Outcome<(Query, Vec<OrderByExpr>)> {
    let Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) = query.order_by.clone() else {
        return Ok((query, Vec::new()));
    };
    let mut order = Vec::with_capacity(keys.len());
    let mut added = Vec::new();
    for (at, key) in keys.into_iter().enumerate() {
        let is_column = matches!(&key.expr, Expr::Identifier(ident) if ident.value == column);
        let name = if is_column { column.to_owned() } else { format!("#key{at}") };
        if !is_column {
            added.push(SelectItem::ExprWithAlias { expr: key.expr, alias: quoted(&name) });
        }
        order.push(OrderByExpr {
            expr: Expr::Identifier(quoted(&name)),
            options: key.options,
            with_fill: None,
        });
    }
    if !added.is_empty() {
        match query.body.as_mut() {
            SetExpr::Select(select) if select.distinct.is_none() => select.projection.extend(added),
            _ => {
                return Err(Failure::unsupported_sql(
                    "ORDER BY something that is not selected, in this ARRAY subquery",
                ));
            }
        }
    }
    if query.limit_clause.is_none() {
        query.order_by = None;
    }
    Ok((query, order))
}
