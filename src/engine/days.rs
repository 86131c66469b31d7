//! Staged Parquet files as one table whose rows have a day. A query that names days opens only the files
//! of those: which days it names is found out before any file is touched.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use chrono::DateTime;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, DataFusionError, ScalarValue, Statistics, project_schema};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::ObjectMeta;
use object_store::path::Path as ObjectPath;
use url::Url;

use super::Joins;
use crate::error::{Error, Kind};
use crate::schema::DAY_COLUMN;

type Result<T, E = DataFusionError> = std::result::Result<T, E>;

/// The files of one day.
#[derive(Debug, Clone)]
pub struct DayFiles {
    /// 1-based.
    pub day: i64,
    pub files: Vec<DayFile>,
}

/// One file, as the journal knows it.
#[derive(Debug, Clone)]
pub struct DayFile {
    /// `gs://…` or `file://…`
    pub url: String,
    pub rows: u64,
    pub bytes: u64,
}

#[derive(Debug)]
pub(super) struct DaysTable {
    days: Vec<DayFiles>,
    columns: TableSchema,
    store: ObjectStoreUrl,
}

impl DaysTable {
    /// `columns` are those of the files; the day comes behind them.
    pub(super) fn new(days: Vec<DayFiles>, columns: &Schema, store: ObjectStoreUrl, joins: Joins) -> Self {
        // Views of texts need no copy of what is read. But all batches that share a page count it as theirs,
        // which exhausts the memory of a sort long before it is full.
        let viewed = |field: &Arc<Field>| match field.data_type() {
            DataType::Utf8 if joins == Joins::Hashed => {
                Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View))
            }
            _ => Arc::clone(field),
        };
        let columns = Schema::new(columns.fields().iter().map(viewed).collect::<Vec<_>>());
        let day = vec![Arc::new(Field::new(DAY_COLUMN, DataType::Int64, false))];
        let columns = TableSchema::builder(Arc::new(columns)).with_table_partition_cols(day).build();
        DaysTable { days, columns, store }
    }

    /// Which days can have rows for which `filters`, that only ask for the day, are true.
    fn wanted(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<bool>> {
        let decided = filters.iter().filter(|filter| is_of_day(filter)).cloned();
        let Some(predicate) = conjunction(decided) else { return Ok(vec![true; self.days.len()]) };
        let schema = Arc::new(Schema::new(self.columns.table_partition_cols().clone()));
        let predicate = state.create_physical_expr(predicate, &DFSchema::try_from(Arc::clone(&schema))?)?;
        let days = Int64Array::from_iter_values(self.days.iter().map(|day| day.day));
        let days = RecordBatch::try_new(schema, vec![Arc::new(days)])?;
        let kept = predicate.evaluate(&days)?.into_array(days.num_rows())?;
        let kept = kept.as_boolean();
        Ok((0..kept.len()).map(|row| kept.is_valid(row) && kept.value(row)).collect())
    }

    fn file(&self, day: i64, file: &DayFile) -> Result<PartitionedFile> {
        let url = Url::parse(&file.url).map_err(|e| DataFusionError::External(Box::new(e)))?;
        check(&url, file).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let meta = ObjectMeta {
            location: ObjectPath::from_url_path(url.path())?,
            last_modified: DateTime::default(),
            size: file.bytes,
            e_tag: None,
            version: None,
        };
        let statistics = Statistics {
            num_rows: usize::try_from(file.rows).map_or(Precision::Absent, Precision::Inexact),
            ..Statistics::new_unknown(self.columns.file_schema())
        };
        Ok(PartitionedFile::new_from_meta(meta)
            .with_partition_values(vec![ScalarValue::Int64(Some(day))])
            .with_statistics(Arc::new(statistics)))
    }
}

impl DayFile {
    /// Finds a file that is gone or was cut, before it is read.
    pub fn check(&self) -> crate::error::Result<()> {
        let wrong = |e| Error::new(Kind::Damaged, format!("`{}` is no URL", self.url)).caused_by(e);
        check(&Url::parse(&self.url).map_err(wrong)?, self)
    }
}

/// A file that is gone or was cut is found before it is read, and told by its name.
fn check(url: &Url, file: &DayFile) -> crate::error::Result<()> {
    let Some(path) = url.to_file_path().ok().filter(|_| url.scheme() == "file") else { return Ok(()) };
    let damaged = |why: String| {
        let shown = path.display();
        Err(Error::new(Kind::Damaged, format!("staged file `{shown}` {why}"))
            .hint("the same `api2bq backfill` again puts it back; `api2bq verify` names all that are wrong"))
    };
    match std::fs::metadata(&path) {
        Ok(found) if found.len() == file.bytes => Ok(()),
        Ok(found) => damaged(format!("has {} bytes and not the {} of the journal", found.len(), file.bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => damaged("is gone".to_owned()),
        Err(error) => damaged(format!("cannot be read: {error}")),
    }
}

fn is_of_day(filter: &Expr) -> bool {
    let columns = filter.column_refs();
    !columns.is_empty() && columns.iter().all(|column| column.name == DAY_COLUMN) && !filter.is_volatile()
}

#[async_trait::async_trait]
impl TableProvider for DaysTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.columns.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match is_of_day(filter) {
            true => TableProviderFilterPushDown::Exact,
            // Row groups are passed over by it.
            false => TableProviderFilterPushDown::Inexact,
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
        let wanted = self.wanted(state, filters)?;
        let mut files = Vec::new();
        for (day, _) in self.days.iter().zip(wanted).filter(|(_, wanted)| *wanted) {
            for file in &day.files {
                files.push(self.file(day.day, file)?);
            }
        }
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema(), projection)?)));
        }
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let source = Arc::new(ParquetSource::new(self.columns.clone()));
        let config = FileScanConfigBuilder::new(self.store.clone(), source)
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        let format = ParquetFormat::default().with_options(state.default_table_options().parquet);
        format.create_physical_plan(state, config).await
    }
}
