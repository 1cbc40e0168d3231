//! The method, stage by stage.
//!
//! | stage | what it does | what follows |
//! |---|---|---|
//! | `Admit` | with one request per query a matching decides who is served ([`crate::deferral`]) | `Stated` |
//! | `Stated` | relaxation, then whole queries, of the problem as stated | `Finish`, or `Extreme` when it is not met |
//! | `Extreme` | the most quality (or the least cost) within the capacities, then the other criterion at that extreme | `Finish`, or `Pack` when no whole assignment keeps the capacities |
//! | `Pack` | loads that do not fit, or were not made to: serve what a greedy packing serves | `Stated` over those |
//! | `Round` | out of time: a rounding at the prices known so far, which claims nothing | `Finish` |
//!
//! "Unreachable" and "overloaded" are said only when the relaxation or a complete search proves them. The answer is
//! measured again on the data as given ([`crate::answer`]).

mod attempt;

use std::time::Instant;

use attempt::Attempt;

use crate::answer::{self, Candidate, Measured, Solution, Stats, Verdict};
use crate::control::Control;
use crate::deferral::{self, Packing};
use crate::dual::{Outcome, Work};
use crate::integer;
use crate::options::Options;
use crate::problem::{Criterion, Equal, Goal, Problem, ProblemError};
use crate::program::{Prepared, dual_value};
use crate::relax::large;

/// Assigns every query to a model.
///
/// # Errors
/// When a limit in `options` is malformed. A problem that cannot be met is an answer, not an error: see
/// [`Solution::status`].
pub fn solve(problem: &Problem<'_>, options: &Options<'_>) -> Result<Solution, ProblemError> {
    options.check()?;
    let start = Instant::now();
    if let Some(equal) = Equal::find(problem) {
        let pools = equal.pools(problem);
        let merged = equal.problem(problem, &pools);
        let warm = options.warm.and_then(|duals| equal.merged(problem, duals));
        let mut ended = Run::new(&merged, &Options { warm: warm.as_ref(), ..options.clone() }, start).end();
        let duals = equal.spread(problem, &ended.candidate.duals);
        if let Some(candidate) = answer::deal(problem, &equal, ended.candidate) {
            ended.candidate = candidate;
            return Ok(finish(problem, options, ended, start));
        }
        // Loads that fit the columns of a kind together were not made to fit each of them.
        let apart = Run::new(problem, &Options { warm: Some(&duals), ..options.clone() }, start).end();
        return Ok(finish(problem, options, apart, start));
    }
    Ok(finish(problem, options, Run::new(problem, options, start).end(), start))
}

/// What a solve came to, before it is told.
struct Ended {
    candidate: Candidate,
    deferred: answer::Deferred,
    stats: Stats,
}

fn finish(problem: &Problem<'_>, options: &Options<'_>, ended: Ended, start: Instant) -> Solution {
    let Ended { candidate, deferred, mut stats } = ended;
    stats.elapsed = start.elapsed();
    let control = Control::new(options, start);
    let mut solution = answer::finish(problem, options, candidate, deferred, stats, &control);
    solution.stats.elapsed = start.elapsed();
    solution
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Admit,
    Stated,
    Extreme,
    Pack,
    Round,
    Finish,
}

/// One solve: what its stages share and hand on.
struct Run<'a> {
    problem: &'a Problem<'a>,
    options: &'a Options<'a>,
    control: Control<'a>,
    work: Work,
    stats: Stats,
    /// Who is served; `None`: everyone.
    served: Option<Vec<u32>>,
    /// Whether someone is left out, and whether it is proven that not everyone can be served.
    deferred: answer::Deferred,
    /// An assignment of the served queries within the capacities, when one is known beforehand.
    packing: Option<Packing>,
    /// What the stated problem came to.
    stated: Attempt,
    candidate: Option<Candidate>,
    cut: bool,
}

impl<'a> Run<'a> {
    fn new(problem: &'a Problem<'a>, options: &'a Options<'a>, start: Instant) -> Self {
        Self {
            problem,
            options,
            control: Control::new(options, start).with_reserve(problem, options, start),
            work: Work::default(),
            stats: Stats::default(),
            served: None,
            deferred: answer::Deferred::No,
            packing: None,
            stated: Attempt::default(),
            candidate: None,
            cut: false,
        }
    }

