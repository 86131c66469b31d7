//! Parameters that a dry run does not declare: BigQuery answers which they are and what their types must be.
//!
//! A type is found by trying: compared with a column a parameter has the column's type; elsewhere it has the
//! first type that the statement can be planned with, INT64 where any would do.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Value as SqlValue};
use serde_json::{Value, json};

use super::dml::plan_dml;
use super::parameters::{OPEN, Stand};
use super::statements::Statement;
use super::{Environment, QuerySpec, logical, prepare};
use crate::emulator::fields::Kind;
use crate::emulator::wire::Outcome;

/// In the order in which they are tried.
const KINDS: [Kind; 11] = [
    Kind::Int64,
    Kind::String,
    Kind::Float64,
    Kind::Bool,
    Kind::Timestamp,
    Kind::Date,
    Kind::DateTime,
    Kind::Time,
    Kind::Bytes,
    Kind::Numeric,
    Kind::Json,
];

/// What the statement is asked with, all its parameters declared, and the ones that were not.
pub(super) async fn declared(
    env: Environment<'_>,
    statement: &Statement,
) -> Outcome<(QuerySpec, Vec<Value>)> {
    let missing = placeholders(env, statement);
    let mut found: HashMap<String, Stand> =
        missing.iter().map(|name| (name.clone(), Stand::Untyped)).collect();
    let mut documents = Vec::with_capacity(missing.len());
    for name in missing {
        let kind = kind_of(env, statement, &found, &name).await?;
        found.insert(name.clone(), Stand::Of(kind));
        let mut document = json!({"parameterType": {"type": kind.sql()}});
        if let Some(name) = name.strip_prefix('@') {
            document["name"] = json!(name);
        }
        documents.push(document);
    }
    Ok((QuerySpec { parameters: env.spec.parameters.with(found), ..env.spec.clone() }, documents))
}

/// Those without a value, each once, in their order.
fn placeholders(env: Environment<'_>, statement: &Statement) -> Vec<String> {
    let mut found = Vec::new();
    statement.visit_expressions(&mut |expr| {
        let name = match expr {
            Expr::Identifier(ident) if ident.value.starts_with('@') && !ident.value.starts_with("@@") => {
                &ident.value
            }
            Expr::Value(value) => match &value.value {
                SqlValue::Placeholder(name) => name,
                _ => return ControlFlow::Continue(()),
            },
            _ => return ControlFlow::Continue(()),
        };
        let name = name.to_lowercase();
        if !env.spec.parameters.has(&name) && !found.contains(&name) {
            found.push(name);
        }
        ControlFlow::Continue(())
    });
    found
}

async fn kind_of(
    env: Environment<'_>,
    statement: &Statement,
    others: &HashMap<String, Stand>,
    name: &str,
) -> Outcome<Kind> {
    let with = |stand: Stand| {
        let mut stands = others.clone();
        stands.insert(name.to_owned(), stand);
        QuerySpec { parameters: env.spec.parameters.with(stands), ..env.spec.clone() }
    };
    if let Statement::Select(query) = statement {
        let spec = with(Stand::Open);
        let plan = logical(Environment { spec: &spec, ..env }, query.as_ref().clone()).await;
        let fields = plan.ok().and_then(|plan| plan.get_parameter_fields().ok()).unwrap_or_default();
        if let Some(Some(field)) = fields.get(OPEN)
            && let Some(kind) = Kind::of_field(field)
        {
            return Ok(kind);
        }
    }
    let mut first = None;
    for kind in KINDS {
        let spec = with(Stand::Of(kind));
        let env = Environment { spec: &spec, ..env };
        let planned = match statement.clone() {
            Statement::Select(query) => prepare(env, *query).await.map(drop),
            other => plan_dml(env, other).await.map(drop),
        };
        match planned {
            Ok(()) => return Ok(kind),
            Err(failure) => first = first.or(Some(failure)),
        }
    }
    // What is wrong is not its type.
    first.map_or(Ok(Kind::Int64), Err)
}
