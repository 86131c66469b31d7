//! `*`, `t.*` and `s.*`, with EXCEPT and REPLACE. Expanded here: DataFusion would show the pseudo columns too.

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectNamePart, SelectItemQualifiedWildcardKind, WildcardAdditionalOptions,
};

use super::rewrite::{Rewriter, refuse_if};
use super::visible::{Column, Shape, Source, field_of};
use crate::emulator::wire::{Failure, Outcome};

type Expanded = Vec<(Expr, Column)>;

impl Rewriter<'_> {
    pub(super) fn star(&mut self, options: WildcardAdditionalOptions) -> Outcome<Expanded> {
        let scope = self.scopes.last();
        let sources = scope.map(|s| s.sources.as_slice()).unwrap_or_default();
        if sources.is_empty() {
            return Err(Failure::invalid_query("SELECT * must have a FROM clause"));
        }
        let mut columns = Vec::new();
        // What USING merged comes first, and once.
        for (name, expr) in scope.map(|s| s.merged.iter()).into_iter().flatten() {
            let of = sources.iter().flat_map(|s| &s.columns).find(|c| c.name.to_lowercase() == *name);
            columns.push((expr.clone(), of.cloned().unwrap_or_else(|| Column::plain(name.clone()))));
        }
        for source in sources {
            columns.extend(columns_of(source)?.into_iter().filter(|(_, column)| {
                let name = column.name.to_lowercase();
                !source.merged.contains(&name)
            }));
        }
        self.edited(columns, options)
    }

    pub(super) fn qualified_star(
        &mut self,
        kind: SelectItemQualifiedWildcardKind,
        options: WildcardAdditionalOptions,
    ) -> Outcome<Expanded> {
        let (expr, shape) = match kind {
            SelectItemQualifiedWildcardKind::Expr(expr) => self.shaped(expr)?,
            SelectItemQualifiedWildcardKind::ObjectName(name) => {
                let mut path: Vec<Ident> = Vec::with_capacity(name.0.len());
                for part in name.0 {
                    let ObjectNamePart::Identifier(ident) = part else {
                        return Err(Failure::unsupported_sql(".* of this name"));
                    };
                    path.push(ident);
                }
                if let [alias] = path.as_slice()
                    && let Some(source) = self.source_named(&alias.value)
                {
                    let columns = columns_of(source)?;
                    return self.edited(columns, options);
                }
                self.path(&path)?
            }
        };
        let columns = fields_of(&expr, &shape).ok_or_else(|| {
            Failure::invalid_query(
                "Dot-star is not supported for a value that is no STRUCT, or whose fields are not known here",
            )
        })?;
        self.edited(columns, options)
    }

    fn edited(&mut self, mut columns: Expanded, options: WildcardAdditionalOptions) -> Outcome<Expanded> {
        let WildcardAdditionalOptions {
            wildcard_token: _,
            opt_ilike,
            opt_exclude,
            opt_except,
            opt_replace,
            opt_rename,
            opt_alias,
        } = options;
        refuse_if(opt_ilike.is_some(), "SELECT * ILIKE")?;
        refuse_if(opt_exclude.is_some(), "SELECT * EXCLUDE")?;
        refuse_if(opt_rename.is_some(), "SELECT * RENAME")?;
        refuse_if(opt_alias.is_some(), "an alias of *")?;
        let missing = |what: &str, name: &str| {
            Failure::invalid_query(format!("Column {name} in SELECT * {what} list does not exist"))
        };
        if let Some(except) = opt_except {
            for ident in std::iter::once(except.first_element).chain(except.additional_elements) {
                let name = ident.value.to_lowercase();
                let before = columns.len();
                columns.retain(|(_, column)| column.name.to_lowercase() != name);
                if columns.len() == before {
                    return Err(missing("EXCEPT", &ident.value));
                }
            }
        }
        for element in opt_replace.map(|r| r.items).unwrap_or_default() {
            let name = element.column_name.value.to_lowercase();
            let (expr, shape) = self.shaped(element.expr)?;
            let Some(found) = columns.iter_mut().find(|(_, column)| column.name.to_lowercase() == name)
            else {
                return Err(missing("REPLACE", &element.column_name.value));
            };
            *found = (expr, Column { name: found.1.name.clone(), shape });
        }
        Ok(columns)
    }
}

/// The columns of a source; of an element that is a struct, its fields.
fn columns_of(source: &Source) -> Outcome<Expanded> {
    let plain = |column: &Column| (source.column(&column.name), column.clone());
    if !source.is_value {
        return Ok(source.columns.iter().map(plain).collect());
    }
    let (value, shape) = source.value();
    let mut columns = fields_of(&value, &shape).unwrap_or_else(|| {
        let name = match source.alias.starts_with('#') {
            true => "f0_".to_owned(),
            false => source.columns.first().map(|c| c.name.clone()).unwrap_or_default(),
        };
        vec![(value.clone(), Column { name, shape: shape.clone() })]
    });
    columns.extend(source.columns.iter().skip(1).map(plain));
    Ok(columns)
}

fn fields_of(expr: &Expr, shape: &Shape) -> Option<Expanded> {
    let Shape::Struct(fields) = shape else { return None };
    Some(fields.iter().map(|field| (field_of(expr.clone(), &field.name), field.clone())).collect())
}
