//! What a DML statement does to a table: new rows are written, parts with rows that go are written again
//! without them, and all of it becomes visible in one commit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions,
    TimestampMicrosecondArray,
};
use datafusion::arrow::compute::{self, filter_record_batch};
use datafusion::arrow::datatypes::{Int64Type, Schema, TimestampMicrosecondType};
use datafusion::arrow::error::ArrowError;
use serde_json::{Value, json};

use super::dml::{Action, Layout, Planned};
use super::positions::as_stored;
use super::{Cancelled, drain, fit_values, query_failure, wording};
use crate::emulator::catalog::Catalog;
use crate::emulator::destination;
use crate::emulator::elements::check_arrays;
use crate::emulator::fields::{arrow_schema, timestamp_type};
use crate::emulator::files::{RowsWriter, Rule, conform, read_part};
use crate::emulator::names::TableName;
use crate::emulator::partitions::Partition;
use crate::emulator::versions::{Commit, Definition, Part, Version};
use crate::emulator::wire::{Failure, Outcome};

/// Refuses what has no rows of its own to change.
pub(super) fn check_target(definition: &Definition) -> Outcome<()> {
    match definition.kind() {
        "TABLE" => Ok(()),
        kind => Err(Failure::invalid_query(format!(
            "{} is not allowed for this operation because it is currently a {kind}.",
            definition.name.legacy()
        ))),
    }
}

/// The rows that go, by the place of their part; a bit is set for each that stays.
type Kept = BTreeMap<usize, BooleanBufferBuilder>;

/// Written, and not visible yet.
pub(super) struct Changes {
    target: TableName,
    /// What the changes were found in.
    version: Arc<Version>,
    /// In place of the part at that place of `version`: its other rows, if there are any.
    replaced: Vec<(usize, Vec<Part>)>,
    added: Vec<Part>,
    /// An INSERT does not.
    mutates: bool,
    /// See `Planned`.
    reads_others: bool,
    pub counts: Counts,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
}

impl Counts {
    /// Added to `statistics.query`.
    pub(super) fn document(&self, query: &mut Value) {
        let Counts { inserted, updated, deleted } = *self;
        query["numDmlAffectedRows"] = json!((inserted + updated + deleted).to_string());
        query["dmlStats"] = json!({
            "insertedRowCount": inserted.to_string(),
            "updatedRowCount": updated.to_string(),
            "deletedRowCount": deleted.to_string(),
        });
    }
}

/// Runs a planned statement into files.
pub(super) async fn write(planned: Planned, dir: PathBuf, cancelled: Cancelled) -> Outcome<Changes> {
    let Planned { target, version, prepared, layout, reads_others } = planned;
    let stop = Arc::clone(&cancelled);
    drain(prepared, cancelled, move |next| {
        let mut rows = Rows::new(&version, &layout, dir.clone())?;
        while let Some(batch) = next() {
            rows.take(&batch)?;
        }
        let Rows { writer, kept, counts, .. } = rows;
        let added = writer.finish()?;
        let mut replaced = Vec::with_capacity(kept.len());
        for (place, keep) in kept {
            if stop() {
                return Err(Failure::stopped());
            }
            replaced.push((place, without_rows(&version, place, keep, &dir)?));
        }
        let (version, mutates) = (Arc::clone(&version), layout.identified);
        Ok(Changes { target, version, replaced, added, mutates, reads_others, counts })
    })
    .await
}

/// Takes the result of a statement's query row by row.
struct Rows<'a> {
    version: &'a Version,
    layout: &'a Layout,
    writer: RowsWriter,
    kept: Kept,
    counts: Counts,
    now_us: i64,
}

impl<'a> Rows<'a> {
    fn new(version: &'a Version, layout: &'a Layout, dir: PathBuf) -> Outcome<Self> {
        let definition = &version.definition;
        let rule = match (&definition.partitioning, layout.time) {
            // The column beyond those of the table says where a row belongs.
            (Some(partitioning), Some(_)) => Rule::Column(definition.fields.len(), partitioning.by),
            _ => destination::rule(definition, None)?,
        };
        let writer = RowsWriter::new(&dir, arrow_schema(&definition.fields), rule);
        let now_us = chrono::Utc::now().timestamp_micros();
        Ok(Rows { version, layout, writer, kept: Kept::new(), counts: Counts::default(), now_us })
    }

