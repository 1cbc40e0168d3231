//! The method, step by step.
//!
//! 1. Who is served: with one request a query, a matching decides it beforehand ([`crate::defer`]).
//! 2. The relaxation: multipliers, keys, bound ([`crate::relax`], [`crate::dual`]).
//! 3. Whole queries: rounding, exchanges, branch and bound ([`crate::whole`]).
//! 4. What cannot be met: the extreme problem instead (most quality, or least cost), and why ([`crate::explain`]).
//! 5. The answer is measured again on the data as given ([`crate::answer`]).

use std::time::Instant;

use crate::answer::{self, Candidate};
use crate::control::Control;
use crate::defer;
use crate::dual::{Outcome, Work};
use crate::large;
use crate::measure::Measured;
use crate::options::Options;
use crate::prepare::{Goal, Prepared};
use crate::problem::{Objective, Problem, ProblemError};
use crate::relax::{self, Relaxed};
use crate::solution::{Solution, Stats};
use crate::whole::{self, Effort, Whole};

/// Branch-and-bound nodes in exact mode when the caller sets no limit.
const EXACT_NODES: usize = 200_000;

/// Assigns every query to a model.
///
/// # Errors
/// When a limit in `options` is malformed. A problem that cannot be met is an answer, not an error: see
/// [`Solution::status`].
pub fn solve(problem: &Problem<'_>, options: &Options<'_>) -> Result<Solution, ProblemError> {
    options.check()?;
    let start = Instant::now();
    let mut run = Run::new(problem, options, start);
    let served = if problem.input.load.is_none() { defer::match_requests(problem) } else { None };
    let overloaded = served.is_some();
    let served = served.or_else(|| problem.routable.clone());
    let mut candidate = run.best_effort(served.as_deref());
    let mut deferred = overloaded;
    if candidate.is_none() {
        // Loads of their own that do not fit, or were not made to: serve what a greedy packing serves.
        let packing = defer::pack_loads(problem);
        deferred = packing.served.len() < problem.routable.as_ref().map_or(problem.queries(), Vec::len);
        candidate = run.packed(&packing);
    }
    let candidate = candidate.unwrap_or_default();
    let mut stats = run.stats;
    stats.interrupted = run.control.expired();
    stats.elapsed = start.elapsed();
    Ok(answer::finish(problem, options, candidate, deferred, stats, &run.control))
}

/// One solve: what all its programs share.
pub(crate) struct Run<'a> {
    problem: &'a Problem<'a>,
    options: &'a Options<'a>,
    pub control: Control<'a>,
    work: Work,
    pub stats: Stats,
}

impl<'a> Run<'a> {
    pub fn new(problem: &'a Problem<'a>, options: &'a Options<'a>, start: Instant) -> Self {
        let control = Control::new(options, start);
        Self { problem, options, control, work: Work::default(), stats: Stats::default() }
    }

    /// The best assignment of the served queries: of the stated problem, else of what comes nearest to it. `None` when
    /// no assignment within the capacities was found.
    fn best_effort(&mut self, served: Option<&[u32]>) -> Option<Candidate> {
        let stated = Prepared::stated(self.problem, served);
        let warm = self.options.warm.and_then(|duals| answer::scaled_duals(&stated, duals));
        let mut first = self.attempt(&stated, warm.as_deref(), false);
        if first.candidate.is_some() {
            return first.candidate;
        }
        let mut extreme = self.extreme(served)?;
        if first.doubted && self.may_be_met(&extreme) {
            first = self.attempt(&stated, None, true);
            if first.candidate.is_some() {
                return first.candidate;
            }
        }
        extreme.relaxed = !(first.infeasible || first.doubted);
        extreme.proven_none = first.proven_none;
        if self.meets(&extreme) {
            return Some(self.bounded_as_stated(served, &stated, extreme, first.multipliers));
        }
        Some(self.second_goal(served, extreme))
    }

