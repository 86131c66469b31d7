//! Queries, clause by clause: what is on the list is rewritten for DataFusion, the rest is refused by name.
//!
//! Every AST struct is taken apart field by field, without `..`: a clause that a later parser learns does not
//! compile here until somebody decides what it means.
//!
//! BigQuery's columns and aliases ignore case, so all of them are lower-cased; tables do not and are looked up
//! here. `*` is expanded here too, because DataFusion would include the pseudo columns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::datasource::MemTable;
use datafusion::sql::sqlparser::ast::{
    Cte, Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    GroupByExpr, Ident, LimitClause, ObjectName, Offset, OrderBy, OrderByExpr, OrderByKind, OrderByOptions,
    Query, Select, SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator,
    SetQuantifier, TableWithJoins, UnaryOperator, Value, WildcardAdditionalOptions, With,
};

use super::parameters::{Parameters, literal};
use super::scan::ScanTable;
use super::scope::Scope;
use super::tables::Source;
use crate::emulator::catalog::Catalog;
use crate::emulator::names::{DatasetId, ProjectId, TableName};
use crate::emulator::wire::{Failure, Outcome};

/// One pass over one query.
pub(super) struct Rewriter<'a> {
    pub catalog: &'a Catalog,
    pub project: &'a ProjectId,
    pub default_dataset: Option<&'a (ProjectId, DatasetId)>,
    pub location: &'a str,
    pub parameters: &'a Parameters,
    pub scope: &'a Scope,
    /// The start of the query, which is what CURRENT_TIMESTAMP() is in all of it.
    pub now_us: i64,
    /// Tables found so far; the n-th goes by the name `#n`.
    pub scans: Vec<Arc<ScanTable>>,
    /// INFORMATION_SCHEMA as it is now; the n-th goes by the name `#in`.
    pub listings: Vec<MemTable>,
    /// The views being expanded, outermost first.
    pub views: Vec<TableName>,
    pub ctes: Vec<(String, Vec<String>)>,
    pub positional: usize,
    /// For each SELECT being rewritten: whose column a name that USING merged stands for.
    pub merged: Vec<BTreeMap<String, String>>,
}

/// A rewritten piece and the names of the columns that it returns, in the case they were written in.
pub(super) type Named<T> = (T, Vec<String>);

