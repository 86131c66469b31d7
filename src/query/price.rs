//! What a query would cost, as far as a dry run knows.

use serde::Serialize;

use crate::bigquery::DryRun;
use crate::error::{Error, Result};

const MIB: u64 = 1 << 20;
/// BigQuery bills no less for a table that is read.
const TABLE_BYTES_MIN: u64 = 10 * MIB;
const TIB: f64 = (1_u64 << 40) as f64;

/// An estimate: it knows nothing of free quota, reservations and cached results.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    pub bytes_billed: u64,
    pub usd: f64,
    pub usd_per_tib: f64,
}

/// What Google asks on demand, as of May 2026.
pub const USD_PER_TIB: f64 = 6.25;

/// On-demand price of a dry run.
pub fn price(dry_run: &DryRun, usd_per_tib: f64) -> Price {
    price_of(dry_run.bytes_processed, dry_run.tables.len(), usd_per_tib)
}

/// On-demand price of reading so many bytes: whole MiB, and 10 MiB at least for each table.
pub fn price_of(bytes_processed: u64, tables: usize, usd_per_tib: f64) -> Price {
    let tables = u64::try_from(tables).unwrap_or(u64::MAX).max(1);
    let bytes_billed = match bytes_processed {
        0 => 0,
        bytes => bytes.div_ceil(MIB).saturating_mul(MIB).max(TABLE_BYTES_MIN.saturating_mul(tables)),
    };
    Price { bytes_billed, usd: bytes_billed as f64 / TIB * usd_per_tib, usd_per_tib }
}

/// `10GB`, `500 MiB` or plain bytes.
pub fn parse_bytes(text: &str) -> Result<u64> {
    const UNITS: [(&str, u64); 11] = [
        ("", 1),
        ("B", 1),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("PB", 1_000_000_000_000_000),
        ("KIB", 1 << 10),
        ("MIB", 1 << 20),
        ("GIB", 1 << 30),
        ("TIB", 1 << 40),
    ];
    let wrong =
        || Error::usage(format!("`{text}` is no number of bytes")).hint("write `10GB`, `500MiB` or `1TiB`");
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_uppercase();
    let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(*size).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dry_run(bytes_processed: u64, tables: usize) -> DryRun {
        DryRun {
            statement_type: "SELECT".into(),
            bytes_processed,
            accuracy: "PRECISE".into(),
            tables: vec!["p.d.t".into(); tables],
            location: None,
            schema: serde_json::Value::Null,
        }
    }

    #[test]
    fn whole_mebibytes_are_billed_and_ten_of_them_for_each_table() {
        let billed = |bytes, tables| price(&dry_run(bytes, tables), 6.25).bytes_billed;
        assert_eq!([billed(0, 1), billed(1, 0), billed(1, 3)], [0, 10 << 20, 30 << 20]);
        assert_eq!([billed((20 << 20) + 1, 1), billed(u64::MAX, 1)], [21 << 20, u64::MAX]);
        assert_eq!(price(&dry_run(1 << 40, 1), 6.25).usd, 6.25);
    }

    #[test]
    fn bytes_have_decimal_and_binary_units() {
        let bytes = |text: &str| parse_bytes(text).expect(text);
        assert_eq!(
            [bytes("10GB"), bytes("1 tib"), bytes("5"), bytes("3kb")],
            [10_000_000_000, 1 << 40, 5, 3000]
        );
        for wrong in ["", "GB", "-1", "1.5GB", "1XB", "99999999999999999999", "99999999TB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
