//! Who may do what with a table: kept and handed back, not enforced.
//!
//! A policy belongs to one table and goes with it; it is no part of the table's document, whose etag it does
//! not change, and it is not copied.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::catalog::Catalog;
use super::disk;
use super::history::POLICY;
use super::names::TableName;
use super::table::Table;
use super::wire::{Failure, Outcome, Reply, object, text};

/// What Google answers for a policy that nobody set.
const EMPTY_ETAG: &str = "ACAB";
const MEMBERS_MAX: usize = 1500;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Policy {
    /// Of the table that it is for; one made later under the same name starts without.
    birth: String,
    number: u64,
    version: u64,
    bindings: Vec<Binding>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Binding {
    role: String,
    members: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    condition: Option<Value>,
}

impl Policy {
    fn of(table: &Table) -> Outcome<Self> {
        let birth = table.current().definition.birth.clone();
        let kept: Option<Policy> = disk::read_document(&table.folder().path().join(POLICY))?;
        let empty = Policy { birth: birth.clone(), number: 0, version: 1, bindings: Vec::new() };
        Ok(kept.filter(|policy| policy.birth == birth).unwrap_or(empty))
    }

    fn etag(&self) -> String {
        match self.number {
            0 => EMPTY_ETAG.to_owned(),
            number => BASE64_STANDARD.encode(format!("{}.{number}", &self.birth[..8.min(self.birth.len())])),
        }
    }

    fn document(&self) -> Value {
        let mut document = json!({"version": self.version, "etag": self.etag()});
        if !self.bindings.is_empty() {
            document["bindings"] = json!(self.bindings);
        }
        document
    }
}

/// `:getIamPolicy`, `:setIamPolicy` or `:testIamPermissions`.
pub(super) fn answer(
    catalog: &Catalog,
    name: &TableName,
    method: &str,
    body: &Map<String, Value>,
) -> Outcome<Reply> {
    let table = catalog.table(name)?;
    match method {
        "getIamPolicy" => {
            let policy = Policy::of(&table)?;
            let wanted = object(body, "options").and_then(|o| o.get("requestedPolicyVersion"));
            if policy.version > 1 && wanted.and_then(Value::as_u64).unwrap_or(1) < 3 {
                return Err(Failure::invalid(
                    "The policy has conditions: ask for it with options.requestedPolicyVersion 3",
                ));
            }
            Ok(Reply::Json(policy.document()))
        }
        "setIamPolicy" => set(&table, body),
        "testIamPermissions" => test(body),
        other => Err(Failure::not_implemented(format!("tables.{other}"))),
    }
}

fn set(table: &Arc<Table>, body: &Map<String, Value>) -> Outcome<Reply> {
    let sent =
        object(body, "policy").ok_or_else(|| Failure::invalid("Required parameter is missing: policy"))?;
    if let Some(mask) = text(body, "updateMask").filter(|m| !m.is_empty())
        && mask.split(',').any(|field| !matches!(field.trim(), "bindings" | "etag" | "version"))
    {
        return Err(Failure::not_implemented(format!("setIamPolicy with updateMask {mask}")));
    }
    if sent.get("auditConfigs").and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
        return Err(Failure::not_implemented("auditConfigs of a table"));
    }
    let bindings = parse_bindings(sent)?;
    let version = sent.get("version").and_then(Value::as_u64).unwrap_or(0);
    let conditional = bindings.iter().any(|binding| binding.condition.is_some());
    if !matches!(version, 0 | 1 | 3) || (conditional && version != 3) {
        return Err(Failure::invalid(format!("Invalid policy version {version}: conditions need version 3")));
    }
    let _policy = table.folder().lock_policy();
    let before = Policy::of(table)?;
    let etag = text(sent, "etag").filter(|etag| !etag.is_empty());
    if etag.is_some_and(|etag| etag != before.etag()) {
        return Err(Failure::aborted(
            "There were concurrent policy changes. Please retry the whole read-modify-write with exponential \
             backoff.",
        ));
    }
    let version = if conditional { 3 } else { 1 };
    let after = Policy { number: before.number + 1, version, bindings, ..before };
    disk::write_document(&table.folder().path().join(POLICY), &after)?;
    Ok(Reply::Json(after.document()))
}

/// One binding per role and condition, each member once, none without members: as Google hands them back.
fn parse_bindings(policy: &Map<String, Value>) -> Outcome<Vec<Binding>> {
    let mut merged: BTreeMap<(String, String), Binding> = BTreeMap::new();
    let mut count = 0;
    for binding in policy.get("bindings").and_then(Value::as_array).into_iter().flatten() {
        let role = binding.get("role").and_then(Value::as_str).unwrap_or_default();
        let known = ["roles/", "projects/", "organizations/"].iter().any(|prefix| role.starts_with(prefix));
        if !known || role.ends_with('/') {
            return Err(Failure::invalid(format!("Role {role} is not supported for this resource.")));
        }
        let condition = binding.get("condition").filter(|c| !c.is_null()).cloned();
        let key = (role.to_owned(), condition.as_ref().map(Value::to_string).unwrap_or_default());
        let new = || Binding { role: role.to_owned(), members: Vec::new(), condition };
        let kept = merged.entry(key).or_insert_with(new);
        for member in binding.get("members").and_then(Value::as_array).into_iter().flatten() {
            let member = member.as_str().unwrap_or_default();
            check_member(member)?;
            count += 1;
            if count > MEMBERS_MAX {
                return Err(Failure::invalid(format!("A policy has at most {MEMBERS_MAX} members.")));
            }
            if !kept.members.iter().any(|m| m == member) {
                kept.members.push(member.to_owned());
            }
        }
    }
    Ok(merged.into_values().filter(|binding| !binding.members.is_empty()).collect())
}

fn check_member(member: &str) -> Outcome<()> {
    const KINDS: [&str; 12] = [
        "user",
        "serviceAccount",
        "group",
        "domain",
        "projectOwner",
        "projectEditor",
        "projectViewer",
        "deleted",
        "principal",
        "principalSet",
        "specialGroup",
        "iamMember",
    ];
    let known = match member.split_once(':') {
        Some((kind, who)) => KINDS.contains(&kind) && !who.is_empty(),
        None => matches!(member, "allUsers" | "allAuthenticatedUsers"),
    };
    if known {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "Invalid member {member}: expected user:, serviceAccount:, group: or domain:"
    )))
}

/// Everybody may do everything here. A list in the list counts, as with Google, whose own test sends that.
fn test(body: &Map<String, Value>) -> Outcome<Reply> {
    let asked = body.get("permissions").and_then(Value::as_array).into_iter().flatten();
    let mut permissions = Vec::new();
    for entry in asked {
        match entry {
            Value::Array(inner) => permissions.extend(inner.iter()),
            one => permissions.push(one),
        }
    }
    let unknown = permissions.iter().find(|p| !p.as_str().is_some_and(|p| p.starts_with("bigquery.")));
    if let Some(unknown) = unknown {
        return Err(Failure::invalid(format!("Permission {unknown} is not valid for this resource.")));
    }
    Ok(Reply::Json(if permissions.is_empty() { json!({}) } else { json!({"permissions": permissions}) }))
}
