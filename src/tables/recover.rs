//! A table as it was, brought back beside what is there now. Nothing is ever deleted here.
//!
//! A copy of the past has neither partitioning nor labels of its own: the destination is made first, as the table
//! was, and the rows are copied into it.

use futures::stream::{self, StreamExt, TryStreamExt};

use super::copy::{self, check_location, restore_settings};
use super::definition::{Definition, layout_difference};
use super::schema;
use super::words::rows_words;
use crate::bigquery::{Address, BigQuery, Document, Then, Write};
use crate::error::{Error, Kind, Result};

/// What is to come back, from when, as what.
#[derive(Debug)]
pub struct Recovery {
    pub table: Address,
    /// `None`: the last instant before it was deleted.
    pub at: Option<When>,
    pub destination: Address,
    /// What is said about it besides; it wins over what the table was.
    pub stated: Definition,
    /// A table whose definition is taken.
    pub like: Option<Address>,
    /// Take what a plain copy gives.
    pub bare: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum When {
    /// Milliseconds since 1970.
    At(u64),
    /// Milliseconds before now, by the service's clock.
    Ago(u64),
}

#[derive(Debug)]
pub struct Recovered {
    pub rows: u64,
    pub at_ms: u64,
    pub destination: Document,
    /// Where its definition is from, in words; `None` of a bare copy.
    pub definition_from: Option<String>,
    pub remarks: Vec<String>,
}

/// BigQuery's longest time travel window.
const WINDOW_MS: u64 = 7 * 86_400_000;
const FIRST_STEP_MS: u64 = 25;
const LOOKS_AT_ONCE: usize = 8;

pub async fn recover(bigquery: &BigQuery, recovery: Recovery) -> Result<Recovered> {
    let Recovery { table, at, destination, stated, like, bare } = recovery;
    let Some(dataset) = bigquery.dataset(&table).await? else {
        return Err(Error::usage(format!(
            "there is no dataset `{}.{}`",
            table.project.as_deref().unwrap_or(bigquery.project()),
            table.dataset
        ))
        .hint("a deleted dataset is undeleted as a whole, with `UNDROP SCHEMA` in GoogleSQL"));
    };
    let bigquery = bigquery.at(dataset.text("location"));
    let now = bigquery.document(&table).await?;
    let (at_ms, then) = match at {
        Some(when) => {
            let at_ms = match when {
                When::At(ms) => ms,
                When::Ago(ms) => served_ms(&dataset)?.saturating_sub(ms),
            };
            (at_ms, at_instant(&bigquery, &table, &dataset, now.as_ref(), at_ms).await?)
        }
        None if now.is_some() => {
            return Err(Error::usage(format!("table `{table}` is there")).hint(
                "say which instant of it is to come back: `--at 1h`, `--at 2026-01-31T12:00:00Z` or `--at MILLISECONDS`",
            ));
        }
        None => last_instant(&bigquery, &table, &dataset).await?,
    };
    let mut remarks = Vec::new();
    let (definition, from) = if bare {
        (None, None)
    } else {
        let (definition, from) =
            definition(&bigquery, &table, like.as_ref(), then.as_ref(), now.as_ref(), stated, &mut remarks)
                .await?;
        definition.check()?;
        (Some(definition), Some(from))
    };
    let made = prepare(&bigquery, &table, &dataset, &destination, definition.as_ref()).await?;
    let source = Address { at: Some(at_ms.to_string()), ..table.clone() };
    let (_, copied) = copy::run(&bigquery, &[source], &destination, Write::Empty).await.map_err(|error| {
        match made {
            // What was made for the rows is not taken away: this command deletes nothing.
            true => error.context(format!("`{destination}` was made and is empty")),
            false => error,
        }
    })?;
    let found = bigquery.document(&destination).await?;
    let mut found =
        found.ok_or_else(|| Error::failed(format!("`{destination}` was made and is not there")))?;
    let rows = copied.or(then.as_ref().map(Document::rows)).unwrap_or(found.rows());
    let wrong = |why: String| {
        Error::new(Kind::Mismatch, format!("`{destination}` is there and not what was asked for: {why}"))
            .hint("nothing was deleted; look at it with `api2bq table show`")
    };
    if found.rows() != rows {
        return Err(wrong(format!("{rows} rows were copied and it has {}", found.rows())));
    }
    if let Some(then) = then.filter(|then| then.value.get("numRows").is_some() && then.rows() != rows) {
        return Err(wrong(format!("the table had {} rows and {rows} came back", then.rows())));
    }
    if let Some(definition) = &definition {
        let wanted = definition.members();
        let difference = schema::difference(definition.fields(), &found.value["schema"]["fields"]);
        if let Some(difference) = difference.or_else(|| layout_difference(&wanted, &found.value)) {
            return Err(wrong(difference));
        }
        found = restore_settings(&bigquery, &destination, definition, &found).await?;
    }
    Ok(Recovered { rows, at_ms, destination: found, definition_from: from, remarks })
}

/// What the table was, from the best that is known.
async fn definition(
    bigquery: &BigQuery,
    table: &Address,
    like: Option<&Address>,
    then: Option<&Document>,
    now: Option<&Document>,
    stated: Definition,
    remarks: &mut Vec<String>,
) -> Result<(Definition, String)> {
    let (mut definition, from) = if let Some(like) = like {
        let Some(document) = bigquery.document(like).await? else {
            return Err(bigquery.missing(like).await);
        };
        (Definition::of(&document.value), format!("like `{like}`"))
    } else if let Some(then) = then {
        (Definition::of(&then.value), "as the table was then".to_owned())
    } else if !stated.fields().is_null() {
        (Definition::default(), "as the flags say".to_owned())
    } else if let Some(now) = now {
        remarks.push(format!("what `{table}` was then is not known; its definition of now is taken"));
        (Definition::of(&now.value), format!("as `{table}` is now"))
    } else {
        return Err(Error::usage(format!("BigQuery does not say any more how `{table}` was defined")).hint(
            "say it: `--from-pipeline flows`, `--like TABLE`, or `--schema …` with `--partition-by` and what else \
             `table create` takes; `--bare` brings the rows back without partitioning, filter and labels",
        ));
    };
    if let Some(expired) = definition.remove("expirationTime") {
        let ms = expired.as_str().and_then(|ms| ms.parse().ok());
        let at = ms.and_then(super::time_words).unwrap_or_else(|| expired.to_string());
        remarks.push(format!(
            "the table was to expire {at}; the recovered one is not, unless --expires-in says so"
        ));
    }
    definition.overlay(stated);
    let columns = then.map(|then| &then.value["schema"]["fields"]).filter(|columns| columns.is_array());
    if let Some(difference) = columns.and_then(|columns| schema::difference(definition.fields(), columns)) {
        return Err(Error::usage(format!("`{table}` had other columns then: {difference}"))
            .hint("`here` is what was asked for; nothing was made"));
    }
    Ok((definition, from))
}

/// Makes the destination, or sees that the one there is empty and fits. True when it was made.
async fn prepare(
    bigquery: &BigQuery,
    table: &Address,
    dataset: &Document,
    destination: &Address,
    definition: Option<&Definition>,
) -> Result<bool> {
    if let Some(there) = bigquery.document(destination).await? {
        if there.rows() > 0 || there.value.get("streamingBuffer").is_some() {
            return Err(Error::usage(format!(
                "table `{destination}` is there and has {}",
                rows_words(there.rows())
            ))
            .hint("name a table that is not there: `--to`; nothing is ever replaced"));
        }
        check_location(table, dataset, destination, &there)?;
        if let Some(definition) = definition {
            let wanted = definition.members();
            let difference = schema::difference(definition.fields(), &there.value["schema"]["fields"]);
            if let Some(difference) = difference.or_else(|| layout_difference(&wanted, &there.value)) {
                return Err(Error::usage(format!(
                    "table `{destination}` is there and does not fit: {difference}"
                ))
                .hint("`here` is what is to come back; name a table that is not there"));
            }
        }
        return Ok(false);
    }
    let Some(definition) = definition else { return Ok(false) };
    match bigquery.create_table(destination, &definition.document(bigquery.project(), destination)).await? {
        Some(made) => {
            check_location(table, dataset, destination, &made)?;
            Ok(true)
        }
        None => Err(Error::usage(format!("table `{destination}` came into being meanwhile"))),
    }
}

/// The table as it was then, where BigQuery tells. That it was not there then is found before anything is made.
async fn at_instant(
    bigquery: &BigQuery,
    table: &Address,
    dataset: &Document,
    now: Option<&Document>,
    at_ms: u64,
) -> Result<Option<Document>> {
    let words =
        |ms: u64| i64::try_from(ms).ok().and_then(super::time_words).unwrap_or_else(|| ms.to_string());
    match bigquery.document_then(table, at_ms).await? {
        Then::Was(document) => Ok(Some(document)),
        Then::NotThere(why) => {
            let at = words(at_ms);
            let error = Error::usage(format!("table `{table}` cannot be brought back as it was at {at}"));
            Err(error.hint(format!("BigQuery says: {why}")))
        }
        Then::Unknown if now.is_some() => Ok(None),
        // Of a deleted table the last instant tells when it was made, if anything does.
        Then::Unknown => match last_instant(bigquery, table, dataset).await {
            Ok((last_ms, Some(last))) if last.number("creationTime").is_some_and(|ms| ms > at_ms) => {
                let made = words(last.number("creationTime").unwrap_or(at_ms));
                let hint =
                    format!("it was made {made}, and was last there at {last_ms} ms ({})", words(last_ms));
                Err(Error::usage(format!("table `{table}` was not there at {}", words(at_ms))).hint(hint))
            }
            _ => Ok(None),
        },
    }
}

/// The last millisecond in which a deleted table was there: from now back in growing steps until it is, then
/// between. By the service's clock alone.
async fn last_instant(
    bigquery: &BigQuery,
    table: &Address,
    dataset: &Document,
) -> Result<(u64, Option<Document>)> {
    let mut instants = stream::iter(instants_back(served_ms(dataset)?))
        .map(|at_ms| async move {
            Ok::<_, Error>((at_ms, bigquery.document_then(table, at_ms).await?.document()))
        })
        .buffered(LOOKS_AT_ONCE);
    let mut dead_ms = u64::MAX;
    let (mut alive_ms, mut document) = loop {
        match instants.try_next().await? {
            Some((at_ms, Some(document))) => break (at_ms, document),
            Some((at_ms, None)) => dead_ms = at_ms,
            None => {
                return Err(Error::usage(format!("BigQuery does not say when `{table}` was last there")).hint(
                    "give the instant: `--at MILLISECONDS`, as `api2bq table delete` printed it, or a time before \
                     the deletion, which Cloud Logging's audit log has; is the name right, and less than 7 days gone?",
                ));
            }
        }
    };
    while dead_ms - alive_ms > 1 {
        let middle_ms = alive_ms + (dead_ms - alive_ms) / 2;
        match bigquery.document_then(table, middle_ms).await?.document() {
            Some(then) => (alive_ms, document) = (middle_ms, then),
            None => dead_ms = middle_ms,
        }
    }
    Ok((alive_ms, Some(document)))
}

/// From just after now to the end of the window, each step a twentieth of the way: a table that was there for
/// that share of the time since is met.
fn instants_back(now_ms: u64) -> impl Iterator<Item = u64> {
    // The clock's second has begun, and may not be over.
    let latest_ms = now_ms.saturating_add(1000);
    let steps = std::iter::successors(Some(0), |back: &u64| Some(back + (back / 20).max(FIRST_STEP_MS)));
    steps
        .take_while(|back| *back < WINDOW_MS)
        .chain([WINDOW_MS])
        .map(move |back| latest_ms.saturating_sub(back))
}

fn served_ms(dataset: &Document) -> Result<u64> {
    dataset.served_ms.ok_or_else(|| {
        Error::failed("BigQuery's answer has no date, and this machine's clock is not taken for it")
            .hint("give the instant in milliseconds: `--at`")
    })
}

/// `1h` before now, or a time as [`super::parse_time`] takes it.
pub fn parse_when(text: &str) -> Result<When> {
    match super::parse_duration(text) {
        Ok(ms) => Ok(When::Ago(ms)),
        Err(_) => super::parse_time(text).map(When::At).map_err(|error| {
            error.hint("write `1h` (ago), `2026-01-31T12:00:00Z` or milliseconds since 1970")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_looked_at_in_growing_steps_to_the_end_of_the_window() {
        let now_ms = 1_800_000_000_000;
        let instants: Vec<u64> = instants_back(now_ms).collect();
        assert_eq!((instants[0], instants[1]), (now_ms + 1000, now_ms + 975));
        assert_eq!(instants.last(), Some(&(now_ms + 1000 - WINDOW_MS)));
        assert!(instants.len() < 400, "{} calls in all", instants.len());
        for pair in instants.windows(2) {
            let since = now_ms + 1000 - pair[1];
            assert!(pair[0] > pair[1] && pair[0] - pair[1] <= (since / 20).max(FIRST_STEP_MS), "{pair:?}");
        }
        assert_eq!(instants_back(0).last(), Some(0));
    }
}
