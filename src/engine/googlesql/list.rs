//! The SELECT list, and the clauses that refer to it.

use datafusion::sql::sqlparser::ast::{
    ExceptSelectItem, Expr, GroupByExpr, Ident, ReplaceSelectItem, SelectItem, Spanned,
    WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::build::column;
use super::query::{Clause, Translator};
use super::{Typed, lower, place_of};
use crate::error::Result;
use crate::schema::ColumnType;

impl Translator<'_> {
    /// Names are found later by these; in BigQuery, too, a column of the table comes first.
    pub(super) fn items(&mut self, projection: Vec<SelectItem>) -> Result<Vec<(String, Typed)>> {
        self.scope.clause = Clause::Select;
        let mut items = Vec::new();
        for item in projection {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let name = match &expr {
                        Expr::Identifier(ident) => lower(ident),
                        Expr::CompoundIdentifier(path) => path.last().map(lower).unwrap_or_default(),
                        _ => format!("f{}_", items.len()),
                    };
                    items.push((name, self.expr(expr)?));
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let item = self.expr(expr)?;
                    self.scope.aliases.push((lower(&alias), item.clone()));
                    items.push((lower(&alias), item));
                }
                SelectItem::Wildcard(options) => self.wildcard(options, &mut items)?,
                other => return Err(self.text.unlisted(other.span(), &format!("`{other}`"))),
            }
        }
        Ok(items)
    }

    fn wildcard(
        &mut self,
        options: WildcardAdditionalOptions,
        items: &mut Vec<(String, Typed)>,
    ) -> Result<()> {
        let place = options.wildcard_token.0.span;
        let WildcardAdditionalOptions {
            wildcard_token: _,
            opt_ilike,
            opt_exclude,
            opt_except,
            opt_replace,
            opt_rename,
            opt_alias,
        } = options;
        let foreign =
            opt_ilike.is_some() || opt_exclude.is_some() || opt_rename.is_some() || opt_alias.is_some();
        self.refuse_if(foreign, place, "what follows `*`")?;
        let except: Vec<Ident> = opt_except.map_or_else(Vec::new, |except| {
            let ExceptSelectItem { first_element, additional_elements } = except;
            std::iter::once(first_element).chain(additional_elements).collect()
        });
        let replace = opt_replace.map_or_else(Vec::new, |ReplaceSelectItem { items }| items);
        let names = except.iter().chain(replace.iter().map(|item| &item.column_name));
        for name in names {
            self.column(None, name)?;
        }
        let columns: Vec<_> = self.scope.columns.clone();
        for (name, kind) in columns.into_iter().filter(|(name, _)| !except.iter().any(|e| lower(e) == *name))
        {
            let replaced = replace.iter().find(|item| lower(&item.column_name) == name);
            let item = match replaced {
                Some(item) => {
                    let item = self.expr(item.expr.clone())?;
                    self.scope.aliases.push((name.clone(), item.clone()));
                    item
                }
                None => Typed { expr: column(&self.scope.table, &name), kind },
            };
            items.push((name, item));
        }
        Ok(())
    }

    pub(super) fn group_by(
        &mut self,
        group_by: GroupByExpr,
        items: &[(String, Typed)],
    ) -> Result<GroupByExpr> {
        let place = group_by.span();
        let GroupByExpr::Expressions(keys, modifiers) = group_by else {
            return Err(self.text.unlisted(place, "GROUP BY ALL"));
        };
        self.refuse_if(!modifiers.is_empty(), place, "ROLLUP, CUBE or TOTALS")?;
        self.scope.clause = Clause::GroupBy;
        let mut translated = Vec::with_capacity(keys.len());
        for key in keys {
            let place = place_of(&key);
            let ordinal = match &key {
                Expr::Value(value) => value.value.to_string().parse::<usize>().ok(),
                _ => None,
            };
            let key = match ordinal {
                Some(ordinal) => match ordinal.checked_sub(1).and_then(|at| items.get(at)) {
                    Some((_, item)) => item.clone(),
                    None => {
                        return Err(self.text.refused(place, "GROUP BY of a column that is not there", None));
                    }
                },
                None => self.expr(key)?,
            };
            self.key(&key, place, "GROUP BY")?;
            translated.push(key.expr);
        }
        Ok(GroupByExpr::Expressions(translated, Vec::new()))
    }

    /// NaN and -0.0 are keys of their own here.
    pub(super) fn key(&self, key: &Typed, place: Span, clause: &str) -> Result<()> {
        self.refuse_if(key.kind == Some(ColumnType::Float64), place, &format!("{clause} of a FLOAT64"))
    }

    pub(super) fn condition(&mut self, expr: Option<Expr>, clause: Clause) -> Result<Option<Expr>> {
        let Some(expr) = expr else { return Ok(None) };
        self.scope.clause = clause;
        self.boolean(expr).map(|condition| Some(condition.expr))
    }
}
