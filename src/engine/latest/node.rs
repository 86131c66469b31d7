//! The logical node, and the planner that turns it into the operator.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchemaRef, Result, internal_datafusion_err};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Expr, LogicalPlan, SortExpr, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use super::{LatestPerKeyExec, Limits};

/// One row per `key`: the first by `order`, the first to arrive where that leaves a tie.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct LatestPerKey {
    pub input: LogicalPlan,
    pub key: Vec<Expr>,
    pub order: Vec<SortExpr>,
}

impl UserDefinedLogicalNodeCore for LatestPerKey {
    fn name(&self) -> &str {
        "LatestPerKey"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.key.iter().chain(self.order.iter().map(|sort| &sort.expr)).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let key: Vec<String> = self.key.iter().map(ToString::to_string).collect();
        let order: Vec<String> = self.order.iter().map(ToString::to_string).collect();
        write!(f, "LatestPerKey: key=[{}], order=[{}]", key.join(", "), order.join(", "))
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input = inputs.pop().ok_or_else(|| internal_datafusion_err!("LatestPerKey without an input"))?;
        let order = exprs.split_off(self.key.len());
        let order = order.into_iter().zip(&self.order).map(|(expr, sort)| sort.with_expr(expr)).collect();
        Ok(LatestPerKey { input, key: exprs, order })
    }

    // Rows pass as they are; the columns of key and order are added by the caller.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// DataFusion's planner that also knows [`LatestPerKey`].
#[derive(Debug)]
pub(super) struct LatestPlanner {
    pub(super) limits: Limits,
}

#[async_trait]
impl QueryPlanner for LatestPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let extension = Arc::new(LatestExtension { limits: self.limits });
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![extension]);
        match session.as_any().downcast_ref::<SessionState>() {
            Some(state) if has_latest(plan)? => {
                planner.create_physical_plan(plan, &keeping_arrival(state.clone())).await
            }
            _ => planner.create_physical_plan(plan, session).await,
        }
    }
}

fn has_latest(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        let LogicalPlan::Extension(extension) = node else { return Ok(TreeNodeRecursion::Continue) };
        found |= extension.node.as_any().is::<LatestPerKey>();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// A session that leaves a single stream single.
///
/// The planner likes to spread one stream over threads, for a filter or a projection, and to join it
/// again in whatever order the threads finish. Around this operator that costs more than it gains:
/// below, ids would no longer rise and ties would be chance; above, the order of arrival, on which
/// the content of staged files depends, would be lost again. Joins and aggregates still spread.
fn keeping_arrival(mut state: SessionState) -> SessionState {
    let optimizer = &mut state.config_mut().options_mut().optimizer;
    optimizer.enable_round_robin_repartition = false;
    optimizer.repartition_file_scans = false;
    state
}

struct LatestExtension {
    limits: Limits,
}

#[async_trait]
impl ExtensionPlanner for LatestExtension {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(latest) = node.as_any().downcast_ref::<LatestPerKey>() else { return Ok(None) };
        let [input] = inputs else { return Ok(None) };
        let plan = |expr| planner.create_physical_expr(expr, latest.input.schema(), session, context);
        let key = latest.key.iter().map(plan).collect::<Result<Vec<_>>>()?;
        let mut order = Vec::with_capacity(latest.order.len());
        for sort in &latest.order {
            let options =
                arrow::compute::SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
            order.push(PhysicalSortExpr::new(plan(&sort.expr)?, options));
        }
        Ok(Some(Arc::new(LatestPerKeyExec::new(Arc::clone(input), key, order, self.limits))))
    }
}
