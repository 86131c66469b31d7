//! A query over its tables as they were: `FOR SYSTEM_TIME AS OF` behind each of them.
//!
//! The text is left as it is but for what is put in, so that positions in BigQuery's errors stay near.
//! GoogleSQL has the clause behind a table's alias. What is no table (a common table expression, an
//! array such as `t.items`) gets none; where that cannot be told, or a clause is not possible, the
//! query is refused: it must never read today's rows by mistake.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Ident, ObjectName, ObjectNamePart, Query, Select, Spanned, Statement, TableFactor, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::BigQueryDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Location;

use crate::error::{Error, Result};

/// `sql` with every table read as of `time`, a GoogleSQL expression.
pub(super) fn as_of(sql: &str, time: &str) -> Result<String> {
    let statements = Parser::parse_sql(&BigQueryDialect {}, sql).map_err(|e| {
        Error::usage("`--as-of` cannot find the tables of this query").caused_by(e).hint(YOURSELF)
    })?;
    let [Statement::Query(query)] = &statements[..] else {
        return Err(Error::usage("`--as-of` takes one SELECT").hint(YOURSELF));
    };
    let mut tables = Tables { sql, scopes: Vec::new(), ends: Vec::new() };
    if let ControlFlow::Break(error) = query.visit(&mut tables) {
        return Err(error);
    }
    let mut ends = tables.ends;
    if ends.is_empty() {
        return Err(Error::usage("`--as-of`: this query reads no table"));
    }
    ends.sort_unstable();
    let mut text = sql.to_owned();
    for end in ends.into_iter().rev() {
        text.insert_str(end, &format!(" FOR SYSTEM_TIME AS OF {time}"));
    }
    Ok(text)
}

const YOURSELF: &str = "write `FOR SYSTEM_TIME AS OF` behind the tables yourself";

/// What names may mean at one place of the query.
enum Scope {
    /// Of one WITH: name, end of its definition, and whether it is known before that.
    Ctes(Vec<(String, Location, bool)>),
    /// Of one FROM: aliases and where they begin.
    Aliases(Vec<(String, Location)>),
    /// A subquery in a FROM, which does not see its neighbours.
    Subquery,
}

struct Tables<'a> {
    sql: &'a str,
    scopes: Vec<Scope>,
    /// Bytes before the places where the clause goes.
    ends: Vec<usize>,
}

impl Visitor for Tables<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        let ctes = query.with.iter().flat_map(|with| with.cte_tables.iter().map(|cte| (with.recursive, cte)));
        let cte = |(recursive, cte): (bool, &datafusion::sql::sqlparser::ast::Cte)| {
            (cte.alias.name.value.to_lowercase(), cte.closing_paren_token.0.span.end, recursive)
        };
        self.scopes.push(Scope::Ctes(ctes.map(cte).collect()));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Error> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Error> {
        let mut aliases = Vec::new();
        for from in &select.from {
            add_alias(&from.relation, &mut aliases);
            from.joins.iter().for_each(|join| add_alias(&join.relation, &mut aliases));
        }
        self.scopes.push(Scope::Aliases(aliases));
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &Select) -> ControlFlow<Error> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        let refused = |what: &str| {
            ControlFlow::Break(Error::usage(format!("`--as-of` does not work on {what}")).hint(YOURSELF))
        };
        match factor {
            TableFactor::Table { name, args: Some(_), .. } => refused(&format!("the function `{name}`")),
            TableFactor::Table { name, version: Some(_), .. } => {
                refused(&format!("`{name}`, which has a time of its own"))
            }
            TableFactor::Table { name, alias, .. } => {
                let parts = parts(name);
                if self.is_cte(&parts, name) || self.is_array(&parts, name) {
                    return ControlFlow::Continue(());
                }
                let text = parts.join(".");
                if text.to_uppercase().contains("INFORMATION_SCHEMA") {
                    return refused(&format!("`{text}`"));
                }
                if text.contains('*') {
                    return refused(&format!("the wildcard table `{text}`"));
                }
                let end = match alias {
                    Some(alias) => self.end_of(&alias.name),
                    None => self.end_of_name(name, &text),
                };
                match end {
                    Some(end) => {
                        self.ends.push(end);
                        ControlFlow::Continue(())
                    }
                    None => refused(&format!("`{text}` as it is written; put it into backticks")),
                }
            }
            TableFactor::Derived { .. } => {
                self.scopes.push(Scope::Subquery);
                ControlFlow::Continue(())
            }
            TableFactor::UNNEST { .. }
            | TableFactor::NestedJoin { .. }
            | TableFactor::Pivot { .. }
            | TableFactor::Unpivot { .. } => ControlFlow::Continue(()),
            other => refused(&format!("`{other}`")),
        }
    }

    fn post_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        if let TableFactor::Derived { .. } = factor {
            self.scopes.pop();
        }
        ControlFlow::Continue(())
    }
}

