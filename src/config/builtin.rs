//! The files of a pipeline: built into the program, or in a folder of the user's.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::location::{is_url, redacted};

/// A pipeline.toml and where its SQL files are.
pub(super) struct Files {
    pub(super) toml: String,
    /// Path or name, for messages and as an origin.
    pub(super) shown: String,
    place: Place,
}

enum Place {
    BuiltIn(Texts),
    Folder(PathBuf),
}

/// Names and texts of files.
type Texts = &'static [(&'static str, &'static str)];

const FLOWS: Texts = &[
    ("pipeline.toml", include_str!("../../sql/flows/pipeline.toml")),
    ("stage.sql", include_str!("../../sql/flows/stage.sql")),
    ("promote.sql", include_str!("../../sql/flows/promote.sql")),
];

const INVENTORY: Texts = &[("pipeline.toml", include_str!("../../sql/inventory/pipeline.toml"))];

/// Pipelines that come with the program.
const BUILT_IN: [(&str, &str, Texts); 2] = [
    ("flows", "flows/pipeline.toml (built in)", FLOWS),
    ("inventory", "inventory/pipeline.toml (built in)", INVENTORY),
];

/// A configuration is a page of text; 1 MiB is more than anyone wrote, and no log file by mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

impl Files {
    pub(super) fn find(name_or_path: &str) -> Result<Files> {
        if let Some((_, shown, files)) = BUILT_IN.iter().find(|(name, ..)| *name == name_or_path) {
            let toml = files[0].1.to_owned();
            return Ok(Files { toml, shown: (*shown).into(), place: Place::BuiltIn(files) });
        }
        if is_url(name_or_path) {
            return Err(Error::usage(format!("`{}` is a URL and no pipeline", redacted(name_or_path)))
                .hint("name the pipeline, and give the URL as `--set source.url=…`"));
        }
        let path = Path::new(name_or_path);
        let looks_like_path = name_or_path.contains(['/', '\\', '.']);
        if !looks_like_path && !path.exists() {
            return Err(Error::usage(format!("there is no pipeline `{name_or_path}`")).hint(
                "built in are `flows` and, for the gateway, `inventory`; your own is a path: `./my.toml`",
            ));
        }
        let toml = read(path)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Files { toml, shown: name_or_path.to_owned(), place: Place::Folder(folder) })
    }

    /// An SQL file, named beside the pipeline.toml.
    pub(super) fn read(&self, name: &str) -> Result<String> {
        match &self.place {
            Place::Folder(folder) => read(&folder.join(name)),
            Place::BuiltIn(files) => match files.iter().find(|(file, _)| *file == name) {
                Some((_, text)) => Ok((*text).to_owned()),
                // `--set transform.sql=./mine.sql` tries another SQL on a built-in pipeline.
                None => read(Path::new(name)),
            },
        }
    }
}

fn read(path: &Path) -> Result<String> {
    let cannot = |e: std::io::Error| Error::usage(format!("cannot read `{}`", path.display())).caused_by(e);
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if metadata.is_dir() {
        return Err(
            Error::usage(format!("`{}` is a folder", path.display())).hint("name the pipeline.toml in it")
        );
    }
    let mut text = String::new();
    // A device or a pipe has no length before it was read.
    let file = std::fs::File::open(path).map_err(cannot)?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    if metadata.len() > FILE_BYTES_MAX || text.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::usage(format!("`{}` has more than {FILE_BYTES_MAX} bytes", path.display()))
            .hint("a pipeline.toml is a page of text; is this one?"));
    }
    read.map_err(cannot)?;
    Ok(text)
}
