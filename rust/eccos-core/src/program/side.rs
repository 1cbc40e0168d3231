//! Side rows: limits on sums or means of figures of the caller.

use super::prepare::{By, NO_ROW, Prepared, RELAX, SAMPLE, Source, Term, power};
use crate::problem::{Criterion, Label};

impl Prepared<'_> {
    /// True when there are limits beside the requirement and the capacities.
    pub fn has_more(&self) -> bool {
        self.terms.iter().any(|term| !term.source.is_capacity() && !matches!(term.source, Source::Priced(_)))
    }

    /// The same problem with the requirement and the capacities alone (the other rows come last).
    pub fn capacities_only(mut self) -> Self {
        let first = self.terms.iter().filter(|term| !term.source.is_capacity()).flat_map(|term| &term.rows).min();
        if let Some(&first) = first {
            self.limit.truncate(first as usize);
            self.labels.truncate(first as usize);
            self.ceiling.truncate(first as usize);
        }
        self.terms.retain(|term| term.source.is_capacity());
        self
    }

    /// A family of its own for every side row that some served query counts for.
    pub(super) fn add_side_rows(&mut self) {
        let problem = self.problem;
        for (at, row) in problem.input.rows.iter().enumerate() {
            let members = (0..self.len()).filter(|&place| row.counts(self.query(place))).count();
            if members == 0 {
                continue;
            }
            let scale = power(self.mean_size(at));
            let limit = row.total(members as f64) * scale;
            let k = self.add_row(Label::Row(at), scale, limit + RELAX * limit.abs());
            let rows = vec![k; problem.models()];
            self.terms.push(Term { by: By::Model, source: Source::Side(at), rows, scale, shared: true });
        }
    }

    /// A row for every priced load, whose multiplier is at most the price: `A x <= b + s` at `price` for each unit of `s`.
    /// Where quality is what counts, nothing is charged.
    pub(super) fn add_priced(&mut self) {
        if self.criterion == Criterion::Quality {
            return;
        }
        let problem = self.problem;
        for (at, priced) in problem.input.priced.iter().enumerate().filter(|(_, priced)| priced.price > 0.0) {
            let weighted = problem.input.load.is_some();
            let scale = if weighted { power(self.mean_load(priced.resource)) } else { 1.0 };
            let k = self.add_row(Label::Priced(at), scale, priced.limit() * scale);
            self.ceiling[usize::from(k)] = priced.price * self.scale_p / scale;
            let rows = priced.models.iter().map(|&inside| if inside { k } else { NO_ROW }).collect();
            self.terms.push(Term { by: By::Model, source: Source::Priced(at), rows, scale, shared: true });
        }
    }

    /// True when some rows may be overstepped for a price.
    pub fn is_priced(&self) -> bool {
        self.ceiling.iter().any(|ceiling| ceiling.is_finite())
    }

    /// The mean size of the figures of a side row that are not 0, over a sample.
    fn mean_size(&self, row: usize) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for place in (0..self.len()).step_by((self.len() / SAMPLE).max(1)) {
            let query = self.query(place);
            for model in (0..self.problem.models()).filter(|&model| self.problem.may(query, model)) {
                let size = self.problem.side(row, query, model).abs();
                sum += size;
                count += f64::from(u8::from(size > 0.0));
            }
        }
        if count > 0.0 { sum / count } else { 1.0 }
    }
}
