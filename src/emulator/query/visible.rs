//! Names: which column, row or field a path such as `t.s.f` stands for.
//!
//! Types are only known when DataFusion plans, so a scope holds what names need before: the columns of each
//! source, and as far as it can be seen, the fields of their structs.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{Expr, Ident};

use super::rewrite::{Rewriter, call, quoted, string_literal};
use crate::emulator::fields::{Field, Kind, Mode};
use crate::emulator::wire::{Failure, Outcome};

/// What is known of a type before it is planned.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Shape {
    /// A scalar, or something not seen through.
    #[default]
    Opaque,
    Struct(Vec<Column>),
    Array(Box<Shape>),
}

impl Shape {
    pub(super) fn of_field(field: &Field) -> Shape {
        let one = match field.kind {
            Kind::Record => Shape::Struct(field.fields.iter().map(Column::of_field).collect()),
            _ => Shape::Opaque,
        };
        if field.mode == Mode::Repeated { Shape::Array(Box::new(one)) } else { one }
    }

    pub(super) fn item(self) -> Shape {
        match self {
            Shape::Array(item) => *item,
            _ => Shape::Opaque,
        }
    }

    pub(super) fn field(&self, name: &str) -> Shape {
        match self {
            Shape::Struct(columns) => {
                let found = columns.iter().find(|c| c.name.to_lowercase() == name.to_lowercase());
                found.map(|c| c.shape.clone()).unwrap_or_default()
            }
            _ => Shape::Opaque,
        }
    }
}

/// A column as it is shown, in the case it was written in.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Column {
    pub name: String,
    pub shape: Shape,
}

impl Column {
    pub(super) fn of_field(field: &Field) -> Column {
        Column { name: field.name.clone(), shape: Shape::of_field(field) }
    }

    pub(super) fn plain(name: impl Into<String>) -> Column {
        Column { name: name.into(), shape: Shape::Opaque }
    }
}

/// What an item of FROM brings into scope.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// In lower case.
    pub alias: String,
    /// As `*` shows them.
    pub columns: Vec<Column>,
    /// Columns that `*` leaves out.
    pub hidden: Vec<String>,
    /// Columns that USING merged, in lower case.
    pub merged: Vec<String>,
    /// The first column is the whole row: an element of an array, or of a SELECT AS STRUCT.
    pub is_value: bool,
}

impl Source {
    pub(super) fn new(alias: &str, columns: Vec<Column>) -> Source {
        Source { alias: alias.to_owned(), columns, hidden: Vec::new(), merged: Vec::new(), is_value: false }
    }

    pub(super) fn column(&self, name: &str) -> Expr {
        Expr::CompoundIdentifier(vec![quoted(&self.alias), quoted(&name.to_lowercase())])
    }

    fn has(&self, lower: &str) -> Option<Shape> {
        if self.hidden.iter().any(|name| name == lower) {
            return Some(Shape::Opaque);
        }
        self.columns.iter().find(|c| c.name.to_lowercase() == lower).map(|c| c.shape.clone())
    }

    /// The element or row that the alias stands for.
    pub(super) fn value(&self) -> (Expr, Shape) {
        match self.columns.first() {
            Some(first) if self.is_value => (self.column(&first.name), first.shape.clone()),
            _ => {
                let fields =
                    self.columns.iter().flat_map(|c| [string_literal(&c.name), self.column(&c.name)]);
                (call("bq_struct", fields.collect()), Shape::Struct(self.columns.clone()))
            }
        }
    }
}

/// What one SELECT sees.
#[derive(Debug, Default)]
pub(super) struct Visible {
    pub sources: Vec<Source>,
    /// What a name that USING merged stands for.
    pub merged: BTreeMap<String, Expr>,
    /// Aliases of the SELECT list, rewritten, where a clause may use them.
    pub aliases: Vec<(String, Expr, Shape)>,
    pub windows: Vec<(String, datafusion::sql::sqlparser::ast::WindowSpec)>,
}