impl Rewriter<'_> {
    pub(super) fn query(&mut self, query: Query) -> Outcome<Named<Query>> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        refuse_if(fetch.is_some(), "FETCH")?;
        refuse_if(!locks.is_empty(), "FOR UPDATE")?;
        refuse_if(for_clause.is_some(), "FOR XML or FOR JSON")?;
        refuse_if(settings.is_some(), "SETTINGS")?;
        refuse_if(format_clause.is_some(), "FORMAT")?;
        refuse_if(!pipe_operators.is_empty(), "pipe syntax (|>)")?;
        let outer_ctes = self.ctes.len();
        let with = with.map(|w| self.with(w)).transpose()?;
        let (body, columns) = self.body(*body)?;
        let order_by = order_by.map(|o| self.order_by(o)).transpose()?;
        let limit_clause = limit_clause.map(|l| self.limit(l)).transpose()?;
        self.ctes.truncate(outer_ctes);
        let query = Query {
            with,
            body: Box::new(body),
            order_by,
            limit_clause,
            fetch: None,
            locks: Vec::new(),
            for_clause: None,
            settings: None,
            format_clause: None,
            pipe_operators: Vec::new(),
        };
        Ok((query, columns))
    }

    fn with(&mut self, with: With) -> Outcome<With> {
        let With { with_token, recursive, cte_tables } = with;
        refuse_if(recursive, "WITH RECURSIVE")?;
        let mut rewritten = Vec::with_capacity(cte_tables.len());
        for cte in cte_tables {
            let Cte { mut alias, query, from, materialized, closing_paren_token } = cte;
            refuse_if(!alias.columns.is_empty(), "a column list after a WITH name")?;
            refuse_if(from.is_some() || materialized.is_some() || alias.at.is_some(), "WITH options")?;
            let (query, columns) = self.query(*query)?;
            alias.name = lower(&alias.name);
            if self.ctes.iter().any(|(name, _)| *name == alias.name.value) {
                let name = alias.name.value;
                return Err(Failure::unsupported_sql(format!("two WITH queries named {name}")));
            }
            self.ctes.push((alias.name.value.clone(), columns));
            let query = Box::new(query);
            rewritten.push(Cte { alias, query, from: None, materialized: None, closing_paren_token });
        }
        Ok(With { with_token, recursive: false, cte_tables: rewritten })
    }

    fn body(&mut self, body: SetExpr) -> Outcome<Named<SetExpr>> {
        match body {
            SetExpr::Select(select) => {
                let (select, columns) = self.select(*select)?;
                Ok((SetExpr::Select(Box::new(select)), columns))
            }
            SetExpr::Query(query) => {
                let (query, columns) = self.query(*query)?;
                Ok((SetExpr::Query(Box::new(query)), columns))
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                match (op, set_quantifier) {
                    (SetOperator::Union, SetQuantifier::All | SetQuantifier::Distinct)
                    | (SetOperator::Except | SetOperator::Intersect, SetQuantifier::Distinct) => {}
                    (op, SetQuantifier::None) => {
                        return Err(Failure::invalid_query(format!(
                            "Syntax error: Expected keyword ALL or keyword DISTINCT after {op}"
                        )));
                    }
                    (op, quantifier) => {
                        return Err(Failure::unsupported_sql(format!("{op} {quantifier}")));
                    }
                }
                // DataFusion's EXCEPT and INTERSECT are distinct without the word.
                let set_quantifier = match op {
                    SetOperator::Union => set_quantifier,
                    _ => SetQuantifier::None,
                };
                let (left, columns) = self.body(*left)?;
                let (right, others) = self.body(*right)?;
                if columns.len() != others.len() {
                    return Err(Failure::invalid_query(format!(
                        "Queries in {op} have mismatched column count; query 1 has {} columns, query 2 has {} \
                         columns",
                        columns.len(),
                        others.len()
                    )));
                }
                let (left, right) = (Box::new(left), Box::new(right));
                Ok((SetExpr::SetOperation { left, op, set_quantifier, right }, columns))
            }
            SetExpr::Values(_) => Err(Failure::unsupported_sql("VALUES")),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(Failure::unsupported_sql("DML"))
            }
            SetExpr::Table(_) => Err(Failure::unsupported_sql("TABLE")),
        }
    }

    fn select(&mut self, select: Select) -> Outcome<Named<Select>> {
        self.merged.push(BTreeMap::new());
        let rewritten = self.select_clauses(select);
        self.merged.pop();
        rewritten
    }

    fn select_clauses(&mut self, select: Select) -> Outcome<Named<Select>> {
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
        refuse_if(!named_window.is_empty(), "named windows (WINDOW)")?;
        refuse_if(value_table_mode.is_some(), "SELECT AS STRUCT or AS VALUE")?;
        refuse_if(!matches!(flavor, SelectFlavor::Standard), "FROM before SELECT")?;
        let distinct = match distinct {
            None | Some(Distinct::All) => None,
            Some(Distinct::Distinct) => Some(Distinct::Distinct),
            Some(Distinct::On(_)) => return Err(Failure::unsupported_sql("DISTINCT ON")),
        };

        let mut sources = Vec::new();
        let mut tables = Vec::with_capacity(from.len());
        for table in from {
            let table: TableWithJoins = self.table_with_joins(table, &mut sources)?;
            tables.push(table);
        }
        let (projection, columns) = self.projection(projection, &sources)?;
        let group_by = match group_by {
            GroupByExpr::Expressions(list, modifiers) => {
                refuse_if(!modifiers.is_empty(), "GROUP BY modifiers")?;
                GroupByExpr::Expressions(self.exprs(list)?, Vec::new())
            }
            GroupByExpr::All(_) => return Err(Failure::unsupported_sql("GROUP BY ALL")),
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
            from: tables,
            lateral_views: Vec::new(),
            prewhere: None,
            selection: self.optional(selection)?,
            connect_by: Vec::new(),
            group_by,
            cluster_by: Vec::new(),
            distribute_by: Vec::new(),
            sort_by: Vec::new(),
            having: self.optional(having)?,
            named_window: Vec::new(),
            qualify: self.optional(qualify)?,
            window_before_qualify,
            value_table_mode: None,
            flavor,
        };
        Ok((select, columns))
    }

    fn projection(&mut self, items: Vec<SelectItem>, sources: &[Source]) -> Outcome<Named<Vec<SelectItem>>> {
        let (mut rewritten, mut columns) = (Vec::new(), Vec::new());
        let mut anonymous = 0;
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let name = match &expr {
                        Expr::Identifier(ident) if ident.value.starts_with('@') => None,
                        Expr::Identifier(ident) => Some(ident.value.clone()),
                        Expr::CompoundIdentifier(parts) => parts.last().map(|p| p.value.clone()),
                        _ => None,
                    };
                    let expr = self.expr(expr)?;
                    match name {
                        Some(name) => {
                            rewritten.push(SelectItem::UnnamedExpr(expr));
                            columns.push(name);
                        }
                        None => {
                            let name = format!("f{anonymous}_");
                            anonymous += 1;
                            let alias = Ident::new(&name);
                            rewritten.push(SelectItem::ExprWithAlias { expr, alias });
                            columns.push(name);
                        }
                    }
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    columns.push(alias.value.clone());
                    let (expr, alias) = (self.expr(expr)?, lower(&alias));
                    rewritten.push(SelectItem::ExprWithAlias { expr, alias });
                }
                SelectItem::ExprWithAliases { .. } => {
                    return Err(Failure::unsupported_sql("several aliases of one expression"));
                }
                SelectItem::Wildcard(options) => {
                    if sources.is_empty() {
                        return Err(Failure::invalid_query("SELECT * must have a FROM clause"));
                    }
                    let expanded = self.expand(options, sources)?;
                    for (item, name) in expanded {
                        rewritten.push(item);
                        columns.push(name);
                    }
                }
                SelectItem::QualifiedWildcard(kind, options) => {
                    let SelectItemQualifiedWildcardKind::ObjectName(name) = kind else {
                        return Err(Failure::unsupported_sql(".* of an expression"));
                    };
                    let alias = name.to_string().trim_matches('`').to_lowercase();
                    let Some(source) = sources.iter().find(|s| s.alias == alias) else {
                        return Err(Failure::invalid_query(format!("Unrecognized name: {name}")));
                    };
                    // Behind an alias all columns are there, also those that USING merged.
                    let mut source = source.clone();
                    source.merged.clear();
                    for (item, name) in self.expand(options, &[source])? {
                        rewritten.push(item);
                        columns.push(name);
                    }
                }
            }
        }
        let mut seen = BTreeSet::new();
        if let Some(name) = columns.iter().find(|name| !seen.insert(name.to_lowercase())) {
            return Err(Failure::invalid_query(format!(
                "Duplicate column names in the result are not supported. Found duplicate(s): {name}"
            )));
        }
        Ok((rewritten, columns))
    }

    fn expand(
        &mut self,
        options: WildcardAdditionalOptions,
        sources: &[Source],
    ) -> Outcome<Vec<(SelectItem, String)>> {
        let WildcardAdditionalOptions {
            wildcard_token: _,
            opt_ilike,
            opt_exclude,
            opt_except,
            opt_replace,
            opt_rename,
            opt_alias,
        } = options;
        refuse_if(opt_ilike.is_some(), "SELECT * ILIKE")?;
        refuse_if(opt_exclude.is_some(), "SELECT * EXCLUDE")?;
        refuse_if(opt_rename.is_some(), "SELECT * RENAME")?;
        refuse_if(opt_alias.is_some(), "an alias of *")?;
        let mut columns = Vec::new();
        for source in sources {
            for column in &source.columns {
                let name = column.to_lowercase();
                if !source.merged.contains(&name) {
                    columns.push((source.alias.clone(), name, column.clone()));
                }
            }
        }
        let missing = |what: &str, name: &str| {
            Failure::invalid_query(format!("Column {name} in SELECT * {what} list does not exist"))
        };
        if let Some(except) = opt_except {
            for ident in std::iter::once(except.first_element).chain(except.additional_elements) {
                let name = ident.value.to_lowercase();
                let before = columns.len();
                columns.retain(|(_, column, _)| *column != name);
                if columns.len() == before {
                    return Err(missing("EXCEPT", &ident.value));
                }
            }
        }
        let mut replaced = Vec::new();
        for element in opt_replace.map(|r| r.items).unwrap_or_default() {
            let name = element.column_name.value.to_lowercase();
            if !columns.iter().any(|(_, column, _)| *column == name) {
                return Err(missing("REPLACE", &element.column_name.value));
            }
            replaced.push((name, self.expr(element.expr)?));
        }
        let item = |(alias, name, original): (String, String, String)| {
            let replacement = replaced.iter().find(|(column, _)| *column == name).map(|(_, e)| e.clone());
            let item = match replacement {
                Some(expr) => SelectItem::ExprWithAlias { expr, alias: quoted(&name) },
                None => {
                    SelectItem::UnnamedExpr(Expr::CompoundIdentifier(vec![quoted(&alias), quoted(&name)]))
                }
            };
            (item, original)
        };
        Ok(columns.into_iter().map(item).collect())
    }

    fn order_by(&mut self, order_by: OrderBy) -> Outcome<OrderBy> {
        let OrderBy { kind, interpolate } = order_by;
        refuse_if(interpolate.is_some(), "INTERPOLATE")?;
        let OrderByKind::Expressions(list) = kind else {
            return Err(Failure::unsupported_sql("ORDER BY ALL"));
        };
        Ok(OrderBy { kind: OrderByKind::Expressions(self.order_exprs(list)?), interpolate: None })
    }

    /// NULL is the smallest value in BigQuery and the largest in DataFusion.
    pub(super) fn order_exprs(&mut self, list: Vec<OrderByExpr>) -> Outcome<Vec<OrderByExpr>> {
        let mut rewritten = Vec::with_capacity(list.len());
        for OrderByExpr { expr, options, with_fill } in list {
            refuse_if(with_fill.is_some(), "WITH FILL")?;
            let OrderByOptions { asc, nulls_first } = options;
            let ascending = asc.unwrap_or(true);
            let options =
                OrderByOptions { asc: Some(ascending), nulls_first: Some(nulls_first.unwrap_or(ascending)) };
            rewritten.push(OrderByExpr { expr: self.expr(expr)?, options, with_fill: None });
        }
        Ok(rewritten)
    }

    fn limit(&mut self, limit: LimitClause) -> Outcome<LimitClause> {
        let LimitClause::LimitOffset { limit, offset, limit_by } = limit else {
            return Err(Failure::unsupported_sql("LIMIT with a comma"));
        };
        refuse_if(!limit_by.is_empty(), "LIMIT BY")?;
        let limit = limit.map(|e| self.count(e, "LIMIT")).transpose()?;
        let offset = match offset {
            None => None,
            Some(Offset { value, rows }) => Some(Offset { value: self.count(value, "OFFSET")?, rows }),
        };
        Ok(LimitClause::LimitOffset { limit, offset, limit_by: Vec::new() })
    }

    fn count(&mut self, expr: Expr, clause: &str) -> Outcome<Expr> {
        match self.expr(expr)? {
            Expr::Value(value) if matches!(value.value, Value::Number(..)) => Ok(Expr::Value(value)),
            _ => Err(Failure::invalid_query(format!(
                "{clause} expects a non-negative integer literal or parameter"
            ))),
        }
    }

    pub(super) fn exprs(&mut self, list: Vec<Expr>) -> Outcome<Vec<Expr>> {
        list.into_iter().map(|e| self.expr(e)).collect()
    }

    fn optional(&mut self, expr: Option<Expr>) -> Outcome<Option<Expr>> {
        expr.map(|e| self.expr(e)).transpose()
    }
}

pub(super) fn refuse_if(present: bool, what: &str) -> Outcome<()> {
    if present { Err(Failure::unsupported_sql(what)) } else { Ok(()) }
}

pub(super) fn lower(ident: &Ident) -> Ident {
    Ident { value: ident.value.to_lowercase(), quote_style: Some('"'), span: ident.span }
}

pub(super) fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

/// A call of one of our functions, or of DataFusion's.
pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

pub(super) fn string_literal(text: &str) -> Expr {
    literal(Value::SingleQuotedString(text.to_owned()))
}

pub(super) fn integer_literal(value: i64) -> Expr {
    let number = literal(Value::Number(value.unsigned_abs().to_string(), false));
    if value == i64::MIN {
        // Its absolute value is no INT64 literal.
        return call("bq_cast_int64", vec![string_literal(&value.to_string())]);
    }
    if value < 0 { Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number) } } else { number }
}
