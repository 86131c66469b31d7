//! UNNEST in FROM: the elements of an array as rows, also of an array that an earlier table has.

use datafusion::sql::sqlparser::ast::{Expr, Ident, Select, SelectItem, SetExpr, TableAlias, TableFactor};

use super::rewrite::{Rewriter, call, plain_query, plain_select, quoted, refuse_if};
use super::visible::{Column, Shape, Source};
use crate::emulator::wire::{Failure, Outcome};

impl Rewriter<'_> {
    pub(super) fn unnest(
        &mut self,
        arrays: Vec<Expr>,
        alias: Option<TableAlias>,
        offset: Option<Option<Ident>>,
    ) -> Outcome<TableFactor> {
        let [array] = <[Expr; 1]>::try_from(arrays)
            .map_err(|_| Failure::unsupported_sql("UNNEST of several arrays"))?;
        let (array, shape) = self.shaped(array)?;
        let listed = alias.as_ref().is_some_and(|alias| !alias.columns.is_empty());
        refuse_if(listed, "a column list after the alias of UNNEST")?;
        self.elements(array, shape, alias.map(|alias| alias.name.value), offset)
    }

    /// `array` is rewritten; the alias names the element, and a row whose only column it is.
    pub(super) fn elements(
        &mut self,
        array: Expr,
        shape: Shape,
        alias: Option<String>,
        offset: Option<Option<Ident>>,
    ) -> Outcome<TableFactor> {
        let before = self.scopes.last().map_or(0, |scope| scope.sources.len());
        let (alias, value) = match alias {
            Some(name) => (name.to_lowercase(), name),
            None => (format!("#u{before}"), "#value".to_owned()),
        };
        let unnested = |array: Expr, name: &str| SelectItem::ExprWithAlias {
            expr: call("unnest", vec![array]),
            alias: quoted(&name.to_lowercase()),
        };
        let mut projection = vec![unnested(array.clone(), &value)];
        let mut columns = vec![Column { name: value, shape: shape.item() }];
        if let Some(name) = offset {
            let name = name.map_or("offset".to_owned(), |ident| ident.value);
            projection.push(unnested(call("bq_offsets", vec![array]), &name));
            columns.push(Column::plain(name));
        }
        let select = Select { projection, ..plain_select() };
        let query = plain_query(SetExpr::Select(Box::new(select)));
        self.add(Source { is_value: true, ..Source::new(&alias, columns) })?;
        let alias = TableAlias { explicit: true, name: quoted(&alias), columns: Vec::new(), at: None };
        Ok(TableFactor::Derived {
            lateral: before > 0,
            subquery: Box::new(query),
            alias: Some(alias),
            sample: None,
        })
    }
}
