//! What became of a job whose process died: exactly one of "done" and "without effect", and true.
//!
//! What a job makes or changes knows of it: the job is among the commits of the table or dataset, written with
//! the change in one step. What a job takes away cannot, so the job's own document names it by its birth before
//! it goes; nothing is born twice, so that what is gone stays gone. And before a table or dataset goes, what it
//! alone knows of other jobs that are not done is written into their documents.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Job, JobDocument, Jobs, State};
use crate::emulator::catalog::Catalog;
use crate::emulator::disk;
use crate::emulator::names::TableName;
use crate::emulator::versions::{Commit, lock};
use crate::emulator::wire::{Failure, Outcome, now_ms};

/// What a job takes away, noted while it is locked and before it goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::emulator) struct Removal {
    /// Of the table or dataset.
    pub birth: String,
    /// What the table is called from then on.
    #[serde(default)]
    pub moved_to: Option<TableName>,
    /// The job's, once it is gone.
    pub statistics: Value,
}

impl Jobs {
    /// Whether a table may forget what it knows of a job, because the job's own document says it.
    pub(in crate::emulator) fn is_settled(&self, commit: &Commit) -> bool {
        self.of(commit).is_none_or(|job| *job.done.borrow())
    }

    /// Writes into the documents of jobs that they had their effect: who knows it is about to go.
    pub(in crate::emulator) fn attest(&self, commits: &[Commit]) -> Outcome<()> {
        for commit in commits {
            if let Some(job) = self.of(commit) {
                job.attest(&commit.statistics)?;
            }
        }
        Ok(())
    }

    /// Notes in the document of a job what it is about to take away.
    pub(in crate::emulator) fn note_removal(&self, of: &JobDocument, removal: Removal) -> Outcome<()> {
        let job = self.find(&of.project, of.id.as_str())?;
        let mut document = lock(&job.document);
        document.removal = Some(removal);
        disk::write_document(&job.path, &*document)
    }

    fn of(&self, commit: &Commit) -> Option<std::sync::Arc<Job>> {
        let project = commit.project.clone()?;
        lock(&self.jobs).get(&(project, commit.job.clone())).cloned()
    }
}

impl Job {
    /// On disk the job is done; here it will be as soon as it has noticed.
    fn attest(&self, statistics: &Value) -> Outcome<()> {
        let document = lock(&self.document);
        if document.state == State::Done {
            return Ok(());
        }
        let mut done = document.clone();
        let now = now_ms();
        (done.state, done.started_ms, done.ended_ms) =
            (State::Done, done.started_ms.or(Some(now)), Some(now));
        done.statistics = statistics.clone();
        disk::write_document(&self.path, &done)
    }
}

/// How a job ended that was running when the last process did; asked once the catalog is open.
pub(super) fn settle(document: &JobDocument, catalog: &Catalog) -> Outcome<Value> {
    if let Some(Removal { moved_to: Some(to), birth, statistics }) = &document.removal
        && commits_of(catalog, to).iter().any(|commit| is_of(commit, document))
    {
        // The table has its new name. Now it loses the old one, if it has not yet.
        if let Some(name) = &document.destination
            && birth_of(catalog, document).as_ref() == Some(birth)
        {
            catalog.delete_table(name, |_| Ok(()))?;
        }
        return Ok(statistics.clone());
    }
    if let Some(removal) = &document.removal {
        let is_gone = birth_of(catalog, document).as_ref() != Some(&removal.birth);
        return if is_gone { Ok(removal.statistics.clone()) } else { Err(without_effect()) };
    }
    let commits = match (&document.destination, &document.dataset) {
        (Some(name), _) => commits_of(catalog, name),
        (None, Some((project, id))) => {
            catalog.dataset(project, id).map(|dataset| dataset.document().commits).unwrap_or_default()
        }
        (None, None) => return Err(many_effects(document)),
    };
    let commit = commits.into_iter().find(|commit| is_of(commit, document));
    commit.map(|commit| commit.statistics).ok_or_else(without_effect)
}

fn commits_of(catalog: &Catalog, name: &TableName) -> Vec<Commit> {
    catalog.table(name).map(|table| table.current().commits.clone()).unwrap_or_default()
}

