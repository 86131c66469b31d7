//! Threads of their own for queries.
//!
//! A join can compute for minutes and never pause, and whoever waits on the same threads waits as long:
//! for the next row, or for the Ctrl-C that is to end it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use super::words;
use crate::error::{Error, Result};

/// Batches that wait for whoever reads them.
const BATCHES_AHEAD: usize = 2;

type Batch = Result<RecordBatch, DataFusionError>;

/// Starts the plan. It ends when the stream is dropped.
pub(super) fn run(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let threads = threads()?;
    let task = threads.spawn(pump(plan, context, sender));
    let rows = Rows { receiver, task: Some(task), _threads: threads };
    let rows = futures::stream::unfold(rows, |mut rows| async {
        let next = rows.next().await?;
        Some((next, rows))
    });
    Ok(rows.boxed())
}

/// The threads of all queries, as long as each that was stopped has ended.
struct Current {
    threads: Option<Arc<Threads>>,
    /// Of queries that were stopped: they end when they pause.
    stopped: Vec<AbortHandle>,
}

static CURRENT: Mutex<Current> = Mutex::new(Current { threads: None, stopped: Vec::new() });

fn current() -> MutexGuard<'static, Current> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// New ones where a query that was stopped may still hold those that there are.
fn threads() -> Result<Arc<Threads>> {
    let mut current = current();
    current.stopped.retain(|stopped| !stopped.is_finished());
    match &current.threads {
        Some(threads) if current.stopped.is_empty() => Ok(Arc::clone(threads)),
        _ => {
            let runtime = Runtime::new()
                .map_err(|e| Error::failed("cannot start the threads of a query").caused_by(e))?;
            let threads = Arc::new(Threads { runtime: Some(runtime) });
            *current = Current { threads: Some(Arc::clone(&threads)), stopped: Vec::new() };
            Ok(threads)
        }
    }
}

struct Threads {
    /// Taken when they are dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.runtime.as_ref().expect("it is taken when they are dropped").spawn(task)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Whoever drops them is not to wait until the last of them pauses.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn pump(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>, sender: mpsc::Sender<Batch>) {
    let mut rows = match execute_stream(plan, context) {
        Ok(rows) => rows,
        Err(error) => {
            let _ = sender.send(Err(error)).await;
            return;
        }
    };
    while let Some(batch) = rows.next().await {
        if sender.send(batch).await.is_err() {
            return;
        }
    }
}

struct Rows {
    receiver: mpsc::Receiver<Batch>,
    /// `None` once it has ended.
    task: Option<JoinHandle<()>>,
    _threads: Arc<Threads>,
}

impl Rows {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        if let Some(batch) = self.receiver.recv().await {
            return Some(batch.map_err(words::failed));
        }
        // A query that died must not look like one that came to its end.
        let ended = self.task.take()?.await;
        ended.err().map(|e| Err(Error::failed("the query died").caused_by(e)))
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
            current().stopped.push(task.abort_handle());
        }
    }
}

/// Lets joins pause between batches: what reads them may want more of them without end.
pub(super) fn with_pauses(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let pausing = plan.transform_up(|operator| match operator.name().contains("Join") {
        true => Ok(Transformed::yes(Arc::new(CooperativeExec::new(operator)) as Arc<dyn ExecutionPlan>)),
        false => Ok(Transformed::no(operator)),
    });
    pausing.map(|plan| plan.data)
}
