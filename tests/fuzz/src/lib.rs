//! The modules under test, taken from the program's own sources by path, so that a fuzz target builds in
//! minutes: neither DataFusion nor an HTTP client comes with them.

#![allow(dead_code, missing_debug_implementations, reason = "the program uses what a target does not")]

#[path = "../../../src/config/mod.rs"]
pub mod config;
#[path = "../../../src/decode/mod.rs"]
pub mod decode;
#[path = "../../../src/effects.rs"]
pub mod effects;
#[path = "../../../src/error.rs"]
pub mod error;
#[path = "../../../src/location.rs"]
pub mod location;
#[path = "../../../src/manifest.rs"]
pub mod manifest;
#[path = "../../../src/partition.rs"]
pub mod partition;
#[path = "../../../src/reject.rs"]
pub mod reject;
#[path = "../../../src/retry.rs"]
pub mod retry;
#[path = "../../../src/schema.rs"]
pub mod schema;

pub mod bigquery;
pub mod emulator;

pub mod bodies;
