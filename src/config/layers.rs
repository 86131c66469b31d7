//! Lays settings over one another and remembers where each came from.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

use crate::error::{Error, Result};
use crate::location::redacted;

const DEFAULTS: &str = include_str!("../../sql/defaults.toml");

/// Tables whose keys are the user's own.
const OPEN_TABLES: [&str; 1] = ["source.query."];

/// Query parameters may be keys of an API; those that only stand for the window are none.
pub fn is_secret(key: &str, value: &str) -> bool {
    key.contains("source.query.") && !["{after}", "{before}", "{day}", "{format}"].contains(&value)
}

/// Names of the environment that the rest of the world uses.
const WELL_KNOWN: [(&str, &str); 1] = [("GOOGLE_CLOUD_PROJECT", "warehouse.project")];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(String),
    Environment(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => f.write_str(path),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag => f.write_str("--set"),
        }
    }
}

/// A resolved setting for `--show-settings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub key: String,
    pub value: String,
    pub origin: Origin,
}

/// Values by dotted key; `columns` is one value.
pub(super) struct Layers(BTreeMap<String, (Value, Origin)>);

impl Layers {
    pub(super) fn resolve(toml: &str, shown: &str, set: &[String]) -> Result<Layers> {
        let mut layers = Layers(BTreeMap::new());
        let defaults: Table = DEFAULTS.parse().expect("the defaults are tested");
        layers.lay(&defaults, "", &Origin::Default);
        layers.0.insert("columns".into(), (Value::Array(Vec::new()), Origin::Default));

        let file: Table = toml.parse().map_err(|e: toml::de::Error| {
            let line = e.span().map_or(1, |span| toml[..span.start].matches('\n').count() + 1);
            Error::usage(format!("`{shown}` line {line}: {}", e.message()))
        })?;
        let mut over = Layers(BTreeMap::new());
        over.lay(&file, "", &Origin::File(shown.to_owned()));
        for (key, (value, origin)) in over.0 {
            layers.put(&key, value, origin).map_err(|e| e.context(format!("`{shown}`")))?;
        }
        layers.lay_environment()?;
        for pair in set {
            let (key, text) = pair
                .split_once('=')
                .ok_or_else(|| Error::usage(format!("`--set {}` is no `key=value`", redacted(pair))))?;
            let value = layers.typed(key.trim(), text)?;
            layers.put(key.trim(), value, Origin::Flag)?;
        }
        Ok(layers)
    }

    /// The nested table that serde reads.
    pub(super) fn table(&self) -> Table {
        let mut root = Table::new();
        for (key, (value, _)) in &self.0 {
            let mut table = &mut root;
            let mut parts = key.split('.').peekable();
            while let Some(part) = parts.next() {
                if parts.peek().is_none() {
                    table.insert(part.to_owned(), value.clone());
                    break;
                }
                let next = table.entry(part).or_insert_with(|| Value::Table(Table::new()));
                table = next.as_table_mut().expect("a key is a value or a table, never both");
            }
        }
        let source = root.get_mut("source").and_then(Value::as_table_mut).expect("the defaults have it");
        source.entry("query").or_insert_with(|| Value::Table(Table::new()));
        root
    }

    pub(super) fn shown(&self) -> Vec<Shown> {
        let show = |(key, (value, origin)): (&String, &(Value, Origin))| {
            let value = match value {
                Value::String(url) if key.ends_with(".url") => format!("{:?}", redacted(url)),
                Value::String(text) if is_secret(key, text) => "…".to_owned(),
                Value::Array(columns) => format!("{} columns", columns.len()),
                value => value.to_string(),
            };
            Shown { key: key.clone(), value, origin: origin.clone() }
        };
        self.0.iter().map(show).collect()
    }

    fn lay(&mut self, table: &Table, prefix: &str, origin: &Origin) {
        for (key, value) in table {
            let key = format!("{prefix}{key}");
            match value {
                Value::Table(inner) => self.lay(inner, &format!("{key}."), origin),
                value => {
                    self.0.insert(key, (value.clone(), origin.clone()));
                }
            }
        }
    }

    fn lay_environment(&mut self) -> Result<()> {
        let own = self
            .0
            .keys()
            .map(|key| (format!("API2BQ_{}", key.to_uppercase().replace('.', "_")), key.clone()));
        let well_known = WELL_KNOWN.iter().map(|(name, key)| ((*name).to_owned(), (*key).to_owned()));
        // The product's own names come last, so that they win.
        let names: Vec<_> = well_known.chain(own).collect();
        for (name, key) in names {
            if let Ok(text) = std::env::var(&name)
                && !text.is_empty()
            {
                let value = self.typed(&key, &text)?;
                self.put(&key, value, Origin::Environment(name))?;
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &str, value: Value, origin: Origin) -> Result<()> {
        if let Some((old, _)) = self.0.get(key) {
            if std::mem::discriminant(old) != std::mem::discriminant(&value) {
                // Without the value, which may be a list of URLs with passwords in them.
                let (want, got) = (old.type_str(), value.type_str());
                return Err(Error::usage(format!("`{key}` must be a {want}, not a value of type {got}")));
            }
        } else if !OPEN_TABLES.iter().any(|open| key.starts_with(open) && !key[open.len()..].contains('.')) {
            return Err(self.unknown(key));
        }
        self.0.insert(key.to_owned(), (value, origin));
        Ok(())
    }

    /// Text from a flag or the environment, as the type that the key has.
    fn typed(&self, key: &str, text: &str) -> Result<Value> {
        let bad = |kind| Error::usage(format!("`{key}` must be {kind}, not `{text}`"));
        match self.0.get(key).map(|(value, _)| value) {
            Some(Value::Integer(_)) => text.parse().map(Value::Integer).map_err(|_| bad("a whole number")),
            Some(Value::Boolean(_)) => text.parse().map(Value::Boolean).map_err(|_| bad("true or false")),
            Some(Value::Array(_)) => Err(Error::usage(format!("`{key}` can only be set in a pipeline.toml"))),
            _ => Ok(Value::String(text.to_owned())),
        }
    }

    fn unknown(&self, key: &str) -> Error {
        // A key without its table is a common slip: then the last part is what to compare.
        let alike = |known: &str| {
            let last = known.rsplit('.').next().filter(|_| !key.contains('.')).unwrap_or(known);
            strsim::jaro_winkler(known, key).max(strsim::jaro_winkler(last, key))
        };
        let nearest = self.0.keys().max_by(|a, b| alike(a).total_cmp(&alike(b)));
        // A URL with a `=` in its query looks like a key until there.
        let error = Error::usage(format!("unknown key `{}`", redacted(key)));
        match nearest.filter(|near| alike(near) > 0.8) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("`api2bq backfill flows --show-settings` prints every key there is"),
        }
    }
}
