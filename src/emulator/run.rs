//! Runs jobs: from a configuration to a document that is DONE.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::Emulator;
use super::copy::{self, Copied, CopySpec};
use super::destination::Destination;
use super::disk::OwnedFile;
use super::extract::{self, ExtractSpec};
use super::faults::{self, Fate, Late, Twist};
use super::idempotence::{Named, named};
use super::inline;
use super::jobs::{Job, JobDocument, State, parse_reference};
use super::load::{self, LoadSpec};
use super::names::{JobId, ProjectId, TableName};
use super::query::{self, Cancelled, Output, QuerySpec};
use super::rows;
use super::versions::Commit;
use super::wire::{Arguments, Failure, Outcome, Reply, integer, now_ms, object, text};

/// What a job is to do, checked before the job exists.
#[derive(Debug)]
pub(super) enum Work {
    Load(Box<LoadSpec>),
    Copy(Box<CopySpec>),
    /// With where the rows of a query go; other statements know that themselves.
    Query(Box<QuerySpec>, Option<Box<Destination>>),
    Extract(Box<ExtractSpec>),
}

/// jobs.insert, with the file that came with it if one did. Wrong documents are refused here; what goes wrong later is the job's own errorResult.
pub(super) async fn insert(
    emulator: &Arc<Emulator>,
    project: ProjectId,
    body: &Map<String, Value>,
    uploaded: Option<Arc<OwnedFile>>,
) -> Outcome<Reply> {
    let missing = |what: &str| Failure::invalid(format!("Required parameter is missing: {what}"));
    let configuration = object(body, "configuration").ok_or_else(|| missing("configuration"))?;
    let (id, location) = parse_reference(object(body, "jobReference"))?;
    let dry_run = configuration.get("dryRun").and_then(Value::as_bool).unwrap_or(false);
    let mut document = JobDocument {
        project: project.clone(),
        id,
        location: String::new(),
        configuration: Value::Object(configuration.clone()),
        state: State::Pending,
        created_ms: now_ms(),
        started_ms: None,
        ended_ms: None,
        failure: None,
        warnings: Vec::new(),
        statistics: Value::Null,
        destination: None,
        dataset: None,
        removal: None,
        parent: None,
    };
    let kinds = ["load", "query", "extract", "copy"].map(|kind| object(configuration, kind));
    let work = match kinds {
        [Some(load), None, None, None] => {
            let mut spec = LoadSpec::parse(load, &project, uploaded)?;
            spec.destination = spec.destination.resolve(&emulator.catalog)?;
            document.configuration["jobType"] = json!("LOAD");
            document.location = location_of(emulator, location, Some(&spec.destination.address.name));
            document.destination = Some(spec.destination.address.name.clone());
            Work::Load(Box::new(spec))
        }
        [None, Some(query), None, None] => {
            let mut spec = QuerySpec::parse(query, &project)?;
            document.configuration["jobType"] = json!("QUERY");
            let named = spec.destination.take();
            let destination = named.as_ref().map(|d| &d.address.name);
            document.location = match location.or_else(|| located(emulator, destination)) {
                Some(location) => location,
                None => query::location(emulator, &spec).await?,
            };
            query::parameters_as_text(&mut document.configuration["query"]);
            if dry_run {
                document.state = State::Done;
                document.statistics = query::dry_run(emulator, &spec, &document.location).await?;
                return Ok(Reply::Json(document.resource()));
            }
            let destination = destined(emulator, &mut document, &spec, named).await?;
            Work::Query(Box::new(spec), destination.map(Box::new))
        }
        [None, None, Some(extract), None] => {
            let spec = ExtractSpec::parse(extract, &project)?;
            document.configuration["jobType"] = json!("EXTRACT");
            document.location = location_of(emulator, location, Some(&spec.source.name));
            Work::Extract(Box::new(spec))
        }
        [None, None, None, Some(copy)] => {
            let mut spec = CopySpec::parse(copy, &project)?;
            spec.destination = spec.destination.resolve(&emulator.catalog)?;
            document.configuration["jobType"] = json!("COPY");
            document.location = location_of(emulator, location, Some(&spec.destination.address.name));
            document.destination = Some(spec.destination.address.name.clone());
            Work::Copy(Box::new(spec))
        }
        [None, None, None, None] => return Err(missing("configuration.load, query, extract or copy")),
        _ => return Err(Failure::invalid("Only one of load, query, extract and copy may be set")),
    };
    if dry_run {
        document.state = State::Done;
        return Ok(Reply::Json(document.resource()));
    }
    let twist = match emulator.faults.on_insert(&document.id) {
        Fate::Runs(twist) => twist,
        Fate::Late(calls) => {
            emulator.faults.hold(calls, Late { document, work });
            return Ok(Reply::HangUp);
        }
        Fate::Lost => return Ok(Reply::Json(document.into_running().resource())),
    };
    let job = submit(emulator, document, work, twist).await?;
    // Most clients poll at once: a short job is then done with one round trip less.
    job.wait(Duration::from_millis(50)).await;
    let document = job.document();
    let document =
        if emulator.faults.is_held_running(&document.id) { document.into_running() } else { document };
    Ok(Reply::Json(document.resource()))
}

