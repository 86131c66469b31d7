//! One integration-test binary: the program as its users see it.

#![allow(unreachable_pub, reason = "the modules of a test binary have no outside")]

mod agree;
mod bad_config;
mod bad_http;
mod bad_state;
mod chaos;
mod commands;
mod compare;
mod context;
mod crashes;
mod documents;
mod embedded;
mod failures;
mod faults;
mod help;
mod kills;
mod layers;
mod main_job;
mod process;
mod proofs;
mod proxy;
mod resume;
mod secrets;
mod sweeps;
