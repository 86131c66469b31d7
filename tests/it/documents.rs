//! Random documents from a seed: well-formed ones in every spelling, and what becomes of them by accidents.

use fastrand::Rng;

/// Elements and keys that fill columns, in column order.
pub const FIELDS: [&str; 4] = ["id", "name", "größe", "x-1"];

const TEXTS: [&str; 14] = [
    "x",
    "C1065",
    " two  words ",
    "line\none",
    "dos\r\nline",
    "mac\rline",
    "tab\t",
    "étudiant",
    "00_お客様",
    "𐍈",
    "]] >",
    "a > b",
    "'; DROP TABLE flows; --",
    "\u{85}\u{a0}\u{2028}",
];
const REFERENCES: [&str; 10] =
    ["&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&#65;", "&#x1F600;", "&#13;", "&#x00000041;", "&#10;"];
const COMMENTS: [&str; 5] =
    ["<!---->", "<!-- <record></record> -->", "<!-- é ] ]> & -->", "<!-- - -->", "<!--\r\n-->"];
const INSTRUCTIONS: [&str; 4] = ["<?pi?>", "<?pi <record> & ?>", "<?xml-stylesheet href='x'?>", "<?p\r\n??>"];
const CDATA: [&str; 5] =
    ["<![CDATA[]]>", "<![CDATA[<b>&amp;</b>]]>", "<![CDATA[]]]]>", "<![CDATA[a]]b>\r\n]]>", "<![CDATA[é]]>"];
const DECLARATIONS: [&str; 6] = [
    "<?xml version='1.0'?>",
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
    "<?xml version='1.0' encoding='utf-8' standalone='yes' ?>",
    "<?xml\n version = '1.0'\tstandalone=\"no\"?>",
    "<?xml version=\"1.0\" encoding='UTF-8' standalone=\"no\"?>\r\n",
    "",
];
const DOCTYPES: [&str; 4] = [
    "<!DOCTYPE records>",
    "<!DOCTYPE records SYSTEM 'https://127.0.0.1:9/[x]>.dtd'>",
    "<!DOCTYPE records\n PUBLIC \"-//A//B 1.0//EN\" 'x.dtd' >",
    "<!DOCTYPE HOST_LIST SYSTEM \"x.dtd\">",
];
const ATTRIBUTES: [&str; 7] = [
    " a='1'",
    " b1=\"it's\"",
    "\n x-y = 'a>b'",
    " xml:lang='de'",
    " q='&lt;&#65;&quot;'",
    " é=\"\"",
    " xmlns:ns='u'",
];
mod accidents;
mod json;

pub struct Documents(Rng);

impl Documents {
    pub fn new(seed: u64) -> Self {
        Documents(Rng::with_seed(seed))
    }

    pub fn rng(&mut self) -> &mut Rng {
        &mut self.0
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.0.u32(0..n) == 0
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.0.usize(0..choices.len())]
    }

    /// A well-formed document, most of them with records.
    pub fn xml(&mut self) -> String {
        let mut xml = String::new();
        if self.one_in(20) {
            xml.push('\u{feff}');
        }
        xml += self.of(&DECLARATIONS);
        self.misc(&mut xml);
        if self.one_in(8) {
            xml += self.of(&DOCTYPES);
            self.misc(&mut xml);
        }
        let root = if self.one_in(10) { "ns:records" } else { "records" };
        if self.one_in(30) {
            xml += &format!("<{root}{}/>", self.attributes());
        } else {
            xml += &format!("<{root}{}>", self.attributes());
            for _ in 0..self.0.usize(0..9) {
                match self.0.u32(0..16) {
                    0..=5 => self.usual_record(&mut xml),
                    6..=11 => self.record(&mut xml),
                    12 => self.element(&mut xml, 3),
                    _ => self.content(&mut xml),
                }
            }
            xml += &format!("</{root}{}>", self.of(&["", "", "", " ", "\n"]));
        }
        self.misc(&mut xml);
        xml
    }

    /// The shape that the decoder has a shortcut for.
    fn usual_record(&mut self, xml: &mut String) {
        xml.push_str("<record>");
        for field in FIELDS {
            let text = self.of(&["1", "C1065", "", "a b", "]", "\"'>"]);
            xml.push_str(&format!("<{field}>{text}</{field}>"));
        }
        xml.push_str(self.of(&["</record>", "</record>\n", " \r\n</record>"]));
    }

    fn record(&mut self, xml: &mut String) {
        let name = if self.one_in(12) { "ns:record" } else { "record" };
        if self.one_in(25) {
            return xml.push_str(&format!("<{name}{}/>", self.attributes()));
        }
        xml.push_str(&format!("<{name}{}>", self.attributes()));
        let mut fields = FIELDS.to_vec();
        self.0.shuffle(&mut fields);
        for field in fields {
            match self.0.u32(0..24) {
                0..=2 => {}
                3 => self.element(xml, 3),
                4 => {
                    self.content(xml);
                    self.field(xml, field);
                }
                5 if self.one_in(3) => {
                    self.field(xml, field);
                    self.field(xml, field);
                }
                _ => self.field(xml, field),
            }
        }
        xml.push_str(&format!("</{name}>"));
    }

    fn field(&mut self, xml: &mut String, name: &str) {
        let prefix = if self.one_in(15) { "ns:" } else { "" };
        if self.one_in(12) {
            return xml.push_str(&format!("<{prefix}{name}{}/>", self.attributes()));
        }
        xml.push_str(&format!("<{prefix}{name}{}>", self.attributes()));
        for _ in 0..self.0.usize(0..4) {
            if self.one_in(40) {
                self.element(xml, 1);
            } else {
                self.content(xml);
            }
        }
        xml.push_str(&format!("</{prefix}{name}>"));
    }

    /// An element that is no column, with others in it.
    fn element(&mut self, xml: &mut String, depth_max: usize) {
        let name = self.of(&["more", "ns:id", "a.b", "_", "recordx", "お"]);
        if depth_max == 0 || self.one_in(3) {
            return xml.push_str(&format!("<{name}{}/>", self.attributes()));
        }
        xml.push_str(&format!("<{name}{}>", self.attributes()));
        for _ in 0..self.0.usize(0..3) {
            if self.one_in(2) {
                self.element(xml, depth_max - 1);
            } else {
                self.content(xml);
            }
        }
        xml.push_str(&format!("</{name}>"));
    }

    fn content(&mut self, xml: &mut String) {
        xml.push_str(match self.0.u32(0..10) {
            0..=4 => self.of(&TEXTS),
            5..=6 => self.of(&REFERENCES),
            7 => self.of(&CDATA),
            8 => self.of(&COMMENTS),
            _ => self.of(&INSTRUCTIONS),
        });
    }

    fn misc(&mut self, xml: &mut String) {
        for _ in 0..self.0.usize(0..3) {
            xml.push_str(match self.0.u32(0..4) {
                0 => self.of(&COMMENTS),
                1 => self.of(&INSTRUCTIONS),
                _ => self.of(&[" ", "\n", "\r\n\t"]),
            });
        }
    }

    fn attributes(&mut self) -> String {
        if self.0.u32(0..4) > 0 {
            return String::new();
        }
        let mut choices = ATTRIBUTES.to_vec();
        self.0.shuffle(&mut choices);
        choices.truncate(self.0.usize(1..4));
        choices.concat()
    }
}
