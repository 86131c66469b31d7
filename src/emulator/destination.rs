//! Where a load or query job writes: what its configuration says, what the table allows, and the commit.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::catalog::Catalog;
use super::fields::{Field, Mode};
use super::files::{Rule, same_name};
use super::names::{Address, ProjectId};
use super::partitions::{Granularity, Partition, Partitioning};
use super::versions::{Commit, Definition, Part, Version};
use super::wire::{Failure, Outcome, now_ms, object, text};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposition {
    Append,
    Truncate,
    /// The rows, while the schema stays.
    TruncateData,
    /// Only when there is nothing yet.
    Empty,
}

/// The destination part of a job's configuration.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    pub address: Address,
    pub disposition: Disposition,
    create: bool,
    updates: SchemaUpdates,
    partitioning: Option<Partitioning>,
    require_filter: bool,
    clustering: Option<Value>,
    expiration_ms: Option<i64>,
    /// More of a new table's document.
    rest: Map<String, Value>,
}

/// `schemaUpdateOptions`: how a job may change the schema of the table that it writes to.
#[derive(Debug, Clone, Copy, Default)]
struct SchemaUpdates {
    add: bool,
    relax: bool,
}

impl SchemaUpdates {
    fn parse(
        configuration: &Map<String, Value>,
        disposition: Disposition,
        to_partition: bool,
    ) -> Outcome<Self> {
        let mut updates = SchemaUpdates::default();
        let options = configuration.get("schemaUpdateOptions").and_then(Value::as_array);
        for option in options.into_iter().flatten() {
            match option.as_str() {
                Some("ALLOW_FIELD_ADDITION") => updates.add = true,
                Some("ALLOW_FIELD_RELAXATION") => updates.relax = true,
                _ => {
                    return Err(Failure::invalid(format!("Invalid value for schemaUpdateOptions: {option}")));
                }
            }
        }
        let legal = match disposition {
            Disposition::Append | Disposition::TruncateData => true,
            Disposition::Truncate => to_partition,
            Disposition::Empty => false,
        };
        if (updates.add || updates.relax) && !legal {
            return Err(Failure::invalid(
                "Schema update options should only be specified with WRITE_APPEND disposition, or with \
                 WRITE_TRUNCATE disposition on a table partition.",
            ));
        }
        Ok(updates)
    }

    /// The table's fields after rows with `incoming` ones; what may not change is an error.
    ///
    /// `declared` says that the user gave them, so that a stricter mode is no accident.
    fn merged(self, table: &[Field], incoming: &[Field], declared: bool, name: &str) -> Outcome<Vec<Field>> {
        let refuse =
            |what: String| Failure::invalid(format!("Provided Schema does not match Table {name}. {what}"));
        let mut merged = table.to_vec();
        for field in incoming {
            let Some(existing) = merged.iter_mut().find(|f| same_name(&f.name, &field.name)) else {
                if !self.add {
                    return Err(refuse(format!("Cannot add fields (field: {})", field.name)));
                }
                if field.mode == Mode::Required {
                    return Err(refuse(format!("Cannot add required columns (field: {})", field.name)));
                }
                merged.push(field.clone());
                continue;
            };
            if existing.kind != field.kind {
                let (from, to) = (existing.kind.legacy(), field.kind.legacy());
                return Err(refuse(format!("Field {} has changed type from {from} to {to}", field.name)));
            }
            let relaxes = (existing.mode, field.mode) == (Mode::Required, Mode::Nullable);
            let repeats = (existing.mode == Mode::Repeated) != (field.mode == Mode::Repeated);
            if repeats || (relaxes && declared && !self.relax) {
                return Err(refuse(format!(
                    "Field {} has changed mode from {} to {}",
                    field.name,
                    existing.mode.name(),
                    field.mode.name()
                )));
            }
            if relaxes && self.relax {
                existing.mode = Mode::Nullable;
            }
            existing.fields = self.merged(&existing.fields, &field.fields, declared, name)?;
        }
        Ok(merged)
    }
}

