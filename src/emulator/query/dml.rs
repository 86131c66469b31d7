//! INSERT, UPDATE, DELETE and MERGE as queries: for each row to write or take away, where it is and what it
//! becomes. What the query answers is carried out by `changes`.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Expr, FromTable, Ident, TableFactor, TableWithJoins, Update,
    UpdateTableFromKind,
};

use super::assign::{self, assigned, column_index, name_parts};
use super::insert::plan_insert;
use super::merge::plan_merge;
use super::rewrite::refuse_if;
use super::scan::{PARTITION_TIME, ROW_NUMBER, ROW_PART};
use super::select::{column, number, select};
use super::statements::Statement;
use super::{Environment, Prepared, plan};
use crate::emulator::fields::{Field, Kind, Mode};
use crate::emulator::files::same_name;
use crate::emulator::names::TableName;
use crate::emulator::versions::{Definition, Version};
use crate::emulator::wire::{Failure, Outcome};

/// What is done with a row that the query answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Insert,
    Update,
    Delete,
}

/// A statement that is planned.
#[derive(Debug)]
pub(super) struct Planned {
    pub target: TableName,
    /// What the target was when the query was planned.
    pub version: Arc<Version>,
    pub prepared: Prepared,
    pub layout: Layout,
    /// Whether what becomes of a row depends on other rows of the target, or on there being none.
    pub reads_others: bool,
}

/// What the columns of the query's result mean.
#[derive(Debug)]
pub(super) struct Layout {
    /// Whether the first three are part, row and number of the action.
    pub identified: bool,
    /// By number; the only one when rows are not identified.
    pub actions: Vec<Action>,
    /// Which holds `_PARTITIONTIME` of an ingestion-time table.
    pub time: Option<usize>,
    /// Which hold the columns of the table, by index of the field; fields that are not here become NULL.
    pub columns: Vec<(usize, usize)>,
}

pub(super) async fn plan_dml(env: Environment<'_>, statement: Statement) -> Outcome<Planned> {
    match statement {
        Statement::Insert(insert) => plan_insert(env, *insert).await,
        Statement::Update(update) => plan_update(env, *update).await,
        Statement::Delete(delete) => plan_delete(env, *delete).await,
        Statement::Merge(merge) => plan_merge(env, *merge).await,
        other => Err(Failure::unsupported_sql(format!("{} here", other.kind()))),
    }
}

/// The table that a statement changes, under the name that the statement knows it by.
pub(super) struct TargetTable {
    pub name: TableName,
    pub version: Arc<Version>,
    pub alias: String,
}

impl TargetTable {
    pub(super) fn find(env: Environment<'_>, factor: &TableFactor) -> Outcome<TargetTable> {
        let TableFactor::Table { name, alias, .. } = factor else {
            return Err(Failure::unsupported_sql("DML on anything but a table"));
        };
        let rewriter = env.rewriter();
        let table = rewriter.table_name(name)?;
        let version = rewriter.readable(&table, None)?;
        super::changes::check_target(&version.definition)?;
        let last = name_parts(name).pop().unwrap_or_default();
        let last = last.rsplit('.').next().unwrap_or_default();
        let alias = alias.as_ref().map_or_else(|| last.to_lowercase(), |a| a.name.value.to_lowercase());
        Ok(TargetTable { name: table, version, alias })
    }

    /// Part, row and time of a row, as the query selects them.
    pub(super) fn identity(&self, action: Expr) -> Vec<Expr> {
        let mut items = vec![column(&self.alias, ROW_PART), column(&self.alias, ROW_NUMBER), action];
        if self.version.definition.is_ingestion_partitioned() {
            items.push(column(&self.alias, PARTITION_TIME));
        }
        items
    }

    pub(super) fn layout(&self, actions: Vec<Action>, with_columns: bool) -> Layout {
        let definition = &self.version.definition;
        let time = definition.is_ingestion_partitioned().then_some(3);
        let first = if time.is_some() { 4 } else { 3 };
        let count = if with_columns { definition.fields.len() } else { 0 };
        Layout { identified: true, actions, time, columns: (0..count).map(|i| (first + i, i)).collect() }
    }
}

async fn plan_update(env: Environment<'_>, update: Update) -> Outcome<Planned> {
    let Update { table, assignments, from, selection, returning, order_by, limit, or, output, .. } = update;
    let extras = returning.is_some() || !order_by.is_empty() || limit.is_some() || or.is_some();
    refuse_if(
        extras || output.is_some() || !table.joins.is_empty(),
        "clauses of UPDATE outside of GoogleSQL",
    )?;
    let selection = selection.ok_or_else(|| without_where("UPDATE"))?;
    let target = TargetTable::find(env, &table.relation)?;
    let definition = &target.version.definition;
    let values = Assignments::parse(assignments, definition, &target.alias)?;
    let mut items = target.identity(number(0));
    if let Some(time) = values.time.clone() {
        items[3] = time;
    }
    for field in &definition.fields {
        items.push(values.of(field, &target.alias)?);
    }
    let mut tables = vec![TableWithJoins { relation: table.relation, joins: Vec::new() }];
    match from {
        None => {}
        Some(UpdateTableFromKind::AfterSet(from)) => tables.extend(from),
        Some(UpdateTableFromKind::BeforeSet(_)) => {
            return Err(Failure::invalid_query("Syntax error: FROM comes after SET"));
        }
    }
    let layout = target.layout(vec![Action::Update], true);
    planned(env, target, select(items, tables, Some(selection))?, layout).await
}

