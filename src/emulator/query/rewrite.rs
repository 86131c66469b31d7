//! Queries, clause by clause: what is on the list is rewritten for DataFusion, the rest is refused by name.
//!
//! Every AST struct is taken apart field by field, without `..`: a clause that a later parser learns does not
//! compile here until somebody decides what it means.
//!
//! BigQuery's columns and aliases ignore case, so all of them are lower-cased; tables do not and are looked up
//! here. `*` is expanded here too, because DataFusion would include the pseudo columns.

use std::sync::Arc;

use datafusion::datasource::MemTable;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Cte, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr,
    Ident, LimitClause, ObjectName, Offset, OrderBy, OrderByExpr, OrderByKind, OrderByOptions, Query, Select,
    SelectFlavor, SetExpr, SetOperator, SetQuantifier, UnaryOperator, Value, With, WithFill,
};

use super::parameters::{Parameters, literal};
use super::scan::ScanTable;
use super::scope::Scope;
use super::visible::{Column, Visible};
use crate::emulator::Emulator;
use crate::emulator::catalog::Catalog;
use crate::emulator::names::{DatasetId, ProjectId, TableName};
use crate::emulator::wire::{Failure, Outcome};

/// References to tables, as many as BigQuery takes in one query, and those to queries of WITH with all that is
/// in them.
const RELATIONS_MAX: u64 = 1_000;

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
    /// Only the schema is asked for: no row is read, so no partition filter is required.
    pub describes: bool,
    /// The views being expanded, outermost first.
    pub views: Vec<TableName>,
    /// Queries of WITH.
    pub ctes: Vec<Subquery>,
    /// Tables and queries that the plan of what was rewritten so far reads.
    pub relations: u64,
    pub positional: usize,
    /// What constants are computed with.
    pub emulator: &'a Emulator,
    /// Of the SELECTs being rewritten, the innermost last.
    pub scopes: Vec<Visible>,
}

/// A rewritten piece and what it returns.
pub(super) type Named<T> = (T, Output);

/// A query of WITH.
#[derive(Debug)]
pub(super) struct Subquery {
    pub name: String,
    /// The name that it goes by here.
    pub shown: String,
    pub output: Output,
    /// What a reference to it adds to a plan, because each has the query planned anew.
    pub relations: u64,
}

/// The columns of a query.
#[derive(Debug, Clone, Default)]
pub(super) struct Output {
    pub columns: Vec<Column>,
    /// SELECT AS STRUCT or AS VALUE: the only column is the row.
    pub is_value: bool,
}

