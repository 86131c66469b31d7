//! MERGE as a query: the target joined with the source, and for each pair the first clause that applies.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, Ident, Join, JoinConstraint, JoinOperator, Merge,
    MergeAction, MergeClause, MergeClauseKind, MergeInsertExpr, MergeInsertKind, MergeUpdateExpr, ObjectName,
    SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins, Value,
};

use super::Environment;
use super::assign::{assigned, column_index, default_value, name_parts};
use super::dml::{Action, Assignments, Planned, TargetTable, planned};
use super::parameters::literal;
use super::rewrite::{Rewriter, call, refuse_if, string_literal};
use super::scan::{PARTITION_TIME, ROW_PART};
use super::select::{case, column, null, number, parse_query, select};
use super::visible::Shape;
use crate::emulator::versions::Definition;
use crate::emulator::wire::{Failure, Outcome};

/// The name of the call that an expression stands in which sees the columns of one table only; nobody else can
/// write it.
pub(super) const SEEING: &str = "SEEING.ONLY";

/// TRUE in every row that comes from the source.
const PRESENT: &str = "merge_source_present";

pub(super) async fn plan_merge(env: Environment<'_>, merge: Merge) -> Outcome<Planned> {
    let Merge { table, source, on, clauses, output, .. } = merge;
    refuse_if(output.is_some(), "OUTPUT of MERGE")?;
    if clauses.is_empty() {
        return Err(Failure::invalid_query("Syntax error: MERGE needs a WHEN clause"));
    }
    let target = TargetTable::find(env, &table)?;
    let source = Source::new(env, source)?;
    let is = |kinds: &[MergeClauseKind]| clauses.iter().any(|c| kinds.contains(&c.clause_kind));
    let keeps_target = is(&[MergeClauseKind::NotMatchedBySource]);
    let keeps_source = is(&[MergeClauseKind::NotMatched, MergeClauseKind::NotMatchedByTarget]);
    let matches_none = matches!(&*on, Expr::Value(value) if value.value == Value::Boolean(false));
    let constraint = JoinConstraint::On(*on);
    let join_operator = match (keeps_target, keeps_source) {
        (true, true) => JoinOperator::FullOuter(constraint),
        (true, false) => JoinOperator::LeftOuter(constraint),
        (false, true) => JoinOperator::RightOuter(constraint),
        (false, false) => JoinOperator::Inner(constraint),
    };
    let mut rules = Vec::with_capacity(clauses.len());
    for clause in clauses {
        rules.push(Rule::new(clause, &target, &source)?);
    }

    let branches = rules.iter().enumerate().map(|(index, rule)| (rule.condition.clone(), number(index)));
    let number_of_rule = case(branches.collect());
    let mut items = target.identity(number_of_rule.clone());
    if target.version.definition.is_ingestion_partitioned() {
        let branches = rules.iter().filter_map(|r| Some((r.condition.clone(), r.time.clone()?)));
        items[3] = case(branches.collect());
    }
    let with_columns = rules.iter().any(|rule| rule.action != Action::Delete);
    if with_columns {
        for index in 0..target.version.definition.fields.len() {
            let value = |rule: &Rule| rule.values.get(index).cloned().unwrap_or_else(null);
            items.push(case(rules.iter().map(|rule| (rule.condition.clone(), value(rule))).collect()));
        }
    }
    let join = Join { relation: source.factor, global: false, join_operator };
    let from = vec![TableWithJoins { relation: table, joins: vec![join] }];
    let layout = target.layout(rules.iter().map(|rule| rule.action).collect(), with_columns);
    let applies = Expr::IsNotNull(Box::new(number_of_rule));
    let mut planned = planned(env, target, select(items, from, Some(applies))?, layout).await?;
    // With `ON FALSE`, and nothing done about the target's rows, it is an INSERT.
    planned.reads_others |= keeps_target || !matches_none;
    Ok(planned)
}

