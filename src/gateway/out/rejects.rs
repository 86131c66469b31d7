//! Rows that BigQuery will not have: a file of lines beside the journal entry that names it.

use serde::{Deserialize, Serialize};

use super::batch::run_of;
use super::rows::Refused;
use crate::bigquery::RowError;
use crate::error::{Error, Result};
use crate::ledger::batches::folder;
use crate::manifest::StagedFile;
use crate::stage::Store;
use crate::stage::journal::{Chain, sha256_hex};

/// A line of such a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// Of the request that brought it, as its sender was told.
    pub id: String,
    /// Its place in the body of that request, from 0.
    pub index: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// In BigQuery's words, as the message is.
    pub reason: String,
    pub message: String,
    /// The row as it was sent.
    pub raw: String,
}

/// The same rows give the same file. It is durable when this returns.
pub(super) async fn write(store: &Store, folder: &str, refused: &[Refused]) -> Result<Option<StagedFile>> {
    if refused.is_empty() {
        return Ok(None);
    }
    let mut lines = Vec::new();
    for Refused { row, error: RowError { reason, location, message, .. } } in refused {
        let line = RefusedRow {
            id: row.letter.clone(),
            index: row.index,
            field: Some(location.clone()).filter(|field| !field.is_empty()),
            reason: reason.clone(),
            message: message.clone(),
            raw: row.json.clone(),
        };
        serde_json::to_writer(&mut lines, &line)
            .map_err(|e| Error::failed("cannot write a reject").caused_by(e))?;
        lines.push(b'\n');
    }
    let sha256 = sha256_hex(&lines);
    // The content is in the name: what was written before a kill may be of other answers.
    let name = format!("{folder}/rejects-{}.ndjson", &sha256[..8]);
    store.create(&name, &lines).await?;
    let (rows, bytes) = (refused.len() as u64, lines.len() as u64);
    Ok(Some(StagedFile { url: store.url_of(&name)?, rows, bytes, sha256 }))
}

/// The files of a pipeline's gateway that the journal names, the oldest first.
pub async fn refused_rows(store: &Store, pipeline: &str) -> Result<Vec<StagedFile>> {
    let mut files = Vec::new();
    for object in store.walk(&folder(pipeline)).await? {
        let Some((folder, file)) = object.name.rsplit_once('/') else { continue };
        let Some((_, first)) = folder.rsplit_once('/').filter(|_| file.starts_with("rejects-")) else {
            continue;
        };
        let chain = Chain::read(store, &run_of(first), folder.to_owned()).await?;
        let named = chain.state().streamed.and_then(|streamed| streamed.rejects.clone());
        files.extend(named.filter(|named| store.name_of(&named.url) == Some(&object.name)));
    }
    Ok(files)
}
