//! What is done with tables beyond one call: made as defined, changed, copied, renamed, recovered.

mod copy;
mod definition;
mod policy;
mod recover;
mod schema;
mod time;
mod update;
mod words;

pub use copy::{Copied, Renamed, copy, rename};
pub use definition::{
    Definition, difference, layout_difference, parse_labels, parse_partition_by, parse_range_partition,
};
pub use policy::Grant;
pub use recover::{Recovered, Recovery, When, parse_when, recover};
pub use schema::{parse_file, parse_inline};
pub use time::{duration_words, parse_duration, parse_time, time_words};
pub use update::{Updated, Wish, update};
pub use words::{clustering, full_type_name, partitioning, type_name};