    /// An assignment of the extreme problem that meets the stated one, with a bound for the stated one. It comes to this
    /// when the promise is exactly the extreme and rounding decides, or when no rounding of the relaxation was accepted.
    fn bounded_as_stated(
        &mut self,
        served: Option<&[u32]>,
        stated: &Prepared<'_>,
        extreme: Candidate,
        multipliers: Option<Vec<f64>>,
    ) -> Candidate {
        if extreme.goal == stated.goal {
            return Candidate { met: true, ..extreme };
        }
        let found = self.second_goal(served, extreme);
        let reached = match stated.goal {
            Goal::Cost => found.measured.mean_quality(),
            Goal::Quality | Goal::Value(_) => found.measured.cost,
        };
        let near = Prepared::new(self.problem, served, stated.goal, Some(reached));
        let y = multipliers.or_else(|| self.relax(&near, None, true).map(|relaxed| relaxed.state.y));
        let y = y.unwrap_or_else(|| vec![0.0; stated.rows()]);
        // The weaker of the promise and what was reached, or a promise met within rounding would be bounded above it.
        let mut limit = stated.limit.clone();
        limit[0] = limit[0].max(near.limit[0]);
        let places: Vec<u32> = (0..stated.len() as u32).collect();
        let bound = answer::unscaled_bound(stated, relax::dual_value(stated, &places, &limit, &y));
        let duals = answer::unscaled_duals(stated, &y);
        Candidate { goal: stated.goal, met: true, proven: false, bound, dual_bound: bound, duals, ..found }
    }

    /// The most quality (or the least cost, when the requirement is a budget) within the capacities, and within the
    /// limits of the groups when that is possible.
    fn extreme(&mut self, served: Option<&[u32]>) -> Option<Candidate> {
        let goal = self.extreme_goal();
        let within_groups = Prepared::new(self.problem, served, goal, None);
        let grouped = within_groups.has_groups();
        if !(grouped && matches!(goal, Goal::Value(_))) {
            let found = self.attempt(&within_groups, None, true).candidate;
            if found.is_some() || !grouped {
                return found;
            }
        }
        self.attempt(&within_groups.without_groups(), None, true).candidate
    }

    /// False when the bound of the extreme problem proves that the requirement cannot be met.
    fn may_be_met(&self, extreme: &Candidate) -> bool {
        match self.problem.objective() {
            Objective::Quality { min } => extreme.bound >= min * (1.0 - 1e-9),
            Objective::Budget { max } => extreme.bound <= max * (1.0 + 1e-9),
            Objective::Price { .. } => true,
        }
    }

    fn extreme_goal(&self) -> Goal {
        match self.problem.objective() {
            Objective::Quality { .. } => Goal::Quality,
            Objective::Budget { .. } => Goal::Cost,
            Objective::Price { value } => Goal::Value(value),
        }
    }

    /// Among the assignments as extreme as this one, the one that is best in the other respect.
    fn second_goal(&mut self, served: Option<&[u32]>, extreme: Candidate) -> Candidate {
        let reached = extreme.measured.clone();
        let (goal, requirement) = match extreme.goal {
            Goal::Quality => (Goal::Cost, reached.mean_quality()),
            Goal::Cost => (Goal::Quality, reached.cost),
            Goal::Value(_) => return extreme,
        };
        let mut prepared = Prepared::new(self.problem, served, goal, Some(requirement));
        if !reached.groups_hold(self.problem) {
            prepared = prepared.without_groups();
        }
        let Some(better) = self.attempt(&prepared, None, true).candidate else {
            return extreme;
        };
        let measured = &better.measured;
        let as_extreme = match extreme.goal {
            Goal::Quality => measured.quality >= reached.quality - 1e-9 * reached.quality,
            _ => measured.cost <= reached.cost * (1.0 + 1e-9),
        };
        if as_extreme { Candidate { model: better.model, measured: better.measured, ..extreme } } else { extreme }
    }