    /// All stages.
    fn end(mut self) -> Ended {
        let mut stage = Stage::Admit;
        while stage != Stage::Finish {
            stage = self.advance(stage);
        }
        let interrupted = self.cut || self.control.expired();
        let stats = Stats { interrupted, ..self.stats };
        Ended { candidate: self.candidate.unwrap_or_default(), deferred: self.deferred, stats }
    }

    fn advance(&mut self, stage: Stage) -> Stage {
        match stage {
            Stage::Admit => self.admit(),
            Stage::Stated => self.stated(),
            Stage::Extreme => self.extreme(),
            Stage::Pack => self.pack(),
            Stage::Round => self.round(),
            Stage::Finish => Stage::Finish,
        }
    }

    fn admit(&mut self) -> Stage {
        self.served.clone_from(&self.problem.routable);
        if self.problem.input.load.is_none()
            && let Some(matching) = deferral::match_requests(self.problem, &self.control)
        {
            let all = self.problem.routable.as_ref().map_or(self.problem.queries(), Vec::len);
            if matching.packing.served.len() < all {
                self.deferred = answer::Deferred::of(matching.complete);
                self.served = Some(matching.packing.served.clone());
            }
            self.packing = Some(matching.packing);
        }
        if self.served.as_ref().map_or(self.problem.queries(), Vec::len) == 0 {
            return Stage::Finish;
        }
        if self.control.is_short_of_a_pass() { Stage::Round } else { Stage::Stated }
    }

    fn stated(&mut self) -> Stage {
        let served = self.served.take();
        let stated = Prepared::stated(self.problem, served.as_deref());
        let warm = self.options.warm.and_then(|duals| answer::scaled_duals(&stated, duals));
        self.stated = self.attempt(&stated, warm.as_deref(), false);
        self.candidate = self.stated.candidate.take();
        self.served = served;
        match &self.candidate {
            Some(_) => Stage::Finish,
            None if self.control.is_short_of_a_pass() => Stage::Round,
            None => Stage::Extreme,
        }
    }

    /// The stated problem was not met: what comes nearest to it, and what that proves.
    fn extreme(&mut self) -> Stage {
        let served = self.served.take();
        let stage = self.nearest(served.as_deref());
        self.served = served;
        stage
    }

    fn nearest(&mut self, served: Option<&[u32]>) -> Stage {
        let Some(extreme) = self.most_extreme(served) else {
            return if self.control.is_short_of_a_pass() { Stage::Round } else { Stage::Pack };
        };
        let unreachable = self.stated.infeasible || !self.may_be_met(&extreme);
        if self.stated.doubted && !unreachable {
            let stated = Prepared::stated(self.problem, served);
            self.stated = self.attempt(&stated, None, true);
            if self.stated.candidate.is_some() {
                self.candidate = self.stated.candidate.take();
                return Stage::Finish;
            }
        }
        let verdict = if self.meets(&extreme) {
            Verdict::Met
        } else if unreachable || self.stated.infeasible {
            Verdict::Unreachable
        } else if self.stated.proven_none {
            Verdict::NoWhole
        } else {
            Verdict::Undecided
        };
        let found = if verdict == Verdict::Met {
            self.bounded_as_stated(served, extreme)
        } else {
            self.second_goal(served, extreme)
        };
        self.candidate = Some(Candidate { verdict, ..found });
        Stage::Finish
    }

    /// Loads of their own that do not fit, or were not made to: serve what a greedy packing serves.
    fn pack(&mut self) -> Stage {
        if let Some(packing) = self.packing.take() {
            self.candidate = self.packed(&packing);
            self.packing = Some(packing);
            return if self.candidate.is_some() { Stage::Finish } else { Stage::Round };
        }
        let packing = deferral::pack_loads(self.problem, &self.control);
        let all = self.problem.routable.as_ref().map_or(self.problem.queries(), Vec::len);
        if packing.served.len() < all {
            self.deferred = answer::Deferred::of(self.capacities_are_short());
        }
        if packing.served.is_empty() {
            return Stage::Finish;
        }
        self.served = Some(packing.served.clone());
        self.packing = Some(packing);
        if self.control.is_short_of_a_pass() { Stage::Round } else { Stage::Stated }
    }

