//! Job documents: made once per id, kept on disk, and true about their outcome after a crash.

mod settle;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

pub(super) use self::settle::Removal;
use super::catalog::Catalog;
use super::disk;
use super::names::{Address, DatasetId, JobId, ProjectId, TableName, file_name};
use super::tables::slice;
use super::versions::lock;
use super::wire::{Arguments, Failure, Outcome, Reply, now_ms};

/// BigQuery remembers a job for six months after its end.
const KEPT_MS: i64 = 180 * 24 * 3_600_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    Pending,
    Running,
    Done,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Pending => "PENDING",
            State::Running => "RUNNING",
            State::Done => "DONE",
        }
    }
}

/// Everything that is known about a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct JobDocument {
    pub project: ProjectId,
    pub id: JobId,
    pub location: String,
    pub configuration: Value,
    pub state: State,
    pub created_ms: i64,
    pub started_ms: Option<i64>,
    pub ended_ms: Option<i64>,
    pub failure: Option<Failure>,
    /// What went wrong without failing the job, such as rows that were left out.
    #[serde(default)]
    pub warnings: Vec<Failure>,
    /// `load` or `query`, as `statistics` shows it.
    pub statistics: Value,
    /// Whose commits tell, after a crash, whether the job took effect.
    pub destination: Option<TableName>,
    /// The same of a statement that makes, changes or drops a dataset.
    #[serde(default)]
    pub dataset: Option<(ProjectId, DatasetId)>,
    /// What the job takes away. It is gone, or the job had no effect.
    #[serde(default)]
    pub removal: Option<Removal>,
    /// The script that this job is a statement of.
    #[serde(default)]
    pub parent: Option<JobId>,
}

impl JobDocument {
    /// `p:US.id`.
    pub(super) fn full_id(&self) -> String {
        format!("{}:{}.{}", self.project, self.location, self.id)
    }

    pub(super) fn reference(&self) -> Value {
        json!({"projectId": self.project.as_str(), "jobId": self.id.as_str(), "location": self.location})
    }

    /// The same job before its end.
    pub(super) fn into_running(self) -> Self {
        let started_ms = self.started_ms.or(Some(self.created_ms));
        JobDocument {
            state: State::Running,
            started_ms,
            ended_ms: None,
            failure: None,
            warnings: Vec::new(),
            statistics: Value::Null,
            ..self
        }
    }

    pub(super) fn statement_type(&self) -> Option<&str> {
        self.statistics.get("query")?.get("statementType")?.as_str()
    }

    /// Where the rows of a query are.
    pub(super) fn result_address(&self) -> Outcome<Address> {
        let table = &self.configuration["query"]["destinationTable"];
        let table = table
            .as_object()
            .ok_or_else(|| Failure::invalid(format!("Job {} is no query", self.full_id())))?;
        Address::from_reference(table, &self.project)
    }

    pub(super) fn resource(&self) -> Value {
        let mut statistics = json!({"creationTime": self.created_ms.to_string()});
        for (member, time) in [("startTime", self.started_ms), ("endTime", self.ended_ms)] {
            if let Some(time) = time {
                statistics[member] = json!(time.to_string());
            }
        }
        if let Some(sections) = self.statistics.as_object() {
            for (member, value) in sections {
                statistics[member] = value.clone();
            }
        }
        if let Some(parent) = &self.parent {
            statistics["parentJobId"] = json!(parent.as_str());
        }
        let mut status = json!({"state": self.state.name()});
        if let Some(failure) = &self.failure {
            status["errorResult"] = failure.proto();
            let errors = std::iter::once(failure).chain(&failure.details).map(Failure::proto);
            status["errors"] = errors.collect();
        } else if !self.warnings.is_empty() {
            status["errors"] = self.warnings.iter().map(Failure::proto).collect();
        }
        json!({
            "kind": "bigquery#job",
            "etag": format!("{}.{}", self.created_ms, self.state.name()),
            "id": self.full_id(),
            "selfLink": format!(
                "https://bigquery.googleapis.com/bigquery/v2/projects/{}/jobs/{}?location={}",
                self.project, self.id, self.location
            ),
            "user_email": "emulator@api2bq.invalid",
            "jobReference": self.reference(),
            "configuration": self.configuration,
            "status": status,
            "statistics": statistics,
        })
    }
}

/// One job and who waits for it.
#[derive(Debug)]
pub(super) struct Job {
    path: PathBuf,
    document: Mutex<JobDocument>,
    done: watch::Sender<bool>,
    cancelled: AtomicBool,
}

impl Job {
    pub(super) fn document(&self) -> JobDocument {
        lock(&self.document).clone()
    }

