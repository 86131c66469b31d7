//! A file that a query names in FROM, by path or URL: what is in it, and the table made of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, RetryConfig};
use url::Url;

use super::text::{Kind, TextFile, TextTable};
use super::{Engine, bucket, words};
use crate::error::{Error, Result};
use crate::location::{is_url, redacted};

/// What the end of a file's name says.
const ENDINGS: [(&str, Content); 6] = [
    ("parquet", Content::Parquet),
    ("csv", Content::Text(Kind::Delimited(b','))),
    ("tsv", Content::Text(Kind::Delimited(b'\t'))),
    ("ndjson", Content::Text(Kind::Ndjson)),
    ("jsonl", Content::Text(Kind::Ndjson)),
    ("json", Content::Text(Kind::Ndjson)),
];

#[derive(Debug, Clone, Copy)]
enum Content {
    Parquet,
    Text(Kind),
}

/// Where a file is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Local(PathBuf),
    Bucket(Arc<dyn ObjectStore>, ObjectPath),
}

/// True for what can only be meant as a file: no table has such a name.
pub fn is_file(name: &str) -> bool {
    is_url(name) || name.contains(['/', '\\']) || ending(name).is_some()
}

/// By the end of the name, and whether it is packed.
fn ending(name: &str) -> Option<(Content, bool)> {
    let name = name.to_ascii_lowercase();
    let (name, packed) = name.strip_suffix(".gz").map_or((&*name, false), |name| (name, true));
    let (_, ending) = name.rsplit_once('.')?;
    let content = ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, content)| *content)?;
    Some((content, packed))
}

/// The table of the file `name`, a path, `file://…` or `gs://…`.
pub(super) async fn open(
    engine: &Engine,
    state: &SessionState,
    name: &str,
) -> Result<Arc<dyn TableProvider>> {
    let shown = redacted(name);
    let (content, packed) = ending(name).ok_or_else(|| {
        Error::usage(format!("`{shown}` does not say what is in it"))
            .hint("names of files end with .parquet, .csv, .tsv, .ndjson, .jsonl or .json (lines); text also with .gz")
    })?;
    let (url, place) = place(engine, name).await?;
    match content {
        Content::Parquet if packed => {
            Err(Error::usage(format!("`{shown}`: Parquet is packed as it is")).hint("unpack it with gunzip"))
        }
        Content::Parquet => parquet(state, &url, &shown).await,
        Content::Text(kind) => {
            let file = TextFile { place, shown, kind, packed };
            let columns = file.columns().await?;
            Ok(Arc::new(TextTable::new(vec![file], columns)))
        }
    }
}

/// The table of a text file that we wrote, whose columns are known.
pub(super) async fn text(engine: &Engine, url: &str) -> Result<TextFile> {
    let (_, place) = place(engine, url).await?;
    Ok(TextFile { place, shown: redacted(url), kind: Kind::Ndjson, packed: false })
}

/// Finds the file. A name without a scheme is a path.
async fn place(engine: &Engine, name: &str) -> Result<(Url, Place)> {
    let shown = redacted(name);
    let nothing = || Error::usage(format!("there is no file `{shown}`"));
    if is_url(name) && !name.starts_with("file:") {
        let url = Url::parse(name).ok().filter(|url| url.scheme() == "gs" && url.host_str().is_some());
        let url = url.ok_or_else(|| {
            Error::usage(format!("`{shown}` is no place that is read from"))
                .hint("a path, `file:///folder/file` or `gs://bucket/file`")
        })?;
        let store = register(engine, &url)?;
        let path = ObjectPath::from_url_path(url.path()).map_err(|_| nothing())?;
        return match store.head(&path).await {
            Ok(_) => Ok((url, Place::Bucket(store, path))),
            Err(object_store::Error::NotFound { .. }) => Err(nothing()),
            Err(error) => Err(Error::failed(format!("cannot read `{shown}`")).caused_by(error)),
        };
    }
    let path = match is_url(name) {
        true => Url::parse(name).ok().and_then(|url| url.to_file_path().ok()).ok_or_else(|| {
            Error::usage(format!("`{shown}` names no file")).hint("write `file:///folder/file`")
        })?,
        false => Path::new(name).to_owned(),
    };
    let cannot = |e| Error::usage(format!("cannot read `{shown}`")).caused_by(e);
    let path = match std::fs::canonicalize(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(nothing()),
        path => path.map_err(cannot)?,
    };
    if path.is_dir() {
        return Err(Error::usage(format!("`{shown}` is a folder")).hint("name a file in it"));
    }
    let url = Url::from_file_path(&path).map_err(|()| nothing())?;
    Ok((url, Place::Local(path)))
}

/// Opens the bucket of `url` for all readers of this engine; of a folder there is nothing to open.
pub(super) fn register(engine: &Engine, url: &Url) -> Result<Arc<dyn ObjectStore>> {
    if let Ok(known) = engine.runtime.object_store_registry.get_store(url) {
        return Ok(known);
    }
    let store = bucket::open(url.host_str().unwrap_or_default(), RetryConfig::default())?;
    engine.runtime.register_object_store(url, Arc::clone(&store));
    Ok(store)
}

async fn parquet(state: &SessionState, url: &Url, shown: &str) -> Result<Arc<dyn TableProvider>> {
    let cannot = |e| words::failed(e).context(format!("cannot read `{shown}`"));
    let (place, options, columns) = listed(state, url).await.map_err(cannot)?;
    let config = ListingTableConfig::new(place).with_listing_options(options).with_schema(columns);
    Ok(Arc::new(ListingTable::try_new(config).map_err(cannot)?))
}

/// The columns of a Parquet file.
pub(super) async fn parquet_columns(state: &SessionState, url: &Url) -> Result<SchemaRef> {
    let (_, _, columns) = listed(state, url)
        .await
        .map_err(|e| words::failed(e).context(format!("cannot read `{}`", redacted(url.as_str()))))?;
    Ok(columns)
}

async fn listed(
    state: &SessionState,
    url: &Url,
) -> Result<(ListingTableUrl, ListingOptions, SchemaRef), DataFusionError> {
    let format = ParquetFormat::default().with_options(state.default_table_options().parquet);
    let options = ListingOptions::new(Arc::new(format)).with_file_extension("");
    let place = ListingTableUrl::parse(url)?;
    let columns = options.infer_schema(state, &place).await?;
    Ok((place, options, columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_tables_by_their_names() {
        for file in ["a.parquet", "./a", "data/x", "gs://b/x.csv", "file:///x.json.gz", "A.CSV.GZ"] {
            assert!(is_file(file), "{file}");
        }
        for table in ["flows", "flows_rejects", "runs", "flows.v2"] {
            assert!(!is_file(table), "{table}");
        }
    }
}