async fn plan_delete(env: Environment<'_>, delete: Delete) -> Outcome<Planned> {
    let Delete { tables, from, using, selection, returning, output, order_by, limit, .. } = delete;
    let extras = !tables.is_empty() || using.is_some() || returning.is_some() || output.is_some();
    refuse_if(extras || !order_by.is_empty() || limit.is_some(), "clauses of DELETE outside of GoogleSQL")?;
    let selection = selection.ok_or_else(|| without_where("DELETE"))?;
    let (FromTable::WithFromKeyword(mut from) | FromTable::WithoutKeyword(mut from)) = from;
    let (Some(table), true) = (from.pop(), from.is_empty()) else {
        return Err(Failure::invalid_query("Syntax error: DELETE takes one table"));
    };
    refuse_if(!table.joins.is_empty(), "joins in DELETE")?;
    let target = TargetTable::find(env, &table.relation)?;
    let layout = target.layout(vec![Action::Delete], false);
    let items = target.identity(number(0));
    planned(env, target, select(items, vec![table], Some(selection))?, layout).await
}

fn without_where(statement: &str) -> Failure {
    Failure::invalid_query(format!("{statement} must have a WHERE clause"))
}

/// Plans the query that says what happens to the target's rows.
pub(super) async fn planned(
    env: Environment<'_>,
    target: TargetTable,
    query: datafusion::sql::sqlparser::ast::Query,
    layout: Layout,
) -> Outcome<Planned> {
    let mut rewriter = env.rewriter();
    let (query, names) = rewriter.result(query)?;
    // The rows are found in this version and changed in this version.
    let mut scans = rewriter.scans.iter().filter(|scan| scan.version.definition.name == target.name);
    let scan = scans.next();
    let scan = scan.ok_or_else(|| Failure::backend("a statement does not read the table that it changes"))?;
    scan.count_whole_rows();
    let reads_others = scans.next().is_some();
    let version = Arc::clone(&scan.version);
    let prepared = plan(env.emulator, rewriter, query, &names).await?;
    assign::check(&prepared, &layout, &version.definition)?;
    Ok(Planned { target: target.name, version, prepared, layout, reads_others })
}

/// The right sides of SET by column.
pub(super) struct Assignments {
    /// Path from the column down, and the value.
    values: Vec<(Vec<String>, Expr)>,
    pub time: Option<Expr>,
}

impl Assignments {
    pub(super) fn parse(list: Vec<Assignment>, definition: &Definition, alias: &str) -> Outcome<Self> {
        let mut found = Assignments { values: Vec::new(), time: None };
        for Assignment { target, value } in list {
            let AssignmentTarget::ColumnName(name) = target else {
                return Err(Failure::unsupported_sql("SET of several columns at once"));
            };
            let mut path = name_parts(&name);
            let is_column = |name: &str| definition.fields.iter().any(|f| same_name(&f.name, name));
            if path.len() > 1 && path[0].to_lowercase() == alias && !is_column(&path[0]) {
                path.remove(0);
            }
            if path.len() == 1
                && path[0].eq_ignore_ascii_case(PARTITION_TIME)
                && definition.is_ingestion_partitioned()
            {
                found.time = Some(value);
                continue;
            }
            column_index(definition, path.first().map_or("", String::as_str))?;
            let overlaps =
                |(other, _): &(Vec<String>, Expr)| other.iter().zip(&path).all(|(a, b)| same_name(a, b));
            if found.values.iter().any(overlaps) {
                return Err(Failure::invalid_query(format!("Update item {name} assigned more than once")));
            }
            found.values.push((path, value));
        }
        Ok(found)
    }

    /// What a column becomes.
    pub(super) fn of(&self, field: &Field, alias: &str) -> Outcome<Expr> {
        let values: Vec<(&[String], &Expr)> = self
            .values
            .iter()
            .filter(|(path, _)| path.first().is_some_and(|name| same_name(name, &field.name)))
            .map(|(path, value)| (&path[1..], value))
            .collect();
        nested(field, column(alias, &field.name.to_lowercase()), &values)
    }
}

/// `base` with the fields below it that are assigned replaced.
fn nested(field: &Field, base: Expr, values: &[(&[String], &Expr)]) -> Outcome<Expr> {
    match values {
        [] => return Ok(base),
        [([], value)] => return assigned((*value).clone(), field),
        _ => {}
    }
    if field.kind != Kind::Record || field.mode == Mode::Repeated {
        return Err(Failure::invalid_query(format!(
            "Cannot access field of a value with type {}",
            assign::type_name(field)
        )));
    }
    let mut members = Vec::with_capacity(field.fields.len());
    for (path, _) in values {
        let name = path.first().map_or("", String::as_str);
        if !field.fields.iter().any(|f| same_name(&f.name, name)) {
            return Err(Failure::invalid_query(format!(
                "Field name {name} does not exist in {}",
                field.name
            )));
        }
    }
    for inner in &field.fields {
        let below: Vec<(&[String], &Expr)> = values
            .iter()
            .filter(|(path, _)| path.first().is_some_and(|name| same_name(name, &inner.name)))
            .map(|(path, value)| (&path[1..], *value))
            .collect();
        let mut path = match &base {
            Expr::CompoundIdentifier(path) => path.clone(),
            _ => Vec::new(),
        };
        path.push(Ident::with_quote('`', inner.name.clone()));
        let expr = nested(inner, Expr::CompoundIdentifier(path), &below)?;
        members.push(Expr::Named { expr: Box::new(expr), name: Ident::with_quote('`', inner.name.clone()) });
    }
    Ok(Expr::Struct { values: members, fields: Vec::new() })
}
