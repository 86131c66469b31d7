//! stub
use super::Emulator;
use super::destination::{Destination, Target};
use super::fields::Field;
use super::names::ProjectId;
use super::versions::Part;
use super::wire::{Failure, Outcome};
use serde_json::{Map, Value, json};
use std::sync::Arc;
pub(super) struct QuerySpec {
    pub destination: Option<Destination>,
}
impl QuerySpec {
    pub(super) fn parse(_: &Map<String, Value>, _: &ProjectId) -> Outcome<Self> {
        Err(Failure::not_implemented("queries"))
    }
}
pub(super) struct Prepared {
    pub fields: Vec<Field>,
}
impl Prepared {
    pub(super) fn statistics(&self, _dry: bool) -> Value {
        json!({})
    }
    pub(super) fn schema_document(&self) -> Value {
        json!({})
    }
    pub(super) fn bytes_processed(&self) -> u64 {
        0
    }
}
pub(super) async fn prepare(_: &Emulator, _: &QuerySpec, _: &str) -> Outcome<Prepared> {
    Err(Failure::not_implemented("queries"))
}
pub(super) async fn write(
    _: Prepared,
    _: Arc<Target>,
    _: impl Fn() -> bool + Send + Sync + 'static,
) -> Outcome<Vec<Part>> {
    Err(Failure::not_implemented("queries"))
}
