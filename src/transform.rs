//! Decoded records through the pipeline's SQL: one SELECT over `records` gives the staged rows.
//!
//! `records` has the pipeline's columns and `_seq`, the place in the stream. The result must have
//! the pipeline's columns and `day`; their order does not matter. The SQL is that part of GoogleSQL which
//! means here what it means in BigQuery (see `engine::googlesql`).

use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::Column as ColumnName;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, cast};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::DataFrame;
use datafusion::sql::parser::Statement;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;

use crate::engine::googlesql::{self, Subject};
use crate::engine::{Engine, latest, said, type_name};
use crate::error::{Error, Result};
use crate::schema::{ColumnType, Columns, DAY_COLUMN, SEQ_COLUMN};

/// Decoded batches on their way in; an error among them ends the query with that error.
pub type Input = mpsc::Receiver<Result<RecordBatch>>;

/// A pipeline's SQL, checked.
#[derive(Debug, Clone)]
pub struct Transform {
    engine: Engine,
    statement: Statement,
    columns: Columns,
    output: SchemaRef,
}

/// Staged rows as they come out of the SQL.
pub type Output = BoxStream<'static, Result<RecordBatch>>;

/// Asked once the output has ended.
#[derive(Debug)]
pub struct Tally(Arc<dyn ExecutionPlan>);

impl Tally {
    /// Records that a later version replaced, as the operator counted them. `None` when the SQL
    /// removes duplicates in a way that cannot be counted.
    pub fn duplicates(&self) -> Option<u64> {
        latest::duplicates(&self.0)
    }
}

impl Transform {
    /// Plans the SQL over no records, so that a mistake in it is found before anything is fetched.
    pub async fn new(engine: &Engine, sql: &str, columns: &Columns) -> Result<Transform> {
        let mut fields: Vec<Arc<Field>> = columns.arrow().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(DAY_COLUMN, DataType::Int64, false)));
        let transform = Transform {
            engine: engine.clone(),
            statement: subject(columns).translate(sql)?,
            columns: columns.clone(),
            output: Arc::new(Schema::new(fields)),
        };
        let (_, nothing) = mpsc::channel(1);
        let planned = transform.plan(nothing).await?;
        planned.create_physical_plan().await.map_err(|e| wrong_sql(e, "it cannot be planned"))?;
        Ok(transform)
    }

    /// Starts the SQL on one window's records.
    pub async fn run(&self, input: Input) -> Result<(Output, Tally)> {
        let frame = self.plan(input).await?;
        let context = frame.task_ctx();
        let plan = frame.create_physical_plan().await.map_err(|e| wrong_sql(e, "it cannot be planned"))?;
        let stream = datafusion::physical_plan::execute_stream(Arc::clone(&plan), Arc::new(context))
            .map_err(|e| wrong_sql(e, "it cannot be started"))?;
        let output = Arc::clone(&self.output);
        let checked = stream.map(move |batch| {
            let batch = batch.map_err(sql_failed)?;
            RecordBatch::try_new(Arc::clone(&output), batch.columns().to_vec()).map_err(|e| {
                Error::failed("`stage.sql` gave rows that do not fit the pipeline's columns").caused_by(e)
            })
        });
        Ok((checked.boxed(), Tally(plan)))
    }

    async fn plan(&self, input: Input) -> Result<DataFrame> {
        let session = self.engine.session();
        googlesql::install(&session);
        let records = Records::new(&self.columns, input);
        let table = StreamingTable::try_new(Arc::clone(&records.schema), vec![Arc::new(records)])
            .map_err(|e| Error::failed("cannot set up the table `records`").caused_by(e))?;
        session
            .register_table("records", Arc::new(table))
            .map_err(|e| Error::failed("cannot set up the table `records`").caused_by(e))?;
        let planned = session.state().statement_to_plan(self.statement.clone()).await;
        let planned = planned.map_err(|e| wrong_sql(e, "it cannot be planned"))?;
        let frame = session.execute_logical_plan(planned).await;
        let frame = frame.map_err(|e| wrong_sql(e, "it cannot be planned"))?;
        let mut select: Vec<Expr> = Vec::with_capacity(self.output.fields().len());
        for field in self.output.fields() {
            // The names of BigQuery's columns ignore case.
            let name = field.name().to_lowercase();
            let found = frame.schema().field_with_unqualified_name(&name);
            let found = found.map_err(|_| {
                Error::usage(format!("`stage.sql` gives no column `{}`", field.name()))
                    .hint("it must give every column of the pipeline, and `day`")
            })?;
            let same = found.data_type() == field.data_type();
            if !same && !is_lossless(found.data_type(), field.data_type()) {
                let (found, wanted) = (type_name(found.data_type()), type_name(field.data_type()));
                let name = field.name();
                return Err(Error::usage(format!("`stage.sql` gives `{name}` as {found}, not as {wanted}"))
                    .hint("write the CAST into the SQL, if it is meant"));
            }
            let column = Expr::Column(ColumnName::from_name(name));
            let column = if same { column } else { cast(column, field.data_type().clone()) };
            select.push(column.alias(field.name()));
        }
        frame.select(select).map_err(|e| wrong_sql(e, "its columns cannot be selected"))
    }
}