    /// True when an assignment meets everything that was asked for.
    fn meets(&self, candidate: &Candidate) -> bool {
        let measured = &candidate.measured;
        let requirement = match self.problem.objective() {
            Objective::Quality { min } => measured.quality_short(min) == 0.0,
            Objective::Budget { max } => measured.over_budget(max) == 0.0,
            Objective::Price { .. } => true,
        };
        requirement && measured.groups_hold(self.problem) && measured.capacities_hold(self.problem)
    }

    /// The answer over the queries of a packing; the packing itself when nothing better is found.
    fn packed(&mut self, packing: &defer::Packing) -> Option<Candidate> {
        let served = Some(&packing.served[..]);
        if let Some(found) = self.best_effort(served) {
            return Some(found);
        }
        let mut model = vec![-1; self.problem.queries()];
        for (&query, &j) in packing.served.iter().zip(&packing.model) {
            model[query as usize] = i32::from(j);
        }
        let stated = Prepared::stated(self.problem, served);
        let relaxed = self.relax(&stated, None, true)?;
        let measured = Measured::new(self.problem, &model);
        let mut candidate = Candidate::new(&stated, &relaxed, model, measured);
        candidate.met = self.meets(&candidate);
        if !candidate.met {
            let extreme = Prepared::new(self.problem, served, self.extreme_goal(), None).without_groups();
            let relaxed = self.relax(&extreme, None, true)?;
            candidate = Candidate::new(&extreme, &relaxed, candidate.model, candidate.measured);
        }
        Some(candidate)
    }

    /// Relaxation and whole search of one prepared problem.
    fn attempt(&mut self, prepared: &Prepared<'_>, warm: Option<&[f64]>, insist: bool) -> Attempt {
        let mut attempt = Attempt::default();
        let Some(mut relaxed) = self.relax(prepared, warm, insist) else {
            attempt.doubted = true;
            return attempt;
        };
        if relaxed.outcome == Outcome::Infeasible {
            attempt.infeasible = true;
            return attempt;
        }
        let whole = self.whole(&relaxed);
        attempt.proven_none = whole.proven && whole.model.is_none();
        attempt.multipliers = Some(relaxed.state.y.clone());
        let Some(model) = whole.model else {
            return attempt;
        };
        let mut key = std::mem::take(&mut relaxed.key);
        for (&place, j) in relaxed.places.iter().zip(model) {
            key[place as usize] = j;
        }
        let measured = Measured::joined(prepared, &relaxed.fixed, &relaxed.places, &key);
        let mut candidate = Candidate::new(prepared, &relaxed, answer::spread(prepared, &key), measured);
        candidate.raise_bound(prepared, whole.bound, whole.proven);
        candidate.met = self.meets(&candidate);
        // A rounding that the measure does not accept is no answer to the stated problem.
        if candidate.met || prepared.is_extreme() {
            attempt.candidate = Some(candidate);
        }
        attempt
    }

    /// The relaxation; `None` when samples say that it has no solution and `insist` is false.
    fn relax(&mut self, prepared: &Prepared<'_>, warm: Option<&[f64]>, insist: bool) -> Option<Relaxed> {
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

    fn whole(&mut self, relaxed: &Relaxed) -> Whole {
        let exact = if self.options.tolerance == 0.0 { EXACT_NODES } else { 0 };
        let effort = Effort {
            tolerance: self.options.tolerance,
            nodes: self.options.node_limit.unwrap_or(exact).saturating_sub(self.stats.nodes),
            control: &self.control,
        };
        let whole = whole::search(relaxed, &effort, &mut self.work);
        self.stats.nodes += whole.nodes;
        self.stats.steps += whole.steps;
        self.stats.proven = whole.proven;
        whole
    }
}

/// What came of one prepared problem.
#[derive(Default)]
struct Attempt {
    /// The best multipliers, when the relaxation has a solution.
    multipliers: Option<Vec<f64>>,
    candidate: Option<Candidate>,
    infeasible: bool,
    /// Samples say that the relaxation has no solution.
    doubted: bool,
    /// Branch and bound proved that there is no whole assignment.
    proven_none: bool,
}
