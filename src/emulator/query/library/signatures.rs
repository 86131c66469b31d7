//! Which arguments a function takes, in the words of the reference, and what they are brought to.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::Result;

use crate::emulator::fields::Kind;
use crate::emulator::query::casts::result_type;
use crate::emulator::query::wording::plan_err;

#[derive(Debug, Clone)]
pub(in crate::emulator::query) struct Signature {
    pub arguments: Vec<DataType>,
    /// The last argument may be repeated.
    is_variadic: bool,
    result: DataType,
}

/// `A, B -> C | A, B... -> C`. The texts are constants of this crate.
pub(super) fn parse(texts: &str) -> Vec<Signature> {
    texts.split('|').map(parse_one).collect()
}

fn parse_one(text: &str) -> Signature {
    let (arguments, result) = text.split_once("->").expect("a signature has an arrow");
    let is_variadic = arguments.contains("...");
    let arguments = arguments.replace("...", "");
    let names = arguments.split(',').map(str::trim).filter(|name| !name.is_empty());
    Signature { arguments: names.map(parse_type).collect(), is_variadic, result: parse_type(result.trim()) }
}

fn parse_type(name: &str) -> DataType {
    if let Some(item) = name.strip_prefix("ARRAY<").and_then(|name| name.strip_suffix('>')) {
        return list_of(parse_type(item));
    }
    result_type(Kind::parse(name).expect("a signature names known types"))
}

pub(super) fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

impl Signature {
    fn argument(&self, index: usize) -> Option<&DataType> {
        match self.arguments.get(index) {
            None if self.is_variadic => self.arguments.last(),
            found => found,
        }
    }

    pub(in crate::emulator::query) fn takes(&self, count: usize) -> bool {
        count == self.arguments.len() || (self.is_variadic && count >= self.arguments.len())
    }

    /// The kind wanted at a place; `None` for arrays.
    pub(in crate::emulator::query) fn kind(&self, index: usize) -> Option<Kind> {
        self.argument(index).and_then(Kind::of)
    }
}

/// The first signature that takes the arguments as they are, else the first that they can be brought to.
pub(super) fn choose(
    name: &str,
    signatures: &[Signature],
    given: &[DataType],
) -> Result<(Vec<DataType>, DataType)> {
    for exactly in [true, false] {
        for signature in signatures.iter().filter(|s| s.takes(given.len())) {
            let fits = given.iter().enumerate().all(|(index, given)| {
                let wanted = signature.argument(index).expect("the count was checked");
                if exactly { same(given, wanted) } else { same(given, wanted) || coerces(given, wanted) }
            });
            if fits {
                let wanted = (0..given.len()).filter_map(|index| signature.argument(index).cloned());
                return Ok((wanted.collect(), signature.result.clone()));
            }
        }
    }
    if !signatures.iter().any(|s| s.takes(given.len())) {
        return plan_err!("Number of arguments does not match for function {name}");
    }
    let types: Vec<String> = given.iter().map(signature_name).collect();
    let supported: Vec<String> = signatures.iter().map(|s| s.shown(name)).collect();
    plan_err!(
        "No matching signature for function {name} for argument types: {}. Supported signatures: {}",
        types.join(", "),
        supported.join("; ")
    )
}

impl Signature {
    fn shown(&self, name: &str) -> String {
        let types: Vec<String> = self.arguments.iter().map(signature_name).collect();
        format!("{name}({}{})", types.join(", "), if self.is_variadic { ", [...]" } else { "" })
    }
}

fn same(given: &DataType, wanted: &DataType) -> bool {
    match (given, wanted) {
        (DataType::Null, _) => true,
        (DataType::List(given), DataType::List(wanted)) => same(given.data_type(), wanted.data_type()),
        _ => Kind::of(given) == Kind::of(wanted) && Kind::of(given).is_some(),
    }
}

fn coerces(given: &DataType, wanted: &DataType) -> bool {
    let rank = |kind| match kind {
        Some(Kind::Int64) => 1,
        Some(Kind::Numeric) => 2,
        Some(Kind::BigNumeric) => 3,
        Some(Kind::Float64) => 4,
        _ => 0,
    };
    let (from, to) = (Kind::of(given), Kind::of(wanted));
    (rank(from) > 0 && rank(from) < rank(to)) || (from == Some(Kind::Date) && to == Some(Kind::DateTime))
}

/// The type that all of these are brought to: in arrays, COALESCE, IF and set operations.
pub(in crate::emulator::query) fn supertype<'a>(
    types: impl IntoIterator<Item = &'a DataType>,
) -> Option<DataType> {
    let mut common = DataType::Null;
    for given in types {
        if same(&common, given) {
            // NULL takes any type; of two structs with the same fields the first gives the names.
            if common == DataType::Null {
                common = given.clone();
            } else if let (DataType::Struct(a), DataType::Struct(b)) = (&common, given) {
                common = struct_supertype(a, b)?;
            }
        } else if coerces(&common, given) {
            common = given.clone();
        } else if !same(given, &common) && !coerces(given, &common) {
            return None;
        }
    }
    Some(common)
}

fn struct_supertype(
    a: &datafusion::arrow::datatypes::Fields,
    b: &datafusion::arrow::datatypes::Fields,
) -> Option<DataType> {
    if a.len() != b.len() {
        return None;
    }
    let fields = a.iter().zip(b).map(|(a, b)| {
        let item = supertype([a.data_type(), b.data_type()])?;
        // A name that only one of them has is kept.
        let name = if super::nested::is_anonymous(a.name()) { b.name() } else { a.name() };
        // Which texts are JSON, for one.
        let tagged = if a.metadata().is_empty() { b } else { a };
        Some(Field::new(name, item, true).with_metadata(tagged.metadata().clone()))
    });
    Some(DataType::Struct(fields.collect::<Option<Vec<_>>>()?.into()))
}

/// A type in GoogleSQL's words.
pub(in crate::emulator::query) fn signature_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(item) => format!("ARRAY<{}>", signature_name(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|f| match super::nested::is_anonymous(f.name()) {
                    true => signature_name(f.data_type()),
                    false => format!("{} {}", f.name(), signature_name(f.data_type())),
                })
                .collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        DataType::Null => "NULL".into(),
        other => Kind::of(other).map_or_else(|| "?".into(), |kind| kind.sql().to_owned()),
    }
}
