//! One integration-test binary: the program as its users see it.

#![allow(unreachable_pub, reason = "the modules of a test binary have no outside")]

mod agree;
mod context;
mod crashes;
mod documents;
mod failures;
mod help;
mod layers;
mod main_job;
mod resume;
mod secrets;
