//! When a table is to be deleted: `--expires-in` and `--expires-at`, by the service's clock.

use crate::bigquery::{Address, BigQuery};
use crate::error::{Error, Result};
use crate::tables;

/// As it was typed.
#[derive(Debug)]
pub(super) enum Expiry {
    In { after_ms: u64 },
    At { ms: u64, text: String },
}

impl Expiry {
    /// At most one of the two is given.
    pub(super) fn parse(expires_in: Option<&str>, expires_at: Option<&str>) -> Result<Option<Expiry>> {
        Ok(match (expires_in, expires_at) {
            (Some(text), _) => Some(Expiry::In { after_ms: tables::parse_duration(text)? }),
            (None, Some(text)) => Some(Expiry::At { ms: tables::parse_time(text)?, text: text.to_owned() }),
            (None, None) => None,
        })
    }

    /// Milliseconds since 1970. A time that is past is refused: the table would be gone at once.
    pub(super) async fn ms(&self, bigquery: &BigQuery, table: &Address) -> Result<u64> {
        let now_ms = bigquery.served_ms(table).await?;
        match self {
            Expiry::In { after_ms } => Ok(now_ms.saturating_add(*after_ms)),
            Expiry::At { ms, .. } if *ms > now_ms => Ok(*ms),
            Expiry::At { text, .. } => {
                Err(Error::usage(format!("`{text}` is past: `{table}` would be deleted at once"))
                    .hint("`api2bq table delete` deletes a table, and says how it comes back"))
            }
        }
    }
}
