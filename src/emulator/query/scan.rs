//! A table as DataFusion sees it: lower-case columns, the two pseudo columns, and only the partitions that
//! a filter leaves.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use datafusion::arrow::array::{
    ArrayRef, Date32Array, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use super::prune::wanted_parts;
use crate::emulator::fields::{arrow_schema, timestamp_type};
use crate::emulator::files::{places, read_part};
use crate::emulator::partitions::{Granularity, Partition};
use crate::emulator::versions::{Part, Version};
use crate::emulator::wire::Failure;

pub(super) const PARTITION_TIME: &str = "_partitiontime";
pub(super) const PARTITION_DATE: &str = "_partitiondate";
/// Where a row is: the index of its part in the version, and its number in there. No name in a query can be
/// so, because a table's columns do not begin with `#`.
pub(super) const ROW_PART: &str = "#part";
pub(super) const ROW_NUMBER: &str = "#row";

#[derive(Debug)]
pub(super) struct ScanTable {
    pub version: Arc<Version>,
    schema: SchemaRef,
    stored_columns: usize,
    /// Whether the rows are to be changed: all their columns count as read then.
    whole_rows: AtomicBool,
    /// Logical bytes of the columns and partitions that the plan reads.
    bytes: AtomicU64,
    partitions: AtomicU64,
}

impl ScanTable {
    pub(super) fn new(version: Arc<Version>) -> Self {
        let stored = arrow_schema(&version.definition.fields);
        let mut fields: Vec<Field> =
            stored.fields().iter().map(|f| f.as_ref().clone().with_name(f.name().to_lowercase())).collect();
        let stored_columns = fields.len();
        if version.definition.is_ingestion_partitioned() {
            fields.push(Field::new(PARTITION_TIME, timestamp_type(), true));
        }
        // Tables by hour, month or year have no day to show.
        if version.definition.ingestion_granularity() == Some(Granularity::Day) {
            fields.push(Field::new(PARTITION_DATE, DataType::Date32, true));
        }
        fields.push(Field::new(ROW_PART, DataType::Int64, true));
        fields.push(Field::new(ROW_NUMBER, DataType::Int64, true));
        ScanTable {
            version,
            schema: Arc::new(Schema::new(fields)),
            stored_columns,
            whole_rows: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            partitions: AtomicU64::new(0),
        }
    }

    pub(super) fn count_whole_rows(&self) {
        self.whole_rows.store(true, Ordering::Relaxed);
    }

    /// Known once a plan is made.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn partitions_read(&self) -> u64 {
        self.partitions.load(Ordering::Relaxed)
    }

    /// The columns that partitions are eliminated by, in lower case.
    pub(super) fn partition_columns(&self) -> Vec<String> {
        let definition = &self.version.definition;
        match definition.partition_field() {
            Some(field) => vec![field.name.to_lowercase()],
            None if definition.is_ingestion_partitioned() => {
                let pseudo = [PARTITION_TIME, PARTITION_DATE].into_iter();
                pseudo.filter(|c| self.schema.field_with_name(c).is_ok()).map(str::to_owned).collect()
            }
            None => Vec::new(),
        }
    }

    /// Whether all columns of `filter` are partition columns, so that it can be decided per partition.
    fn is_decided_by_partition(&self, filter: &Expr) -> bool {
        let columns = filter.column_refs();
        let partition = self.partition_columns();
        !columns.is_empty() && columns.iter().all(|c| partition.contains(&c.name)) && !filter.is_volatile()
    }

    /// The parts, with their places, that can hold rows for which `filters` are true.
    fn wanted_parts(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<(usize, Part)>> {
        let decided: Vec<Expr> =
            filters.iter().filter(|f| self.is_decided_by_partition(f)).cloned().collect();
        let Some(predicate) = conjunction(decided) else {
            return Ok(self.version.parts.iter().cloned().enumerate().collect());
        };
        let columns = self.partition_columns();
        let fields = columns.iter().map(|name| self.schema.field_with_name(name).cloned());
        let schema = Schema::new(fields.collect::<std::result::Result<Vec<_>, _>>()?);
        wanted_parts(state, &self.version, schema, predicate)
    }
}