    /// True when it is proven that the capacities cannot hold everyone: not even split, or by a complete search.
    fn capacities_are_short(&mut self) -> bool {
        let criterion = self.extreme_criterion();
        let problem = self.problem;
        let everyone = Prepared::new(problem, problem.routable.as_deref(), criterion, None).capacities_only();
        let Some(relaxed) = self.relax(&everyone, None, true) else { return false };
        if relaxed.outcome != Outcome::Optimal {
            return relaxed.outcome == Outcome::Infeasible;
        }
        let whole = self.whole(&everyone, &relaxed);
        whole.proven && whole.model.is_none()
    }

    /// Out of time: every query to its model of least value with room, at the best multipliers known.
    fn round(&mut self) -> Stage {
        self.cut = true;
        let served = self.served.take();
        let stated = Prepared::stated(self.problem, served.as_deref());
        let known = self.stated.multipliers.take().unwrap_or_else(|| vec![0.0; stated.rows()]);
        let mut rough = self.stated.seen < large::guessed(&stated);
        let mut y = known;
        let mut cut = loop {
            if rough {
                y = large::guess(&stated, &y, &self.control, &mut self.work);
            }
            let cut = integer::round_at_prices(&stated, &y, self.options.threads);
            if rough || cut.left == 0 && self.keeps_all(&cut.measured) {
                break cut;
            }
            // A limit missed at good multipliers is kept more often at those of limits drawn a little closer.
            rough = true;
        };
        if cut.left > 0
            && let Some(packing) = self.packing.as_ref().filter(|packing| packing.served.len() == stated.len())
        {
            cut.model = packing.spread(self.problem.queries());
            cut.measured = Measured::new(self.problem, &cut.model);
            cut.left = 0;
        }
        let integer::Cut { model, measured, left, bound } = cut;
        if left > 0 && self.deferred == answer::Deferred::No {
            self.deferred = answer::Deferred::Undecided;
        }
        let mut candidate = Candidate::at(&stated, &y, bound, model, measured);
        if left > 0 || !self.meets(&candidate) {
            // An assignment that misses a limit may be better than any that keeps it: only what needs no limit is said.
            let nothing = vec![0.0; y.len()];
            candidate = Candidate::at(&stated, &nothing, f64::NEG_INFINITY, candidate.model, candidate.measured);
            candidate.verdict = Verdict::Undecided;
        }
        self.candidate = Some(candidate);
        self.served = served;
        Stage::Finish
    }

    /// An assignment of the extreme problem that meets the stated one, with a bound for the stated one. It comes to this
    /// when the promise is exactly the extreme and rounding decides, or when no rounding of the relaxation was accepted.
    fn bounded_as_stated(&mut self, served: Option<&[u32]>, extreme: Candidate) -> Candidate {
        let stated = Prepared::stated(self.problem, served);
        if extreme.criterion == stated.criterion {
            return extreme;
        }
        let found = self.second_goal(served, extreme);
        let reached = match stated.criterion {
            Criterion::Cost => found.measured.mean_quality(),
            Criterion::Quality | Criterion::Value(_) => found.measured.cost,
        };
        let near = Prepared::new(self.problem, served, stated.criterion, Some(reached));
        let known = self.stated.multipliers.take();
        let y = known.or_else(|| self.relax(&near, None, true).map(|relaxed| relaxed.state.y));
        let y = y.unwrap_or_else(|| vec![0.0; stated.rows()]);
        // The weaker of the promise and what was reached, or a promise met within rounding would be bounded above it.
        let mut limit = stated.limit.clone();
        limit[0] = limit[0].max(near.limit[0]);
        let places: Vec<u32> = (0..stated.len() as u32).collect();
        let bound = dual_value(&stated, &places, &limit, &y);
        Candidate::at(&stated, &y, bound, found.model, found.measured)
    }

