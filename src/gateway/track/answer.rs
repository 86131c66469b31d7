//! `GET /track`: its parameters, each of which is refused by name, and its answer.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use super::Tracking;
use super::instance::{self, State};
use super::open::Open;
use super::search::{Page, Question};
use crate::error::Error;
use crate::gateway::problem::Problem;
use crate::partition::parse_length;

/// A page of requests, and what they can be asked for by.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    pub pipeline: String,
    /// The primary one first.
    pub fields: Vec<String>,
    /// Whether bodies are kept; not known without the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<bool>,
    #[serde(flatten)]
    pub page: Page,
}

/// What can be asked, and what it means.
pub const PARAMETERS: [(&str, &str); 8] = [
    ("field", "The tracked column that has `value` [default: the primary one]"),
    ("value", "Requests with this value in a row, as the table shows it"),
    ("id", "The request with this id, which its sender was told"),
    ("state", "`accepted`, `sealed`, `loaded`, `rejected` or `failed`"),
    ("since", "Requests that came within this time: `90m`, `1h`, `7d`"),
    ("limit", "Requests on a page, 1 to 1000 [default: 100]"),
    ("cursor", "`next` of the page before"),
    ("payload", "`true`: with bodies, where the gateway keeps them"),
];

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// A staging area that is away for longer is told of, and so are other questions that take longer.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A parameter, and what is wrong with it.
struct Wrong {
    parameter: String,
    why: String,
}

fn wrong(parameter: &str, why: impl Into<String>) -> Wrong {
    Wrong { parameter: parameter.to_owned(), why: why.into() }
}

impl From<Wrong> for Problem {
    fn from(wrong: Wrong) -> Self {
        let message = format!("`{}`: {}", wrong.parameter, wrong.why);
        Problem::new(StatusCode::BAD_REQUEST, "bad_parameter", message).of_parameter(&wrong.parameter)
    }
}

impl Tracking {
    /// Answers what `user` asks by a URL's query.
    pub(in crate::gateway) async fn answer(
        self: &Arc<Self>,
        user: &str,
        query: &str,
    ) -> Result<Answer, Problem> {
        let mut question = self.question(query)?;
        if !self.operators.iter().any(|operator| operator == user) {
            question.user = Some(user.to_owned());
        }
        let unavailable = |reason: &str, message: &str| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason, message).retry_after(RETRY_AFTER)
        };
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(unavailable("busy", "other requests are being looked for"));
        };
        let reading = Open::read(&self.store, &self.pipeline, &self.places.spool);
        let open = match tokio::time::timeout(PATIENCE, reading).await {
            Ok(Ok(open)) => open,
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot tell what became of requests");
                return Err(unavailable("journal_unreadable", "the journal cannot be read at the moment"));
            }
            Err(_) => {
                return Err(unavailable("journal_unreadable", "the journal cannot be read at the moment"));
            }
        };
        let this = Arc::clone(self);
        let found = tokio::task::spawn_blocking(move || {
            // It looks on when nobody waits for it any more, and so it keeps its turn.
            let _turn = turn;
            this.places.search(&question, &open)
        });
        let found = found.await;
        let page = match found {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot look for requests");
                return Err(unavailable("spool_unreadable", "the spool cannot be read at the moment"));
            }
            Err(_) => return Err(unavailable("spool_unreadable", "the search died")),
        };
        let fields = self.places.tracked.fields();
        Ok(Answer { pipeline: self.pipeline.clone(), fields, trace: Some(self.trace), page })
    }

    fn question(&self, query: &str) -> Result<Question, Wrong> {
        let given: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let given: Vec<(&str, String)> = given.iter().map(|(name, value)| (&**name, value.clone())).collect();
        let question = read(&given, &self.places.tracked.fields(), self.clock.unix_millis())?;
        if question.payload && !self.trace {
            return Err(wrong("payload", "this gateway keeps no bodies; it was started without `--trace`"));
        }
        Ok(question)
    }
}

/// The question that these parameters ask, for columns `fields`, at `now_ms`.
pub fn question(given: &[(&str, String)], fields: &[String], now_ms: u64) -> Result<Question, Error> {
    read(given, fields, now_ms)
        .map_err(|Wrong { parameter, why }| Error::usage(format!("`{parameter}`: {why}")))
}

