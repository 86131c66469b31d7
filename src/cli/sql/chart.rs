//! A chart, and where it goes.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cli::output;
use crate::cli::replacing::Target;
use crate::error::{Error, Result};
use crate::render::chart::{Chart, Kind};

#[derive(Debug, Clone)]
pub(super) struct Drawing {
    pub kind: Kind,
    /// A picture in a file, in place of characters on stdout.
    picture: Option<Picture>,
}

#[derive(Debug, Clone)]
struct Picture {
    path: PathBuf,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Svg,
    Png,
}

impl Drawing {
    /// Finds out what cannot be written before anything is read.
    pub(super) fn new(kind: Kind, path: Option<&Path>) -> Result<Drawing> {
        let Some(path) = path else { return Ok(Drawing { kind, picture: None }) };
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
        let form = match ending.as_deref() {
            Some("svg") => Form::Svg,
            Some("png") => Form::Png,
            _ => {
                return Err(Error::usage(format!("`{}` is no name for a picture", path.display()))
                    .hint("end it with `.svg` or `.png`"));
            }
        };
        Target::find(path)?;
        Ok(Drawing { kind, picture: Some(Picture { path: path.to_owned(), form }) })
    }

    pub(super) async fn draw(&self, chart: &Chart) -> Result<()> {
        let Some(picture) = self.picture.clone() else {
            return output::print(&chart.terminal(output::width(), output::is_styled())?);
        };
        let bytes = match picture.form {
            Form::Svg => chart.svg()?.into_bytes(),
            Form::Png => chart.png()?,
        };
        // A pipe that nobody reads holds up a thread of its own, and Ctrl-C is heard all the same.
        let written = tokio::task::spawn_blocking(move || {
            let (mut file, replacing) = Target::find(&picture.path)?.open()?;
            file.write_all(&bytes).map_err(|e| cannot_write(&picture.path).caused_by(e))?;
            replacing.finish()
        });
        written.await.map_err(|e| Error::failed("the writer of the picture died").caused_by(e))?
    }
}

fn cannot_write(path: &Path) -> Error {
    Error::failed(format!("cannot write `{}`", path.display()))
}
