//! Scripts: statements one after the other, each a job of its own under the script's.

use super::execute::Runner;
use super::scope::Scope;
use super::statements::{Parsed, Statement};
use crate::emulator::wire::{Failure, Outcome};

/// The functions that a text defines before its statement.
pub(super) fn functions(parsed: &[Parsed]) -> Outcome<Scope> {
    if parsed.iter().any(|p| matches!(p.statement, Statement::CreateFunction(_))) {
        return Err(Failure::unsupported_sql("CREATE TEMP FUNCTION"));
    }
    Ok(Scope::default())
}

pub(super) async fn run(_: &Runner, _: Vec<Parsed>) -> Outcome<serde_json::Value> {
    Err(Failure::unsupported_sql("scripts of several statements"))
}
