//! What names and places may be called.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use url::Url;

use super::Warehouse;
use crate::error::{Error, Result};
use crate::location::{is_url, redacted};

/// The name is a part of folder names and job ids.
pub(super) fn check_name(name: &str) -> Result<()> {
    let legal = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !legal || name.len() > 100 {
        return Err(Error::usage(format!("`name = \"{}\"` is no pipeline name", name))
            .hint("letters, digits and `_`, at most 100"));
    }
    Ok(())
}

/// Letters, marks, numbers, connectors, dashes and spaces of any script, as BigQuery's documentation says:
/// without the marks, `ग्राहक` could not be written, nor a decomposed `é`.
static TABLE_NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A[\p{L}\p{M}\p{N}\p{Pc}\p{Pd}\p{Zs}]+\z").expect("a constant"));

/// BigQuery's rules: datasets take letters, digits and `_`; tables also what [`TABLE_NAME`] has.
pub(super) fn check_warehouse(warehouse: &Warehouse) -> Result<()> {
    check_project_and_dataset(warehouse)?;
    check_table("staging_table", &warehouse.staging_table)?;
    check_table("table", &warehouse.table)?;
    if warehouse.staging_table == warehouse.table {
        return Err(Error::usage("`warehouse.staging_table` and `warehouse.table` are the same table"));
    }
    Ok(())
}

pub(super) fn check_project_and_dataset(warehouse: &Warehouse) -> Result<()> {
    let project = &warehouse.project;
    if project.is_empty() || !project.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:_".contains(&b)) {
        return Err(Error::usage(format!("`warehouse.project` `{project}` is no project id")));
    }
    let dataset = &warehouse.dataset;
    let legal = dataset.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if dataset.is_empty() || dataset.len() > 1024 || !legal {
        return Err(Error::usage(format!("`warehouse.dataset` `{dataset}` is no dataset name"))
            .hint("letters, digits and `_`"));
    }
    Ok(())
}

pub(super) fn check_table(key: &str, table: &str) -> Result<()> {
    if table.trim().is_empty() || table.len() > 1024 || !TABLE_NAME.is_match(table) {
        let shown: String = table.chars().take(100).collect();
        return Err(Error::usage(format!("`warehouse.{key}` `{shown}` is no table name"))
            .hint("letters, marks, digits, `_`, `-` and spaces, at most 1,024 bytes"));
    }
    Ok(())
}

/// URLs stay as they are; anything else is a path and becomes a file URL.
pub(super) fn absolute_url(key: &str, text: &str) -> Result<String> {
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    if is_url(text) {
        return Err(Error::usage(format!("`{key}` `{}` is neither URL nor path", redacted(text)))
            .hint("URLs have `://` behind their scheme; a path with a `:` starts with `./`"));
    }
    let path: PathBuf = std::path::absolute(Path::new(text))
        .map_err(|e| Error::usage(format!("`{key}` `{text}` is neither URL nor path")).caused_by(e))?;
    let url = Url::from_file_path(&path)
        .map_err(|()| Error::usage(format!("`{key}` `{text}` is neither URL nor path")))?;
    // Placeholders are part of the text, not of the path.
    Ok(url.to_string().replace("%7B", "{").replace("%7D", "}"))
}

/// The place to stage into. Its URL is written into journals and load jobs, so it holds no secret.
pub(super) fn stage_url(text: &str) -> Result<String> {
    let url = absolute_url("stage.url", text)?;
    let bad = |what: &str| Error::usage(format!("`stage.url` {what}: `{}`", redacted(text)));
    let parsed = Url::parse(&url).map_err(|e| {
        bad("is no URL").caused_by(e).hint("write `file:///absolute/folder` or `gs://bucket/prefix`")
    })?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(bad("has a user or a password")
            .hint("credentials come from GOOGLE_APPLICATION_CREDENTIALS, not from the URL"));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(
            bad("has a `?` or `#`").hint("write them as `%3F` and `%23`, or give a path instead of a URL")
        );
    }
    Ok(url)
}