/// The source as a subquery, whose rows are known by a column of their own.
struct Source {
    factor: TableFactor,
    alias: String,
    columns: Vec<String>,
}

impl Source {
    fn new(env: Environment<'_>, mut factor: TableFactor) -> Outcome<Source> {
        let alias = match &mut factor {
            TableFactor::Table { name, alias, .. } => {
                let last = name_parts(name).pop().unwrap_or_default();
                let last = last.rsplit('.').next().unwrap_or_default().to_owned();
                alias.as_ref().map_or(last, |a| a.name.value.clone())
            }
            TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::UNNEST { alias: Some(alias), .. } => alias.name.value.clone(),
            _ => "merge_source".to_owned(),
        };
        let mut query = parse_query("SELECT *")?;
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.from = vec![TableWithJoins { relation: factor, joins: Vec::new() }];
        }
        let (_, columns) = env.rewriter().result(query.clone())?;
        if let SetExpr::Select(select) = query.body.as_mut() {
            let (expr, alias) = (literal(Value::Boolean(true)), Ident::new(PRESENT));
            select.projection.push(SelectItem::ExprWithAlias { expr, alias });
        }
        let name = Ident::with_quote('`', alias.clone());
        let table_alias = TableAlias { explicit: true, name, columns: Vec::new(), at: None };
        let subquery = Box::new(query);
        let factor =
            TableFactor::Derived { lateral: false, subquery, alias: Some(table_alias), sample: None };
        Ok(Source { factor, alias: alias.to_lowercase(), columns })
    }
}

/// A WHEN clause: when it applies, and what a row becomes then.
struct Rule {
    action: Action,
    condition: Expr,
    /// One per column of the target; none of a DELETE.
    values: Vec<Expr>,
    time: Option<Expr>,
}

impl Rule {
    fn new(clause: MergeClause, target: &TargetTable, source: &Source) -> Outcome<Rule> {
        let MergeClause { clause_kind, predicate, action, .. } = clause;
        let definition = &target.version.definition;
        let in_target = |present: bool| is_null(column(&target.alias, ROW_PART), !present);
        let in_source = |present: bool| is_null(column(&source.alias, PRESENT), !present);
        let pair = match clause_kind {
            MergeClauseKind::Matched => and(in_target(true), in_source(true)),
            MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => in_target(false),
            MergeClauseKind::NotMatchedBySource => in_source(false),
        };
        // Where there is no row of the other table, its columns are no names.
        let alone = match clause_kind {
            MergeClauseKind::Matched => None,
            MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => Some(source.alias.as_str()),
            MergeClauseKind::NotMatchedBySource => Some(target.alias.as_str()),
        };
        let visible = |expr: Expr| match alone {
            Some(alias) => seeing(alias, expr),
            None => Expr::Nested(Box::new(expr)),
        };
        let condition = match predicate {
            Some(predicate) => and(pair, visible(predicate)),
            None => pair,
        };
        let inserts = matches!(action, MergeAction::Insert(_));
        let is_new = matches!(clause_kind, MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget);
        if inserts != is_new {
            return Err(Failure::invalid_query(format!(
                "Syntax error: WHEN {clause_kind} cannot be followed by this action"
            )));
        }
        let own_time = definition.is_ingestion_partitioned().then(|| column(&target.alias, PARTITION_TIME));
        match action {
            MergeAction::Delete { .. } => {
                Ok(Rule { action: Action::Delete, condition, values: Vec::new(), time: own_time })
            }
            MergeAction::Update(MergeUpdateExpr {
                assignments, update_predicate, delete_predicate, ..
            }) => {
                refuse_if(update_predicate.is_some() || delete_predicate.is_some(), "WHERE in MERGE UPDATE")?;
                let set = Assignments::parse(assignments, definition, &target.alias)?;
                let value = |field| set.of(field, &target.alias).map(visible);
                let values = definition.fields.iter().map(value).collect::<Outcome<_>>()?;
                let time = set.time.map(visible).or(own_time);
                Ok(Rule { action: Action::Update, condition, values, time })
            }
            MergeAction::Insert(insert) => {
                let (values, time) = inserted(insert, definition, source)?;
                let values = values.into_iter().map(visible).collect();
                Ok(Rule { action: Action::Insert, condition, values, time: time.map(visible) })
            }
        }
    }
}