/// An insert that was under way for long. That its id is taken by now tells nobody anything.
pub(super) async fn land(emulator: &Arc<Emulator>, late: Late) {
    let Late { document, work } = late;
    match submit(emulator, document, work, None).await {
        Ok(job) => tracing::debug!(job = %job.document().id, "late insert landed"),
        Err(failure) => tracing::debug!(error = failure.message, "late insert refused"),
    }
}

/// jobs.query: a job, and its first page if it ends in time.
pub(super) async fn query(
    emulator: &Arc<Emulator>,
    project: ProjectId,
    body: &Map<String, Value>,
) -> Outcome<Reply> {
    let spec = QuerySpec::parse(body, &project)?;
    let arrow = inline::Wanted::parse(body)?;
    let (id, location) = parse_reference(Some(body).filter(|b| b.contains_key("location")))?;
    let location = match location {
        Some(location) => location,
        None => query::location(emulator, &spec).await?,
    };
    if body.get("dryRun").and_then(Value::as_bool) == Some(true) {
        let mut statistics = query::dry_run(emulator, &spec, &location).await?;
        let mut statistics = statistics["query"].take();
        return Ok(Reply::Json(json!({
            "kind": "bigquery#queryResponse",
            "jobReference": {"projectId": project.as_str(), "location": location},
            "schema": statistics["schema"].take(),
            "totalBytesProcessed": statistics["totalBytesProcessed"].take(),
            "jobComplete": true,
            "cacheHit": false,
        })));
    }
    let mut configuration = json!({"jobType": "QUERY", "query": {}});
    for member in
        ["query", "defaultDataset", "useLegacySql", "queryParameters", "parameterMode", "maximumBytesBilled"]
    {
        if let Some(value) = body.get(member) {
            configuration["query"][member] = value.clone();
        }
    }
    query::parameters_as_text(&mut configuration["query"]);
    for member in ["labels", "jobTimeoutMs"] {
        if let Some(value) = body.get(member) {
            configuration[member] = value.clone();
        }
    }
    let mut document = JobDocument {
        project,
        id,
        location,
        configuration,
        state: State::Pending,
        created_ms: now_ms(),
        started_ms: None,
        ended_ms: None,
        failure: None,
        warnings: Vec::new(),
        statistics: Value::Null,
        destination: None,
        dataset: None,
        removal: None,
        parent: None,
    };
    // The same request again finds the job that it made the first time.
    let known = match text(body, "requestId").filter(|id| !id.is_empty()) {
        Some(request) => match named(emulator, request, body, &document)? {
            Named::Known(job) => Some(job),
            Named::New(id) => {
                document.id = id;
                None
            }
        },
        None => None,
    };
    let job = match known {
        Some(job) => job,
        None => {
            let destination = destined(emulator, &mut document, &spec, None).await?;
            let work = Work::Query(Box::new(spec), destination.map(Box::new));
            let (project, id) = (document.project.clone(), document.id.clone());
            match submit(emulator, document, work, None).await {
                // The same request, sent twice at once.
                Err(failure) if failure.reason == "duplicate" => emulator.jobs.find(&project, id.as_str())?,
                submitted => submitted?,
            }
        }
    };
    let wait_ms = integer(body, "timeoutMs")?.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(10_000);
    let max_results = integer(body, "maxResults")?.map(|max| ("maxResults", max.to_string()));
    let format = object(body, "formatOptions");
    let micros = format
        .and_then(|f| f.get("useInt64Timestamp")?.as_bool())
        .map(|flag| ("formatOptions.useInt64Timestamp", flag.to_string()));
    let named = format
        .and_then(|f| text(f, "timestampOutputFormat"))
        .map(|name| ("formatOptions.timestampOutputFormat", name.to_owned()));
    let arguments = Arguments::of(max_results.into_iter().chain(micros).chain(named));
    results(emulator, &job, wait_ms, arguments, "bigquery#queryResponse", arrow).await
}

