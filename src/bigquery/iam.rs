//! The access policy of a table.

use reqwest::Method;
use serde_json::{Value, json};

use super::BigQuery;
use super::access::Need;
use super::address::Address;
use super::catalog::what;
use super::wire::Ask;
use crate::error::Result;

/// The one that knows conditions; with an older one they would be lost on the way.
const POLICY_VERSION: u32 = 3;

impl BigQuery {
    /// The policy with its etag and all its bindings.
    pub async fn policy(&self, table: &Address) -> Result<Value> {
        let path = format!("{}:getIamPolicy", self.path_of(table));
        let what = format!("policy of {}", what(self, table));
        let body = json!({ "options": { "requestedPolicyVersion": POLICY_VERSION } });
        match self.ask(&what, &Ask::new(Method::POST, &path).body(&body)).await? {
            Ok(answer) => Ok(answer.document),
            Err(refusal) if refusal.status == 404 => Err(self.missing(table).await),
            Err(refusal) => Err(refusal.into_error_needing(&what, Need::GET_POLICY)),
        }
    }

    /// Replaces the policy whose etag this one has. `None` when somebody else changed it first.
    pub async fn set_policy(&self, table: &Address, policy: &Value) -> Result<Option<Value>> {
        let path = format!("{}:setIamPolicy", self.path_of(table));
        let what = format!("policy of {}", what(self, table));
        let body = json!({ "policy": policy });
        match self.ask(&what, &Ask::new(Method::POST, &path).body(&body)).await? {
            Ok(answer) => Ok(Some(answer.document)),
            // IAM says 409 of a concurrent change, BigQuery 412 of an etag that is no longer right.
            Err(refusal) if matches!(refusal.status, 409 | 412) => Ok(None),
            Err(refusal) => Err(refusal.into_error_needing(&what, Need::SET_POLICY)),
        }
    }
}
