//! api2bq: records from an HTTP API, in BigQuery day partitions, every one accounted for.

pub mod error;
pub mod clock;
pub mod location;
pub mod partition;
pub mod schema;
pub mod reject;
pub mod manifest;

pub mod config;
pub mod retry;
pub mod engine;
pub mod serve;

pub mod source;
pub mod decode;
pub mod stage;

pub mod bigquery;

pub mod demo;
pub mod emulator;