    fn take(&mut self, batch: &RecordBatch) -> Outcome<()> {
        let actions = self.actions(batch)?;
        for (row, action) in actions.iter().enumerate() {
            match action {
                Action::Insert => self.counts.inserted += 1,
                Action::Update => self.counts.updated += 1,
                Action::Delete => self.counts.deleted += 1,
            }
            if *action != Action::Insert {
                self.forget(batch, row)?;
            }
        }
        if actions.iter().all(|action| *action == Action::Delete) {
            return Ok(());
        }
        let written: BooleanArray = actions.iter().map(|a| Some(*a != Action::Delete)).collect();
        let batch = filter_record_batch(batch, &written).map_err(unfit)?;
        let actions: Vec<Action> = actions.into_iter().filter(|a| *a != Action::Delete).collect();
        let mut rows = self.table_rows(&batch)?;
        rows = fit_values(rows, &self.version.definition.fields)
            .and_then(|rows| check_arrays(&rows).map(|()| rows))
            .map_err(|failure| Failure::invalid_query(failure.message))?;
        if let Some(index) = self.layout.time {
            rows = with_time(&rows, batch.column(index), &actions, self.now_us).map_err(unfit)?;
        }
        self.writer.write(&rows)
    }

    fn actions(&self, batch: &RecordBatch) -> Outcome<Vec<Action>> {
        if !self.layout.identified {
            return Ok(vec![Action::Insert; batch.num_rows()]);
        }
        let numbers = integers(batch, 2)?;
        let action = |row: usize| {
            let number = usize::try_from(numbers.as_primitive::<Int64Type>().value(row)).ok();
            let action = number.and_then(|number| self.layout.actions.get(number));
            action.copied().ok_or_else(|| Failure::backend("a row with an action that nobody asked for"))
        };
        (0..batch.num_rows()).map(action).collect()
    }

    /// Marks a row of the table as gone; a second time is the statement's mistake.
    fn forget(&mut self, batch: &RecordBatch, row: usize) -> Outcome<()> {
        let id = |column| -> Outcome<Option<usize>> {
            let ids = integers(batch, column)?;
            let ids = ids.as_primitive::<Int64Type>();
            Ok(if ids.is_null(row) { None } else { usize::try_from(ids.value(row)).ok() })
        };
        let unknown = || Failure::backend("a row that is not in the table");
        let (place, number) = (id(0)?.ok_or_else(unknown)?, id(1)?.ok_or_else(unknown)?);
        let part = self.version.parts.get(place).ok_or_else(unknown)?;
        let rows = usize::try_from(part.rows).map_err(|_| unknown())?;
        let kept = self.kept.entry(place).or_insert_with(|| {
            let mut all = BooleanBufferBuilder::new(rows);
            all.append_n(rows, true);
            all
        });
        if number >= rows {
            return Err(unknown());
        }
        if !kept.get_bit(number) {
            return Err(Failure::invalid_query(
                "UPDATE/MERGE must match at most one source row for each target row",
            ));
        }
        kept.set_bit(number, false);
        Ok(())
    }

