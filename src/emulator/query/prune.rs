//! Which partitions a filter leaves.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::Session;
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, Result, ScalarValue, Statistics};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use crate::emulator::partitions::{By, Partition};
use crate::emulator::versions::{Part, Version};

/// What is known about the partitioning column, or a pseudo column, of one partition.
#[derive(Debug, Clone, PartialEq)]
enum Values {
    /// From the first to the last.
    Between(ScalarValue, ScalarValue),
    Null,
    Unknown,
}

/// The parts that can hold rows for which `predicate`, which has only columns of `schema`, is true.
/// Those are the partitioning column, or the pseudo columns when there is none.
pub(super) fn wanted_parts(
    state: &dyn Session,
    version: &Version,
    schema: Schema,
    predicate: Expr,
) -> Result<Vec<(usize, Part)>> {
    let schema = Arc::new(schema);
    let predicate = state.create_physical_expr(predicate, &DFSchema::try_from(Arc::clone(&schema))?)?;
    let mut partitions: Vec<Partition> = version.parts.iter().map(|p| p.partition).collect();
    partitions.sort_unstable();
    partitions.dedup();
    let by = version.definition.partitioning.as_ref().map(|p| p.by).unwrap_or_default();
    let of_partition = |partition: &Partition| -> Vec<Values> {
        schema.fields().iter().map(|field| values(*partition, by, field.data_type())).collect()
    };
    let known: Vec<Vec<Values>> = partitions.iter().map(of_partition).collect();
    let kept = match points(&known)? {
        Some(columns) => evaluate(&predicate, &schema, columns)?,
        None => bounded(&predicate, &schema, &known)?,
    };
    let kept: Vec<Partition> = partitions
        .into_iter()
        .zip(kept)
        .filter(|(partition, kept)| *kept || *partition == Partition::Unpartitioned)
        .map(|(partition, _)| partition)
        .collect();
    let parts = version.parts.iter().cloned().enumerate();
    Ok(parts.filter(|(_, part)| kept.binary_search(&part.partition).is_ok()).collect())
}

/// A time column of a partition is between its bounds; a pseudo column is its first moment.
fn values(partition: Partition, by: By, column: &DataType) -> Values {
    const DAY_US: i64 = 86_400_000_000;
    let day = |us: i64| i32::try_from(us.div_euclid(DAY_US)).ok().map(|day| ScalarValue::Date32(Some(day)));
    match (partition, column) {
        (Partition::Null, _) => Values::Null,
        (Partition::Range(start), DataType::Int64) => {
            let By::Range { interval, .. } = by else { return Values::Unknown };
            Values::Between(start.into(), start.saturating_add(interval - 1).into())
        }
        (Partition::Time(..), DataType::Date32) => match partition.bounds_us() {
            Some((start, end)) => match (day(start), day(end - 1)) {
                (Some(first), Some(last)) => Values::Between(first, last),
                _ => Values::Unknown,
            },
            None => Values::Unknown,
        },
        (Partition::Time(..), DataType::Timestamp(_, zone)) => match partition.bounds_us() {
            Some((start, end)) => {
                let moment = |us| ScalarValue::TimestampMicrosecond(Some(us), zone.clone());
                Values::Between(moment(start), moment(end - 1))
            }
            None => Values::Unknown,
        },
        _ => Values::Unknown,
    }
}

/// The columns, when every partition has one value in each: then any filter can be decided exactly.
fn points(known: &[Vec<Values>]) -> Result<Option<Vec<ArrayRef>>> {
    let Some(columns) = known.first().map(Vec::len) else { return Ok(None) };
    let mut arrays = Vec::with_capacity(columns);
    for column in 0..columns {
        let mut scalars = Vec::with_capacity(known.len());
        // NULL has the type of the other values of its column.
        let null = known.iter().find_map(|partition| match &partition[column] {
            Values::Between(first, _) => Some(ScalarValue::try_from(first.data_type())),
            _ => None,
        });
        let Some(null) = null.transpose()? else { return Ok(None) };
        for partition in known {
            match &partition[column] {
                Values::Between(first, last) if first == last => scalars.push(first.clone()),
                Values::Null => scalars.push(null.clone()),
                _ => return Ok(None),
            }
        }
        arrays.push(ScalarValue::iter_to_array(scalars)?);
    }
    Ok(Some(arrays))
}

fn evaluate(
    predicate: &Arc<dyn PhysicalExpr>,
    schema: &Arc<Schema>,
    columns: Vec<ArrayRef>,
) -> Result<Vec<bool>> {
    let batch = RecordBatch::try_new(Arc::clone(schema), columns)?;
    let kept = predicate.evaluate(&batch)?.into_array(batch.num_rows())?;
    Ok(match kept.as_any().downcast_ref::<BooleanArray>() {
        Some(kept) => kept.iter().map(|kept| kept == Some(true)).collect(),
        None => vec![true; batch.num_rows()],
    })
}

/// Comparisons with constants, decided by the first and last value.
fn bounded(
    predicate: &Arc<dyn PhysicalExpr>,
    schema: &Arc<Schema>,
    known: &[Vec<Values>],
) -> Result<Vec<bool>> {
    // Counts are only compared with each other: all values of a partition are NULL, or none is.
    let rows = Precision::Exact(1);
    let column = |(values, field): (&Values, &Arc<Field>)| -> Result<ColumnStatistics> {
        let bounds = |first, last, null_count| ColumnStatistics {
            min_value: Precision::Exact(first),
            max_value: Precision::Exact(last),
            null_count,
            ..ColumnStatistics::new_unknown()
        };
        // A NULL of the column's type says that a bound is not known.
        let null = ScalarValue::try_from(field.data_type())?;
        Ok(match values {
            Values::Between(first, last) => bounds(first.clone(), last.clone(), Precision::Exact(0)),
            Values::Null => bounds(null.clone(), null, rows),
            Values::Unknown => bounds(null.clone(), null, Precision::Absent),
        })
    };
    let mut statistics = Vec::with_capacity(known.len());
    for partition in known {
        let columns = partition.iter().zip(schema.fields()).map(column);
        let column_statistics = columns.collect::<Result<Vec<_>>>()?;
        let total_byte_size = Precision::Absent;
        statistics.push(Arc::new(Statistics { num_rows: rows, total_byte_size, column_statistics }));
    }
    let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
    match builder.try_build(Arc::clone(predicate)) {
        Ok(pruning) => pruning.prune(&PrunableStatistics::new(statistics, Arc::clone(schema))),
        // What it cannot look into eliminates nothing.
        Err(_) => Ok(vec![true; known.len()]),
    }
}
