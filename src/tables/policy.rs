//! Who may do what with a table: members added to and removed from its policy, nothing else of it touched.

use serde_json::{Value, json};

use crate::bigquery::{Address, BigQuery};
use crate::error::{Error, Result};

/// Somebody else may change the policy between our reading and our writing; not for ever.
const RACES_MAX: usize = 5;

/// `roles/bigquery.dataViewer` for `user:ann@example.com`.
#[derive(Debug, Clone)]
pub struct Grant {
    pub role: String,
    pub member: String,
}

impl Grant {
    pub fn new(role: &str, member: &str) -> Result<Grant> {
        check_role(role)?;
        check_member(member)?;
        Ok(Grant { role: role.to_owned(), member: member.to_owned() })
    }

    /// Everybody on the internet, or everybody with a Google account.
    pub fn is_public(&self) -> bool {
        ["allUsers", "allAuthenticatedUsers"].contains(&self.member.as_str())
    }

    /// Adds it. `None` when it was there.
    pub async fn add(&self, bigquery: &BigQuery, table: &Address) -> Result<Option<Value>> {
        change(bigquery, table, |policy| self.added(policy)).await
    }

    /// Takes it away. `None` when it was not there.
    pub async fn remove(&self, bigquery: &BigQuery, table: &Address) -> Result<Option<Value>> {
        change(bigquery, table, |policy| self.removed(policy)).await
    }

    fn added(&self, policy: &mut Value) -> Result<bool> {
        let bindings = bindings(policy)?;
        let ours = bindings.iter_mut().find(|b| b["role"] == *self.role && b["condition"].is_null());
        let Some(binding) = ours else {
            bindings.push(json!({ "role": self.role, "members": [self.member] }));
            return Ok(true);
        };
        if members(binding).any(|member| self.is_member(member)) {
            return Ok(false);
        }
        match &mut binding["members"] {
            Value::Array(members) => members.push(json!(self.member)),
            other => *other = json!([self.member]),
        }
        Ok(true)
    }

    fn removed(&self, policy: &mut Value) -> Result<bool> {
        let bindings = bindings(policy)?;
        let mut is_changed = false;
        for binding in bindings.iter_mut().filter(|b| b["role"] == *self.role) {
            if !members(binding).any(|member| self.is_member(member)) {
                continue;
            }
            if !binding["condition"].is_null() {
                let title = binding["condition"]["title"].as_str().unwrap_or("without a title");
                return Err(Error::usage(format!(
                    "`{}` has `{}` under a condition ({title}), which this command does not change",
                    self.member, self.role
                ))
                .hint("change bindings with conditions with `gcloud` or `bq`"));
            }
            let left: Vec<&str> = members(binding).filter(|member| !self.is_member(member)).collect();
            binding["members"] = json!(left);
            is_changed = true;
        }
        bindings.retain(|b| members(b).next().is_some());
        Ok(is_changed)
    }

    /// The service takes addresses in any case, and answers in lower case.
    fn is_member(&self, member: &str) -> bool {
        member.eq_ignore_ascii_case(&self.member)
    }
}

/// Reads, changes and writes, again if somebody else was faster.
async fn change(
    bigquery: &BigQuery,
    table: &Address,
    change: impl Fn(&mut Value) -> Result<bool>,
) -> Result<Option<Value>> {
    for _ in 0..RACES_MAX {
        let mut policy = bigquery.policy(table).await?;
        if !change(&mut policy)? {
            return Ok(None);
        }
        if let Some(policy) = bigquery.set_policy(table, &policy).await? {
            return Ok(Some(policy));
        }
    }
    Err(Error::failed(format!("the policy of `{table}` was changed by others {RACES_MAX} times meanwhile"))
        .hint("nothing was changed; repeat the command"))
}

fn bindings(policy: &mut Value) -> Result<&mut Vec<Value>> {
    if policy["bindings"].is_null() {
        policy["bindings"] = json!([]);
    }
    policy["bindings"].as_array_mut().ok_or_else(|| Error::failed("the policy's bindings are no list"))
}

