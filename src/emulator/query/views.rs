//! Views: their query stands where their name is.

use std::sync::LazyLock;

use datafusion::sql::sqlparser::ast::{TableAlias, TableAliasColumnDef, TableFactor};
use serde_json::{Map, Value, json};

use super::parameters::Parameters;
use super::rewrite::{Rewriter, lower, quoted};
use super::scope::Scope;
use super::statements::{self, Statement};
use super::{Environment, QuerySpec, describe};
use crate::emulator::Emulator;
use crate::emulator::fields;
use crate::emulator::files::same_name;
use crate::emulator::names::{DatasetId, ProjectId};
use crate::emulator::versions::Definition;
use crate::emulator::wire::{Failure, Outcome, text};

/// As deep as BigQuery lets views be built on views.
const DEPTH_MAX: usize = 16;

static NO_PARAMETERS: LazyLock<Parameters> = LazyLock::new(Parameters::default);
static NO_SCOPE: LazyLock<Scope> = LazyLock::new(Scope::default);

impl Rewriter<'_> {
    /// The view's query as a table of FROM.
    pub(super) fn view(&mut self, view: &Definition, sql: &str, alias: TableAlias) -> Outcome<TableFactor> {
        if self.views.contains(&view.name) {
            return Err(Failure::invalid_query(format!("View {} refers to itself", view.name)));
        }
        if self.views.len() == DEPTH_MAX {
            return Err(Failure::invalid_query(format!(
                "Too many nested views/persistent user-defined functions or possible circular reference; \
                 maximum depth is {DEPTH_MAX}"
            )));
        }
        let Some(Statement::Select(query)) = statements::parse(sql)?.pop().map(|p| p.statement) else {
            return Err(Failure::invalid_query(format!("View {} is no query", view.name)));
        };
        self.views.push(view.name.clone());
        // Nothing of the query that asks is seen in there, and names are those of the view's project.
        let outer = Outer {
            default_dataset: self.default_dataset.take(),
            parameters: std::mem::replace(&mut self.parameters, &NO_PARAMETERS),
            scope: std::mem::replace(&mut self.scope, &NO_SCOPE),
            ctes: std::mem::take(&mut self.ctes),
            scopes: std::mem::take(&mut self.scopes),
        };
        let rewritten = self.result(*query);
        let Outer { default_dataset, parameters, scope, ctes, scopes } = outer;
        (self.default_dataset, self.parameters, self.scope) = (default_dataset, parameters, scope);
        (self.ctes, self.scopes) = (ctes, scopes);
        self.views.pop();
        let (query, columns) = rewritten.map_err(|failure| Failure {
            message: format!("{} (in view {})", failure.message, view.name),
            ..failure
        })?;
        if columns.len() != view.fields.len() {
            return Err(Failure::invalid_query(format!(
                "View {} has other columns than when it was made",
                view.name
            )));
        }
        let renamed = view
            .fields
            .iter()
            .map(|field| TableAliasColumnDef { name: lower(&quoted(&field.name)), data_type: None });
        let alias = TableAlias { columns: renamed.collect(), ..alias };
        Ok(TableFactor::Derived {
            lateral: false,
            subquery: Box::new(query),
            alias: Some(alias),
            sample: None,
        })
    }
}

/// What tables.insert and tables.patch say about a view, as it is kept, and the schema of its query with the
/// descriptions that were sent.
pub(super) async fn view_document(
    emulator: &Emulator,
    project: &ProjectId,
    dataset: &DatasetId,
    view: &Map<String, Value>,
    schema: Option<&Map<String, Value>>,
) -> Outcome<(Value, Value)> {
    for member in ["userDefinedFunctionResources", "privacyPolicy", "foreignDefinitions"] {
        if view.get(member).is_some_and(|v| !v.is_null()) {
            return Err(Failure::not_implemented(format!("views with {member}")));
        }
    }
    if view.get("useLegacySql").and_then(Value::as_bool) != Some(false) {
        return Err(Failure::not_implemented(
            "views in legacy SQL (useLegacySql is true unless it says false)",
        ));
    }
    let sql =
        text(view, "query").ok_or_else(|| Failure::invalid("Required parameter is missing: view.query"))?;
    let location = emulator.catalog.dataset(project, dataset)?.document().location;
    let spec = QuerySpec::of_view(sql.to_owned(), project.clone());
    let mut statements = statements::parse(sql)?;
    let (Some(Statement::Select(query)), true) =
        (statements.pop().map(|p| p.statement), statements.is_empty())
    else {
        return Err(Failure::invalid("A view is one query"));
    };
    let env = Environment { emulator, spec: &spec, location: &location, scope: &NO_SCOPE };
    let mut fields = describe(env, *query).await?;
    if let Some(schema) = schema {
        for sent in fields::parse_schema(schema)? {
            if let Some(field) = fields.iter_mut().find(|f| same_name(&f.name, &sent.name)) {
                field.rest.extend(sent.rest);
            }
        }
    }
    Ok((json!({"query": sql, "useLegacySql": false}), json!({"fields": fields::documents(&fields)})))
}

/// What a view does not see.
struct Outer<'a> {
    default_dataset: Option<&'a (ProjectId, DatasetId)>,
    parameters: &'a Parameters,
    scope: &'a Scope,
    ctes: Vec<super::rewrite::Subquery>,
    scopes: Vec<super::visible::Visible>,
}