/// What the rows must look like to be written, and where their files go.
#[derive(Debug)]
pub(super) struct Target {
    pub fields: Vec<Field>,
    pub rule: Rule,
    pub dir: PathBuf,
    pub partitioning: Option<Partitioning>,
    /// Whether one partition was named.
    pub decorated: bool,
    /// Whether the table was there. One that is deleted meanwhile is not made again: it would be another.
    pub existed: bool,
}

impl Destination {
    /// From `configuration.load` or `configuration.query`, whose `destinationTable` is given apart.
    pub(super) fn parse(
        configuration: &Map<String, Value>,
        destination: &Map<String, Value>,
        project: &ProjectId,
        default: Disposition,
    ) -> Outcome<Self> {
        let disposition = match text(configuration, "writeDisposition") {
            None | Some("") => default,
            Some("WRITE_APPEND") => Disposition::Append,
            Some("WRITE_TRUNCATE") => Disposition::Truncate,
            Some("WRITE_EMPTY") => Disposition::Empty,
            Some("WRITE_TRUNCATE_DATA") => Disposition::TruncateData,
            Some(other) => {
                return Err(Failure::invalid(format!("Invalid value for writeDisposition: {other}")));
            }
        };
        let create = match text(configuration, "createDisposition") {
            None | Some("" | "CREATE_IF_NEEDED") => true,
            Some("CREATE_NEVER") => false,
            Some(other) => {
                return Err(Failure::invalid(format!("Invalid value for createDisposition: {other}")));
            }
        };
        for member in ["connectionProperties", "createSession"] {
            let given = configuration.get(member);
            let empty = given.is_none_or(|v| {
                v.is_null() || v.as_array().is_some_and(Vec::is_empty) || v.as_bool() == Some(false)
            });
            if !empty {
                return Err(Failure::not_implemented(member));
            }
        }
        let partitioning = Partitioning::parse(configuration)?;
        let required =
            object(configuration, "timePartitioning").and_then(|d| d.get("requirePartitionFilter"));
        let require_filter = required.and_then(Value::as_bool).unwrap_or(false);
        let address = Address::from_reference(destination, project)?.present()?;
        let updates = SchemaUpdates::parse(configuration, disposition, address.partition.is_some())?;
        Ok(Destination {
            address,
            disposition,
            create,
            updates,
            partitioning,
            require_filter,
            clustering: configuration.get("clustering").filter(|c| !c.is_null()).cloned(),
            expiration_ms: None,
            rest: Map::new(),
        })
    }

    /// A result table that nobody named.
    pub(super) fn anonymous(definition: &Definition) -> Self {
        Destination {
            address: Address { name: definition.name.clone(), partition: None, time: None },
            disposition: Disposition::Empty,
            create: true,
            updates: SchemaUpdates::default(),
            partitioning: None,
            require_filter: false,
            clustering: None,
            expiration_ms: definition.expiration_ms,
            rest: Map::new(),
        }
    }

    /// With what a new table takes over from another one.
    pub(super) fn like(
        self,
        partitioning: Option<Partitioning>,
        require_filter: bool,
        rest: Map<String, Value>,
        expiration_ms: Option<i64>,
    ) -> Self {
        Destination { partitioning, require_filter, rest, expiration_ms, ..self }
    }

