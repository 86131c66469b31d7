//! Datasets and tables as BigQuery's own documents: read, listed, created, changed under an etag, deleted.
//!
//! # Why not the crate's types?
//! What they do not know they lose, and a type or mode of tomorrow they refuse to read. A table is to be
//! shown whole, and recreated with all that it had.

use gcp_bigquery_client::model::table_reference::TableReference;
use reqwest::Method;
use serde_json::{Value, json};

use super::BigQuery;
use super::access::Need;
use super::address::Address;
use super::tables::segments;
use super::wire::{Ask, Refusal};
use crate::error::{Error, Result};

/// A table's document, and when it was read.
#[derive(Debug, Clone)]
pub struct Document {
    pub value: Value,
    /// By the service's clock, in whole seconds.
    pub served_ms: Option<u64>,
}

impl Document {
    pub fn text(&self, member: &str) -> &str {
        self.value[member].as_str().unwrap_or_default()
    }

    /// 64-bit numbers are text in BigQuery's documents.
    pub fn number(&self, member: &str) -> Option<u64> {
        self.text(member).parse().ok()
    }

    pub fn etag(&self) -> &str {
        self.text("etag")
    }

    pub fn rows(&self) -> u64 {
        self.number("numRows").unwrap_or(0)
    }

    pub fn bytes(&self) -> u64 {
        self.number("numBytes").unwrap_or(0)
    }

    /// An instant by the service's clock at which the table was as this document says, and from which a
    /// copy can be taken: no later than the reading, and no earlier than the last change.
    pub fn instant_ms(&self) -> Option<u64> {
        self.served_ms.max(self.number("lastModifiedTime"))
    }
}

/// What became of a change that was to be made only to what had been read.
#[derive(Debug)]
pub enum Change {
    Made(Document),
    /// Somebody else changed the table first.
    Lost,
}

/// What became of a table or partition that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    Done,
    NotThere,
    /// Somebody else changed it first.
    Lost,
}

/// A page of a dataset's tables.
#[derive(Debug)]
pub struct Listed {
    pub tables: Vec<Value>,
    pub next: Option<String>,
}

impl BigQuery {
    /// The same service, with jobs that run where `location` is.
    pub fn at(&self, location: &str) -> BigQuery {
        let mut there = self.clone();
        there.options.location = location.to_owned();
        there
    }

    /// The name with its project, which is this client's where none was given.
    pub fn named(&self, table: &Address) -> Address {
        Address { project: Some(self.project_of(table).to_owned()), ..table.clone() }
    }

    fn project_of<'a>(&'a self, table: &'a Address) -> &'a str {
        table.project.as_deref().unwrap_or(self.project())
    }

    pub(super) fn reference(&self, table: &Address) -> TableReference {
        let id = format!("{}{}", table.table, table.decorator());
        TableReference::new(self.project_of(table), &table.dataset, &id)
    }

    pub(super) fn path_of(&self, table: &Address) -> String {
        let id = format!("{}{}", table.table, table.decorator());
        segments(&["projects", self.project_of(table), "datasets", &table.dataset, "tables", &id])
    }

    fn dataset_path(&self, table: &Address) -> String {
        segments(&["projects", self.project_of(table), "datasets", &table.dataset])
    }

    /// `None` when there is no such table.
    pub async fn document(&self, table: &Address) -> Result<Option<Document>> {
        match self.look(table).await? {
            Ok(document) => Ok(Some(document)),
            Err(refusal) if refusal.status == 404 => Ok(None),
            Err(refusal) if refusal.status == 400 && !table.decorator().is_empty() => {
                Err(self.no_such_part(table, &refusal))
            }
            Err(refusal) => Err(refusal.into_error_needing(&what(self, table), Need::GET_TABLE)),
        }
    }

    /// Why there is no such table, and where to look.
    pub async fn missing(&self, table: &Address) -> Error {
        let named = self.named(table);
        let dataset = format!("{}.{}", self.project_of(table), table.dataset);
        match self.dataset(table).await {
            Ok(None) => Error::usage(format!("there is no dataset `{dataset}`"))
                .hint("`--project` names another project"),
            _ => Error::usage(format!("there is no table `{named}`")).hint(format!(
                "`api2bq table list {dataset}` lists what is there; `--project` names another project"
            )),
        }
    }

    pub(super) async fn look(&self, table: &Address) -> Result<Result<Document, Refusal>> {
        let path = self.path_of(table);
        let answer = self.ask(&what(self, table), &Ask::get(&path)).await?;
        Ok(answer.map(|answer| Document { value: answer.document, served_ms: answer.served_ms }))
    }

    /// Creates the table of this document. `None` when one of its name is there.
    pub async fn create_table(&self, table: &Address, document: &Value) -> Result<Option<Document>> {
        let path = format!("{}/tables", self.dataset_path(table));
        let what = what(self, table);
        match self.ask(&what, &Ask::new(Method::POST, &path).body(document)).await? {
            Ok(answer) => Ok(Some(Document { value: answer.document, served_ms: answer.served_ms })),
            // Perhaps it is ours, and the answer was lost: then nobody has put anything into it.
            Err(refusal) if refusal.status == 409 && refusal.repeated => {
                let found = self.document(table).await?;
                Ok(found.filter(|found| found.rows() == 0))
            }
            Err(refusal) if refusal.status == 409 => Ok(None),
            Err(refusal) if refusal.status == 404 => Err(self.no_dataset(table)),
            Err(refusal) => Err(refusal.into_error_needing(&what, Need::CREATE_TABLE)),
        }
    }

