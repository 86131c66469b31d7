//! `fields=`: the part of an answer that the client wants, as in `totalRows,rows(f/v),schema/fields`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::wire::{Failure, Outcome, Reply};

/// Deeper than any document is.
const DEPTH_MAX: usize = 20;

/// What is wanted of an object; of everything else, and with no names, all.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Selection(BTreeMap<String, Selection>);

impl Selection {
    pub(super) fn parse(fields: &str) -> Outcome<Self> {
        let mut rest = fields;
        let selection = list(&mut rest, 0).filter(|_| rest.is_empty());
        selection.ok_or_else(|| Failure::invalid(format!("Invalid field selection {fields}")))
    }

    pub(super) fn apply(&self, reply: Reply) -> Outcome<Reply> {
        match reply {
            Reply::Json(value) => Ok(Reply::Json(self.of(value))),
            Reply::Rows(envelope, rows) => {
                let envelope = self.of(envelope);
                match self.0.get("rows").or_else(|| self.0.get("*")) {
                    None => Ok(Reply::Json(envelope)),
                    Some(Selection(all)) if all.is_empty() => Ok(Reply::Rows(envelope, rows)),
                    Some(some) => {
                        let parsed = serde_json::from_slice(&rows.concat());
                        let rows = parsed.map_err(|e| Failure::backend(format!("rows are no JSON: {e}")))?;
                        Ok(Reply::Rows(envelope, vec![some.of(rows).to_string().into()]))
                    }
                }
            }
            other => Ok(other),
        }
    }

    fn of(&self, value: Value) -> Value {
        match value {
            value if self.0.is_empty() => value,
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.of(item)).collect()),
            Value::Object(members) => {
                let mut kept = Map::new();
                for (name, value) in members {
                    if let Some(inner) = self.0.get(&name).or_else(|| self.0.get("*")) {
                        kept.insert(name, inner.of(value));
                    }
                }
                Value::Object(kept)
            }
            other => other,
        }
    }
}

/// `a,b/c,d(e,f)`
fn list(rest: &mut &str, depth: usize) -> Option<Selection> {
    let mut selection = Selection::default();
    loop {
        let (name, inner) = item(rest, depth)?;
        selection.0.insert(name, inner);
        match rest.strip_prefix(',') {
            Some(after) => *rest = after,
            None => return Some(selection),
        }
    }
}

fn item(rest: &mut &str, depth: usize) -> Option<(String, Selection)> {
    let end = rest.find([',', '/', '(', ')']).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    *rest = after;
    if name.trim().is_empty() || depth == DEPTH_MAX {
        return None;
    }
    let inner = if let Some(after) = rest.strip_prefix('/') {
        *rest = after;
        let (name, inner) = item(rest, depth + 1)?;
        Selection(BTreeMap::from([(name, inner)]))
    } else if let Some(after) = rest.strip_prefix('(') {
        *rest = after;
        let inner = list(rest, depth + 1)?;
        *rest = rest.strip_prefix(')')?;
        inner
    } else {
        Selection::default()
    };
    Some((name.trim().to_owned(), inner))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_wanted_is_left() {
        let value = json!({"a": 1, "b": {"c": 2, "d": 3}, "e": [{"f": 4, "g": 5}, {"f": 6}]});
        let part = |fields| Selection::parse(fields).unwrap().of(value.clone());
        assert_eq!(part("a,e(f)"), json!({"a": 1, "e": [{"f": 4}, {"f": 6}]}));
        assert_eq!(part("b/c,zzz"), json!({"b": {"c": 2}}));
        assert_eq!(part("*"), value);
        assert_eq!(part("b(*)"), json!({"b": {"c": 2, "d": 3}}));
    }

    #[test]
    fn rows_are_left_out_whole_or_in_part() {
        let pieces = || vec![r#"[{"f":["#.into(), r#"{"v":"1"}]}]"#.into()];
        let reply = || Reply::Rows(json!({"totalRows": "1", "etag": "x"}), pieces());
        let Reply::Json(without) = Selection::parse("totalRows").unwrap().apply(reply()).unwrap() else {
            panic!("rows are still there")
        };
        assert_eq!(without, json!({"totalRows": "1"}));
        let Reply::Rows(envelope, rows) = Selection::parse("rows/f/v").unwrap().apply(reply()).unwrap()
        else {
            panic!("rows are gone")
        };
        assert_eq!((envelope, rows.concat()), (json!({}), pieces().concat()));
    }

    #[test]
    fn nonsense_is_refused() {
        for fields in ["a(", "a)", "a,,b", "", "/a", "a(b))", &"a/".repeat(100)] {
            assert!(Selection::parse(fields).is_err(), "{fields}");
        }
    }
}