    fn document_if(&self, is_wanted: impl FnOnce(&JobDocument) -> bool) -> Option<JobDocument> {
        let document = lock(&self.document);
        is_wanted(&document).then(|| document.clone())
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(super) fn start(&self) {
        let mut document = lock(&self.document);
        document.state = State::Running;
        document.started_ms = Some(now_ms());
    }

    /// Notes what the end of the job will show beside its success.
    pub(super) fn warn(&self, warnings: Vec<Failure>) {
        lock(&self.document).warnings = warnings;
    }

    /// Ends the job, durably, and wakes who waits for it.
    pub(super) fn finish(&self, outcome: Outcome<Value>) {
        let mut document = lock(&self.document);
        let now = now_ms();
        document.started_ms.get_or_insert(now);
        document.ended_ms = Some(now);
        document.state = State::Done;
        match outcome {
            Ok(statistics) => document.statistics = statistics,
            Err(failure) => document.failure = Some(failure),
        }
        if let Err(failure) = disk::write_document(&self.path, &*document) {
            tracing::warn!(job = %document.id, error = failure.message, "cannot keep the end of a job");
        }
        drop(document);
        self.done.send_replace(true);
    }

    /// Waits for the end, at most so long; whether it came.
    pub(super) async fn wait(&self, at_most: Duration) -> bool {
        let mut done = self.done.subscribe();
        tokio::time::timeout(at_most, done.wait_for(|done| *done)).await.is_ok()
    }
}

#[derive(Debug)]
pub(super) struct Jobs {
    root: PathBuf,
    jobs: Mutex<BTreeMap<(ProjectId, JobId), Arc<Job>>>,
}

impl Jobs {
    /// Reads the jobs below `root` and settles those that were running when the last process ended.
    pub(super) fn open(root: &Path, catalog: &Catalog) -> std::io::Result<Jobs> {
        let mut jobs = BTreeMap::new();
        for project in disk::folders(&root.join("projects"))? {
            let dir = project.join("jobs");
            if !dir.is_dir() {
                continue;
            }
            for entry in std::fs::read_dir(&dir)? {
                let path = entry?.path();
                if path.extension().is_some_and(|e| e == "tmp") {
                    std::fs::remove_file(path)?;
                    continue;
                }
                let Some(document) = disk::read_document::<JobDocument>(&path)? else { continue };
                let key = (document.project.clone(), document.id.clone());
                let running = document.state != State::Done;
                let job = new_job(path, document);
                if running {
                    job.finish(settle::settle(&job.document(), catalog));
                } else {
                    job.done.send_replace(true);
                }
                jobs.insert(key, Arc::new(job));
            }
        }
        Ok(Jobs { root: root.to_owned(), jobs: Mutex::new(jobs) })
    }

    /// Makes a job, unless its id was used in the project: as long as the job is remembered, its id is not free.
    pub(super) fn create(&self, document: JobDocument) -> Outcome<Arc<Job>> {
        let key = (document.project.clone(), document.id.clone());
        let project = self.root.join("projects").join(file_name(key.0.as_str()));
        let dir = project.join("jobs");
        // `%` escapes keep ids that differ only by case apart only on file systems that do; so does BigQuery.
        let path = dir.join(format!("{}.json", file_name(key.1.as_str())));
        let job = Arc::new(new_job(path, document.clone()));
        {
            let mut jobs = lock(&self.jobs);
            if let Some(existing) = jobs.get(&key) {
                let id = existing.document().full_id();
                return Err(Failure::duplicate(format!("Already Exists: Job {id}")));
            }
            jobs.insert(key.clone(), Arc::clone(&job));
        }
        let kept = disk::create_dir(&dir)
            .and_then(|()| disk::sync_dir(&project))
            .map_err(Failure::from)
            .and_then(|()| disk::write_document(&job.path, &document));
        if kept.is_err() {
            lock(&self.jobs).remove(&key);
        }
        kept.map(|()| job)
    }

    /// A job, if it ran where the caller looks for it.
    pub(super) fn get(&self, project: &ProjectId, id: &str, location: Option<&str>) -> Outcome<Arc<Job>> {
        let shown = location.unwrap_or("US");
        let not_found = || Failure::not_found(format!("Not found: Job {project}:{shown}.{id}"));
        let id = JobId::parse(id)?;
        let job = lock(&self.jobs).get(&(project.clone(), id)).cloned().ok_or_else(not_found)?;
        let ran_in = job.document().location;
        let found = match location {
            Some(location) => location.eq_ignore_ascii_case(&ran_in),
            // Without a location BigQuery looks in its two multi-regions only.
            None => ran_in.eq_ignore_ascii_case("US") || ran_in.eq_ignore_ascii_case("EU"),
        };
        if found { Ok(job) } else { Err(not_found()) }
    }

    /// A job, wherever it ran.
    pub(super) fn find(&self, project: &ProjectId, id: &str) -> Outcome<Arc<Job>> {
        let key = (project.clone(), JobId::parse(id)?);
        let job = lock(&self.jobs).get(&key).cloned();
        job.ok_or_else(|| Failure::not_found(format!("Not found: Job {project}:{id}")))
    }

    fn of_project(&self, project: &ProjectId) -> Vec<Arc<Job>> {
        let jobs = lock(&self.jobs);
        jobs.iter().filter(|((of, _), _)| of == project).map(|(_, job)| Arc::clone(job)).collect()
    }