/// The values of a new row in the order of the table's columns, and its `_PARTITIONTIME`.
fn inserted(
    insert: MergeInsertExpr,
    definition: &Definition,
    source: &Source,
) -> Outcome<(Vec<Expr>, Option<Expr>)> {
    let MergeInsertExpr { columns, kind, insert_predicate, .. } = insert;
    refuse_if(insert_predicate.is_some(), "WHERE in MERGE INSERT")?;
    let given = match kind {
        MergeInsertKind::Row => {
            source.columns.iter().map(|c| column(&source.alias, &c.to_lowercase())).collect()
        }
        MergeInsertKind::Values(mut values) => match (values.rows.pop(), values.rows.is_empty()) {
            (Some(row), true) => row.content,
            _ => return Err(Failure::invalid_query("Syntax error: INSERT in MERGE takes one row")),
        },
    };
    let names: Vec<String> = match columns.is_empty() {
        true => definition.fields.iter().map(|f| f.name.clone()).collect(),
        false => columns.iter().map(|name: &ObjectName| name_parts(name).pop().unwrap_or_default()).collect(),
    };
    if names.len() != given.len() {
        let (has, expected) = (given.len(), names.len());
        return Err(Failure::invalid_query(format!(
            "Inserted row has wrong column count; Has {has}, expected {expected}"
        )));
    }
    let (mut values, mut time) = (vec![None; definition.fields.len()], None);
    for (name, expr) in names.iter().zip(given) {
        if name.eq_ignore_ascii_case(PARTITION_TIME) && definition.is_ingestion_partitioned() {
            time = Some(expr);
            continue;
        }
        let index = column_index(definition, name)?;
        if values[index].replace(assigned(expr, &definition.fields[index])?).is_some() {
            return Err(Failure::invalid_query(format!("INSERT has columns with duplicate name: {name}")));
        }
    }
    let value = |(value, field): (Option<Expr>, _)| value.map_or_else(|| default_value(field), Ok);
    let values = values.into_iter().zip(&definition.fields).map(value).collect::<Outcome<_>>()?;
    Ok((values, time))
}

/// An expression in which only the columns of one table are names.
fn seeing(alias: &str, expr: Expr) -> Expr {
    call(SEEING, vec![string_literal(alias), expr])
}

impl Rewriter<'_> {
    /// What `seeing` made: the alias, and the expression.
    pub(super) fn seeing(&mut self, args: Vec<FunctionArg>) -> Outcome<(Expr, Shape)> {
        let mut args = args.into_iter().filter_map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        });
        let (Some(Expr::Value(alias)), Some(expr), None) = (args.next(), args.next(), args.next()) else {
            return Err(Failure::invalid_query(format!("Function not found: {SEEING}")));
        };
        let alias = alias.value.into_string().unwrap_or_default();
        let Some(scope) = self.scopes.last_mut() else { return self.shaped(expr) };
        let one = scope.sources.iter().filter(|source| source.alias == alias).cloned().collect();
        let all = std::mem::replace(&mut scope.sources, one);
        let rewritten = self.shaped(expr);
        if let Some(scope) = self.scopes.last_mut() {
            scope.sources = all;
        }
        rewritten
    }
}

fn is_null(expr: Expr, null: bool) -> Expr {
    if null { Expr::IsNull(Box::new(expr)) } else { Expr::IsNotNull(Box::new(expr)) }
}

fn and(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) }
}
