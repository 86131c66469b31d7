//! Queries have threads of their own: with deep stacks, because trees of SQL are deep, and apart from those that
//! answer requests, because a join may compute for minutes before it lets another task in.

use std::io;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::Sender;

use super::answer::{self as answers, Piece};
use super::{Cancelled, Output, QuerySpec, execute, views};
use crate::emulator::Emulator;
use crate::emulator::destination::Destination;
use crate::emulator::jobs::JobDocument;
use crate::emulator::names::{DatasetId, ProjectId};
use crate::emulator::wire::{Failure, Outcome};

/// A text as deep as `statements` lets through needs a good half of it in a build without optimization. It is
/// address space; memory is only what is used.
const STACK_BYTES: usize = 512 << 20;
/// For the parts of plans that run side by side.
const WORKERS: usize = 2;

#[derive(Debug)]
pub(in crate::emulator) struct QueryThreads {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl QueryThreads {
    pub(in crate::emulator) fn start() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(WORKERS).thread_stack_size(STACK_BYTES).thread_name("query").enable_all();
        Ok(QueryThreads { runtime: Some(builder.build()?) })
    }

    /// Runs it on a thread that nothing else waits for.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Outcome<T>> + Send + 'static,
    ) -> Outcome<T> {
        let Some(runtime) = &self.runtime else { return Err(Failure::backend("the server is stopping")) };
        let handle = runtime.handle().clone();
        match runtime.spawn_blocking(move || handle.block_on(work)).await {
            Ok(outcome) => outcome,
            Err(death) => {
                tracing::error!(%death, "a query died");
                // Not an error that clients repeat a request for: it would die again.
                Err(Failure::not_implemented("what this query asks for: it died of it, and its log says how"))
            }
        }
    }
}

impl Drop for QueryThreads {
    fn drop(&mut self) {
        // Waiting for the end of a query is not for a thread that runs tasks.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a job that runs this text would leave behind.
pub(in crate::emulator) async fn output(emulator: &Arc<Emulator>, spec: &QuerySpec) -> Outcome<Output> {
    let (state, spec) = (Arc::clone(emulator), spec.clone());
    emulator.query_threads.run(async move { Ok(execute::output(&state, &spec)) }).await
}

/// Where a query runs that does not say it.
pub(in crate::emulator) async fn location(emulator: &Arc<Emulator>, spec: &QuerySpec) -> Outcome<String> {
    let (state, spec) = (Arc::clone(emulator), spec.clone());
    emulator.query_threads.run(async move { Ok(execute::location(&state, &spec)) }).await
}

/// `statistics` of a job that is not run, and the schema of its rows.
pub(in crate::emulator) async fn dry_run(
    emulator: &Arc<Emulator>,
    spec: &QuerySpec,
    location: &str,
) -> Outcome<Value> {
    let (state, spec, location) = (Arc::clone(emulator), spec.clone(), location.to_owned());
    emulator.query_threads.run(async move { execute::dry_run(&state, &spec, &location).await }).await
}

/// Runs a job to its end; its statistics. `destination` is where the rows of a query go.
pub(in crate::emulator) async fn run(
    emulator: &Arc<Emulator>,
    document: JobDocument,
    spec: QuerySpec,
    destination: Option<Destination>,
    cancelled: Cancelled,
) -> Outcome<Value> {
    let state = Arc::clone(emulator);
    let work = async move { execute::run(&state, document, spec, destination, cancelled).await };
    emulator.query_threads.run(work).await
}

/// Sends the rows of the text's SELECT as they come.
pub(in crate::emulator) async fn answer(
    emulator: &Arc<Emulator>,
    spec: QuerySpec,
    location: &'static str,
    sender: Sender<Outcome<Piece>>,
) -> Outcome<()> {
    let state = Arc::clone(emulator);
    let work = async move { answers::answer(&state, &spec, location, sender).await };
    emulator.query_threads.run(work).await
}

/// A view as it is kept, and the schema of its query.
pub(in crate::emulator) async fn view_document(
    emulator: &Arc<Emulator>,
    project: &ProjectId,
    dataset: &DatasetId,
    view: &Map<String, Value>,
    schema: Option<&Map<String, Value>>,
) -> Outcome<(Value, Value)> {
    let (state, project, dataset) = (Arc::clone(emulator), project.clone(), dataset.clone());
    let (view, schema) = (view.clone(), schema.cloned());
    let work = async move { views::view_document(&state, &project, &dataset, &view, schema.as_ref()).await };
    emulator.query_threads.run(work).await
}
