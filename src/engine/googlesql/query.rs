//! Queries, clause by clause. Every struct of the parser is taken apart field by field, without `..`: a
//! clause that a later parser learns does not compile here until somebody decides what it means.

use datafusion::sql::sqlparser::ast::{
    Distinct, Ident, ObjectName, ObjectNamePart, Query, Select, SelectFlavor, SelectItem, SetExpr, Spanned,
    TableAlias, TableFactor, TableWithJoins, With,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::build::quoted;
use super::{Subject, Text, Typed, lower};
use crate::error::Result;
use crate::schema::ColumnType;

/// Names and types; NULL has none.
type Columns = Vec<(String, Option<ColumnType>)>;

/// A translated query and its columns.
pub(super) type Named = (Query, Columns);

/// One pass over one text.
pub(super) struct Translator<'t> {
    pub(super) subject: &'t Subject,
    pub(super) text: Text<'t>,
    /// Queries of WITH; each is put in where it is named.
    ctes: Vec<(String, Query)>,
    /// How often the subject's table is named in what was translated.
    reads: usize,
    /// Of the SELECT at hand.
    pub(super) scope: Scope,
}

/// What names mean in a SELECT.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) table: String,
    pub(super) columns: Columns,
    /// What the SELECT list calls by a name of its own.
    pub(super) aliases: Vec<(String, Typed)>,
    pub(super) clause: Clause,
}

/// Where an expression stands: what it may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Clause {
    #[default]
    Select,
    Where,
    GroupBy,
    Having,
    Qualify,
    /// In a window or an aggregate function.
    Inside,
}

impl<'t> Translator<'t> {
    pub(super) fn new(subject: &'t Subject, text: Text<'t>) -> Self {
        Translator { subject, text, ctes: Vec::new(), reads: 0, scope: Scope::default() }
    }

    /// The whole text.
    pub(super) fn result(&mut self, query: Query) -> Result<Query> {
        let place = query.span();
        let (query, _) = self.query(query)?;
        let table = self.subject.table;
        match self.reads {
            1 => Ok(query),
            0 => Err(self.text.refused(place, &format!("it does not read `{table}`"), Some("FROM records"))),
            _ => {
                let once = format!("`{table}` can be read once, and is named {} times", self.reads);
                Err(self.text.refused(place, &once, Some("one SELECT can number, group and filter them")))
            }
        }
    }