/// What the SQL is about.
fn subject(columns: &Columns) -> Subject {
    let records = columns.iter().map(|column| (column.name.clone(), column.kind));
    Subject {
        file: "stage.sql",
        table: "records",
        columns: records.chain([(SEQ_COLUMN.to_owned(), ColumnType::Int64)]).collect(),
        unique: SEQ_COLUMN,
    }
}

/// Casts that keep every value as it is.
fn is_lossless(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, LargeUtf8, Timestamp, UInt8, UInt16, UInt32,
        Utf8, Utf8View,
    };
    match (from, to) {
        (Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32, Int64) => true,
        (Float32 | Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32, Float64) => true,
        (Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32, Decimal128(..)) => true,
        (Decimal128(from, from_scale), Decimal128(to, to_scale)) => {
            from_scale <= to_scale
                && i16::from(*from) - i16::from(*from_scale) <= i16::from(*to) - i16::from(*to_scale)
        }
        (Utf8View | LargeUtf8, Utf8) => true,
        (Timestamp(from, _), Timestamp(to, _)) => from == to,
        _ => false,
    }
}

fn wrong_sql(error: DataFusionError, why: &str) -> Error {
    Error::usage(format!("`stage.sql` is wrong, {why}: {}", said(&error)))
        .hint("`records` has the pipeline's columns and `_seq`; name your own file in `transform.sql`")
}

/// Our own errors pass through DataFusion and come out as they went in.
fn sql_failed(mut error: DataFusionError) -> Error {
    let cause: Box<dyn std::error::Error + Send + Sync> = loop {
        error = match error {
            DataFusionError::Context(_, inner) => *inner,
            DataFusionError::External(inner) => break inner,
            DataFusionError::ArrowError(inner, _) => match *inner {
                ArrowError::ExternalError(inner) => break inner,
                other => break Box::new(other),
            },
            DataFusionError::ResourcesExhausted(why) => {
                return Error::failed(format!("the SQL ran out of memory or disk: {why}")).hint(
                    "raise `limits.memory_mib`, or point `limits.spill_dir` to a disk with more space",
                );
            }
            other => break other.strip_backtrace().into(),
        };
    };
    match cause.downcast::<Error>() {
        Ok(ours) => *ours,
        Err(other) if other.to_string().contains("No space left") => {
            Error::failed("the SQL cannot spill to disk").caused_by(other).hint(
                "free some space, or point `limits.spill_dir` (by default a folder in the stage) to a larger disk",
            )
        }
        Err(other) => Error::failed("the SQL failed").caused_by(other),
    }
}

/// The table `records`: one partition, read once, in stream order.
#[derive(Debug)]
struct Records {
    schema: SchemaRef,
    input: Mutex<Option<Input>>,
}

impl Records {
    fn new(columns: &Columns, input: Input) -> Self {
        let lower =
            |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_name(field.name().to_lowercase()));
        let mut fields: Vec<Arc<Field>> = columns.arrow().fields().iter().map(lower).collect();
        fields.push(Arc::new(Field::new(SEQ_COLUMN, DataType::Int64, false)));
        Records { schema: Arc::new(Schema::new(fields)), input: Mutex::new(Some(input)) }
    }
}

impl PartitionStream for Records {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let input = self.input.lock().ok().and_then(|mut input| input.take());
        let schema = Arc::clone(&self.schema);
        let stream = futures::stream::unfold((input, 0i64), move |(input, next)| {
            let schema = Arc::clone(&schema);
            async move {
                let Some(mut input) = input else {
                    let again = "`records` can be read only once; name it once in the SQL";
                    // The first read took the input; an error now is better than a second, empty answer.
                    return (next == 0).then(|| (Err(DataFusionError::Plan(again.into())), (None, -1)));
                };
                let batch = match input.recv().await? {
                    Ok(batch) => batch,
                    Err(error) => return Some((Err(DataFusionError::External(Box::new(error))), (None, -1))),
                };
                let rows = i64::try_from(batch.num_rows()).expect("a batch is smaller than 2^63 rows");
                let seq: ArrayRef = Arc::new(Int64Array::from_iter_values(next..next + rows));
                let mut columns = batch.columns().to_vec();
                columns.push(seq);
                let numbered = RecordBatch::try_new(schema, columns).map_err(DataFusionError::from);
                Some((numbered, (Some(input), next + rows)))
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream))
    }
}
