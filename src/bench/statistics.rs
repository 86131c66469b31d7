//! A few numbers that stand for many.

use serde::{Deserialize, Serialize};

/// Where the values of some runs lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub p5: f64,
    pub p95: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` of no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Spread {
            median: quantile(&sorted, 0.5)?,
            p5: quantile(&sorted, 0.05)?,
            p95: quantile(&sorted, 0.95)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}

/// Between the two values around it, as a straight line; as Excel, NumPy and DuckDB do it.
pub(super) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_values_around_them() {
        let spread = Spread::of([3.0, 1.0, 2.0, 5.0, 4.0]).expect("five values");
        assert_eq!((spread.median, spread.min, spread.max), (3.0, 1.0, 5.0));
        assert!((spread.p5 - 1.2).abs() < 1e-9 && (spread.p95 - 4.8).abs() < 1e-9, "{spread:?}");
        assert_eq!(Spread::of([1.0, 2.0]).map(|s| s.median), Some(1.5));
        assert_eq!(Spread::of([7.0]), Some(Spread { median: 7.0, p5: 7.0, p95: 7.0, min: 7.0, max: 7.0 }));
        assert_eq!(Spread::of([]), None);
    }
}