    /// The columns that the table has before the job and keeps; none when it has no say in them.
    pub(super) fn known_fields(&self, catalog: &Catalog) -> Outcome<Vec<Field>> {
        if self.disposition == Disposition::Truncate && self.address.partition.is_none() {
            return Ok(Vec::new());
        }
        match catalog.table(&self.address.name) {
            Ok(table) => Ok(table.current().definition.fields.clone()),
            Err(failure) if failure.code == 404 => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }

    /// Rows that are added to a table that is there, by no job.
    pub(super) fn append_to(address: Address) -> Self {
        Destination {
            address,
            disposition: Disposition::Append,
            create: false,
            updates: SchemaUpdates::default(),
            partitioning: None,
            require_filter: false,
            clustering: None,
            expiration_ms: None,
            rest: Map::new(),
        }
    }

    /// Adds parts; `then` may rearrange what the table holds as long as its rows are the same.
    pub(super) fn add(
        &self,
        catalog: &Catalog,
        target: &Target,
        parts: Vec<Part>,
        then: impl FnOnce(&mut Version),
    ) -> Outcome<()> {
        catalog.table(&self.address.name)?.change(|version| {
            self.check_unchanged(&version.definition, target)?;
            version.parts.extend(parts);
            then(version);
            Ok(())
        })
    }

    fn check_unchanged(&self, definition: &Definition, target: &Target) -> Outcome<()> {
        let same = definition.fields.len() == target.fields.len()
            && definition.fields.iter().zip(&target.fields).all(|(a, b)| same_shape(a, b));
        if same && definition.partitioning == target.partitioning {
            return Ok(());
        }
        let name = self.address.name.legacy();
        Err(Failure::invalid(format!("Schema of table {name} changed during the job")))
    }

    /// Fixes what will be written, from the table as it is now and the schema of the rows to come.
    ///
    /// `declared` says that the user gave `incoming`, so that it may not differ from the table's; otherwise it
    /// was read off the rows and the table's own schema is what counts.
    pub(super) fn target(&self, catalog: &Catalog, incoming: &[Field], declared: bool) -> Outcome<Target> {
        let name = &self.address.name;
        let dir = catalog.table_dir(name)?;
        let (definition, existed) = match catalog.table(name) {
            Ok(table) => {
                let version = table.current();
                self.check_write(&version)?;
                (self.after_write(&version.definition, incoming, declared)?, true)
            }
            Err(failure) if failure.code == 404 => (self.created(incoming)?, false),
            Err(failure) => return Err(failure),
        };
        let rule = rule(&definition, self.address.partition)?;
        let decorated = self.address.partition.is_some();
        let Definition { fields, partitioning, .. } = definition;
        Ok(Target { fields, rule, dir, partitioning, decorated, existed })
    }

    /// Replaces, appends or creates, in one step.
    pub(super) fn commit(
        &self,
        catalog: &Catalog,
        target: &Target,
        parts: Vec<Part>,
        commit: Commit,
        job_is_done: impl Fn(&Commit) -> bool,
    ) -> Outcome<()> {
        loop {
            let table = match catalog.table(&self.address.name) {
                Ok(table) => table,
                Err(failure) if failure.code == 404 && !target.existed => {
                    let definition = self.created(&target.fields)?;
                    let version = Version::new(definition, parts.clone(), vec![commit.clone()]);
                    match catalog.create_table(version) {
                        // Another job created it in between.
                        Err(failure) if failure.reason == "duplicate" => continue,
                        other => return other.map(drop),
                    }
                }
                Err(failure) => return Err(failure),
            };
            return table.change(|version| {
                self.check_write(version)?;
                let definition = self.after_write(&version.definition, &target.fields, false)?;
                self.check_unchanged(&definition, target)?;
                if matches!(self.disposition, Disposition::Truncate | Disposition::TruncateData) {
                    version.take_rows(self.address.partition);
                }
                version.definition = definition;
                version.parts.extend(parts);
                version.commits.retain(|commit| !job_is_done(commit));
                version.commits.push(commit);
                Ok(())
            });
        }
    }

    fn check_write(&self, version: &Version) -> Outcome<()> {
        let occupied = version.parts_of(self.address.partition).any(|part| part.rows > 0);
        if self.disposition == Disposition::Empty && occupied {
            let name = version.definition.name.legacy();
            return Err(Failure::duplicate(format!("Already Exists: Table {name}")));
        }
        Ok(())
    }

    /// The definition of an existing table once the job is done.
    fn after_write(&self, before: &Definition, incoming: &[Field], declared: bool) -> Outcome<Definition> {
        let name = before.name.legacy();
        if let Some(asked) = &self.partitioning
            && !before.partitioning.as_ref().is_some_and(|found| found.divides_like(asked))
        {
            return Err(Failure::invalid(format!(
                "Incompatible table partitioning specification. Expects partitioning specification {}, but \
                 input partitioning specification is {}",
                before.partitioning.as_ref().map_or("none".to_owned(), Partitioning::to_string),
                asked,
            )));
        }
        match (&before.partitioning, self.address.partition) {
            (Some(partitioning), Some(partition)) => drop(partitioning.resolve(partition)?),
            (None, Some(_)) => {
                return Err(Failure::invalid(format!(
                    "Cannot write to a partition of the table {name}, which is not partitioned"
                )));
            }
            (_, None) => {}
        }
        let mut after = before.clone();
        let replaces_schema = self.disposition == Disposition::Truncate && self.address.partition.is_none();
        if replaces_schema || before.fields.is_empty() {
            after.fields = incoming.to_vec();
            after.check_partitioning()?;
            if let Some(clustering) = &self.clustering {
                after.rest.insert("clustering".into(), clustering.clone());
            }
            return Ok(after);
        }
        after.fields = self.updates.merged(&before.fields, incoming, declared, &name)?;
        Ok(after)
    }

    /// The definition of a table that the job creates.
    pub(super) fn created(&self, fields: &[Field]) -> Outcome<Definition> {
        let mut definition = Definition::new(self.address.name.clone());
        if !self.create {
            return Err(super::versions::not_found(&definition.name));
        }
        definition.fields = fields.to_vec();
        definition.partitioning = self.new_partitioning();
        definition.require_filter = self.require_filter;
        definition.expiration_ms = self.expiration_ms;
        definition.rest = self.rest.clone();
        if let Some(clustering) = &self.clustering {
            definition.rest.insert("clustering".into(), clustering.clone());
        }
        definition.check_partitioning()?;
        Ok(definition)
    }

    /// How the table is divided if the job creates it: as asked for, or as its decorator says.
    fn new_partitioning(&self) -> Option<Partitioning> {
        let by_decorator = self.address.partition.map(|partition| match partition {
            Partition::Time(granularity, _) => Partitioning::of_ingestion(granularity),
            _ => Partitioning::of_ingestion(Granularity::Day),
        });
        self.partitioning.clone().or(by_decorator)
    }

    /// Settles what the decorator means, by the table as it is or as the job would create it.
    pub(super) fn resolve(mut self, catalog: &Catalog) -> Outcome<Self> {
        if let Some(partition) = self.address.partition {
            let table = catalog.table(&self.address.name).ok();
            let partitioning = match table {
                Some(table) => table.current().definition.partitioning.clone(),
                None => self.new_partitioning(),
            };
            if let Some(partitioning) = partitioning {
                self.address.partition = Some(partitioning.resolve(partition)?);
            }
        }
        Ok(self)
    }
}

/// Where the rows go that are written to a table, or to one partition of it.
pub(super) fn rule(definition: &Definition, partition: Option<Partition>) -> Outcome<Rule> {
    let by_column = definition.partition_field();
    let index = by_column.and_then(|f| definition.fields.iter().position(|g| g.name == f.name));
    let Some(partitioning) = &definition.partitioning else { return Ok(Rule::Fixed(Partition::Whole)) };
    match (index, partition) {
        (Some(index), None) => Ok(Rule::Column(index, partitioning.by)),
        (Some(index), Some(partition)) => Ok(Rule::Only(index, partitioning.by, partition)),
        (None, Some(partition @ (Partition::Null | Partition::Unpartitioned))) => Err(Failure::invalid(
            format!("Cannot write to the {partition} partition of an ingestion-time table"),
        )),
        (None, Some(partition)) => Ok(Rule::Fixed(partition)),
        (None, None) => Ok(Rule::Fixed(partitioning.by.of_time(now_ms() * 1000))),
    }
}

fn same_shape(a: &Field, b: &Field) -> bool {
    same_name(&a.name, &b.name)
        && a.kind == b.kind
        && (a.mode == Mode::Repeated) == (b.mode == Mode::Repeated)
        && a.fields.len() == b.fields.len()
        && a.fields.iter().zip(&b.fields).all(|(a, b)| same_shape(a, b))
}

#[cfg(test)]
mod tests;