fn members(binding: &Value) -> impl Iterator<Item = &str> {
    binding["members"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn check_role(role: &str) -> Result<()> {
    let parts: Vec<&str> = role.split('/').collect();
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:".contains(&b))
    };
    let legal = match parts[..] {
        ["roles", name] => is_name(name),
        ["projects" | "organizations", owner, "roles", name] => is_name(owner) && is_name(name),
        _ => false,
    };
    match legal {
        true => Ok(()),
        false => Err(Error::usage(format!("`{role}` is no role"))
            .hint("write `roles/bigquery.dataViewer`, or `projects/PROJECT/roles/NAME` for one of your own")),
    }
}

fn check_member(member: &str) -> Result<()> {
    let wrong =
        |hint: &str| Err(Error::usage(format!("`{member}` is no member of a policy")).hint(hint.to_owned()));
    if ["allUsers", "allAuthenticatedUsers"].contains(&member) {
        return Ok(());
    }
    let has_space = member.chars().any(|c| c.is_whitespace() || c.is_control());
    let Some((kind, name)) = member.split_once(':').filter(|(_, name)| !name.is_empty() && !has_space) else {
        return wrong("write `user:ann@example.com`, `serviceAccount:…`, `group:…` or `domain:example.com`");
    };
    let is_address = name.split_once('@').is_some_and(|(who, host)| {
        !who.is_empty() && host.contains('.') && !host.starts_with('.') && !host.contains('@')
    });
    match kind {
        "user" | "serviceAccount" | "group" if is_address => Ok(()),
        "user" | "serviceAccount" | "group" => {
            wrong("behind the colon there is an address: `ann@example.com`")
        }
        "domain" if name.contains('.') && !name.contains('@') => Ok(()),
        "domain" => wrong("behind the colon there is a domain: `example.com`"),
        "principal" | "principalSet" if name.starts_with("//") => Ok(()),
        // A dataset's own groups, which a table's policy has too.
        "projectOwner" | "projectEditor" | "projectViewer" if !name.contains('@') => Ok(()),
        "deleted" => wrong("a deleted account can only be taken away by `gcloud` or `bq`"),
        _ => wrong("there are user:, serviceAccount:, group:, domain:, principal: and principalSet:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn viewer(member: &str) -> Grant {
        Grant::new("roles/bigquery.dataViewer", member).expect("a grant")
    }

    #[test]
    fn only_the_binding_without_a_condition_is_changed_and_all_else_is_kept() {
        let conditional = json!({
            "role": "roles/bigquery.dataViewer", "members": ["user:cy@example.com"],
            "condition": { "title": "this year", "expression": "request.time < timestamp('2027-01-01T00:00:00Z')" },
        });
        let mut policy = json!({ "version": 3, "etag": "x", "bindings": [conditional, { "role": "roles/owner", "members": ["user:o@example.com"] }] });
        let before = policy.clone();
        let ann = viewer("user:ann@example.com");
        assert!(ann.added(&mut policy).expect("added"));
        assert!(!ann.added(&mut policy).expect("there already"));
        assert!(!viewer("user:Ann@Example.com").added(&mut policy).expect("the same in another case"));
        assert_eq!(policy["bindings"][0], conditional);
        assert_eq!(
            policy["bindings"][2],
            json!({ "role": "roles/bigquery.dataViewer", "members": ["user:ann@example.com"] })
        );
        assert!(ann.removed(&mut policy).expect("removed"));
        assert_eq!(policy, before);
        assert!(!ann.removed(&mut policy).expect("not there"));
        let refused = viewer("user:cy@example.com").removed(&mut policy).expect_err("under a condition");
        assert!(refused.to_string().contains("under a condition (this year)"), "{refused}");
        let mut empty = json!({ "etag": "ACAB" });
        assert!(ann.added(&mut empty).expect("added") && empty["etag"] == "ACAB");
    }

    #[test]
    fn roles_and_members_are_as_iam_writes_them() {
        for role in ["roles/bigquery.dataViewer", "projects/my-p/roles/custom", "organizations/1/roles/x"] {
            assert!(check_role(role).is_ok(), "{role}");
        }
        for role in ["", "viewer", "roles/", "roles/a/b", "projects/p/x", "roles/a b", "Roles/x"] {
            assert!(check_role(role).is_err(), "{role}");
        }
        for member in [
            "user:a@b.c",
            "serviceAccount:x@p.iam.gserviceaccount.com",
            "group:g@b.c",
            "domain:b.c",
            "allUsers",
        ] {
            assert!(check_member(member).is_ok(), "{member}");
        }
        for member in [
            "",
            "a@b.c",
            "user:",
            "user:ann",
            "user:a@b@c.d",
            "user:a@b.c x",
            "domain:a@b.c",
            "domain:x",
            "robot:a@b.c",
            "everyone",
        ] {
            assert!(check_member(member).is_err(), "{member}");
        }
    }
}
