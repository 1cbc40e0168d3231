//! One prepared problem: its relaxation, whole queries, and what is known afterwards.

use super::Run;
use crate::answer::{self, Candidate, Measured, Verdict};
use crate::dual::Outcome;
use crate::integer::{self, Effort, Whole};
use crate::program::Prepared;
use crate::relax::{self, Relaxed, large};

/// Branch-and-bound nodes in exact mode when the caller sets no limit.
const EXACT_NODES: usize = 200_000;

impl Run<'_> {
    /// Relaxation and whole search of one prepared problem.
    pub(super) fn attempt(&mut self, prepared: &Prepared<'_>, warm: Option<&[f64]>, insist: bool) -> Attempt {
        let mut attempt = Attempt::default();
        let Some(mut relaxed) = self.relax(prepared, warm, insist) else {
            attempt.doubted = true;
            return attempt;
        };
        if relaxed.outcome == Outcome::Infeasible {
            attempt.infeasible = true;
            return attempt;
        }
        attempt.multipliers = Some(relaxed.state.y.clone());
        attempt.seen = relaxed.seen;
        if relaxed.outcome == Outcome::Limit && self.control.is_short_of_a_pass() {
            return attempt;
        }
        let whole = self.whole(prepared, &relaxed);
        attempt.proven_none = whole.proven && whole.model.is_none();
        let Some(model) = whole.model else {
            return attempt;
        };
        let mut key = std::mem::take(&mut relaxed.key);
        for (&place, j) in relaxed.places.iter().zip(model) {
            key[place as usize] = j;
        }
        let measured = Measured::joined(prepared, &relaxed.fixed, &relaxed.places, &key);
        let mut candidate = Candidate::new(prepared, &relaxed, answer::spread(prepared, &key), measured);
        if prepared.is_priced() {
            // The search was over limits that may be overstepped: the multipliers alone prove something.
            candidate.raise_bound(prepared, f64::NEG_INFINITY, 0.0, true);
        } else {
            candidate.raise_bound(prepared, whole.bound, whole.rounding, whole.proven);
        }
        let met = self.meets(&candidate);
        // A rounding that the measure does not accept is no answer to the stated problem.
        if met || prepared.is_extreme() && candidate.measured.capacities_hold(self.problem) {
            candidate.verdict = if met { Verdict::Met } else { Verdict::Undecided };
            attempt.candidate = Some(candidate);
        }
        attempt
    }

    /// The relaxation; `None` when samples say that it has no solution and `insist` is false.
    pub(super) fn relax(&mut self, prepared: &Prepared<'_>, warm: Option<&[f64]>, insist: bool) -> Option<Relaxed> {
        let relaxed = if large::is_small(prepared) {
            let cold = vec![0.0; prepared.rows()];
            relax::direct(prepared, warm.unwrap_or(&cold), &self.control, &mut self.work)
        } else {
            large::solve(prepared, warm, self.options.threads, &self.control, &mut self.work, insist)?
        };
        self.stats.steps += relaxed.steps;
        self.stats.passes += relaxed.passes;
        self.stats.open = relaxed.places.len();
        Some(relaxed)
    }

    pub(super) fn whole(&mut self, prepared: &Prepared<'_>, relaxed: &Relaxed) -> Whole {
        let exact = if self.options.tolerance == 0.0 { EXACT_NODES } else { 0 };
        let packing = self.packing.as_ref().filter(|packing| packing.model.len() == prepared.len());
        let effort = Effort {
            tolerance: self.options.tolerance,
            nodes: self.options.node_limit.unwrap_or(exact).saturating_sub(self.stats.nodes),
            limited: self.options.node_limit.is_some(),
            start: packing.map(|packing| &packing.model[..]),
            control: &self.control,
        };
        let whole = if prepared.is_priced() {
            integer::search_priced(prepared, relaxed, &effort, &mut self.work)
        } else {
            integer::search(relaxed, &effort, &mut self.work)
        };
        self.stats.nodes += whole.nodes;
        self.stats.steps += whole.steps;
        whole
    }
}

/// What came of one prepared problem.
#[derive(Default)]
pub(super) struct Attempt {
    /// The best multipliers known.
    pub multipliers: Option<Vec<f64>>,
    /// Queries that they rest on.
    pub seen: usize,
    pub candidate: Option<Candidate>,
    /// The relaxation has no solution.
    pub infeasible: bool,
    /// Samples say that the relaxation has no solution.
    pub doubted: bool,
    /// A complete search proved that there is no whole assignment.
    pub proven_none: bool,
}
