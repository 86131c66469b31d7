//! `requirePartitionFilter`: a scan must be limited by a condition on the partition column alone.

use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};

use super::scan::scan_table;
use super::wording::query_failure;
use crate::emulator::wire::{Failure, Outcome};

/// Checks an optimized plan: its scans carry the AND-ed conditions that concern only partition columns.
pub(super) fn check_required_filters(plan: &LogicalPlan) -> Outcome<()> {
    let mut refused = None;
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(table) = scan_table(provider.as_ref())
            && table.version.definition.require_filter
        {
            let columns = table.partition_columns();
            if !scan.filters.iter().any(|f| eliminates_partitions(f, &columns)) {
                refused = Some(refusal(&table.version.definition));
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(|e| query_failure(&e))?;
    refused.map_or(Ok(()), Err)
}

fn refusal(definition: &crate::emulator::versions::Definition) -> Failure {
    let columns = match definition.partition_field() {
        Some(field) => format!("'{}'", field.name),
        None => "'_PARTITION_LOAD_TIME', '_PARTITIONDATE', '_PARTITIONTIME'".to_owned(),
    };
    Failure::invalid_query(format!(
        "Cannot query over table '{}' without a filter over column(s) {columns} that can be used for \
         partition elimination",
        definition.name
    ))
}

/// Comparisons of the column with constants, and what AND, OR and NOT make of them.
fn eliminates_partitions(filter: &Expr, columns: &[String]) -> bool {
    let on_column = |e: &Expr| {
        let refs = e.column_refs();
        !refs.is_empty() && refs.iter().all(|c| columns.contains(&c.name)) && is_plain(e)
    };
    let constant = |e: &Expr| e.column_refs().is_empty() && is_plain(e);
    match filter {
        Expr::BinaryExpr(binary) => match binary.op {
            Operator::And => {
                eliminates_partitions(&binary.left, columns) || eliminates_partitions(&binary.right, columns)
            }
            Operator::Or => {
                eliminates_partitions(&binary.left, columns) && eliminates_partitions(&binary.right, columns)
            }
            Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => {
                (on_column(&binary.left) && constant(&binary.right))
                    || (constant(&binary.left) && on_column(&binary.right))
            }
            _ => false,
        },
        Expr::Between(between) => {
            on_column(&between.expr) && constant(&between.low) && constant(&between.high)
        }
        Expr::InList(list) => on_column(&list.expr) && !list.negated && list.list.iter().all(constant),
        // Rows that are not in a partition yet: Google's own way to look at them.
        Expr::IsNull(inner) => on_column(inner),
        Expr::Not(inner) => eliminates_partitions(inner, columns),
        _ => false,
    }
}

/// No subquery and nothing else whose value is only known while the query runs.
fn is_plain(expr: &Expr) -> bool {
    let mut plain = true;
    let walked = expr.apply(|e| {
        if matches!(
            e,
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::OuterReferenceColumn(..)
        ) {
            plain = false;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.is_ok() && plain
}