fn is_of(commit: &Commit, document: &JobDocument) -> bool {
    commit.job == document.id && commit.project.as_ref().is_none_or(|project| *project == document.project)
}

/// Of what has the name now that a job was to take something away from.
fn birth_of(catalog: &Catalog, document: &JobDocument) -> Option<String> {
    if let Some(name) = &document.destination {
        return Some(catalog.table(name).ok()?.current().definition.birth.clone());
    }
    let (project, id) = document.dataset.as_ref()?;
    Some(catalog.dataset(project, id).ok()?.document().birth)
}

fn without_effect() -> Failure {
    Failure::backend(
        "The job was running when the server stopped; it had no effect. Retry with a new job id.",
    )
}

/// Scripts and extract jobs do more than one thing.
fn many_effects(document: &JobDocument) -> Failure {
    let what = match document.configuration.get("extract") {
        Some(_) => "some of its files may have been written. Retry with a new job id.",
        None if document.parent.is_none() => "its child jobs say which of its statements took effect.",
        None => return without_effect(),
    };
    Failure::backend(format!("The job was running when the server stopped; {what}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::emulator::catalog::DatasetDocument;
    use crate::emulator::names::Address;
    use crate::emulator::versions::{Definition, Version};

    /// The dataset `p.d`, its table `t` that the job `took` made, and that job, still running.
    fn running(dir: &std::path::Path) -> (Catalog, Jobs, TableName) {
        let catalog = Catalog::open(dir).unwrap();
        let name = Address::parse("p", "d", "t").unwrap().name;
        let dataset = DatasetDocument::new(name.project.clone(), name.dataset.clone(), "US".into());
        catalog.insert_dataset(dataset).unwrap();
        let jobs = Jobs::open(dir, &catalog).unwrap();
        let document: JobDocument = serde_json::from_value(json!({
            "project": "p", "id": "took", "location": "US", "configuration": {"query": {}},
            "state": "Running", "created_ms": 1, "statistics": null, "destination": name,
        }))
        .unwrap();
        let (project, job) = (Some(document.project.clone()), document.id.clone());
        jobs.create(document).unwrap();
        let commits = vec![Commit { project, job, statistics: json!({"rows": "1"}) }];
        let definition = Definition::new(name.clone());
        catalog.create_table(Version::new(definition, Vec::new(), commits)).unwrap();
        (catalog, jobs, name)
    }

    fn after_a_restart(dir: &std::path::Path) -> JobDocument {
        let catalog = Catalog::open(dir).unwrap();
        let jobs = Jobs::open(dir, &catalog).unwrap();
        jobs.find(&Address::parse("p", "d", "t").unwrap().name.project, "took").unwrap().document()
    }

    #[test]
    fn a_job_is_done_although_the_table_that_knew_it_was_deleted_before_the_job_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (catalog, jobs, name) = running(dir.path());
        catalog.delete_table(&name, |version| jobs.attest(&version.commits)).unwrap();
        let document = after_a_restart(dir.path());
        assert_eq!((document.failure, document.statistics), (None, json!({"rows": "1"})));
    }

    #[test]
    fn a_job_is_done_although_the_dataset_of_its_table_was_deleted_before_the_job_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (catalog, jobs, name) = running(dir.path());
        catalog.delete_dataset(&name.project, &name.dataset, true, |_, known| jobs.attest(known)).unwrap();
        let document = after_a_restart(dir.path());
        assert_eq!((document.failure, document.statistics), (None, json!({"rows": "1"})));
    }

    #[test]
    fn a_job_of_the_same_id_in_another_project_is_another_job() {
        let dir = tempfile::tempdir().unwrap();
        let (catalog, jobs, name) = running(dir.path());
        let mut commit = catalog.table(&name).unwrap().current().commits[0].clone();
        assert!(!jobs.is_settled(&commit));
        commit.project = Some(crate::emulator::names::ProjectId::parse("q").unwrap());
        assert!(jobs.is_settled(&commit), "there is no such job");
        jobs.attest(&[commit]).unwrap();
        let document = jobs.find(&name.project, "took").unwrap().document();
        assert_eq!(document.state, State::Running);
    }
}
