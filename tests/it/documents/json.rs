//! Lines, arrays and sequences of JSON objects.

use super::{Documents, FIELDS};

impl Documents {
    /// Lines of JSON, most of them objects.
    pub fn lines(&mut self) -> String {
        let mut lines = String::from(if self.one_in(20) { "\u{feff}" } else { "" });
        for _ in 0..self.0.usize(0..20) {
            lines += &self.object();
            lines += self.of(&["\n", "\n", "\n", "\r\n", "\n\n", " \n\t\n"]);
        }
        lines
    }

    /// An array of objects, or objects one after the other.
    pub fn json(&mut self) -> String {
        let objects: Vec<String> = (0..self.0.usize(0..8)).map(|_| self.object()).collect();
        let (space, mark) = (self.of(&["", " ", "\n"]), if self.one_in(20) { "\u{feff}" } else { "" });
        match self.one_in(3) {
            true => format!("{mark}{}{space}", objects.join(space)),
            false => format!("{mark}{space}[{}{space}]{space}", objects.join(&format!("{space},{space}"))),
        }
    }

    fn object(&mut self) -> String {
        let mut members = Vec::new();
        let mut fields = FIELDS.to_vec();
        self.0.shuffle(&mut fields);
        for field in fields {
            match self.0.u32(0..30) {
                0..=2 => {}
                3..=5 => members.push(format!("\"more\":{}", self.value(3))),
                6 => members.extend([format!("\"{field}\":1"), format!("\"{field}\":2")]),
                7 => members.push(format!(
                    "\"\\u{:04x}{}\":{}",
                    u32::from(field.as_bytes()[0]),
                    &field[1..],
                    self.value(0)
                )),
                8 => members.push(format!("\"{field}\":{}", self.value(2))),
                _ => members.push(format!("\"{field}\" : {}", self.value(0))),
            }
        }
        format!("{{{}}}", members.join(self.of(&[",", ", ", ",\t"])))
    }

    fn value(&mut self, depth_max: usize) -> String {
        if depth_max > 0 && self.one_in(2) {
            let inner: Vec<String> = (0..self.0.usize(0..3)).map(|_| self.value(depth_max - 1)).collect();
            return match self.one_in(2) {
                true => format!("[{}]", inner.join(",")),
                false => format!(
                    "{{{}}}",
                    inner.iter().map(|v| format!("\"id\":{v}")).collect::<Vec<_>>().join(",")
                ),
            };
        }
        let words = [
            "\"x\"",
            "\"\"",
            "\"a b\"",
            "\"é お 𐍈\"",
            "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
            "\"\\u00e9\\ud83d\\ude00\"",
            "\"\\u0000\"",
            "\"{[\"",
            "0",
            "-0",
            "15",
            "1.0",
            "-0.5e10",
            "1E-7",
            "9007199254740993",
            "123456789012345678901234567890",
            "true",
            "false",
            "null",
        ];
        self.of(&words).to_owned()
    }
}