impl Rewriter<'_> {
    /// A query whose rows are a result, and the names of its columns.
    pub(super) fn result(&mut self, query: Query) -> Outcome<(Query, Vec<String>)> {
        let (query, output) = self.query(query)?;
        let (query, output) = match output.is_value {
            true => self.flattened(query, output)?,
            false => (query, output),
        };
        Ok((query, output.columns.into_iter().map(|column| column.name).collect()))
    }

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
        let (body, columns, scope) = self.body(*body)?;
        let order_by = match (order_by, scope) {
            (None, _) => None,
            (Some(order_by), Some(scope)) => {
                self.scopes.push(scope);
                let order_by = self.order_by(order_by, &columns);
                self.scopes.pop();
                Some(order_by?)
            }
            // Behind a set operation only its columns are known.
            (Some(order_by), None) => {
                self.scopes.push(Visible::default());
                let order_by = self.order_by(order_by, &columns);
                self.scopes.pop();
                Some(order_by?)
            }
        };
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
        let mut rewritten = Vec::with_capacity(cte_tables.len());
        for cte in cte_tables {
            let Cte { mut alias, query, from, materialized, closing_paren_token } = cte;
            refuse_if(!alias.columns.is_empty(), "a column list after a WITH name")?;
            refuse_if(from.is_some() || materialized.is_some() || alias.at.is_some(), "WITH options")?;
            let name = alias.name.value.to_lowercase();
            // Two queries of one name, one in the other, are two tables.
            let shown = match self.ctes.iter().filter(|cte| cte.name == name).count() {
                0 => name.clone(),
                n => format!("{name}#{n}"),
            };
            let outside = std::mem::take(&mut self.relations);
            let (query, output) = match recursive.then(|| recursive_base(&query)).flatten() {
                Some(base) => {
                    // The columns are those of the part that does not refer to itself.
                    let (_, output) = self.apart(|this| this.query(base))?;
                    let (name, shown) = (name.clone(), shown.clone());
                    self.ctes.push(Subquery { name, shown, output, relations: 1 });
                    let rewritten = self.query(*query)?;
                    self.ctes.pop();
                    rewritten
                }
                None => self.query(*query)?,
            };
            alias.name = quoted(&shown);
            let relations = std::mem::replace(&mut self.relations, outside);
            self.ctes.push(Subquery { name, shown, output, relations });
            let query = Box::new(query);
            rewritten.push(Cte { alias, query, from: None, materialized: None, closing_paren_token });
        }
        Ok(With { with_token, recursive, cte_tables: rewritten })
    }

    /// Counts what a plan reads, before the plan is made: it could be larger than memory.
    pub(super) fn add_relations(&mut self, n: u64) -> Outcome<()> {
        self.relations = self.relations.saturating_add(n.max(1));
        match self.relations > RELATIONS_MAX {
            true => Err(Failure::too_complex()),
            false => Ok(()),
        }
    }

    /// Rewrites something for its columns only: what it scans and which parameters it takes is forgotten.
    fn apart<T>(&mut self, f: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        let (scans, positional) = (self.scans.len(), self.positional);
        let result = f(self);
        self.scans.truncate(scans);
        self.positional = positional;
        result
    }

    /// Also what the ORDER BY of a plain SELECT may refer to.
    fn body(&mut self, body: SetExpr) -> Outcome<(SetExpr, Output, Option<Visible>)> {
        match body {
            SetExpr::Select(select) => {
                let (select, output, scope) = self.select(*select)?;
                Ok((SetExpr::Select(Box::new(select)), output, Some(scope)))
            }
            SetExpr::Query(query) => {
                let (query, columns) = self.query(*query)?;
                Ok((SetExpr::Query(Box::new(query)), columns, None))
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
                let (left, columns, _) = self.body(*left)?;
                let (right, others, _) = self.body(*right)?;
                if columns.columns.len() != others.columns.len() {
                    return Err(Failure::invalid_query(format!(
                        "Queries in {op} have mismatched column count; query 1 has {} columns, query 2 has {} \
                         columns",
                        columns.columns.len(),
                        others.columns.len()
                    )));
                }
                let (left, right) = (Box::new(left), Box::new(right));
                Ok((SetExpr::SetOperation { left, op, set_quantifier, right }, columns, None))
            }
            SetExpr::Values(_) => Err(Failure::unsupported_sql("VALUES")),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(Failure::unsupported_sql("DML"))
            }
            SetExpr::Table(_) => Err(Failure::unsupported_sql("TABLE")),
        }
    }

    /// The names of the result come before those of the tables.
    fn order_by(&mut self, order_by: OrderBy, output: &Output) -> Outcome<OrderBy> {
        let OrderBy { kind, interpolate } = order_by;
        refuse_if(interpolate.is_some(), "INTERPOLATE")?;
        let OrderByKind::Expressions(list) = kind else {
            return Err(Failure::unsupported_sql("ORDER BY ALL"));
        };
        let mut keys = Vec::with_capacity(list.len());
        for key in list {
            let of_output = match &key.expr {
                Expr::Identifier(ident) => {
                    let name = ident.value.to_lowercase();
                    let is_output = output.columns.iter().any(|c| c.name.to_lowercase() == name);
                    // A column that is selected as it is keeps the table it is of.
                    let is_plain = self.scopes.last().is_some_and(|scope| {
                        !scope.sources.is_empty() && !scope.aliases.iter().any(|(alias, ..)| *alias == name)
                    });
                    (is_output && !(is_plain && self.path(std::slice::from_ref(ident)).is_ok()))
                        .then(|| quoted(&name))
                }
                _ => None,
            };
            match of_output {
                Some(name) => {
                    keys.push(self.order_key(Expr::Identifier(name), key.options, key.with_fill)?)
                }
                None => keys.extend(self.order_exprs(vec![key])?),
            }
        }
        Ok(OrderBy { kind: OrderByKind::Expressions(keys), interpolate: None })
    }

    pub(super) fn order_exprs(&mut self, list: Vec<OrderByExpr>) -> Outcome<Vec<OrderByExpr>> {
        let mut rewritten = Vec::with_capacity(list.len());
        for OrderByExpr { expr, options, with_fill } in list {
            let expr = self.expr(expr)?;
            rewritten.push(self.order_key(expr, options, with_fill)?);
        }
        Ok(rewritten)
    }

    /// NULL is the smallest value in BigQuery and the largest in DataFusion.
    fn order_key(
        &self,
        expr: Expr,
        options: OrderByOptions,
        with_fill: Option<WithFill>,
    ) -> Outcome<OrderByExpr> {
        refuse_if(with_fill.is_some(), "WITH FILL")?;
        let OrderByOptions { asc, nulls_first } = options;
        let ascending = asc.unwrap_or(true);
        let options =
            OrderByOptions { asc: Some(ascending), nulls_first: Some(nulls_first.unwrap_or(ascending)) };
        Ok(OrderByExpr { expr, options, with_fill: None })
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

    pub(super) fn count(&mut self, expr: Expr, clause: &str) -> Outcome<Expr> {
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

    pub(super) fn optional(&mut self, expr: Option<Expr>) -> Outcome<Option<Expr>> {
        expr.map(|e| self.expr(e)).transpose()
    }
}

pub(super) fn refuse_if(present: bool, what: &str) -> Outcome<()> {
    if present { Err(Failure::unsupported_sql(what)) } else { Ok(()) }
}

/// The part of a recursive query that does not refer to itself.
fn recursive_base(query: &Query) -> Option<Query> {
    let SetExpr::SetOperation { op: SetOperator::Union, left, .. } = query.body.as_ref() else { return None };
    Some(Query { with: query.with.clone(), ..plain_query(left.as_ref().clone()) })
}

pub(super) fn lower(ident: &Ident) -> Ident {
    Ident { value: ident.value.to_lowercase(), quote_style: Some('"'), span: ident.span }
}

pub(super) fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

/// A SELECT that has nothing yet.
pub(super) fn plain_select() -> Select {
    Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: Vec::new(),
        exclude: None,
        into: None,
        from: Vec::new(),
        lateral_views: Vec::new(),
        prewhere: None,
        selection: None,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    }
}

pub(super) fn plain_query(body: SetExpr) -> Query {
    Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
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
