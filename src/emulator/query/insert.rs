//! INSERT as a query for the new rows.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    Expr, Insert, Query, SelectItem, SetExpr, TableAlias, TableFactor, TableObject, TableWithJoins, Value,
    Values,
};

use super::assign::{self, assigned, column_index, default_value, name_parts};
use super::dml::{Action, Layout, Planned};
use super::parameters::scalar;
use super::rewrite::{quoted, refuse_if};
use super::scan::PARTITION_TIME;
use super::select::{null, parse_query, position_name, select, union_all, values};
use super::{Environment, plan};
use crate::emulator::fields::{Field, Kind, Mode};
use crate::emulator::versions::Definition;
use crate::emulator::wire::{Failure, Outcome};

/// What the n-th value of a row is for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Time,
    Field(usize),
}

pub(super) async fn plan_insert(env: Environment<'_>, insert: Insert) -> Outcome<Planned> {
    let Insert { table, table_alias, columns, overwrite, source, partitioned, on, returning, .. } = insert;
    refuse_if(table_alias.is_some() || overwrite || partitioned.is_some(), "options of INSERT")?;
    refuse_if(on.is_some() || returning.is_some(), "ON CONFLICT and RETURNING")?;
    let TableObject::TableName(name) = table else {
        return Err(Failure::unsupported_sql("INSERT into anything but a table"));
    };
    let source = *source.ok_or_else(|| Failure::invalid_query("Syntax error: INSERT without rows"))?;
    let mut rewriter = env.rewriter();
    let target = rewriter.table_name(&name)?;
    let version = rewriter.readable(&target, None)?;
    let definition = &version.definition;
    super::changes::check_target(definition)?;

    let names = columns.iter().map(|name| name_parts(name).pop().unwrap_or_default());
    let mut places = columns_named(definition, names)?;
    let missing = missing_defaults(definition, &places)?;
    let width = places.len();
    places.extend(missing.iter().map(|(index, _)| Place::Field(*index)));
    let missing: Vec<Expr> = missing.into_iter().map(|(_, expr)| expr).collect();

    let (query, given) = match *source.body {
        SetExpr::Values(Values { rows, .. }) if source.with.is_none() => {
            let rows = rows.into_iter().map(|row| row.content).collect();
            let rows = literal_rows(rows, definition, &places, width, &missing)?;
            let is_open = |(e, place): (&Expr, &Place)| match *place {
                Place::Field(index) => assign::is_open_record(e, &definition.fields[index]),
                Place::Time => false,
            };
            // The types of VALUES meet before anybody sees that their fields have different names.
            let nested = rows.iter().any(|row| row.iter().zip(&places).any(is_open))
                || rows.iter().flatten().any(|e| e.to_string().contains("SELECT"));
            if nested {
                let selects: Outcome<Vec<Query>> =
                    rows.into_iter().map(|row| select(row, Vec::new(), None)).collect();
                let all = union_all(selects?).ok_or_else(|| Failure::invalid_query("INSERT without rows"))?;
                (rewriter.result(all)?.0, places.len())
            } else {
                let mut value = |(expr, place): (Expr, &Place)| match *place {
                    Place::Field(index) if is_null(&expr) => null_of(&definition.fields[index]),
                    _ => rewriter.expr(expr),
                };
                let rows = rows.into_iter().map(|row| row.into_iter().zip(&places).map(&mut value).collect());
                let rows = rows.collect::<Outcome<_>>()?;
                (values(rows)?, places.len())
            }
        }
        body => {
            let source = Query { body: Box::new(body), ..source };
            let (query, names) = match missing.is_empty() {
                true => rewriter.result(source)?,
                false => rewriter.result(with_defaults(source, missing)?)?,
            };
            (query, names.len())
        }
    };
    if given != places.len() {
        return Err(wrong_count(given + width - places.len(), width));
    }
    let names: Vec<String> = (0..given).map(position_name).collect();
    let prepared = plan(env.emulator, rewriter, query, &names).await?;
    let time = places.iter().position(|place| *place == Place::Time);
    let columns = places
        .iter()
        .enumerate()
        .filter_map(|(at, place)| match place {
            Place::Field(index) => Some((at, *index)),
            Place::Time => None,
        })
        .collect();
    let layout = Layout { identified: false, actions: vec![Action::Insert], time, columns };
    assign::check(&prepared, &layout, definition)?;
    Ok(Planned { target, version: Arc::clone(&version), prepared, layout, reads_others: false })
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if value.value == Value::Null)
}

/// NULL with the type of its column: the rows of VALUES must agree about more than DataFusion makes them.
fn null_of(field: &Field) -> Outcome<Expr> {
    match field.kind {
        Kind::Json | Kind::Geography | Kind::Interval if field.mode != Mode::Repeated => {
            scalar(field.kind, None)
        }
        _ => Ok(null()),
    }
}

fn columns_named(definition: &Definition, names: impl Iterator<Item = String>) -> Outcome<Vec<Place>> {
    let mut places = Vec::new();
    for name in names {
        let is_time = name.eq_ignore_ascii_case(PARTITION_TIME) && definition.is_ingestion_partitioned();
        let place = match is_time {
            true => Place::Time,
            false => Place::Field(column_index(definition, &name)?),
        };
        if places.contains(&place) {
            return Err(Failure::invalid_query(format!("INSERT has columns with duplicate name: {name}")));
        }
        places.push(place);
    }
    if places.is_empty() {
        places.extend((0..definition.fields.len()).map(Place::Field));
    }
    Ok(places)
}

/// The columns that are not named but have a DEFAULT.
fn missing_defaults(definition: &Definition, places: &[Place]) -> Outcome<Vec<(usize, Expr)>> {
    let mut missing = Vec::new();
    for (index, field) in definition.fields.iter().enumerate() {
        if field.rest.contains_key("defaultValueExpression") && !places.contains(&Place::Field(index)) {
            missing.push((index, default_value(field)?));
        }
    }
    Ok(missing)
}

fn literal_rows(
    rows: Vec<Vec<Expr>>,
    definition: &Definition,
    places: &[Place],
    width: usize,
    missing: &[Expr],
) -> Outcome<Vec<Vec<Expr>>> {
    let mut converted = Vec::with_capacity(rows.len());
    for row in rows {
        if row.len() != width {
            return Err(wrong_count(row.len(), width));
        }
        let mut values = Vec::with_capacity(places.len());
        for (expr, place) in row.into_iter().zip(places) {
            values.push(match place {
                Place::Field(index) => assigned(expr, &definition.fields[*index])?,
                Place::Time => expr,
            });
        }
        values.extend(missing.iter().cloned());
        converted.push(values);
    }
    Ok(converted)
}

fn wrong_count(given: usize, wanted: usize) -> Failure {
    Failure::invalid_query(format!("Inserted row has wrong column count; Has {given}, expected {wanted}"))
}

/// `SELECT q.*, defaults FROM (source) AS q`.
fn with_defaults(source: Query, defaults: Vec<Expr>) -> Outcome<Query> {
    let mut query = parse_query("SELECT *")?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        let alias = TableAlias { explicit: true, name: quoted("q"), columns: Vec::new(), at: None };
        let subquery = Box::new(source);
        let relation = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
        select.from = vec![TableWithJoins { relation, joins: Vec::new() }];
        let named = |(index, expr)| SelectItem::ExprWithAlias {
            expr,
            alias: datafusion::sql::sqlparser::ast::Ident::new(format!("default_{index}")),
        };
        select.projection.extend(defaults.into_iter().enumerate().map(named));
    }
    Ok(query)
}
