//! SELECTs over tables that are opened when a query names them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{self, Spanned, visit_expressions, visit_relations};
use futures::stream::BoxStream;
use url::Url;

use super::days::DaysTable;
use super::text::TextTable;
use super::{DayFiles, Engine, Operator, explain, files, threads, words};
use crate::error::{Error, Result};

/// Tables, and SELECTs over them. Cheap to clone; can be asked by many at once.
#[derive(Clone)]
pub struct Sql {
    engine: Engine,
    joins: Joins,
    context: SessionContext,
}

impl std::fmt::Debug for Sql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sql")
    }
}

/// How large tables are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joins {
    /// One of them is held in memory: fast.
    Hashed,
    /// Both are sorted, which may spill.
    Sorted,
}

/// One SELECT that is well formed. What it means is found out by [`Sql::plan`].
#[derive(Debug, Clone)]
pub struct Statement {
    text: String,
    parsed: Parsed,
}

/// A table that a statement names in FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    pub name: String,
    place: Option<(u64, u64)>,
}

impl Sql {
    pub fn new(engine: &Engine, joins: Joins) -> Sql {
        let mut config = engine.config();
        // So that mistakes have a place.
        config.options_mut().sql_parser.collect_spans = true;
        if joins == Joins::Sorted {
            // Each thread has sorts of its own, and each of those its share of the memory.
            config = config.with_target_partitions(1);
            config.options_mut().optimizer.prefer_hash_join = false;
        }
        let context = SessionContext::new_with_state(engine.state_builder(config).build());
        Sql { engine: engine.clone(), joins, context }
    }

    /// Reads one SELECT or VALUES.
    pub fn parse(&self, text: &str) -> Result<Statement> {
        let parsed = DFParserBuilder::new(text).build().and_then(|mut parser| parser.parse_statements());
        let mut parsed = parsed.map_err(|e| words::wrong(&e, text))?;
        let more = parsed.len() > 1;
        let first = parsed.pop_front().ok_or_else(|| Error::usage("the query is empty"))?;
        match &first {
            _ if more => words::refused("several statements")?,
            Parsed::Statement(statement) => match statement.as_ref() {
                ast::Statement::Query(query) => refuse_misread(query, text)?,
                ast::Statement::ExplainTable { .. } => {
                    return Err(Error::usage("DESCRIBE is no query")
                        .hint("`--summarize TABLE` shows the columns and their types"));
                }
                other => words::refused(&format!("`{}`", first_word(&other.to_string())))?,
            },
            Parsed::Explain(_) => {
                return Err(Error::usage("EXPLAIN is no part of the query").hint(
                    "`--explain` shows its plan, `--explain=analyze` runs it and shows times and rows",
                ));
            }
            other => words::refused(&format!("`{}`", first_word(&other.to_string())))?,
        }
        Ok(Statement { text: text.to_owned(), parsed: first })
    }

    /// The tables that the statement needs and that are not here yet.
    pub fn missing_tables(&self, statement: &Statement) -> Result<Vec<TableName>> {
        let (tables, _) = resolve_table_references(&statement.parsed, true)
            .map_err(|e| words::wrong(&e, &statement.text))?;
        let state = self.context.state();
        let is_there =
            |name: &str| self.context.table_exist(TableReference::bare(name)).is_ok_and(|there| there);
        let mut missing = Vec::new();
        for table in tables {
            let place = statement.place_of(&table);
            if let Some(schema) = table.schema() {
                let name = format!("{schema}.{}", table.table());
                let hint = match files::is_file(&name) {
                    true => format!("a file is named in quotes: FROM '{name}'"),
                    false => "tables have no dataset here".to_owned(),
                };
                let what = format!("there is no table `{name}`");
                return Err(Error::usage(words::placed(&statement.text, &what, place)).hint(hint));
            }
            // A function may stand in FROM, too.
            let is_function = state.table_functions().contains_key(table.table());
            if !is_function && !is_there(table.table()) {
                missing.push(TableName { name: table.table().to_owned(), place });
            }
        }
        Ok(missing)
    }