    /// The most quality (or the least cost, when the requirement is a budget) within the capacities, and within the
    /// limits of the groups when that is possible.
    fn most_extreme(&mut self, served: Option<&[u32]>) -> Option<Candidate> {
        let criterion = self.extreme_criterion();
        let within_groups = Prepared::new(self.problem, served, criterion, None);
        let grouped = within_groups.has_more();
        if !(grouped && matches!(criterion, Criterion::Value(_))) {
            let found = self.attempt(&within_groups, None, true).candidate;
            if found.is_some() || !grouped {
                return found;
            }
        }
        self.attempt(&within_groups.capacities_only(), None, true).candidate
    }

    /// False when the bound of the extreme problem proves that the requirement cannot be met.
    fn may_be_met(&self, extreme: &Candidate) -> bool {
        match self.problem.goal() {
            Goal::Quality { min } => extreme.dual_bound >= min * (1.0 - 1e-9),
            Goal::Budget { max } => extreme.dual_bound <= max * (1.0 + 1e-9),
            Goal::Price { .. } => true,
        }
    }

    fn extreme_criterion(&self) -> Criterion {
        match self.problem.goal() {
            Goal::Quality { .. } => Criterion::Quality,
            Goal::Budget { .. } => Criterion::Cost,
            Goal::Price { value } => Criterion::Value(value),
        }
    }

    /// Among the assignments as extreme as this one, the one that is best in the other respect.
    fn second_goal(&mut self, served: Option<&[u32]>, extreme: Candidate) -> Candidate {
        let reached = extreme.measured.clone();
        let (criterion, requirement) = match extreme.criterion {
            Criterion::Quality => (Criterion::Cost, reached.mean_quality()),
            Criterion::Cost => (Criterion::Quality, reached.cost),
            Criterion::Value(_) => return extreme,
        };
        if self.control.is_short_of_a_pass() {
            return extreme;
        }
        let mut prepared = Prepared::new(self.problem, served, criterion, Some(requirement));
        if !reached.others_hold(self.problem) {
            prepared = prepared.capacities_only();
        }
        let Some(better) = self.attempt(&prepared, None, true).candidate else {
            return extreme;
        };
        let measured = &better.measured;
        let as_extreme = match extreme.criterion {
            Criterion::Quality => measured.quality >= reached.quality - 1e-9 * reached.quality,
            _ => measured.cost <= reached.cost * (1.0 + 1e-9),
        };
        if as_extreme { Candidate { model: better.model, measured: better.measured, ..extreme } } else { extreme }
    }

    /// True when an assignment meets everything that was asked for.
    fn meets(&self, candidate: &Candidate) -> bool {
        self.keeps_all(&candidate.measured)
    }

    fn keeps_all(&self, measured: &Measured) -> bool {
        let requirement = match self.problem.goal() {
            Goal::Quality { min } => measured.quality_short(min) == 0.0,
            Goal::Budget { max } => measured.over_budget(max) == 0.0,
            Goal::Price { .. } => true,
        };
        requirement && measured.others_hold(self.problem) && measured.capacities_hold(self.problem)
    }

    /// The packing itself, when nothing better was found over the queries that it serves.
    fn packed(&mut self, packing: &Packing) -> Option<Candidate> {
        let served = Some(&packing.served[..]);
        let model = packing.spread(self.problem.queries());
        let measured = Measured::new(self.problem, &model);
        let stated = Prepared::stated(self.problem, served);
        let relaxed = self.relax(&stated, None, true).filter(|relaxed| relaxed.outcome != Outcome::Limit)?;
        let mut candidate = Candidate::new(&stated, &relaxed, model, measured);
        if self.meets(&candidate) {
            return Some(candidate);
        }
        let unreachable = relaxed.outcome == Outcome::Infeasible;
        let extreme = Prepared::new(self.problem, served, self.extreme_criterion(), None).capacities_only();
        let relaxed = self.relax(&extreme, None, true).filter(|relaxed| relaxed.outcome != Outcome::Limit)?;
        candidate = Candidate::new(&extreme, &relaxed, candidate.model, candidate.measured);
        candidate.verdict = if unreachable { Verdict::Unreachable } else { Verdict::Undecided };
        Some(candidate)
    }
}
