//! The FROM clause: names become scans of the catalog's tables, joins those that both sides know.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, TableAlias,
    TableFactor, TableWithJoins,
};

use super::rewrite::{Rewriter, lower, quoted, refuse_if};
use super::scan::ScanTable;
use crate::emulator::names::{DatasetId, ProjectId, TableId, TableName};
use crate::emulator::versions::Version;
use crate::emulator::wire::{Failure, Outcome};

/// What an item of FROM brings into scope.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub alias: String,
    /// As `*` shows them.
    pub columns: Vec<String>,
    /// Columns that USING merged into an earlier source, in lower case.
    pub merged: Vec<String>,
}

impl Rewriter<'_> {
    pub(super) fn table_with_joins(
        &mut self,
        table: TableWithJoins,
        sources: &mut Vec<Source>,
    ) -> Outcome<TableWithJoins> {
        let TableWithJoins { relation, joins } = table;
        let relation = self.factor(relation, sources)?;
        let mut rewritten = Vec::with_capacity(joins.len());
        for Join { relation, global, join_operator } in joins {
            refuse_if(global, "GLOBAL JOIN")?;
            let before = sources.len();
            let relation = self.factor(relation, sources)?;
            let (left, right) = sources.split_at_mut(before);
            let join_operator = self.join(join_operator, left, right)?;
            rewritten.push(Join { relation, global: false, join_operator });
        }
        Ok(TableWithJoins { relation, joins: rewritten })
    }

    fn join(
        &mut self,
        operator: JoinOperator,
        left: &[Source],
        right: &mut [Source],
    ) -> Outcome<JoinOperator> {
        let mut constraint = |constraint: JoinConstraint, outer: bool| match constraint {
            JoinConstraint::On(expr) => Ok(JoinConstraint::On(self.expr(expr)?)),
            // The column that USING merges is the left one, except in these two.
            JoinConstraint::Using(_) if outer => {
                Err(Failure::unsupported_sql("USING in a RIGHT or FULL JOIN"))
            }
            JoinConstraint::Using(columns) => self.using(&columns, left, right),
            JoinConstraint::Natural => Err(Failure::unsupported_sql("NATURAL JOIN")),
            JoinConstraint::None => Err(Failure::invalid_query(
                "Syntax error: JOIN must have an immediately following ON or USING clause",
            )),
        };
        Ok(match operator {
            JoinOperator::Join(c) | JoinOperator::Inner(c) => JoinOperator::Inner(constraint(c, false)?),
            JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => JoinOperator::Left(constraint(c, false)?),
            JoinOperator::Right(c) | JoinOperator::RightOuter(c) => JoinOperator::Right(constraint(c, true)?),
            JoinOperator::FullOuter(c) => JoinOperator::FullOuter(constraint(c, true)?),
            JoinOperator::CrossJoin(JoinConstraint::None) => JoinOperator::CrossJoin(JoinConstraint::None),
            other => {
                let name = format!("{other:?}");
                let name = name.split(['(', ' ', '{']).next().unwrap_or_default().to_owned();
                return Err(Failure::unsupported_sql(format!("the join {name}")));
            }
        })
    }

    /// `USING(a, b)` as ON, because DataFusion does not resolve the merged column everywhere.
    fn using(
        &mut self,
        columns: &[ObjectName],
        left: &[Source],
        right: &mut [Source],
    ) -> Outcome<JoinConstraint> {
        let mut conditions = Vec::with_capacity(columns.len());
        for column in columns {
            let name = column.to_string().trim_matches('`').to_lowercase();
            let missing = |side: &str| {
                Failure::invalid_query(format!(
                    "Column {name} in USING clause not found on {side} side of join"
                ))
            };
            let has =
                |s: &&Source| s.columns.iter().any(|c| c.to_lowercase() == name) && !s.merged.contains(&name);
            let of_left = left.iter().find(has).ok_or_else(|| missing("left"))?.alias.clone();
            let of_right = right.iter().find(has).ok_or_else(|| missing("right"))?.alias.clone();
            for source in right.iter_mut() {
                source.merged.push(name.clone());
            }
            let side = |alias: &str| Box::new(Expr::CompoundIdentifier(vec![quoted(alias), quoted(&name)]));
            let (left, right) = (side(&of_left), side(&of_right));
            conditions.push(Expr::BinaryOp { left, op: BinaryOperator::Eq, right });
            if let Some(merged) = self.merged.last_mut() {
                merged.entry(name).or_insert(of_left);
            }
        }
        let all = conditions.into_iter().reduce(|left, right| Expr::BinaryOp {
            left: Box::new(left),
            op: BinaryOperator::And,
            right: Box::new(right),
        });
        all.map(JoinConstraint::On)
            .ok_or_else(|| Failure::invalid_query("Syntax error: USING needs a column"))
    }

    fn factor(&mut self, factor: TableFactor, sources: &mut Vec<Source>) -> Outcome<TableFactor> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                refuse_if(args.is_some(), "table functions")?;
                refuse_if(!with_hints.is_empty() || !index_hints.is_empty(), "table hints")?;
                refuse_if(version.is_some(), "FOR SYSTEM_TIME AS OF")?;
                refuse_if(with_ordinality || !partitions.is_empty() || json_path.is_some(), "table options")?;
                refuse_if(sample.is_some(), "TABLESAMPLE")?;
                self.named_table(&name, alias, sources)
            }
            TableFactor::Derived { lateral, subquery, alias, sample } => {
                refuse_if(lateral, "LATERAL")?;
                refuse_if(sample.is_some(), "TABLESAMPLE")?;
                let (subquery, columns) = self.query(*subquery)?;
                let alias = self.alias(alias, &format!("#s{}", sources.len()))?;
                add(sources, &alias, columns)?;
                let (subquery, alias) = (Box::new(subquery), Some(alias));
                Ok(TableFactor::Derived { lateral: false, subquery, alias, sample: None })
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                refuse_if(alias.is_some(), "an alias of a join")?;
                let table = self.table_with_joins(*table_with_joins, sources)?;
                Ok(TableFactor::NestedJoin { table_with_joins: Box::new(table), alias: None })
            }
            TableFactor::UNNEST { .. } => Err(Failure::unsupported_sql("UNNEST in FROM")),
            TableFactor::TableFunction { .. } | TableFactor::Function { .. } => {
                Err(Failure::unsupported_sql("table functions"))
            }
            TableFactor::Pivot { .. } => Err(Failure::unsupported_sql("PIVOT")),
            TableFactor::Unpivot { .. } => Err(Failure::unsupported_sql("UNPIVOT")),
            TableFactor::MatchRecognize { .. } => Err(Failure::unsupported_sql("MATCH_RECOGNIZE")),
            TableFactor::JsonTable { .. }
            | TableFactor::OpenJsonTable { .. }
            | TableFactor::XmlTable { .. }
            | TableFactor::SemanticView { .. } => Err(Failure::unsupported_sql("this kind of table")),
        }
    }

    fn named_table(
        &mut self,
        name: &ObjectName,
        alias: Option<TableAlias>,
        sources: &mut Vec<Source>,
    ) -> Outcome<TableFactor> {
        let mut parts = Vec::new();
        for part in &name.0 {
            let ObjectNamePart::Identifier(ident) = part else {
                return Err(Failure::unsupported_sql("table functions"));
            };
            // `p.d.t` in one pair of backticks is three parts.
            parts.extend(ident.value.split('.').map(str::to_owned));
        }
        let last = parts.last().cloned().unwrap_or_default();
        let alias = self.alias(alias, &last)?;
        if let [single] = parts.as_slice() {
            let single = single.to_lowercase();
            if let Some((cte, columns)) = self.ctes.iter().rev().find(|(name, _)| *name == single) {
                let (name, columns) = (quoted(cte), columns.clone());
                add(sources, &alias, columns)?;
                return Ok(plain_table(name, alias));
            }
        }
        let table = self.resolve(&parts)?;
        let version = self.readable(&table)?;
        if let Some(sql) = version.definition.view() {
            add(sources, &alias, version.definition.fields.iter().map(|f| f.name.clone()).collect())?;
            return self.view(&version.definition, sql, alias);
        }
        add(sources, &alias, version.definition.fields.iter().map(|f| f.name.clone()).collect())?;
        let name = quoted(&format!("#{}", self.scans.len()));
        self.scans.push(Arc::new(ScanTable::new(version)));
        Ok(plain_table(name, alias))
    }

    /// The table that a name means, whether it exists or not.
    pub(super) fn table_name(&self, name: &ObjectName) -> Outcome<TableName> {
        let mut parts = Vec::new();
        for part in &name.0 {
            let ObjectNamePart::Identifier(ident) = part else {
                return Err(Failure::unsupported_sql("table functions"));
            };
            // `p.d.t` in one pair of backticks is three parts.
            parts.extend(ident.value.split('.').map(str::to_owned));
        }
        self.resolve(&parts)
    }

    /// The table as it is now, if it is where the query runs.
    pub(super) fn readable(&self, table: &TableName) -> Outcome<Arc<Version>> {
        let version = self.catalog.version_at(table, None)?;
        let dataset = self.catalog.dataset(&table.project, &table.dataset)?.document();
        if !dataset.location.eq_ignore_ascii_case(self.location) {
            return Err(Failure::not_found(format!(
                "Not found: Dataset {}:{} was not found in location {}",
                table.project, table.dataset, self.location
            )));
        }
        Ok(version)
    }

    fn resolve(&self, parts: &[String]) -> Outcome<TableName> {
        if parts.iter().any(|p| p.eq_ignore_ascii_case("INFORMATION_SCHEMA")) {
            return Err(Failure::unsupported_sql("INFORMATION_SCHEMA"));
        }
        let (project, dataset, table) = match parts {
            [table] => match self.default_dataset {
                Some((project, dataset)) => (project.clone(), dataset.clone(), table),
                None => {
                    return Err(Failure::invalid_query(format!(
                        "Table \"{table}\" must be qualified with a dataset (e.g. dataset.table)."
                    )));
                }
            },
            [dataset, table] => (self.project.clone(), DatasetId::parse(dataset)?, table),
            // A project of a domain has dots itself.
            [project @ .., dataset, table] if !project.is_empty() => {
                (ProjectId::parse(&project.join("."))?, DatasetId::parse(dataset)?, table)
            }
            _ => return Err(Failure::invalid_query("Syntax error: a table without a name")),
        };
        if table.contains('$') {
            return Err(Failure::invalid_query(format!(
                "Table ID \"{table}\" cannot include a partition decorator in a query: filter on _PARTITIONTIME \
                 or _PARTITIONDATE"
            )));
        }
        if table.contains('@') {
            return Err(Failure::unsupported_sql("snapshot decorators"));
        }
        if table.contains('*') {
            return Err(Failure::unsupported_sql("wildcard tables"));
        }
        Ok(TableName { project, dataset, table: TableId::parse(table)? })
    }

    fn alias(&self, alias: Option<TableAlias>, default: &str) -> Outcome<TableAlias> {
        let Some(alias) = alias else {
            let (name, columns) = (quoted(&default.to_lowercase()), Vec::new());
            return Ok(TableAlias { explicit: true, name, columns, at: None });
        };
        let TableAlias { explicit, name, columns, at } = alias;
        refuse_if(!columns.is_empty(), "a column list after a table alias")?;
        refuse_if(at.is_some(), "AT after a table alias")?;
        Ok(TableAlias { explicit, name: lower(&name), columns: Vec::new(), at: None })
    }
}

fn add(sources: &mut Vec<Source>, alias: &TableAlias, columns: Vec<String>) -> Outcome<()> {
    let alias = alias.name.value.clone();
    if sources.iter().any(|s| s.alias == alias) {
        return Err(Failure::invalid_query(format!("Duplicate table alias {alias} in the same FROM clause")));
    }
    sources.push(Source { alias, columns, merged: Vec::new() });
    Ok(())
}

fn plain_table(name: Ident, alias: TableAlias) -> TableFactor {
    TableFactor::Table {
        name: ObjectName::from(vec![name]),
        alias: Some(alias),
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}