    /// Parquet files of days; `columns` are theirs, and looked up in the first one when not known.
    pub async fn add_days(&self, name: &str, days: Vec<DayFiles>, columns: Option<SchemaRef>) -> Result<()> {
        let first = days.iter().flat_map(|day| &day.files).next();
        let url = first.map(|file| file.url.as_str());
        let url = url.map(|url| Url::parse(url).map_err(|e| cannot_add(name).caused_by(e))).transpose()?;
        let store = match &url {
            Some(url) if url.scheme() == "gs" => {
                files::register(&self.engine, url)?;
                let bucket = format!("gs://{}", url.host_str().unwrap_or_default());
                ObjectStoreUrl::parse(bucket).map_err(words::failed)?
            }
            _ => ObjectStoreUrl::local_filesystem(),
        };
        let columns = match (columns, &url) {
            (Some(columns), _) => columns,
            (None, Some(url)) => files::parquet_columns(&self.context.state(), url).await?,
            (None, None) => Arc::new(Schema::empty()),
        };
        self.add(name, Arc::new(DaysTable::new(days, &columns, store, self.joins)))
    }

    /// Rows that are in memory.
    pub fn add_rows(&self, name: &str, rows: RecordBatch) -> Result<()> {
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]]);
        self.add(name, Arc::new(table.map_err(|e| cannot_add(name).caused_by(e.strip_backtrace()))?))
    }

    /// Objects a line, with known columns.
    pub async fn add_lines(&self, name: &str, urls: &[String], columns: SchemaRef) -> Result<()> {
        let mut parts = Vec::with_capacity(urls.len());
        for url in urls {
            parts.push(files::text(&self.engine, url).await?);
        }
        match parts.is_empty() {
            true => self.add_rows(name, RecordBatch::new_empty(columns)),
            false => self.add(name, Arc::new(TextTable::new(parts, columns))),
        }
    }

    /// A file that the query names itself.
    pub async fn add_file(&self, name: &str) -> Result<()> {
        let table = files::open(&self.engine, &self.context.state(), name).await?;
        self.add(name, table)
    }

    fn add(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        let added = self.context.register_table(TableReference::bare(name), table);
        added.map(|_| ()).map_err(|e| cannot_add(name).caused_by(e.strip_backtrace()))
    }

    /// Plans the statement, so that it gives `limit` rows at most.
    pub async fn plan(&self, statement: &Statement, limit: Option<usize>) -> Result<Query> {
        let wrong = |e| words::wrong(&e, &statement.text);
        let state = self.context.state();
        let plan = state.statement_to_plan(statement.parsed.clone()).await.map_err(wrong)?;
        let mut frame = self.context.execute_logical_plan(plan).await.map_err(wrong)?;
        frame = titled(frame).map_err(wrong)?;
        if limit.is_some() {
            frame = frame.limit(0, limit).map_err(wrong)?;
        }
        let context = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await.and_then(threads::with_pauses).map_err(wrong)?;
        Ok(Query { plan, context })
    }

    /// The names of all functions, in order.
    pub fn functions(&self) -> Vec<String> {
        let state = self.context.state();
        let (scalar, aggregate) = (state.scalar_functions().keys(), state.aggregate_functions().keys());
        let (window, table) = (state.window_functions().keys(), state.table_functions().keys());
        let names: BTreeSet<&String> = scalar.chain(aggregate).chain(window).chain(table).collect();
        names.into_iter().cloned().collect()
    }
}

impl Statement {
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The error of a query that names a table which is none of `names`.
    pub fn no_table(&self, table: &TableName, names: &[&str]) -> Error {
        let what = format!("there is no table `{}`", table.name);
        let error = Error::usage(words::placed(&self.text, &what, table.place));
        let more = "a file is named in quotes: FROM 'folder/file.csv'";
        match words::near(&table.name, names, "tables") {
            Some(near) if near.ends_with('?') => error.hint(near),
            Some(near) => error.hint(format!("{near}; {more}")),
            None => error.hint(more),
        }
    }