    fn query(&mut self, query: Query) -> Result<Named> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        let place = body.span();
        self.refuse_if(order_by.is_some(), place, "ORDER BY of rows that are stored in no order")?;
        self.refuse_if(limit_clause.is_some() || fetch.is_some(), place, "LIMIT, which leaves out records,")?;
        self.refuse_if(!pipe_operators.is_empty(), place, "pipe syntax (|>)")?;
        let others =
            !locks.is_empty() || for_clause.is_some() || settings.is_some() || format_clause.is_some();
        self.refuse_if(others, place, "what follows the SELECT")?;
        let known = self.ctes.len();
        if let Some(with) = with {
            self.with(with)?;
        }
        let SetExpr::Select(select) = *body else {
            return match *body {
                SetExpr::Query(query) => self.query(*query),
                SetExpr::SetOperation { op, .. } => Err(self.text.unlisted(place, &op.to_string())),
                _ => Err(self.text.unlisted(place, "what is no SELECT")),
            };
        };
        let named = self.select(*select);
        self.ctes.truncate(known);
        let (select, columns) = named?;
        Ok((plain_query(select), columns))
    }

    fn with(&mut self, with: With) -> Result<()> {
        let With { with_token: _, recursive, cte_tables } = with;
        for cte in cte_tables {
            let place = cte.alias.name.span;
            let special = recursive || cte.from.is_some() || cte.materialized.is_some();
            self.refuse_if(special, place, "WITH RECURSIVE or MATERIALIZED")?;
            self.refuse_if(!cte.alias.columns.is_empty(), place, "a list of columns behind a name of WITH")?;
            self.ctes.push((lower(&cte.alias.name), *cte.query));
        }
        Ok(())
    }

    fn select(&mut self, select: Select) -> Result<(Select, Columns)> {
        let place = select.span();
        let Select {
            select_token,
            optimizer_hints,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        let sorted = !cluster_by.is_empty() || !distribute_by.is_empty() || !sort_by.is_empty();
        let foreign = !optimizer_hints.is_empty()
            || select_modifiers.is_some()
            || top.is_some()
            || exclude.is_some()
            || into.is_some()
            || !lateral_views.is_empty()
            || prewhere.is_some()
            || !connect_by.is_empty()
            || sorted
            || flavor != SelectFlavor::Standard;
        self.refuse_if(foreign, place, "a clause that GoogleSQL does not have")?;
        self.refuse_if(value_table_mode.is_some(), place, "SELECT AS STRUCT or AS VALUE")?;
        self.refuse_if(!named_window.is_empty(), place, "WINDOW with a name")?;
        let from = self.from(from, place)?;
        let selection = self.condition(selection, Clause::Where)?;
        let items = self.items(projection)?;
        let group_by = self.group_by(group_by, &items)?;
        let having = self.condition(having, Clause::Having)?;
        let qualify = self.condition(qualify, Clause::Qualify)?;
        let distinct = match distinct {
            None | Some(Distinct::All) => None,
            Some(Distinct::Distinct) => {
                if let Some((name, _)) = items.iter().find(|(_, item)| item.kind == Some(ColumnType::Float64))
                {
                    let what = format!("DISTINCT of `{name}`, which is a FLOAT64,");
                    return Err(self.text.unlisted(place, &what));
                }
                Some(Distinct::Distinct)
            }
            Some(Distinct::On(_)) => return Err(self.text.unlisted(place, "DISTINCT ON")),
        };
        let columns: Vec<_> = items.iter().map(|(name, item)| (name.clone(), item.kind)).collect();
        for (place_of_name, (name, _)) in columns.iter().enumerate() {
            if columns[..place_of_name].iter().any(|(earlier, _)| earlier == name) {
                let twice = format!("two columns are called `{name}`");
                return Err(self.text.refused(place, &twice, Some("give one of them another name with AS")));
            }
        }
        let projection = items
            .into_iter()
            .map(|(name, item)| SelectItem::ExprWithAlias { expr: item.expr, alias: quoted(&name) });
        let select = Select {
            select_token,
            optimizer_hints: Vec::new(),
            distinct,
            select_modifiers: None,
            top: None,
            top_before_distinct: false,
            projection: projection.collect(),
            exclude: None,
            into: None,
            from: vec![from],
            lateral_views: Vec::new(),
            prewhere: None,
            selection,
            connect_by: Vec::new(),
            group_by,
            cluster_by: Vec::new(),
            distribute_by: Vec::new(),
            sort_by: Vec::new(),
            having,
            named_window: Vec::new(),
            qualify,
            window_before_qualify: false,
            value_table_mode: None,
            flavor: SelectFlavor::Standard,
        };
        Ok((select, columns))
    }

    /// One table: the subject's, or a query over it. It becomes the scope.
    fn from(&mut self, from: Vec<TableWithJoins>, place: Span) -> Result<TableWithJoins> {
        let table = self.subject.table;
        let mut from = from.into_iter();
        let (Some(TableWithJoins { relation, joins }), None) = (from.next(), from.next()) else {
            let what = format!("a SELECT needs one table, `{table}`,");
            return Err(self.text.refused(place, &what, Some("there is no other table to join")));
        };
        let place = relation.span();
        self.refuse_if(!joins.is_empty(), place, "JOIN")?;
        let relation = match relation {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                let special = args.is_some()
                    || !with_hints.is_empty()
                    || version.is_some()
                    || with_ordinality
                    || !partitions.is_empty()
                    || json_path.is_some()
                    || sample.is_some()
                    || !index_hints.is_empty();
                self.refuse_if(special, place, "what follows the table")?;
                let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else {
                    return Err(self.no_table(place, &name.to_string()));
                };
                let cte = self.ctes.iter().rposition(|(known, _)| *known == lower(ident));
                let alias = self.alias(alias, &lower(ident))?;
                match cte {
                    Some(at) => {
                        let query = self.ctes[at].1.clone();
                        // It sees the queries before it.
                        let later = self.ctes.split_off(at);
                        let derived = self.derived(query, alias);
                        self.ctes.extend(later);
                        derived?
                    }
                    None if ident.value == table => {
                        self.reads += 1;
                        let known = self.subject.columns.iter();
                        let columns = known.map(|(name, kind)| (name.to_lowercase(), Some(*kind))).collect();
                        self.scope = Scope { table: alias.value.clone(), columns, ..Scope::default() };
                        TableFactor::Table {
                            name: ObjectName::from(vec![quoted(table)]),
                            alias: Some(table_alias(alias)),
                            args: None,
                            with_hints: Vec::new(),
                            version: None,
                            with_ordinality: false,
                            partitions: Vec::new(),
                            json_path: None,
                            sample: None,
                            index_hints: Vec::new(),
                        }
                    }
                    None => return Err(self.no_table(place, &ident.value)),
                }
            }
            TableFactor::Derived { lateral, subquery, alias, sample } => {
                self.refuse_if(lateral || sample.is_some(), place, "LATERAL or TABLESAMPLE")?;
                let alias = self.alias(alias, "#s")?;
                self.derived(*subquery, alias)?
            }
            other => {
                let text = other.to_string();
                let first = text.split(['(', ' ']).next().unwrap_or_default().to_owned();
                return Err(self.text.unlisted(place, &format!("{first} in FROM")));
            }
        };
        Ok(TableWithJoins { relation, joins: Vec::new() })
    }

    fn derived(&mut self, query: Query, alias: Ident) -> Result<TableFactor> {
        let (query, columns) = self.query(query)?;
        self.scope = Scope { table: alias.value.clone(), columns, ..Scope::default() };
        let (subquery, alias) = (Box::new(query), Some(table_alias(alias)));
        Ok(TableFactor::Derived { lateral: false, subquery, alias, sample: None })
    }

    fn alias(&self, alias: Option<TableAlias>, default: &str) -> Result<Ident> {
        let Some(TableAlias { explicit: _, name, columns, at }) = alias else { return Ok(quoted(default)) };
        self.refuse_if(!columns.is_empty() || at.is_some(), name.span, "a list behind a table's name")?;
        Ok(quoted(&lower(&name)))
    }

    fn no_table(&self, place: Span, name: &str) -> crate::error::Error {
        let what = format!("there is no table `{name}`");
        self.text.refused(place, &what, Some(&format!("records are in `{}`", self.subject.table)))
    }

    pub(super) fn refuse_if(&self, present: bool, place: Span, construct: &str) -> Result<()> {
        if present { Err(self.text.unlisted(place, construct)) } else { Ok(()) }
    }
}

fn table_alias(name: Ident) -> TableAlias {
    TableAlias { explicit: true, name, columns: Vec::new(), at: None }
}

fn plain_query(select: Select) -> Query {
    Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}
