//! What becomes of documents: bytes changed, lost, doubled or swapped, and what does not belong there.

use super::Documents;

/// Well-formed nowhere, or only in some places.
const TRICKS: [&str; 62] = [
    "--",
    "]]>",
    "<!--",
    "-->",
    "<![CDATA[",
    "<!-- -- -->",
    "<!--->",
    "<!-- --->",
    "&",
    "&;",
    "&#;",
    "&#x;",
    "&#0;",
    "&#x1;",
    "&#xD800;",
    "&#xFFFE;",
    "&#x110000;",
    "&#99999999999;",
    "&nbsp;",
    "&amp",
    "& ",
    "&#x 41;",
    "&#-1;",
    "&#X41;",
    "&1;",
    "&a b;",
    "<?xml version='1.0'?>",
    "<?XML x?>",
    "<? x?>",
    "<?x",
    "?>",
    "<?1?>",
    "<?a:b?>",
    "<!DOCTYPE records>",
    "<!DOCTYPE records []>",
    "<!DOCTYPE>",
    "<!ELEMENT a ANY>",
    "<",
    ">",
    "</",
    "/>",
    "< a>",
    "<a/ >",
    "<a / >",
    "</a >",
    "</ a>",
    "<1/>",
    "<-a/>",
    "<é/>",
    "<×/>",
    "<a×/>",
    "<a'/>",
    "<a b/>",
    "\u{fffe}",
    "\u{1}",
    "\u{7f}",
    "\u{b}",
    "\0",
    "<a b='1' b='2'/>",
    "<a b=1/>",
    "<a b='<'/>",
    "<a b='1'c='2'/>",
];
/// Well-formed in most places: what an accident leaves is often a document still.
const HARMLESS: [&str; 16] = [
    "x",
    " ",
    "\n",
    "\r",
    "é",
    "<!-- & -->",
    "<?p x?>",
    "&lt;",
    "&#65;",
    "<b/>",
    "<b>x</b>",
    "<![CDATA[<]]>",
    "]]",
    ">",
    "-",
    "<record/>",
];
const ATTRIBUTE_TRICKS: [&str; 10] = [
    " a='&'",
    " a='&nbsp;'",
    " a='&#0;'",
    " a = 1",
    " a",
    " a='\u{1}'",
    " a='1' a=\"1\"",
    " 1a=''",
    " a==''",
    " a=''b=''",
];

impl Documents {
    /// The document after one to three accidents: bytes changed, lost, doubled or swapped, or something
    /// put in that does not belong there.
    pub fn mutated_xml(&mut self) -> Vec<u8> {
        let mut bytes = self.xml().into_bytes();
        for _ in 0..*self.0.choice(&[1, 1, 1, 2, 3]).expect("not empty") {
            let tricks = if self.0.bool() { &HARMLESS[..] } else { &TRICKS };
            let set = if self.0.bool() { b"<>&;\"'=/!?-[]:\0\x01\xff" } else { b" \n\r\t\x7fA1x]>.-_aZzq" };
            self.accident(&mut bytes, &set[..], tricks, &ATTRIBUTE_TRICKS);
        }
        bytes
    }

    pub fn mutated_json(&mut self, body: String) -> Vec<u8> {
        let tricks = [
            "NaN",
            "Infinity",
            "-",
            "+1",
            "01",
            "1.",
            ".5",
            "1e",
            "0x1",
            "\"\\ud800\"",
            "\"\\udc00x\"",
            "\"\\x\"",
            "\\u12",
            "'x'",
            "{}",
            "[]",
            "{\"id\":1}",
            ",",
            ":",
            "tru",
            "nul",
            "//",
            "\u{feff}",
            "\u{b}",
            "\u{c}",
            "\u{a0}",
            "\"",
            "\\",
        ];
        let mut bytes = body.into_bytes();
        for _ in 0..self.0.usize(1..4) {
            self.accident(&mut bytes, b"{}[]\",:\\ \n\r\t\0\x01\x7f\xff-+.0e1x", &tricks, &["\"id\":1,"]);
        }
        bytes
    }

    fn accident(&mut self, bytes: &mut Vec<u8>, set: &[u8], tricks: &[&str], after_name: &[&str]) {
        let (a, b) = (self.0.usize(0..bytes.len() + 1), self.0.usize(0..bytes.len() + 1));
        let (start, mut end) = (a.min(b), a.max(b));
        // Most accidents are small: a cut in half says the same every time.
        end = end.min(start + self.0.usize(1..60));
        match self.0.u32(0..12) {
            0..=2 if start < bytes.len() && self.0.bool() => bytes[start] = set[self.0.usize(0..set.len())],
            2 => bytes.insert(start, set[self.0.usize(0..set.len())]),
            3 => drop(bytes.drain(start..end)),
            4 => {
                let copy = bytes[start..end].to_vec();
                bytes.splice(start..start, copy);
            }
            5 if a < bytes.len() && b < bytes.len() => bytes.swap(a, b),
            6 if self.one_in(3) => bytes.truncate(start),
            7 => {
                // Behind a name, where attributes and keys are.
                let names = bytes
                    .windows(2)
                    .enumerate()
                    .filter(|(_, pair)| pair[0].is_ascii_alphanumeric() && b" >/\"".contains(&pair[1]));
                let places: Vec<usize> = names.map(|(at, _)| at + 1).collect();
                if let Some(place) = self.0.choice(places) {
                    let trick = self.of(after_name);
                    bytes.splice(place..place, trick.bytes());
                }
            }
            _ => {
                // At a border between tags half of the time.
                let borders: Vec<usize> = bytes
                    .iter()
                    .enumerate()
                    .filter(|(_, b)| b"<>{}\"".contains(b))
                    .map(|(at, _)| at)
                    .collect();
                let border = self.0.choice(borders).filter(|_| self.0.bool());
                let place = border.unwrap_or(start);
                let trick = self.of(tricks);
                bytes.splice(place..place, trick.bytes());
            }
        }
    }
}
