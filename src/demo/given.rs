//! Serves records that were read from a file, for those who bring their own flows.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::render::{self, Body, Flow};
use crate::error::{Error, Result};

const COLUMNS: [&str; 10] = [
    "id",
    "time",
    "duration",
    "src_comp",
    "src_port",
    "dst_comp",
    "dst_port",
    "protocol",
    "packet_count",
    "byte_count",
];

/// One flow record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub id: u64,
    pub time: u64,
    pub duration: u64,
    pub src_comp: String,
    pub src_port: String,
    pub dst_comp: String,
    pub dst_port: String,
    pub protocol: u64,
    pub packet_count: u64,
    pub byte_count: u64,
}

/// Reads a CSV file whose header names the ten columns of a flow, in that order and without quotes.
pub fn read_records(path: &Path) -> Result<Vec<Record>> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::usage(format!("cannot read `{}`", path.display())).caused_by(e))?;
    let mut lines = text.lines();
    if lines.next().is_none_or(|header| header.trim_start_matches('\u{feff}') != COLUMNS.join(",")) {
        return Err(Error::usage(format!("`{}` does not start with the header of flows", path.display()))
            .hint(format!("the first line must be `{}`", COLUMNS.join(","))));
    }
    let mut records = Vec::new();
    for (index, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
        let record = parse_line(line)
            .map_err(|what| Error::usage(format!("`{}` line {}: {what}", path.display(), index + 2)))?;
        records.push(record);
    }
    Ok(records)
}

fn parse_line(line: &str) -> Result<Record, String> {
    let fields: Vec<&str> = line.split(',').collect();
    let Ok(fields) = <[&str; 10]>::try_from(fields.as_slice()) else {
        return Err(format!("{} fields instead of 10", fields.len()));
    };
    let number = |column: usize| -> Result<u64, String> {
        let field = fields[column];
        field.parse().map_err(|_| format!("field `{}`: `{field}` is not a whole number", COLUMNS[column]))
    };
    Ok(Record {
        id: number(0)?,
        time: number(1)?,
        duration: number(2)?,
        src_comp: fields[3].to_string(),
        src_port: fields[4].to_string(),
        dst_comp: fields[5].to_string(),
        dst_port: fields[6].to_string(),
        protocol: number(7)?,
        packet_count: number(8)?,
        byte_count: number(9)?,
    })
}

impl Record {
    fn is_within(&self, after: u64, before: u64) -> bool {
        after < self.time && self.time <= before
    }

    fn as_flow(&self) -> Flow<'_> {
        Flow {
            id: self.id,
            time: self.time,
            duration: self.duration,
            src_comp: self.src_comp.as_bytes(),
            src_port: self.src_port.as_bytes(),
            dst_comp: self.dst_comp.as_bytes(),
            dst_port: self.dst_port.as_bytes(),
            protocol: self.protocol,
            packet_count: self.packet_count,
            byte_count: self.byte_count,
        }
    }
}

pub(super) fn count(records: &[Record], after: u64, before: u64) -> u64 {
    records.iter().filter(|record| record.is_within(after, before)).count() as u64
}

pub(super) fn chunks(
    records: Arc<Vec<Record>>,
    after: u64,
    before: u64,
    limit: Option<u64>,
    body: Body,
) -> impl Iterator<Item = Bytes> + Send + 'static {
    let mut next = 0;
    render::chunks(body, limit, move |out, body| {
        let Some(found) = records[next..].iter().position(|record| record.is_within(after, before)) else {
            next = records.len();
            return false;
        };
        records[next + found].as_flow().write(out, body);
        next += found + 1;
        true
    })
}