#[async_trait::async_trait]
impl TableProvider for ScanTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.is_decided_by_partition(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let columns = projection.unwrap_or(&all);
        let schema = Arc::new(self.schema.project(columns)?);
        let mut parts = self.wanted_parts(state, filters)?;
        let bytes: u64 = match self.whole_rows.load(Ordering::Relaxed) {
            true => parts.iter().map(|(_, part)| part.logical_bytes()).sum(),
            false => parts
                .iter()
                .flat_map(|(_, part)| schema.fields().iter().filter_map(|f| part.column_bytes.get(f.name())))
                .filter_map(serde_json::Value::as_u64)
                .sum(),
        };
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.version.definition.partitioning.is_some() {
            let partitions: BTreeSet<Partition> = parts.iter().map(|(_, part)| part.partition).collect();
            self.partitions.fetch_add(partitions.len() as u64, Ordering::Relaxed);
        }

        let stored: Vec<usize> = columns.iter().copied().filter(|c| *c < self.stored_columns).collect();
        let stored = Arc::new(self.schema.project(&stored)?);
        // Where the order of arrival matters (see `engine::latest`), nothing is read side by side, and it is not that
        // in which load jobs happened to end: from partition to partition keys mostly rise.
        let streams = match state.config_options().optimizer.repartition_file_scans {
            true => state.config().target_partitions().clamp(1, parts.len().max(1)),
            false => {
                parts.sort_by_key(|(_, part)| part.partition);
                1
            }
        };
        let mut groups: Vec<Vec<(usize, Part)>> = vec![Vec::new(); streams];
        let total: u64 = parts.iter().map(|(_, part)| part.rows).sum();
        let mut before = 0;
        for (place, part) in parts {
            // Neighbours stay together: the order of a table without ORDER BY is stable then.
            let group = usize::try_from(before * streams as u64 / total.max(1)).unwrap_or(0);
            before += part.rows;
            groups[group.min(streams - 1)].push((place, part));
        }
        let partitions = groups
            .into_iter()
            .map(|parts| {
                let (schema, stored) = (Arc::clone(&schema), Arc::clone(&stored));
                Arc::new(PartsStream { parts, schema, stored }) as Arc<dyn PartitionStream>
            })
            .collect();
        Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, [], false, limit)?))
    }
}

/// The rows of some parts, one after the other.
#[derive(Debug)]
struct PartsStream {
    /// With their places in the version.
    parts: Vec<(usize, Part)>,
    schema: SchemaRef,
    stored: SchemaRef,
}

impl PartitionStream for PartsStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), 2);
        let (sender, parts) = (builder.tx(), self.parts.clone());
        let (schema, stored) = (Arc::clone(&self.schema), Arc::clone(&self.stored));
        builder.spawn_blocking(move || {
            for (place, part) in parts {
                let mut rows = RowIds { place: place as i64, next: 0 };
                for batch in read_part(&part, &stored, 0, None).map_err(external)? {
                    let batch = batch.map_err(external)?;
                    let batch = with_pseudo_columns(&batch, &schema, part.partition, &mut rows)?;
                    if sender.blocking_send(Ok(batch)).is_err() {
                        return Ok(()); // nobody reads any more: a LIMIT is reached or the query is cancelled
                    }
                }
            }
            Ok(())
        });
        builder.build()
    }
}

fn external(failure: Failure) -> DataFusionError {
    DataFusionError::External(failure.message.into())
}

/// Counts the rows of one part.
struct RowIds {
    place: i64,
    next: i64,
}

fn with_pseudo_columns(
    rows: &RecordBatch,
    schema: &SchemaRef,
    partition: Partition,
    ids: &mut RowIds,
) -> Result<RecordBatch> {
    let count = rows.num_rows();
    let start_us = partition.bounds_us().map(|(start, _)| start);
    let stored = rows.schema();
    let places = places(stored.fields().iter().map(|f| f.name().as_str()));
    let column = |name: &str| places.get(name).map(|place| rows.column(*place));
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| match (field.name().as_str(), column(field.name())) {
            (_, Some(stored)) => Arc::clone(stored),
            (PARTITION_DATE, None) => {
                let day = start_us.and_then(|us| i32::try_from(us.div_euclid(86_400_000_000)).ok());
                Arc::new(Date32Array::from(vec![day; count])) as ArrayRef
            }
            (ROW_PART, None) => Arc::new(Int64Array::from(vec![ids.place; count])),
            (ROW_NUMBER, None) => Arc::new(Int64Array::from_iter_values((ids.next..).take(count))),
            (_, None) => {
                Arc::new(TimestampMicrosecondArray::from(vec![start_us; count]).with_timezone("UTC"))
            }
        })
        .collect();
    ids.next += count as i64;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// The scan behind a plan's table source.
pub(super) fn scan_table(provider: &dyn TableProvider) -> Option<&ScanTable> {
    (provider as &dyn Any).downcast_ref::<ScanTable>()
}
