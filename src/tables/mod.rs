//! What is done with tables beyond one call: made as defined, copied, renamed, recovered.

mod time;
mod words;

pub use time::{duration_words, parse_duration, parse_time};
pub use words::{clustering, full_type_name, partitioning, type_name};