/// getQueryResults: waits, then answers a page or the job's failure.
pub(super) async fn query_results(
    emulator: &Arc<Emulator>,
    job: &Job,
    arguments: Arguments,
) -> Outcome<Reply> {
    let wait_ms = arguments.number("timeoutMs")?.unwrap_or(10_000);
    results(emulator, job, wait_ms, arguments, "bigquery#getQueryResultsResponse", None).await
}

async fn results(
    emulator: &Arc<Emulator>,
    job: &Job,
    wait_ms: u64,
    arguments: Arguments,
    kind: &str,
    arrow: Option<inline::Wanted>,
) -> Outcome<Reply> {
    // BigQuery never holds a request for more than 200 s.
    let done = job.wait(Duration::from_millis(wait_ms.min(200_000))).await;
    let document = job.document();
    let mut envelope = json!({
        "kind": kind,
        "jobReference": document.reference(),
        "jobComplete": done,
        "location": document.location,
        "queryId": document.id.as_str(),
    });
    if !done {
        return Ok(Reply::Json(envelope));
    }
    if let Some(failure) = document.failure {
        return Err(failure);
    }
    envelope["etag"] = json!(document.id.as_str());
    envelope["cacheHit"] = json!(false);
    envelope["creationTime"] = json!(document.created_ms.to_string());
    for (member, time) in [("startTime", document.started_ms), ("endTime", document.ended_ms)] {
        envelope[member] = json!(time.unwrap_or(document.created_ms).to_string());
    }
    for member in ["totalBytesProcessed", "totalBytesBilled"] {
        envelope[member] = document.statistics["query"][member].clone();
    }
    let Some(rows_of) = emulator.jobs.with_rows(&document) else {
        envelope["schema"] = result_schema(emulator, &document);
        if let Some(affected) = document.statistics["query"].get("numDmlAffectedRows") {
            envelope["numDmlAffectedRows"] = affected.clone();
        }
        if let Some(stats) = document.statistics["query"].get("dmlStats") {
            envelope["dmlStats"] = stats.clone();
        }
        return Ok(Reply::Json(envelope));
    };
    let address = rows_of.result_address()?;
    let catalog = Arc::clone(&emulator.catalog);
    blocking(move || {
        let version = rows::version(&catalog, &address, &arguments)?;
        envelope["schema"] = json!({"fields": super::fields::documents(&version.definition.fields)});
        if let Some(wanted) = arrow {
            let total: u64 = version.parts.iter().map(|p| p.rows).sum();
            envelope["totalRows"] = json!(total.to_string());
            let sent = inline::first_page(&mut envelope, &version, arguments.number("maxResults")?, wanted)?;
            if sent < total {
                envelope["pageToken"] = json!(rows::token(&version, sent));
            }
            return Ok(Reply::Json(envelope));
        }
        let page = rows::page(&version, address.partition, &arguments)?;
        envelope["totalRows"] = json!(page.total_rows.to_string());
        // Google's clients wait with maxResults=0 and take a `rows` member, even an empty one, for the first page.
        if arguments.get("maxResults") == Some("0") {
            return Ok(Reply::Json(envelope));
        }
        if let Some(next) = page.next {
            envelope["pageToken"] = json!(next);
        }
        Ok(Reply::Rows(envelope, page.rows))
    })
    .await
}

fn location_of(emulator: &Emulator, asked: Option<String>, destination: Option<&TableName>) -> String {
    asked.or_else(|| located(emulator, destination)).unwrap_or_else(|| "US".to_owned())
}