    /// The statements of a script, in their order.
    pub(super) fn children(&self, parent: &JobDocument) -> Vec<JobDocument> {
        let jobs = self.of_project(&parent.project);
        let of_parent = |job: &Arc<Job>| job.document_if(|d| d.parent.as_ref() == Some(&parent.id));
        let mut children: Vec<JobDocument> = jobs.iter().filter_map(of_parent).collect();
        // Ids of one script end with their number.
        let number = |id: &JobId| id.as_str().rsplit('_').next().and_then(|n| n.parse::<usize>().ok());
        children.sort_by_key(|child| number(&child.id));
        children
    }

    /// The job whose rows are a finished job's result: its own, or those of the last query of a script.
    pub(super) fn with_rows(&self, document: &JobDocument) -> Option<JobDocument> {
        match document.statement_type() {
            Some("SELECT") => Some(document.clone()),
            Some("SCRIPT") => {
                self.children(document).into_iter().rfind(|d| d.statement_type() == Some("SELECT"))
            }
            _ => None,
        }
    }

    pub(super) fn list(&self, project: &ProjectId, arguments: &Arguments) -> Outcome<Reply> {
        let states: Vec<String> = arguments.all("stateFilter").map(str::to_ascii_uppercase).collect();
        let parent = arguments.get("parentJobId");
        let min = arguments.number("minCreationTime")?.and_then(|ms| i64::try_from(ms).ok());
        let max = arguments.number("maxCreationTime")?.and_then(|ms| i64::try_from(ms).ok());
        let is_wanted = |d: &JobDocument| {
            d.parent.as_ref().map(JobId::as_str) == parent
                && (states.is_empty() || states.iter().any(|state| state == d.state.name()))
                && min.is_none_or(|ms| d.created_ms >= ms)
                && max.is_none_or(|ms| d.created_ms <= ms)
        };
        // A document may hold a query of a megabyte, so only those of the page are copied.
        let mut found = Vec::new();
        for job in self.of_project(project) {
            let document = lock(&job.document);
            if is_wanted(&document) {
                found.push((document.created_ms, Arc::clone(&job)));
            }
        }
        found.sort_by_key(|(created_ms, _)| std::cmp::Reverse(*created_ms));
        let (range, next) = slice(found.len(), arguments)?;
        let jobs: Vec<Value> = found[range]
            .iter()
            .map(|(_, job)| {
                let document = job.document();
                let mut item = document.resource();
                item["state"] = item["status"]["state"].clone();
                if document.failure.is_some() {
                    item["errorResult"] = item["status"]["errorResult"].clone();
                }
                item
            })
            .collect();
        let mut list = json!({"kind": "bigquery#jobList", "etag": now_ms().to_string(), "jobs": jobs});
        if let Some(next) = next {
            list["nextPageToken"] = Value::from(next);
        }
        Ok(Reply::Json(list))
    }

    /// Forgets a job that is done.
    pub(super) fn delete(&self, job: &Job) -> Outcome<Reply> {
        let document = job.document();
        if document.state != State::Done {
            return Err(Failure::invalid(format!("Job {} is still running", document.full_id())));
        }
        lock(&self.jobs).remove(&(document.project, document.id));
        disk::remove_file(&job.path)?;
        Ok(Reply::NoContent)
    }

    /// Forgets the jobs that ended long ago.
    pub(super) fn sweep(&self) {
        let horizon_ms = now_ms() - KEPT_MS;
        let jobs: Vec<Arc<Job>> = lock(&self.jobs).values().cloned().collect();
        for job in jobs {
            let is_old = lock(&job.document).ended_ms.is_some_and(|ms| ms < horizon_ms);
            if let Err(failure) = if is_old { self.delete(&job).map(drop) } else { Ok(()) } {
                tracing::warn!(job = %job.document().id, error = failure.message, "cannot forget a job");
            }
        }
    }

    /// Asks a job to stop; it is too late once it commits.
    pub(super) fn cancel(&self, job: &Job) -> Reply {
        job.cancelled.store(true, Ordering::Release);
        Reply::Json(json!({"kind": "bigquery#jobCancelResponse", "job": job.document().resource()}))
    }
}

fn new_job(path: PathBuf, document: JobDocument) -> Job {
    let (done, _) = watch::channel(false);
    Job { path, document: Mutex::new(document), done, cancelled: AtomicBool::new(false) }
}

/// The job's id, and where it is to run, from a `jobReference`; an id is made up when none is given.
pub(super) fn parse_reference(reference: Option<&Map<String, Value>>) -> Outcome<(JobId, Option<String>)> {
    let member = |name: &str| reference.and_then(|r| r.get(name)).and_then(Value::as_str);
    let id = match member("jobId").filter(|id| !id.is_empty()) {
        Some(id) => JobId::parse(id)?,
        None => JobId::parse(&format!("job_{}", disk::unique_name()))?,
    };
    Ok((id, member("location").filter(|l| !l.is_empty()).map(str::to_owned)))
}

#[cfg(test)]
mod tests;
