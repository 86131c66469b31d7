//! api2bq: records from an HTTP API, in BigQuery day partitions, every one accounted for.
//!
//! The modules are listed in reading order; the order of the stages is the architecture.
//!
//! ```text
//! source ──► decode ──► transform ──► stage ──► load ──► (promote)
//! HTTP       XML/JSON   DataFusion    Parquet   load job   latest per key
//! windows    -> Arrow   SQL file      + journal per day    over N days
//! ```
//!
//! Imports run one way: cli -> surfaces -> flows -> stages -> tools -> words. Stages never import each other:
//! decode, transform and stage share Arrow's record batch, stage and load share the manifest.
//!
//! # Why not folders by kind (models, services, handlers)?
//! They hide the order of the stages.

// Words: what everything else talks about.
pub mod error;
pub mod effects;
pub mod location;
pub mod partition;
pub mod schema;
pub mod reject;
pub mod manifest;
pub mod excerpt;

// Tools: one subject each, used by stages and flows.
pub mod config;
pub mod machine;
pub mod retry;
pub mod telemetry;
pub mod engine;
pub mod serve;
pub mod render;

// Stages, in the order in which a record passes them.
pub mod source;
pub mod decode;
pub mod transform;
pub mod stage;
pub mod load;

// The client of the warehouse, and the only door to it.
pub mod bigquery;

// Flows: the stages put together.
pub mod plan;
pub mod receipt;
pub mod ledger;
pub mod holdings;
pub mod since;
pub mod guard;
pub mod forecast;
pub mod explore;
pub mod generations;
pub mod pipeline;
pub mod sample;
pub mod promote;
pub mod verify;
pub mod sweep;
pub mod query;
pub mod export;
pub mod tables;
pub mod bench;

// Stand-ins, so that everything runs offline: the source's API and BigQuery itself.
pub mod demo;
pub mod emulator;

// Surfaces: what people and programs speak to while it runs.
pub mod gateway;

// What the user sees.
pub mod cli;