impl Tables<'_> {
    fn is_cte(&self, parts: &[String], name: &ObjectName) -> bool {
        let [name_text] = parts else { return false };
        let (wanted, at) = (name_text.to_lowercase(), name.span().start);
        self.scopes.iter().any(|scope| match scope {
            // Its own definition does not see it: there the name is a table's.
            Scope::Ctes(ctes) => {
                ctes.iter().any(|(name, end, known)| *name == wanted && (*known || *end <= at))
            }
            _ => false,
        })
    }

    /// `t.items` behind a `t` in the same FROM, or in a subquery that is an expression over `t`.
    fn is_array(&self, parts: &[String], name: &ObjectName) -> bool {
        let [first, _, ..] = parts else { return false };
        let (first, at) = (first.to_lowercase(), name.span().start);
        let mut is_own = true;
        for scope in self.scopes.iter().rev() {
            match scope {
                Scope::Aliases(aliases) => {
                    if aliases.iter().any(|(alias, start)| *alias == first && (!is_own || *start < at)) {
                        return true;
                    }
                    is_own = false;
                }
                Scope::Subquery => return false,
                Scope::Ctes(_) => {}
            }
        }
        false
    }

    /// The byte behind a name, if the text there is that name.
    fn end_of_name(&self, name: &ObjectName, text: &str) -> Option<usize> {
        let span = name.span();
        let (start, end) = (self.offset(span.start)?, self.offset(span.end)?);
        let written = self.sql.get(start..end)?;
        let is_it = written.replace(['`', ' ', '\n', '\t', '\r'], "") == text.replace(' ', "");
        is_it.then_some(end)
    }

    fn end_of(&self, ident: &Ident) -> Option<usize> {
        let (start, end) = (self.offset(ident.span.start)?, self.offset(ident.span.end)?);
        (self.sql.get(start..end)?.trim_matches('`') == ident.value).then_some(end)
    }

    /// sqlparser counts lines and characters from 1; the end of a span is behind its last one.
    fn offset(&self, location: Location) -> Option<usize> {
        let line = usize::try_from(location.line).ok()?.checked_sub(1)?;
        let column = usize::try_from(location.column).ok()?.checked_sub(1)?;
        let start: usize = self.sql.split_inclusive('\n').take(line).map(str::len).sum();
        let rest = self.sql.get(start..)?;
        let within = rest.char_indices().map(|(at, _)| at).chain([rest.len()]).nth(column)?;
        Some(start + within)
    }
}

