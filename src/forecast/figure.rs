//! A number of a plan, and how well it is known.

use serde::Serialize;

/// How well a number is known; the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// Counted by whatever the plan rests on: the journal, or the source's own counts.
    Counted,
    /// Worked out from a part of it.
    Estimated,
    /// Nobody knows which days have records; so many if all have.
    AtMost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Figure {
    pub value: u64,
    pub known: Known,
}

impl Figure {
    pub fn counted(value: u64) -> Figure {
        Figure { value, known: Known::Counted }
    }

    pub fn estimated(value: f64) -> Figure {
        // A cast from a float ends at the ends of the integer.
        Figure { value: value.round() as u64, known: Known::Estimated }
    }

    pub(super) fn plus(self, other: Figure) -> Figure {
        let value = self.value.saturating_add(other.value);
        Figure { value, known: self.known.max(other.known) }
    }
}

/// The sum of all, if all are known.
pub(super) fn sum(figures: impl IntoIterator<Item = Option<Figure>>) -> Option<Figure> {
    figures.into_iter().try_fold(Figure::counted(0), |sum, figure| Some(sum.plus(figure?)))
}
