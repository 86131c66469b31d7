//! GEOGRAPHY: well-known text, checked and written as BigQuery writes it.

/// Deeper than any collection of collections that makes sense.
const DEPTH_MAX: usize = 16;

/// `POINT(-135.0 90.0)` comes back as `POINT(-135 90)`; `None` when it is no well-known text in degrees.
pub(in crate::emulator) fn canonical(text: &str) -> Option<String> {
    let mut reader = Reader { rest: text.trim() };
    let shape = reader.shape(0)?;
    reader.rest.trim().is_empty().then_some(shape)
}

/// Well-known binary, two-dimensional and in either byte order.
pub(in crate::emulator) fn from_wkb(bytes: &[u8]) -> Option<String> {
    let mut wkb = Wkb { rest: bytes };
    let shape = wkb.shape(0)?;
    if wkb.rest.is_empty() { canonical(&shape) } else { None }
}

struct Wkb<'a> {
    rest: &'a [u8],
}

impl Wkb<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    fn count(&mut self, little: bool) -> Option<u32> {
        let bytes = self.take::<4>()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    /// So many items in parentheses; each takes bytes, so that a large count ends at the end of the input.
    fn list(&mut self, little: bool, item: impl Fn(&mut Self) -> Option<String>) -> Option<String> {
        let count = self.count(little)?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(if items.is_empty() { " EMPTY".to_owned() } else { format!("({})", items.join(", ")) })
    }

    fn position(&mut self, little: bool) -> Option<String> {
        let mut number = || {
            let bytes = self.take::<8>()?;
            Some(if little { f64::from_le_bytes(bytes) } else { f64::from_be_bytes(bytes) })
        };
        let (longitude, latitude) = (number()?, number()?);
        Some(format!("{longitude} {latitude}"))
    }

    fn shape(&mut self, depth: usize) -> Option<String> {
        let [order] = self.take::<1>()?;
        let little = order == 1;
        let kind = self.count(little)?;
        if depth > DEPTH_MAX || order > 1 {
            return None;
        }
        // What stands in a MULTIPOINT and its like is a shape of its own, whose name is left out.
        let inner = |wkb: &mut Self| {
            let shape = wkb.shape(depth + 1)?;
            Some(shape.get(shape.find('(')?..)?.to_owned())
        };
        let name = match kind {
            1 => return Some(format!("POINT({})", self.position(little)?)),
            2 => "LINESTRING",
            3 => "POLYGON",
            4 => "MULTIPOINT",
            5 => "MULTILINESTRING",
            6 => "MULTIPOLYGON",
            7 => "GEOMETRYCOLLECTION",
            _ => return None,
        };
        let inside = match kind {
            2 => self.list(little, |wkb| wkb.position(little))?,
            3 => self.list(little, |wkb| wkb.list(little, |wkb| wkb.position(little)))?,
            7 => self.list(little, |wkb| wkb.shape(depth + 1))?,
            _ => self.list(little, inner)?,
        };
        Some(format!("{name}{inside}"))
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn take(&mut self, expected: char) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(expected)?;
        Some(())
    }

    fn word(&mut self) -> String {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_ascii_uppercase()
    }

    fn shape(&mut self, depth: usize) -> Option<String> {
        if depth > DEPTH_MAX {
            return None;
        }
        let name = self.word();
        // How deep the coordinates are below the name's own parentheses.
        let levels = match name.as_str() {
            "POINT" | "LINESTRING" | "MULTIPOINT" => 0,
            "POLYGON" | "MULTILINESTRING" => 1,
            "MULTIPOLYGON" => 2,
            "GEOMETRYCOLLECTION" => 0,
            _ => return None,
        };
        if self.rest.trim_start().get(..5).is_some_and(|w| w.eq_ignore_ascii_case("EMPTY")) {
            self.word();
            // BigQuery knows one empty value.
            return Some("GEOMETRYCOLLECTION EMPTY".to_owned());
        }
        let inside = match name.as_str() {
            "GEOMETRYCOLLECTION" => self.list(|reader| reader.shape(depth + 1))?,
            "POINT" => {
                let mut single = 0;
                let inside = self.list(|reader| {
                    single += 1;
                    reader.position()
                })?;
                (single == 1).then_some(inside)?
            }
            _ => self.nested(levels)?,
        };
        Some(format!("{name}{inside}"))
    }

    fn nested(&mut self, levels: usize) -> Option<String> {
        match levels {
            0 => self.list(Reader::position),
            _ => self.list(|reader| reader.nested(levels - 1)),
        }
    }

    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Option<String>) -> Option<String> {
        self.take('(')?;
        let mut items = Vec::new();
        loop {
            items.push(item(self)?);
            if self.take(',').is_none() {
                break;
            }
        }
        self.take(')')?;
        Some(format!("({})", items.join(", ")))
    }

    /// Longitude and latitude; MULTIPOINT may have each in parentheses.
    fn position(&mut self) -> Option<String> {
        let wrapped = self.take('(').is_some();
        let (longitude, latitude) = (self.number()?, self.number()?);
        if wrapped {
            self.take(')')?;
        }
        let legal = longitude.abs() <= 180.0 && latitude.abs() <= 90.0;
        // `+ 0.0` makes a zero of the negative one.
        legal.then(|| format!("{} {}", longitude + 0.0, latitude + 0.0))
    }

    fn number(&mut self) -> Option<f64> {
        self.rest = self.rest.trim_start();
        let end =
            self.rest.find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c))).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        number.parse().ok().filter(|n: &f64| n.is_finite())
    }
}