/// The name's parts, also of one that is in backticks as a whole.
fn parts(name: &ObjectName) -> Vec<String> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) => ident.value.clone(),
        other => other.to_string(),
    };
    name.0.iter().map(part).flat_map(|part| part.split('.').map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn add_alias(factor: &TableFactor, aliases: &mut Vec<(String, Location)>) {
    match factor {
        TableFactor::Table { name, alias, .. } => {
            let own = alias.as_ref().map(|alias| alias.name.value.clone()).or_else(|| parts(name).pop());
            aliases.extend(own.map(|own| (own.to_lowercase(), name.span().start)));
        }
        TableFactor::Derived { alias: Some(alias), .. } | TableFactor::UNNEST { alias: Some(alias), .. } => {
            aliases.push((alias.name.value.to_lowercase(), alias.name.span.start));
        }
        TableFactor::NestedJoin { table_with_joins, .. } => {
            add_alias(&table_with_joins.relation, aliases);
            table_with_joins.joins.iter().for_each(|join| add_alias(&join.relation, aliases));
        }
        TableFactor::Pivot { table, .. } | TableFactor::Unpivot { table, .. } => add_alias(table, aliases),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clause is shown as `•`.
    fn shown(sql: &str) -> String {
        match as_of(sql, "T") {
            Ok(sql) => sql.replace(" FOR SYSTEM_TIME AS OF T", "•"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_clause_is_behind_every_table_and_its_alias() {
        for (sql, expected) in [
            ("SELECT 1 FROM d.t", "SELECT 1 FROM d.t•"),
            (
                "SELECT 'é' FROM\n `p-1.d.t` AS `x y`, d.u v WHERE 1=1",
                "SELECT 'é' FROM\n `p-1.d.t` AS `x y`•, d.u v• WHERE 1=1",
            ),
            (
                "SELECT 1 FROM `p`.`d`.`t` JOIN (SELECT 1 FROM u) USING (a)",
                "SELECT 1 FROM `p`.`d`.`t`• JOIN (SELECT 1 FROM u•) USING (a)",
            ),
            ("SELECT 1 FROM my-project.d.t LIMIT 1", "SELECT 1 FROM my-project.d.t• LIMIT 1"),
            (
                "SELECT (SELECT COUNT(*) FROM d.u) FROM d.t UNION ALL SELECT 2 FROM d.v",
                "SELECT (SELECT COUNT(*) FROM d.u•) FROM d.t• UNION ALL SELECT 2 FROM d.v•",
            ),
        ] {
            assert_eq!(shown(sql), expected);
        }
    }

    #[test]
    fn names_of_queries_and_arrays_are_no_tables() {
        for (sql, expected) in [
            // Inside of its own definition `t` is the table.
            ("WITH t AS (SELECT * FROM t) SELECT 1 FROM T", "WITH t AS (SELECT * FROM t•) SELECT 1 FROM T"),
            (
                "WITH a AS (SELECT 1 FROM d.t), b AS (SELECT 1 FROM a) SELECT 1 FROM b",
                "WITH a AS (SELECT 1 FROM d.t•), b AS (SELECT 1 FROM a) SELECT 1 FROM b",
            ),
            (
                "SELECT 1 FROM d.t AS x, x.items, UNNEST(x.tags)",
                "SELECT 1 FROM d.t AS x•, x.items, UNNEST(x.tags)",
            ),
            ("SELECT 1 FROM d.t, t.items i", "SELECT 1 FROM d.t•, t.items i"),
            (
                "SELECT (SELECT COUNT(*) FROM x.items) FROM d.t AS x",
                "SELECT (SELECT COUNT(*) FROM x.items) FROM d.t AS x•",
            ),
            // An alias that comes later, and one that a subquery does not see, are datasets here.
            ("SELECT 1 FROM x.t AS a, d.u AS x", "SELECT 1 FROM x.t AS a•, d.u AS x•"),
            (
                "SELECT 1 FROM d.t AS x, (SELECT 1 FROM x.items) AS y",
                "SELECT 1 FROM d.t AS x•, (SELECT 1 FROM x.items•) AS y",
            ),
            (
                "SELECT 1 FROM d.u AS x UNION ALL SELECT 1 FROM x.t",
                "SELECT 1 FROM d.u AS x• UNION ALL SELECT 1 FROM x.t•",
            ),
        ] {
            assert_eq!(shown(sql), expected);
        }
    }

    #[test]
    fn what_has_no_past_is_refused() {
        for (sql, why) in [
            ("SELECT 1", "reads no table"),
            ("DELETE FROM d.t WHERE TRUE", "takes one SELECT"),
            ("SELECT 1 FROM d.t; SELECT 2 FROM d.t", "takes one SELECT"),
            ("SELECT FROM FROM", "cannot find the tables"),
            ("SELECT 1 FROM d.INFORMATION_SCHEMA.TABLES", "does not work on `d.INFORMATION_SCHEMA.TABLES`"),
            ("SELECT 1 FROM `d.t_*`", "wildcard table"),
            ("SELECT 1 FROM d.f(1)", "the function `d.f`"),
            ("SELECT 1 FROM d.t FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP()", "a time of its own"),
        ] {
            assert!(shown(sql).contains(why), "{sql}: {}", shown(sql));
        }
    }
}