/// Where the table is, or would be.
fn located(emulator: &Emulator, table: Option<&TableName>) -> Option<String> {
    let dataset = emulator.catalog.dataset(&table?.project, &table?.dataset).ok()?;
    Some(dataset.document().location)
}

/// What the answer to a statement without rows has for a schema: that of the table it changed.
fn result_schema(emulator: &Emulator, document: &JobDocument) -> Value {
    let changed = document.statistics["query"].get("dmlStats").is_some();
    let table = document.destination.as_ref().filter(|_| changed);
    let table = table.and_then(|name| emulator.catalog.table(name).ok());
    let fields = table.map(|t| super::fields::documents(&t.current().definition.fields));
    json!({"fields": fields.unwrap_or_else(|| json!([]))})
}

/// Where a query's rows go; of other statements, what they make or change.
async fn destined(
    emulator: &Arc<Emulator>,
    document: &mut JobDocument,
    spec: &QuerySpec,
    named: Option<Destination>,
) -> Outcome<Option<Destination>> {
    match (query::output(emulator, spec).await?, named) {
        (Output::Rows, Some(named)) => {
            let named = named.resolve(&emulator.catalog)?;
            document.destination = Some(named.address.name.clone());
            Ok(Some(named))
        }
        (Output::Rows, None) => {
            let destination = anonymous(emulator, document)?;
            document.destination = Some(destination.address.name.clone());
            Ok(Some(destination))
        }
        (_, Some(_)) => Err(Failure::invalid(
            "Cannot set destination table in jobs with DML or DDL statements or scripts",
        )),
        (Output::Table(name), None) => {
            document.configuration["query"]["destinationTable"] = name.reference();
            document.destination = Some(name);
            Ok(None)
        }
        (Output::Dataset(project, id), None) => {
            document.dataset = Some((project, id));
            Ok(None)
        }
        (Output::Other, None) => Ok(None),
    }
}

/// A destination nobody asked for, shown in the job's configuration because clients read the rows from there.
pub(super) fn anonymous(emulator: &Emulator, document: &mut JobDocument) -> Outcome<Destination> {
    let definition = emulator.catalog.anonymous_table(&document.project, &document.location)?;
    let query = &mut document.configuration["query"];
    query["destinationTable"] = definition.name.reference();
    query["createDisposition"] = json!("CREATE_IF_NEEDED");
    query["writeDisposition"] = json!("WRITE_TRUNCATE");
    Ok(Destination::anonymous(&definition))
}

async fn submit(
    emulator: &Arc<Emulator>,
    document: JobDocument,
    work: Work,
    twist: Option<Twist>,
) -> Outcome<Arc<Job>> {
    let state = Arc::clone(emulator);
    let job = blocking(move || state.jobs.create(document)).await?;
    let (state, running) = (Arc::clone(emulator), Arc::clone(&job));
    tokio::spawn(async move {
        let slots = match &work {
            Work::Load(_) | Work::Extract(_) | Work::Copy(_) => &state.load_slots,
            Work::Query(..) => &state.query_slots,
        };
        let _slot = slots.acquire().await;
        running.start();
        // A task of its own, so that a panic ends the job and not only the thread that waits for it.
        let inner = tokio::spawn(execute(Arc::clone(&state), Arc::clone(&running), work, twist));
        let outcome = inner.await.unwrap_or_else(|e| Err(Failure::backend(format!("the job died: {e}"))));
        if let Err(failure) = &outcome {
            tracing::debug!(job = %running.document().id, error = failure.message, "job failed");
        }
        let _ = blocking(move || {
            running.finish(outcome);
            Ok(())
        })
        .await;
    });
    Ok(job)
}