    /// The result's columns as those of the table.
    fn table_rows(&self, batch: &RecordBatch) -> Outcome<RecordBatch> {
        let wanted = arrow_schema(&self.version.definition.fields);
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for &(column, index) in &self.layout.columns {
            let (found, wanted) = (batch.schema(), wanted.field(index));
            let value = as_stored(batch.column(column), wanted.data_type()).map_err(|e| query_failure(&e))?;
            let field = found.field(column).clone().with_data_type(value.data_type().clone());
            fields.push(field.with_name(wanted.name().clone()));
            columns.push(value);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
            .and_then(|rows| conform(&rows, &wanted))
            .map_err(unfit)
    }
}

fn integers(batch: &RecordBatch, column: usize) -> Outcome<ArrayRef> {
    let column = batch.columns().get(column).ok_or_else(|| Failure::backend("a row without a place"))?;
    compute::cast(column, &datafusion::arrow::datatypes::DataType::Int64).map_err(unfit)
}

fn unfit(error: ArrowError) -> Failure {
    wording::unfit("the values do not fit the table", &error)
}

/// The rows and, as their last column, when they belong to; new ones without a time belong to now.
fn with_time(
    rows: &RecordBatch,
    times: &ArrayRef,
    actions: &[Action],
    now_us: i64,
) -> Result<RecordBatch, ArrowError> {
    let times = compute::cast(times, &timestamp_type())?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let time =
        |(time, action): (Option<i64>, &Action)| time.or((*action == Action::Insert).then_some(now_us));
    let times: TimestampMicrosecondArray = times.iter().zip(actions).map(time).collect();
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(times.with_timezone("UTC")));
    let mut fields = rows.schema().fields().to_vec();
    let time = datafusion::arrow::datatypes::Field::new(super::scan::PARTITION_TIME, timestamp_type(), true);
    fields.push(Arc::new(time));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// The rows of a part that stay, in a part of their own.
fn without_rows(
    version: &Version,
    place: usize,
    mut keep: BooleanBufferBuilder,
    dir: &std::path::Path,
) -> Outcome<Vec<Part>> {
    let part = version.parts.get(place).ok_or_else(|| Failure::backend("a part that is gone"))?;
    let keep = keep.finish();
    if keep.count_set_bits() == 0 {
        return Ok(Vec::new());
    }
    let schema = arrow_schema(&version.definition.fields);
    let mut writer = RowsWriter::new(dir, Arc::clone(&schema), Rule::Fixed(part.partition));
    let mut offset = 0;
    for batch in read_part(part, &schema, 0, None)? {
        let batch = batch?;
        let mask = BooleanArray::new(keep.slice(offset, batch.num_rows()), None);
        offset += batch.num_rows();
        writer.write(&filter_record_batch(&batch, &mask).map_err(unfit)?)?;
    }
    writer.finish()
}

/// Whether the changes are made; if not, the table was changed in between and nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Committed {
    Done,
    Overtaken,
}

impl Changes {
    pub(super) fn commit(
        self,
        catalog: &Catalog,
        commit: Commit,
        job_is_done: impl Fn(&Commit) -> bool,
    ) -> Outcome<Committed> {
        let mut overtaken = false;
        let changed = catalog.table(&self.target)?.change(|version| {
            let partitions = self.partitions();
            let is_stale = self.reads_others && version.is_mutated(&partitions, &self.version);
            let places = places(version, &self.version, &self.replaced).filter(|_| !is_stale);
            let Some(mut places) = places else {
                overtaken = true;
                return Err(Failure::backend("the table was changed meanwhile"));
            };
            // From the end, so that the places before stay what they are.
            places.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
            for (place, parts) in places {
                version.parts.splice(place..=place, parts);
            }
            version.parts.extend(self.added);
            if self.mutates {
                version.mutate(partitions);
            }
            version.commits.retain(|commit| !job_is_done(commit));
            version.commits.push(commit);
            Ok(())
        });
        match changed {
            Ok(()) => Ok(Committed::Done),
            Err(_) if overtaken => Ok(Committed::Overtaken),
            Err(failure) => Err(failure),
        }
    }

    /// Those that rows come to or go from.
    fn partitions(&self) -> BTreeSet<Partition> {
        let replaced = self.replaced.iter().filter_map(|(place, _)| self.version.parts.get(*place));
        replaced.chain(&self.added).map(|part| part.partition).collect()
    }
}

/// Where the parts that are replaced are now; `None` when one is gone or the table is another.
fn places(
    version: &Version,
    scanned: &Version,
    replaced: &[(usize, Vec<Part>)],
) -> Option<Vec<(usize, Vec<Part>)>> {
    let (now, then) = (&version.definition, &scanned.definition);
    if now.birth != then.birth || now.fields != then.fields || now.partitioning != then.partitioning {
        return None;
    }
    let mut places = Vec::with_capacity(replaced.len());
    for (place, parts) in replaced {
        let file = scanned.parts.get(*place)?.file_ptr();
        // Appends come after, so most parts are where they were.
        let same_place = version.parts.get(*place).is_some_and(|part| part.file_ptr() == file);
        let found = match same_place {
            true => *place,
            false => version.parts.iter().position(|part| part.file_ptr() == file)?,
        };
        places.push((found, parts.clone()));
    }
    Some(places)
}

#[cfg(test)]
mod tests;
