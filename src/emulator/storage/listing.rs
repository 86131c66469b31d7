//! Lists of objects, in pages and by folders.

use std::ffi::OsString;
use std::path::Path;

use super::layout::{Bucket, key_of, paths_of};
use super::objects::Objects;
use super::records::ObjectDocument;
use crate::emulator::wire::Outcome;

pub(super) const PAGE_MAX: usize = 1000;

/// Which keys, and how many of them at once.
#[derive(Debug, Default)]
pub(in crate::emulator) struct Query {
    pub prefix: String,
    /// Keys that have it after the prefix are shown as one.
    pub delimiter: Option<String>,
    /// The key that the page before ended with.
    pub after: String,
    pub start: String,
    pub end: Option<String>,
    pub max: usize,
}

#[derive(Debug, Default)]
pub(in crate::emulator) struct Page {
    pub objects: Vec<ObjectDocument>,
    pub prefixes: Vec<String>,
    pub next: Option<String>,
}

impl Objects {
    /// All keys of a bucket that start with `prefix`, in their order.
    pub(in crate::emulator) fn keys(&self, bucket: &Bucket, prefix: &str) -> Outcome<Vec<String>> {
        self.check_bucket(bucket)?;
        let folder = self.folder(bucket);
        let mut keys = Vec::new();
        // Only the folder that the prefix names is searched, if it names one.
        let below = prefix.rsplit_once('/').map(|(folder, _)| paths_of(folder)[0].clone());
        let below = below.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let mut open = vec![below];
        while let Some(path) = open.pop() {
            let Ok(entries) = std::fs::read_dir(folder.join(&path)) else { continue };
            for entry in entries {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string().map_err(not_shown) else { continue };
                let path = if path.is_empty() { name } else { format!("{path}/{name}") };
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    open.push(path);
                } else if kind.is_file() {
                    match key_of(&path) {
                        Some(key) if key.starts_with(prefix) => keys.push(key),
                        Some(_) => {}
                        None => not_shown(path.into()),
                    }
                }
            }
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    pub(in crate::emulator) fn list(&self, bucket: &Bucket, query: &Query) -> Outcome<Page> {
        let keys = self.keys(bucket, &query.prefix)?;
        let first = keys.partition_point(|k| *k <= query.after || *k < query.start);
        let mut page = Page::default();
        let mut last = String::new();
        for key in &keys[first..] {
            if query.end.as_ref().is_some_and(|end| key >= end) {
                break;
            }
            let folder = folder_of(key, query);
            let is_known = folder.is_some_and(|f| {
                // A page may have ended inside of this folder: it was named then.
                page.prefixes.last().map(String::as_str) == Some(f) || query.after.starts_with(f)
            });
            if !is_known {
                if page.objects.len() + page.prefixes.len() == query.max {
                    page.next = Some(last);
                    break;
                }
                match folder {
                    Some(folder) => page.prefixes.push(folder.to_owned()),
                    None => page.objects.extend(self.document(bucket, key)?),
                }
            }
            last.clone_from(key);
        }
        Ok(page)
    }
}

/// The key up to the first delimiter after the prefix.
fn folder_of<'a>(key: &'a str, query: &Query) -> Option<&'a str> {
    let delimiter = query.delimiter.as_deref()?;
    let rest = key.get(query.prefix.len()..)?;
    let end = query.prefix.len() + rest.find(delimiter)? + delimiter.len();
    key.get(..end)
}

fn not_shown(name: OsString) {
    let name = Path::new(&name).display();
    tracing::warn!(%name, "a file in a bucket's folder is no object: no key leads to its name");
}
