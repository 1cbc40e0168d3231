//! The K best of what is offered.

use std::cmp::Ordering;

/// Keeps the K highest scores; of equal ones those with the lowest rows.
#[derive(Debug)]
pub(super) struct Best {
    k: usize,
    /// What a new row must exceed once K are there: rows are offered in ascending order, so an equal score of a
    /// later row is not among the best.
    bar: f32,
    kept: Vec<(f32, u32)>,
}

impl Best {
    pub(super) fn new(k: usize) -> Self {
        Self { k, bar: f32::NEG_INFINITY, kept: Vec::with_capacity(2 * k) }
    }

    /// Offers the scores of the rows from `first` on.
    pub(super) fn offer(&mut self, scores: &[f32], first: u32) {
        for (row, &score) in (first..).zip(scores) {
            // A score that is no number, which only a query that is none can have, is let in and sorted.
            if self.kept.len() < self.k || score > self.bar || score.is_nan() {
                self.kept.push((score, row));
                if self.kept.len() == 2 * self.k {
                    self.prune();
                }
            }
        }
    }

    /// Takes what another one kept of later rows.
    pub(super) fn merge(&mut self, other: Self) {
        self.kept.extend(other.kept);
        if self.kept.len() >= 2 * self.k {
            self.prune();
        }
    }

    /// Drops all but the K best.
    fn prune(&mut self) {
        let (_, last, _) = self.kept.select_nth_unstable_by(self.k - 1, order);
        self.bar = last.0;
        self.kept.truncate(self.k);
    }

    /// The K best, best first.
    pub(super) fn into_sorted(mut self) -> Vec<(f32, u32)> {
        self.kept.sort_unstable_by(order);
        self.kept.truncate(self.k);
        self.kept
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that sorting asks for")]
fn order(one: &(f32, u32), other: &(f32, u32)) -> Ordering {
    other.0.total_cmp(&one.0).then(one.1.cmp(&other.1))
}