    /// Changes the members of `patch` if the table still has this etag.
    pub async fn patch_table(&self, table: &Address, etag: &str, patch: &Value) -> Result<Change> {
        let (path, what) = (self.path_of(table), what(self, table));
        let ask = Ask { if_match: Some(etag), ..Ask::new(Method::PATCH, &path).body(patch) };
        match self.ask(&what, &ask).await? {
            Ok(answer) => Ok(Change::Made(Document { value: answer.document, served_ms: answer.served_ms })),
            Err(refusal) if refusal.status == 412 => Ok(Change::Lost),
            Err(refusal) => Err(refusal.into_error_needing(&what, Need::UPDATE_TABLE)),
        }
    }

    /// Deletes a table or a partition; with `etag` only if it still has it.
    pub async fn remove_table(&self, table: &Address, etag: Option<&str>) -> Result<Removal> {
        let (path, what) = (self.path_of(table), what(self, table));
        let ask = Ask { if_match: etag, ..Ask::new(Method::DELETE, &path) };
        match self.ask(&what, &ask).await? {
            Ok(_) => Ok(Removal::Done),
            // Gone, and an attempt whose answer was lost is what took it away.
            Err(refusal) if refusal.status == 404 && refusal.repeated => Ok(Removal::Done),
            Err(refusal) if refusal.status == 404 => Ok(Removal::NotThere),
            Err(refusal) if refusal.status == 412 => Ok(Removal::Lost),
            Err(refusal) => Err(refusal.into_error_needing(&what, Need::DELETE_TABLE)),
        }
    }

    /// The tables of a dataset from page `token` on.
    pub async fn list_tables(&self, project: &str, dataset: &str, token: Option<&str>) -> Result<Listed> {
        let path = format!("{}/tables", segments(&["projects", project, "datasets", dataset]));
        let what = format!("dataset `{project}.{dataset}`");
        let mut query = vec![("maxResults", "1000")];
        query.extend(token.map(|token| ("pageToken", token)));
        match self.ask(&what, &Ask { query: &query, ..Ask::get(&path) }).await? {
            Ok(mut answer) => {
                let tables = answer.document["tables"].take();
                let next = answer.document["nextPageToken"].as_str().map(str::to_owned);
                Ok(Listed { tables: serde_json::from_value(tables).unwrap_or_default(), next })
            }
            Err(refusal) if refusal.status == 404 => Err(Error::usage(format!("there is no {what}"))),
            Err(refusal) => Err(refusal.into_error_needing(&what, Need::LIST_TABLES)),
        }
    }

    /// The dataset of this table. `None` when there is no such dataset.
    pub async fn dataset(&self, table: &Address) -> Result<Option<Document>> {
        let what = format!("dataset `{}.{}`", self.project_of(table), table.dataset);
        match self.ask(&what, &Ask::get(&self.dataset_path(table))).await? {
            Ok(answer) => Ok(Some(Document { value: answer.document, served_ms: answer.served_ms })),
            Err(refusal) if refusal.status == 404 => Ok(None),
            Err(refusal) => Err(refusal.into_error_needing(&what, Need::GET_DATASET)),
        }
    }

    /// Creates the dataset of this table where jobs run. One that came into being meanwhile is as good.
    pub async fn create_dataset(&self, table: &Address) -> Result<()> {
        let project = self.project_of(table);
        let what = format!("dataset `{project}.{}`", table.dataset);
        let path = segments(&["projects", project, "datasets"]);
        let document = json!({
            "datasetReference": { "projectId": project, "datasetId": table.dataset },
            "location": self.location(),
        });
        match self.ask(&what, &Ask::new(Method::POST, &path).body(&document)).await? {
            Err(refusal) if refusal.status != 409 => {
                Err(refusal.into_error_needing(&what, Need::CREATE_DATASET))
            }
            _ => Ok(()),
        }
    }

    /// What time it is by the service's clock, in whole seconds. Asks for the dataset of this table.
    pub async fn served_ms(&self, table: &Address) -> Result<u64> {
        let Some(dataset) = self.dataset(table).await? else { return Err(self.no_dataset(table)) };
        dataset.served_ms.ok_or_else(|| {
            Error::failed("BigQuery's answer has no date, and this machine's clock is not taken for it")
        })
    }

    fn no_dataset(&self, table: &Address) -> Error {
        Error::usage(format!("there is no dataset `{}.{}`", self.project_of(table), table.dataset))
            .hint("`api2bq table create --create-dataset` makes it; `--project` names another project")
    }
}

pub(super) fn what(bigquery: &BigQuery, table: &Address) -> String {
    format!("table `{}`", bigquery.named(table))
}
