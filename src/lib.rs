//! api2bq: records from an HTTP API, in BigQuery day partitions, every one accounted for.

pub mod error;

pub mod engine;
pub mod serve;

pub mod demo;
pub mod emulator;
