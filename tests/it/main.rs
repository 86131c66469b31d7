//! One integration-test binary: the program as its users see it.

#![allow(unreachable_pub, reason = "the modules of a test binary have no outside")]

mod agree;
mod appends;
mod bad_config;
mod bad_decode;
mod bad_encodings;
mod bad_http;
mod bad_json;
mod bad_large;
mod bad_state;
mod bad_windows;
mod bad_xml;
mod bench;
mod chaos;
mod commands;
mod compare;
mod context;
mod contract;
mod crashes;
mod documents;
mod embedded;
mod export;
mod failures;
mod faults;
mod google;
mod help;
mod hints;
mod kills;
mod layers;
mod main_job;
mod output;
mod plans;
mod process;
mod proofs;
mod proxy;
mod query;
mod resume;
mod rows;
mod secrets;
mod sql;
mod statement_kills;
mod sweeps;
mod table;
mod table_deletes;
mod table_copies;