impl Rewriter<'_> {
    /// A path: a column, a row, or a field of one of them.
    pub(super) fn path(&self, parts: &[Ident]) -> Outcome<(Expr, Shape)> {
        let Some((first, rest)) = parts.split_first() else {
            return Err(Failure::invalid_query("Syntax error: a name without a name"));
        };
        let lower = first.value.to_lowercase();
        for scope in self.scopes.iter().rev() {
            if let Some((expr, shape, rest)) = scope.find(&lower, first, rest)? {
                return Ok(fields(expr, shape, rest));
            }
        }
        // A field of an element whose struct cannot be seen through yet.
        for scope in self.scopes.iter().rev() {
            let open: Vec<&Source> = scope
                .sources
                .iter()
                .filter(|s| s.is_value && s.columns.first().is_some_and(|c| c.shape == Shape::Opaque))
                .collect();
            if let [source] = open.as_slice() {
                let (expr, shape) = source.value();
                return Ok(fields(expr, shape, parts));
            }
        }
        Err(Failure::invalid_query(format!("Unrecognized name: {}{}", first.value, position(first))))
    }

    /// The row or element of a source, when the name is an alias and no column.
    pub(super) fn source_named(&self, name: &str) -> Option<&Source> {
        let lower = name.to_lowercase();
        self.scopes.iter().rev().find_map(|scope| scope.sources.iter().find(|s| s.alias == lower))
    }
}

type Found<'a> = Option<(Expr, Shape, &'a [Ident])>;

impl Visible {
    fn find<'a>(&self, lower: &str, first: &Ident, rest: &'a [Ident]) -> Outcome<Found<'a>> {
        if let Some((_, expr, shape)) = self.aliases.iter().find(|(alias, ..)| alias == lower) {
            return Ok(Some((expr.clone(), shape.clone(), rest)));
        }
        let source = self.sources.iter().find(|s| s.alias == *lower);
        if let (Some(source), Some((second, fields))) = (source, rest.split_first()) {
            let name = second.value.to_lowercase();
            if let Some(shape) = source.has(&name) {
                return Ok(Some((source.column(&name), shape, fields)));
            }
        }
        // The name of an element hides a column of that name.
        if let Some(source) = source.filter(|s| s.is_value) {
            let (expr, shape) = source.value();
            return Ok(Some((expr, shape, rest)));
        }
        if let Some(expr) = self.merged.get(lower) {
            return Ok(Some((expr.clone(), Shape::Opaque, rest)));
        }
        let mut found = self.sources.iter().filter_map(|s| Some((s.column(lower), s.has(lower)?)));
        if let Some((expr, shape)) = found.next() {
            if found.next().is_some() {
                return Err(Failure::invalid_query(format!(
                    "Column name {} is ambiguous{}",
                    first.value,
                    position(first)
                )));
            }
            return Ok(Some((expr, shape, rest)));
        }
        match (source, rest.first()) {
            (Some(source), Some(second)) => {
                return Err(Failure::invalid_query(format!(
                    "Name {} not found inside {}{}",
                    second.value,
                    source.alias,
                    position(second)
                )));
            }
            (Some(source), None) => {
                let (expr, shape) = source.value();
                return Ok(Some((expr, shape, rest)));
            }
            (None, _) => {}
        }
        // The fields of an element are in scope under their own names.
        let mut elements = self.sources.iter().filter(|s| s.is_value).filter_map(|source| {
            let (expr, shape) = source.value();
            let Shape::Struct(columns) = &shape else { return None };
            let column = columns.iter().find(|c| c.name.to_lowercase() == *lower)?;
            Some((field_of(expr, &column.name), column.shape.clone()))
        });
        match (elements.next(), elements.next()) {
            (Some(_), Some(_)) => Err(Failure::invalid_query(format!(
                "Column name {} is ambiguous{}",
                first.value,
                position(first)
            ))),
            (found, _) => Ok(found.map(|(expr, shape)| (expr, shape, rest))),
        }
    }
}

pub(super) fn field_of(expr: Expr, name: &str) -> Expr {
    call("bq_field", vec![expr, string_literal(name)])
}

/// A field of a field, down the path.
pub(super) fn fields(expr: Expr, shape: Shape, path: &[Ident]) -> (Expr, Shape) {
    path.iter().fold((expr, shape), |(expr, shape), part| {
        let inner = shape.field(&part.value);
        (field_of(expr, &part.value), inner)
    })
}

/// Where a name stands in the text, as messages end.
pub(super) fn position(ident: &Ident) -> String {
    let start = ident.span.start;
    if start.line == 0 { String::new() } else { format!(" at [{}:{}]", start.line, start.column) }
}
