//! The operator: collect, decide, emit.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{Distribution, PhysicalSortExpr};
use datafusion::physical_plan::distribution_requirements::InputDistributionRequirements;
use datafusion::physical_plan::execution_plan::{
    Boundedness, CardinalityEffect, EmissionType, apply_expression_roots,
};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    Partitioning, PhysicalExpr, PlanProperties, ReplaceChildrenOptions,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::Limits;
use super::decide::{Comparison, Decision};
use super::spool::{Columns, Scan, Spool, Spooled};
use super::stale::Stale;
use super::watch::Watch;

/// Yields the first row by `order` of each `key`, in the order of arrival. See [the module](super).
#[derive(Debug, Clone)]
pub struct LatestPerKeyExec {
    input: Arc<dyn ExecutionPlan>,
    key: Vec<Arc<dyn PhysicalExpr>>,
    order: Vec<PhysicalSortExpr>,
    limits: Limits,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl LatestPerKeyExec {
    pub fn new(
        input: Arc<dyn ExecutionPlan>,
        key: Vec<Arc<dyn PhysicalExpr>>,
        order: Vec<PhysicalSortExpr>,
        limits: Limits,
    ) -> Self {
        let boundedness = match input.boundedness() {
            Boundedness::Bounded => Boundedness::Bounded,
            Boundedness::Unbounded { .. } => Boundedness::Unbounded { requires_infinite_memory: true },
        };
        let properties = PlanProperties::new(
            input.equivalence_properties().clone(),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            boundedness,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        LatestPerKeyExec { input, key, order, limits, metrics, properties: Arc::new(properties) }
    }

    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// Rows removed so far.
    pub fn duplicates(&self) -> u64 {
        self.metrics.clone_inner().sum_by_name("duplicates").map_or(0, |value| value.as_usize() as u64)
    }

    /// The columns that key and order read, and both rewritten to a batch of only these.
    fn comparison(&self) -> Result<(Vec<usize>, Comparison)> {
        let exprs = self.key.iter().chain(self.order.iter().map(|sort| &sort.expr));
        let mut hot: Vec<usize> = exprs.flat_map(collect_columns).map(|column| column.index()).collect();
        hot.sort_unstable();
        hot.dedup();
        // By position, not by name: the columns of a join may share a name.
        let on_hot = |expr: &Arc<dyn PhysicalExpr>| {
            let moved = Arc::clone(expr).transform(|expr| {
                let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
                let index = hot.binary_search(&column.index());
                let index = index.map_err(|_| internal_datafusion_err!("`{column}` is not a hot column"))?;
                Ok(Transformed::yes(Arc::new(Column::new(column.name(), index)) as Arc<dyn PhysicalExpr>))
            });
            moved.data()
        };
        let key = self.key.iter().map(on_hot).collect::<Result<_>>()?;
        let mut order = Vec::with_capacity(self.order.len());
        for sort in &self.order {
            order.push(PhysicalSortExpr::new(on_hot(&sort.expr)?, sort.options));
        }
        let comparison = Comparison::new(key, order, &self.schema().project(&hot)?)?;
        Ok((hot, comparison))
    }
}

impl DisplayAs for LatestPerKeyExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let key: Vec<String> = self.key.iter().map(ToString::to_string).collect();
        let order: Vec<String> = self.order.iter().map(ToString::to_string).collect();
        let (key, order) = (key.join(", "), order.join(", "));
        match format {
            DisplayFormatType::TreeRender => write!(f, "key: {key}\norder: {order}"),
            _ => write!(f, "LatestPerKeyExec: key=[{key}], order=[{order}]"),
        }
    }
}

impl ExecutionPlan for LatestPerKeyExec {
    fn name(&self) -> &str {
        "LatestPerKeyExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(self.key.iter().chain(self.order.iter().map(|sort| &sort.expr)), f)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("LatestPerKeyExec has one input");
        };
        let (key, order) = (self.key.clone(), self.order.clone());
        Ok(Arc::new(LatestPerKeyExec::new(input, key, order, self.limits)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let partitions = self.input.output_partitioning().partition_count();
        if partitions != 1 {
            return internal_err!("LatestPerKeyExec needs all rows in one partition, not {partitions}");
        }
        let (hot, comparison) = self.comparison()?;
        let work = Work {
            input: self.input.execute(partition, Arc::clone(&context))?,
            first_key: Arc::clone(&self.key[0]),
            comparison,
            hot,
            limits: self.limits,
            context,
            output: BaselineMetrics::new(&self.metrics, partition),
            duplicates: MetricBuilder::new(&self.metrics).counter("duplicates", partition),
            passes: MetricBuilder::new(&self.metrics).counter("passes", partition),
            spilled_bytes: MetricBuilder::new(&self.metrics).spilled_bytes(partition),
        };
        let stream = stream::once(work.run()).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// One execution.
struct Work {
    input: SendableRecordBatchStream,
    first_key: Arc<dyn PhysicalExpr>,
    comparison: Comparison,
    hot: Vec<usize>,
    limits: Limits,
    context: Arc<TaskContext>,
    output: BaselineMetrics,
    duplicates: Count,
    passes: Count,
    spilled_bytes: Count,
}

impl Work {
    // Nothing runs unless the stream is polled, and everything it holds goes when it is dropped.
    async fn run(mut self) -> Result<impl Stream<Item = Result<RecordBatch>>> {
        let memory = MemoryConsumer::new("LatestPerKey keys")
            .with_can_spill(true)
            .register(self.context.memory_pool());
        let time = self.output.elapsed_compute().clone();
        let mut watch = Watch::new(self.first_key, self.limits, memory.new_empty());
        let mut spool =
            Spool::new(self.input.schema(), self.hot, self.limits, &self.context, self.spilled_bytes);
        while let Some(batch) = self.input.next().await {
            let batch = batch?;
            let timer = time.timer();
            watch.see(&batch)?;
            timer.done();
            spool.push(batch).await?;
        }
        // The input's buffers and threads are of no use any more.
        drop(self.input);
        let spool = spool.seal().await?;

        let decision = Decision {
            spool: &spool,
            comparison: self.comparison,
            limits: self.limits,
            passes: self.passes,
            time,
            memory,
        };
        let stale = decision.run(watch.finish()).await?;

        let emit = Emit {
            scan: spool.scan(Columns::All),
            _spool: spool,
            stale,
            row: 0,
            output: self.output,
            duplicates: self.duplicates,
        };
        Ok(stream::try_unfold(
            emit,
            |mut emit| async move { Ok(emit.next().await?.map(|batch| (batch, emit))) },
        ))
    }
}

struct Emit {
    scan: Scan,
    /// Its batches, memory and files live as long as they are read.
    _spool: Spooled,
    stale: Option<Stale>,
    row: usize,
    output: BaselineMetrics,
    duplicates: Count,
}

impl Emit {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(batch) = self.scan.next().await? {
            let first_row = self.row;
            self.row += batch.num_rows();
            let (batch, stale) = match &self.stale {
                Some(stale) => {
                    let _timer = self.output.elapsed_compute().timer();
                    stale.strip(batch, first_row)?
                }
                None => (batch, 0),
            };
            self.duplicates.add(stale);
            if batch.num_rows() > 0 {
                self.output.record_output(batch.num_rows());
                return Ok(Some(batch));
            }
        }
        self.output.done();
        Ok(None)
    }
}
