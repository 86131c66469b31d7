//! Where in the document the next token is, outside of records: the elements above them, root to record.

use super::chars::local;
use super::record::{mismatch, too_deep};
use super::token::{Fault, Stop, fault};
use crate::decode::notices::Notice;

#[derive(Debug)]
pub(super) struct Outline {
    pub(super) record_path: Vec<String>,
    pub(super) open: Vec<String>,
    /// How many of the open elements are those of the path.
    on_path: usize,
    pub(super) root_seen: bool,
    doctype_seen: bool,
    /// Elements that were neither the root nor a record.
    pub(super) others: u64,
    pub(super) records: u64,
    pub(super) foreign_root: Option<String>,
    pub(super) notices: Vec<Notice>,
}

impl Outline {
    pub(super) fn new(record_path: Vec<String>) -> Self {
        Outline {
            record_path,
            open: Vec::new(),
            on_path: 0,
            root_seen: false,
            doctype_seen: false,
            others: 0,
            records: 0,
            foreign_root: None,
            notices: Vec::new(),
        }
    }

    /// True directly inside of the elements above the records.
    pub(super) fn expects_records(&self) -> bool {
        self.open.len() + 1 == self.record_path.len() && self.on_path == self.open.len()
    }

    pub(super) fn expects(&self, name: &str) -> bool {
        self.expects_records()
            && !(self.open.is_empty() && self.root_seen)
            && self.record_path.last().is_some_and(|record| record.as_bytes() == local(name.as_bytes()))
    }

    pub(super) fn open(&mut self, name: &str, depth_max: usize) -> Result<(), Stop> {
        if self.open.is_empty() {
            if self.root_seen {
                return fault(0, "content_after_root", "a second root element");
            }
            if self.record_path[0].as_bytes() != local(name.as_bytes()) {
                self.foreign_root = Some(shortened(name));
                return fault(0, "unexpected_root", "");
            }
            self.root_seen = true;
        } else {
            self.others += 1;
        }
        if self.open.len() == depth_max {
            return Err(Stop::Fault(too_deep(0, depth_max)));
        }
        if self.on_path == self.open.len()
            && self.record_path.get(self.on_path).is_some_and(|n| n.as_bytes() == local(name.as_bytes()))
        {
            self.on_path += 1;
        }
        self.open.push(name.to_owned());
        Ok(())
    }

    pub(super) fn close(&mut self, name: &str) -> Result<(), Stop> {
        match self.open.pop() {
            Some(open) if open == name => {}
            Some(open) => return Err(Stop::Fault(mismatch(0, name, &open))),
            None => return fault(0, "not_well_formed", format!("`</{}>` closes nothing", shortened(name))),
        }
        self.on_path = self.on_path.min(self.open.len());
        Ok(())
    }

    pub(super) fn doctype(&mut self) -> Result<(), Stop> {
        if self.root_seen || self.doctype_seen {
            return fault(0, "not_well_formed", "a DOCTYPE that is not before the root element");
        }
        self.doctype_seen = true;
        self.notices.push(Notice::of_document("doctype_ignored"));
        Ok(())
    }

    /// Something that is no white space before or after the root element.
    pub(super) fn stray(&self, at: usize) -> Stop {
        let (code, words) = match self.root_seen {
            true => ("content_after_root", "text outside of the root element"),
            false => ("not_xml", "text before the root element"),
        };
        Stop::Fault(Fault { at, code, words: words.to_owned(), limit: None })
    }
}

/// A name that may be as long as a tag, for a message.
fn shortened(name: &str) -> String {
    name.chars().take(100).collect()
}