    fn place_of(&self, table: &TableReference) -> Option<(u64, u64)> {
        let Parsed::Statement(statement) = &self.parsed else { return None };
        let found = visit_relations(statement.as_ref(), |name: &ast::ObjectName| {
            let last = name.0.last().and_then(|part| part.as_ident());
            match last.filter(|ident| ident.value.eq_ignore_ascii_case(table.table())) {
                Some(_) => ControlFlow::Break(name.span().start),
                None => ControlFlow::Continue(()),
            }
        });
        match found {
            ControlFlow::Break(start) => Some((start.line, start.column)),
            ControlFlow::Continue(()) => None,
        }
    }
}

/// With columns that are called as the query has them: `1` and not `Int64(1)`.
fn titled(frame: DataFrame) -> Result<DataFrame, DataFusionError> {
    let names = frame.schema().fields().iter().map(|field| field.name());
    let titles: Vec<String> = names.clone().map(|name| words::literals(name)).collect();
    let is_clear = titles.iter().collect::<BTreeSet<_>>().len() == titles.len();
    if !is_clear || names.eq(&titles) {
        return Ok(frame);
    }
    let columns = frame.schema().columns().into_iter().zip(titles);
    let columns = columns.map(|(column, title)| Expr::Column(column).alias(title)).collect::<Vec<_>>();
    frame.select(columns)
}

/// sqlparser takes all that follows IS DISTINCT FROM for its right side, AND and OR too, where everybody else
/// ends it there: `a IS DISTINCT FROM b AND c` would answer another question without a word.
fn refuse_misread(query: &ast::Query, text: &str) -> Result<()> {
    let misread = visit_expressions(query, |expr| match expr {
        ast::Expr::IsDistinctFrom(left, right) | ast::Expr::IsNotDistinctFrom(left, right) if matches!(&**right, ast::Expr::BinaryOp { op, .. } if is_junction(op)) =>
        {
            let start = left.span().start;
            ControlFlow::Break((start.line > 0).then_some((start.line, start.column)))
        }
        _ => ControlFlow::Continue(()),
    });
    let ControlFlow::Break(place) = misread else { return Ok(()) };
    let what = "AND or OR behind IS DISTINCT FROM would be taken for a part of it";
    Err(Error::usage(words::placed(text, what, place))
        .hint("put the comparison into brackets: (a IS DISTINCT FROM b) AND c"))
}

fn is_junction(op: &ast::BinaryOperator) -> bool {
    matches!(op, ast::BinaryOperator::And | ast::BinaryOperator::Or | ast::BinaryOperator::Xor)
}

fn first_word(sql: &str) -> String {
    sql.split_whitespace().next().unwrap_or_default().to_uppercase()
}

fn cannot_add(name: &str) -> Error {
    Error::failed(format!("cannot set up the table `{name}`"))
}

/// A planned SELECT.
#[derive(Debug, Clone)]
pub struct Query {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
}

/// What has been read of files and tables so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scanned {
    pub rows: u64,
    pub bytes: u64,
}

impl Query {
    /// The columns that [`Query::rows`] gives.
    pub fn schema(&self) -> SchemaRef {
        self.plan.schema()
    }

    /// Starts the query. It ends when the stream is dropped.
    pub fn rows(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        threads::run(Arc::clone(&self.plan), Arc::clone(&self.context))
    }

    pub fn scanned(&self) -> Scanned {
        explain::scanned(&self.plan)
    }

    /// The plan as a tree; with rows and times of what has run.
    pub fn operators(&self) -> Operator {
        explain::operator(&self.plan)
    }

    /// The same columns, texts as files of other programs have them: they do not all know views.
    pub fn plain_schema(&self) -> SchemaRef {
        let plain = |field: &Arc<Field>| match field.data_type() {
            DataType::Utf8View => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
            DataType::BinaryView => Arc::new(field.as_ref().clone().with_data_type(DataType::Binary)),
            _ => Arc::clone(field),
        };
        let fields: Vec<_> = self.schema().fields().iter().map(plain).collect();
        Arc::new(Schema::new(fields))
    }
}

/// A batch with the columns of [`Query::plain_schema`].
pub fn plain(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields());
    let cast = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
    cast.collect::<Result<Vec<_>, _>>()
        .and_then(|columns| RecordBatch::try_new(Arc::clone(schema), columns))
        .map_err(|e| Error::failed("cannot write texts as other programs read them").caused_by(e))
}
