//! The FROM clause: names become scans of the catalog's tables, joins those that both sides know.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, TableAlias,
    TableFactor, TableVersion, TableWithJoins, Value,
};

use super::information_schema::is_listing;
use super::parameters::literal;
use super::rewrite::{Rewriter, call, lower, quoted, refuse_if};
use super::scan::{PARTITION_DATE, PARTITION_TIME, ROW_NUMBER, ROW_PART, ScanTable};
use super::visible::{Column, Source};
use crate::emulator::names::{DatasetId, ProjectId, TableId, TableName};
use crate::emulator::versions::Version;
use crate::emulator::wire::{Failure, Outcome};

impl Rewriter<'_> {
    pub(super) fn table_with_joins(&mut self, table: TableWithJoins) -> Outcome<TableWithJoins> {
        let TableWithJoins { relation, joins } = table;
        let relation = self.factor(relation)?;
        let mut rewritten = Vec::with_capacity(joins.len());
        for Join { relation, global, join_operator } in joins {
            refuse_if(global, "GLOBAL JOIN")?;
            let before = self.scopes.last().map_or(0, |scope| scope.sources.len());
            // What follows from an array of the left side needs no condition.
            let is_array = matches!(relation, TableFactor::UNNEST { .. });
            let relation = self.factor(relation)?;
            let is_array = is_array || matches!(relation, TableFactor::Derived { lateral: true, .. });
            let join_operator = self.join(join_operator, before, is_array)?;
            rewritten.push(Join { relation, global: false, join_operator });
        }
        Ok(TableWithJoins { relation, joins: rewritten })
    }

    fn join(&mut self, operator: JoinOperator, before: usize, is_array: bool) -> Outcome<JoinOperator> {
        use JoinOperator as J;
        let constraint = |this: &mut Self, constraint: JoinConstraint, kept: Kept| match constraint {
            JoinConstraint::On(expr) => Ok(JoinConstraint::On(this.expr(expr)?)),
            JoinConstraint::Using(columns) => this.using(&columns, before, kept),
            JoinConstraint::Natural => Err(Failure::unsupported_sql("NATURAL JOIN")),
            JoinConstraint::None if is_array => Ok(JoinConstraint::On(literal(Value::Boolean(true)))),
            JoinConstraint::None => Err(Failure::invalid_query(
                "Syntax error: JOIN must have an immediately following ON or USING clause",
            )),
        };
        Ok(match operator {
            J::Join(JoinConstraint::None) | J::Inner(JoinConstraint::None) if is_array => {
                J::CrossJoin(JoinConstraint::None)
            }
            J::Join(c) | J::Inner(c) => J::Inner(constraint(self, c, Kept::Left)?),
            J::Left(c) | J::LeftOuter(c) => J::Left(constraint(self, c, Kept::Left)?),
            J::Right(_) | J::RightOuter(_) | J::FullOuter(_) if is_array && before > 0 => {
                return Err(Failure::invalid_query(
                    "Array scan is not allowed with RIGHT or FULL JOIN: UNNEST expression references column(s) of the \
                     other side",
                ));
            }
            J::Right(c) | J::RightOuter(c) => J::Right(constraint(self, c, Kept::Right)?),
            J::FullOuter(c) => J::FullOuter(constraint(self, c, Kept::Both)?),
            J::CrossJoin(JoinConstraint::None) => J::CrossJoin(JoinConstraint::None),
            other => {
                let name = format!("{other:?}");
                let name = name.split(['(', ' ', '{']).next().unwrap_or_default().to_owned();
                return Err(Failure::unsupported_sql(format!("the join {name}")));
            }
        })
    }

    /// `USING(a, b)` as ON, because DataFusion does not resolve the merged column everywhere.
    fn using(&mut self, columns: &[ObjectName], before: usize, kept: Kept) -> Outcome<JoinConstraint> {
        let mut conditions = Vec::with_capacity(columns.len());
        for column in columns {
            let name = column.to_string().trim_matches('`').to_lowercase();
            let Some(scope) = self.scopes.last_mut() else { continue };
            let missing = |side: &str| {
                Failure::invalid_query(format!(
                    "Column {name} in USING clause not found on {side} side of join"
                ))
            };
            let (left, right) = scope.sources.split_at_mut(before);
            let has = |s: &&Source| s.columns.iter().any(|c| c.name.to_lowercase() == name);
            let of_left = match scope.merged.get(&name) {
                Some(merged) => merged.clone(),
                None => left.iter().find(has).ok_or_else(|| missing("left"))?.column(&name),
            };
            let of_right = right.iter().find(has).ok_or_else(|| missing("right"))?.column(&name);
            for source in left.iter_mut().chain(right) {
                source.merged.push(name.clone());
            }
            let merged = match kept {
                Kept::Left => of_left.clone(),
                Kept::Right => of_right.clone(),
                Kept::Both => call("coalesce", vec![of_left.clone(), of_right.clone()]),
            };
            scope.merged.insert(name, merged);
            let (left, right) = (Box::new(of_left), Box::new(of_right));
            conditions.push(Expr::BinaryOp { left, op: BinaryOperator::Eq, right });
        }
        let all = conditions.into_iter().reduce(|left, right| Expr::BinaryOp {
            left: Box::new(left),
            op: BinaryOperator::And,
            right: Box::new(right),
        });
        all.map(JoinConstraint::On)
            .ok_or_else(|| Failure::invalid_query("Syntax error: USING needs a column"))
    }

    pub(super) fn add(&mut self, source: Source) -> Outcome<()> {
        let Some(scope) = self.scopes.last_mut() else { return Ok(()) };
        if scope.sources.iter().any(|s| s.alias == source.alias) {
            let alias = source.alias;
            return Err(Failure::invalid_query(format!(
                "Duplicate table alias {alias} in the same FROM clause"
            )));
        }
        scope.sources.push(source);
        Ok(())
    }

    fn factor(&mut self, factor: TableFactor) -> Outcome<TableFactor> {
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
                refuse_if(with_ordinality || !partitions.is_empty() || json_path.is_some(), "table options")?;
                refuse_if(sample.is_some(), "TABLESAMPLE")?;
                self.named_table(&name, alias, version)
            }
            TableFactor::Derived { lateral, subquery, alias, sample } => {
                refuse_if(lateral, "LATERAL")?;
                refuse_if(sample.is_some(), "TABLESAMPLE")?;
                // A query in FROM does not see the tables beside it.
                let scope = self.scopes.pop();
                let rewritten = self.query(*subquery);
                self.scopes.extend(scope);
                let (subquery, output) = rewritten?;
                let before = self.scopes.last().map_or(0, |scope| scope.sources.len());
                let alias = self.alias(alias, &format!("#s{before}"))?;
                let source = Source::new(&alias.name.value, output.columns);
                self.add(Source { is_value: output.is_value, ..source })?;
                let (subquery, alias) = (Box::new(subquery), Some(alias));
                Ok(TableFactor::Derived { lateral: false, subquery, alias, sample: None })
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                refuse_if(alias.is_some(), "an alias of a join")?;
                let table = self.table_with_joins(*table_with_joins)?;
                Ok(TableFactor::NestedJoin { table_with_joins: Box::new(table), alias: None })
            }
            TableFactor::UNNEST { alias, array_exprs, with_offset, with_offset_alias, with_ordinality } => {
                refuse_if(with_ordinality, "WITH ORDINALITY")?;
                self.unnest(array_exprs, alias, with_offset.then_some(with_offset_alias))
            }
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
        version: Option<TableVersion>,
    ) -> Outcome<TableFactor> {
        let mut idents = Vec::new();
        let mut parts = Vec::new();
        for part in &name.0 {
            let ObjectNamePart::Identifier(ident) = part else {
                return Err(Failure::unsupported_sql("table functions"));
            };
            idents.push(ident.clone());
            // `p.d.t` in one pair of backticks is three parts.
            parts.extend(ident.value.split('.').map(str::to_owned));
        }
        let last = parts.last().cloned().unwrap_or_default();
        // `FROM t, t.tags`: an array of a table before it.
        if let [first, _, ..] = idents.as_slice()
            && self
                .scopes
                .last()
                .is_some_and(|s| s.sources.iter().any(|s| s.alias == first.value.to_lowercase()))
        {
            refuse_if(version.is_some(), "FOR SYSTEM_TIME AS OF on an array")?;
            let (array, shape) = self.path(&idents)?;
            return self.elements(array, shape, Some(alias.map_or(last, |a| a.name.value)), None);
        }
        let alias = self.alias(alias, &last)?;
        if let [single] = parts.as_slice() {
            let single = single.to_lowercase();
            if let Some(cte) = self.ctes.iter().rev().find(|cte| cte.name == single) {
                let (name, output, relations) = (quoted(&cte.shown), cte.output.clone(), cte.relations);
                self.add_relations(relations)?;
                refuse_if(version.is_some(), "FOR SYSTEM_TIME AS OF on a query")?;
                let source = Source::new(&alias.name.value, output.columns);
                self.add(Source { is_value: output.is_value, ..source })?;
                return Ok(plain_table(name, alias));
            }
        }
        let time_ms = version.map(|version| self.system_time(version)).transpose()?;
        if is_listing(&parts) {
            refuse_if(time_ms.is_some(), "FOR SYSTEM_TIME AS OF on INFORMATION_SCHEMA")?;
            let (listing, columns) = self.listing(&parts)?;
            self.add(Source::new(&alias.name.value, columns.into_iter().map(Column::plain).collect()))?;
            let name = quoted(&format!("#i{}", self.listings.len()));
            self.listings.push(listing);
            return Ok(plain_table(name, alias));
        }
        if last.ends_with('*') {
            return self.wildcard(&parts, alias, time_ms);
        }
        self.add_relations(1)?;
        let table = self.resolve(&parts)?;
        let version = self.readable(&table, time_ms)?;
        if let Some(sql) = version.definition.view() {
            self.add(source_of(&version, &alias.name.value))?;
            let scope = self.scopes.pop();
            let view = self.view(&version.definition, sql, alias);
            self.scopes.extend(scope);
            return view;
        }
        let (scan, source) = self.scan(version, &alias.name.value);
        self.add(source)?;
        Ok(plain_table(scan, alias))
    }

    /// Registers a scan of a table: the name it goes by, and what it brings into scope.
    pub(super) fn scan(&mut self, version: Arc<Version>, alias: &str) -> (Ident, Source) {
        let source = source_of(&version, alias);
        let name = quoted(&format!("#{}", self.scans.len()));
        self.scans.push(Arc::new(ScanTable::new(version)));
        (name, source)
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

    /// The table as it is now or was then, if it is where the query runs.
    pub(super) fn readable(&self, table: &TableName, time_ms: Option<i64>) -> Outcome<Arc<Version>> {
        let version = self.catalog.version_at(table, time_ms)?;
        let dataset = self.catalog.dataset(&table.project, &table.dataset)?.document();
        if !dataset.location.eq_ignore_ascii_case(self.location) {
            return Err(Failure::not_found(format!(
                "Not found: Dataset {}:{} was not found in location {}",
                table.project, table.dataset, self.location
            )));
        }
        Ok(version)
    }

    pub(super) fn resolve(&self, parts: &[String]) -> Outcome<TableName> {
        if is_listing(parts) {
            return Err(Failure::invalid_query("INFORMATION_SCHEMA can only be read"));
        }
        if let [table] = parts
            && let Some(name) = self.scope.temporary.get(table)
        {
            return Ok(name.clone());
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

fn source_of(version: &Version, alias: &str) -> Source {
    let definition = &version.definition;
    let mut source = Source::new(alias, definition.fields.iter().map(Column::of_field).collect());
    // What DML asks for; nobody writes such names.
    source.hidden = vec![ROW_PART.to_owned(), ROW_NUMBER.to_owned()];
    if definition.is_ingestion_partitioned() {
        source.hidden.extend([PARTITION_TIME.to_owned(), PARTITION_DATE.to_owned()]);
    }
    source
}

/// Whose value of a column that USING merges is kept.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Left,
    Right,
    Both,
}

pub(super) fn plain_table(name: Ident, alias: TableAlias) -> TableFactor {
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