async fn execute(emulator: Arc<Emulator>, job: Arc<Job>, work: Work, twist: Option<Twist>) -> Outcome<Value> {
    let document = job.document();
    if let Some(Twist::Fails(reason)) = &twist {
        return Err(faults::job_failure(reason, &document.configuration));
    }
    let limit = document.configuration.as_object().map(|c| integer(c, "jobTimeoutMs")).transpose()?.flatten();
    let limit = limit.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0).map(Duration::from_millis);
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let cancelled = {
        let job = Arc::clone(&job);
        move || job.is_cancelled() || deadline.is_some_and(|deadline| Instant::now() >= deadline)
    };
    if cancelled() {
        return Err(Failure::stopped());
    }
    let done = perform(emulator, &job, document, work, twist, cancelled).await;
    done.map_err(|failure| match limit {
        Some(limit) if failure.reason == "stopped" && !job.is_cancelled() => Failure::timed_out(limit),
        _ => failure,
    })
}

async fn perform(
    emulator: Arc<Emulator>,
    job: &Job,
    document: JobDocument,
    work: Work,
    twist: Option<Twist>,
    cancelled: impl Fn() -> bool + Clone + Send + Sync + 'static,
) -> Outcome<Value> {
    match work {
        Work::Load(spec) => {
            let name = &spec.destination.address.name;
            check_location(&emulator, name, &document.location)?;
            let own = &emulator.storage.objects;
            let mut loaded = load::run(&spec, Arc::clone(&emulator.catalog), own, cancelled.clone()).await?;
            job.warn(std::mem::take(&mut loaded.warnings));
            let mut statistics = loaded.statistics();
            if let Some(Twist::RowCountOff) = twist {
                faults::take_a_row_off(&mut statistics);
            }
            let (destination, cancelled): (_, Cancelled) = (spec.destination, Arc::new(cancelled));
            commit_rows(
                &emulator,
                &document,
                destination,
                loaded.target,
                loaded.parts,
                statistics,
                &cancelled,
            )
            .await
        }
        Work::Extract(spec) => {
            check_location(&emulator, &spec.source.name, &document.location)?;
            let own = Arc::clone(&emulator.storage.objects);
            extract::run(&spec, Arc::clone(&emulator.catalog), own, cancelled).await
        }
        Work::Copy(spec) => {
            for name in spec.sources.iter().map(|s| &s.name).chain([&spec.destination.address.name]) {
                check_location(&emulator, name, &document.location)?;
            }
            let (catalog, stopped) = (Arc::clone(&emulator.catalog), cancelled.clone());
            let copied = blocking(move || copy::run(&spec, &catalog, stopped)).await?;
            let statistics = copied.statistics();
            let Copied { destination, target, parts } = copied;
            let cancelled: Cancelled = Arc::new(cancelled);
            commit_rows(&emulator, &document, destination, target, parts, statistics, &cancelled).await
        }
        Work::Query(spec, destination) => {
            for name in destination.iter().map(|d| &d.address.name).chain(&document.destination) {
                check_location(&emulator, name, &document.location)?;
            }
            query::run(&emulator, document, *spec, destination.map(|d| *d), Arc::new(cancelled)).await
        }
    }
}

/// Makes rows that were written visible, with the job's statistics.
pub(super) async fn commit_rows(
    emulator: &Arc<Emulator>,
    document: &JobDocument,
    destination: Destination,
    target: Arc<super::destination::Target>,
    parts: Vec<super::versions::Part>,
    statistics: Value,
    cancelled: &Cancelled,
) -> Outcome<Value> {
    let (emulator, project, id): (_, ProjectId, JobId) =
        (Arc::clone(emulator), document.project.clone(), document.id.clone());
    let cancelled = Arc::clone(cancelled);
    blocking(move || {
        if cancelled() {
            return Err(Failure::stopped());
        }
        let commit = Commit { project: Some(project), job: id, statistics: statistics.clone() };
        let settled = |commit: &Commit| emulator.jobs.is_settled(commit);
        destination.commit(&emulator.catalog, &target, parts, commit, settled)?;
        Ok(statistics)
    })
    .await
}

fn check_location(emulator: &Emulator, name: &TableName, location: &str) -> Outcome<()> {
    let found = emulator.catalog.dataset(&name.project, &name.dataset)?.document().location;
    if found.eq_ignore_ascii_case(location) {
        return Ok(());
    }
    let (project, dataset) = (&name.project, &name.dataset);
    Err(Failure::not_found(format!(
        "Not found: Dataset {project}:{dataset} was not found in location {location}"
    )))
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Failure::backend(format!("a request died: {e}"))))
}
