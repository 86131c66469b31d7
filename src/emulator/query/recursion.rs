//! BigQuery's limit on how often a recursive query goes round.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};

use super::wording::exec_err;

const ITERATIONS_MAX: usize = 500;

/// Puts a count on both terms of each recursive query.
#[derive(Debug)]
pub(super) struct LimitRecursion;

impl PhysicalOptimizerRule for LimitRecursion {
    fn name(&self) -> &str {
        "limit_recursion"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let counted = plan.transform_up(|node| {
            let Some(recursive) = node.downcast_ref::<RecursiveQueryExec>() else {
                return Ok(Transformed::no(node));
            };
            let count = Arc::new(AtomicUsize::new(0));
            let term = |input: &Arc<dyn ExecutionPlan>, starts| -> Arc<dyn ExecutionPlan> {
                Arc::new(Counted { input: Arc::clone(input), starts, count: Arc::clone(&count) })
            };
            let terms = vec![term(recursive.static_term(), true), term(recursive.recursive_term(), false)];
            let recompute = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            Arc::clone(&node).replace_children(terms, recompute).map(Transformed::yes)
        })?;
        Ok(counted.data)
    }
}

/// One term of a recursive query.
#[derive(Debug)]
struct Counted {
    input: Arc<dyn ExecutionPlan>,
    /// The term that does not refer to itself is run once, first.
    starts: bool,
    count: Arc<AtomicUsize>,
}

impl DisplayAs for Counted {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counted")
    }
}

impl ExecutionPlan for Counted {
    fn name(&self) -> &str {
        "Counted"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("a term of a recursive query has one input");
        };
        Ok(Arc::new(Counted { input, starts: self.starts, count: Arc::clone(&self.count) }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if self.starts {
            self.count.store(0, Ordering::Relaxed);
        } else if self.count.fetch_add(1, Ordering::Relaxed) >= ITERATIONS_MAX {
            return exec_err!(
                "A recursive CTE has reached the maximum number of iterations: {ITERATIONS_MAX}"
            );
        }
        self.input.execute(partition, context)
    }
}