/// Nothing that is given is passed over.
fn read(given: &[(&str, String)], fields: &[String], now_ms: u64) -> Result<Question, Wrong> {
    for (place, (name, _)) in given.iter().enumerate() {
        if !PARAMETERS.iter().any(|(known, _)| known == name) {
            let known = PARAMETERS.map(|(name, _)| format!("`{name}`")).join(", ");
            return Err(wrong(name, format!("there is no such parameter; there are {known}")));
        }
        if given[..place].iter().any(|(before, _)| before == name) {
            return Err(wrong(name, "it is given twice"));
        }
    }
    let get = |name: &str| given.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str());
    let id = |name: &str| match get(name) {
        Some(text) if !instance::is_id(text) => Err(wrong(name, "this is no id of a request")),
        text => Ok(text.map(str::to_owned)),
    };
    let identifier = match (get("field"), get("value")) {
        (None, None) => None,
        (Some(_), None) => return Err(wrong("value", "it is missing; `field` says of which column")),
        (field, Some(value)) => {
            let known = |field: &str| fields.iter().any(|known| known == field);
            let field = field.or(fields.first().map(String::as_str)).unwrap_or_default();
            if !known(field) {
                let fields: Vec<_> = fields.iter().map(|field| format!("`{field}`")).collect();
                return Err(wrong(
                    "field",
                    format!("`{field}` is not tracked; there are {}", fields.join(", ")),
                ));
            }
            Some((field.to_owned(), value.to_owned()))
        }
    };
    let state = match get("state") {
        Some(word) => Some(word.parse::<State>().map_err(|why| wrong("state", why))?),
        None => None,
    };
    let since_ms = match get("since") {
        Some(text) => {
            let seconds = parse_length(text).map_err(|why| wrong("since", why))?;
            Some(now_ms.saturating_sub(seconds.unsigned_abs().saturating_mul(1000)))
        }
        None => None,
    };
    let limit = match get("limit") {
        Some(text) => text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)),
        None => Some(LIMIT),
    };
    let limit = limit.ok_or_else(|| wrong("limit", format!("want a number from 1 to {LIMIT_MAX}")))?;
    let payload = match get("payload") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(wrong("payload", "want `true` or `false`")),
    };
    Ok(Question {
        identifier,
        id: id("id")?,
        state,
        user: None,
        since_ms,
        from: id("cursor")?,
        limit,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_read_and_what_is_wrong_is_named() {
        let fields = ["WH_ID".to_owned(), "Item_id".to_owned()];
        let read = |query: &str| {
            let given: Vec<(String, String)> =
                form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            let given: Vec<(&str, String)> =
                given.iter().map(|(name, value)| (&**name, value.clone())).collect();
            read(&given, &fields, 10_000_000).map_err(Problem::from)
        };
        let id = "019aa9000000123456789abcdef";
        let all = read(&format!(
            "field=Item_id&value=a%26b+c&since=1h&state=failed&limit=7&cursor={id}&id={id}&payload=true"
        ))
        .expect("right");
        assert_eq!(all.identifier, Some(("Item_id".into(), "a&b c".into())));
        assert_eq!((all.since_ms, all.state, all.limit), (Some(6_400_000), Some(State::Failed), 7));
        assert_eq!((all.from.as_deref(), all.id.as_deref(), all.payload), (Some(id), Some(id), true));
        let primary = read("value=").expect("right").identifier;
        assert_eq!(primary, Some(("WH_ID".into(), String::new())), "empty texts are values");
        assert_eq!(read("").expect("right").limit, LIMIT);
        let cases = [
            ("feld=a", "`feld`: there is no such parameter"),
            ("value=a&value=b", "`value`: it is given twice"),
            ("field=WH_ID", "`value`: it is missing"),
            ("field=Backlog&value=1", "`field`: `Backlog` is not tracked; there are `WH_ID`, `Item_id`"),
            ("state=lost", "`state`: there are `accepted`, `sealed`"),
            ("since=yesterday", "`since`: want a length"),
            ("limit=0", "`limit`: want a number from 1 to 1000"),
            ("limit=1001", "`limit`: want a number from 1 to 1000"),
            ("cursor=x", "`cursor`: this is no id"),
            ("id=", "`id`: this is no id"),
            ("payload=1", "`payload`: want `true` or `false`"),
        ];
        for (query, message) in cases {
            let problem = read(query).expect_err(query);
            assert_eq!(problem.status(), StatusCode::BAD_REQUEST);
            assert!(problem.message().starts_with(message), "{query}: {}", problem.message());
        }
    }
}
