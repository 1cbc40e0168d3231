//! From the relaxation to an assignment of whole queries, and how far it can be from the best.
//!
//! Only queries whose two best values lie close together can change in an improving assignment. The search therefore
//! runs on a core of those nearest to a tie, the others held at their keys: exchanges where every query is one request,
//! annealing where loads have to be fitted, branch and bound when they find nothing feasible or when the gap is to be
//! closed.

mod anneal;
mod branch;
mod cut;
mod enumerate;
mod exchange;
mod ledger;
mod priced;
mod random;
mod rounding;

use crate::control::Control;
use crate::dual::{Limits, State, Work};
use crate::program::{Lp, PERTURBED_ZERO, hash};
use crate::relax::Relaxed;

use anneal::{Ask, anneal};
use branch::{Branch, forbid};
use exchange::Exchange;
use rounding::round_vertex;

pub(crate) use cut::{Cut, round_at_prices};
pub(crate) use priced::search_priced;

/// Combinations an exchange search may look at.
const BUDGET: usize = 20_000;
/// Differences of the objective below this are rounding and perturbation, relative.
const ROUNDING: f64 = 2.5e-10;
/// Nodes spent on finding any feasible point.
const RESCUE_NODES: usize = 1_000;
/// Programs of at most so many queries are searched again, so often, with so many nodes each.
const RESTARTED: usize = 128;
const RESTARTS: u64 = 20;
const RESTART_NODES: usize = 200;
/// Proposals of an annealing search: so many, and for each query.
const PROPOSALS: (usize, usize) = (4_000, 100);
/// A relative gap above this is worth so many times the proposals; for at most so many queries, one above that.
const WIDE: (f64, usize) = (0.01, 3);
const SMALL: (usize, f64) = (256, 0.05);
/// Programs of at most so many queries are enumerated when nothing else finds or proves an assignment, with so many partial
/// assignments in default and in exact mode.
const ENUMERATED: (usize, usize, usize) = (64, 40_000, 2_000_000);
/// Queries of an annealed core.
const ANNEALED: usize = 4096;
/// Programs with at most so many (query, model) pairs are closed by branching where the gap is above the tolerance, with so
/// many nodes.
const CLOSED: (usize, usize) = (1024, 60);

/// What is asked of the search.
pub(crate) struct Effort<'a> {
    /// Relative gap to reach.
    pub tolerance: f64,
    /// Branch-and-bound nodes that may be spent on the gap.
    pub nodes: usize,
    /// True when that number is the caller's.
    pub limited: bool,
    /// An assignment of all queries within the capacities, when one is known.
    pub start: Option<&'a [u8]>,
    pub control: &'a Control<'a>,
}

/// The best assignment found, in the terms of the program.
pub(crate) struct Whole {
    /// The model of every query of the program; `None` when nothing feasible was found.
    pub model: Option<Vec<u8>>,
    /// What branching proved of the objective of the whole problem; minus infinity when nothing.
    pub bound: f64,
    pub nodes: usize,
    pub steps: usize,
    /// Branch and bound was complete: the assignment is best, or there is none.
    pub proven: bool,
    /// What of the bound is allowance for rounding, and for what ties cost among pairs that cost nothing.
    pub rounding: f64,
}

/// The models of a core's queries, and their objective.
type Found = (Vec<u8>, f64);

/// The search and what it knows.
struct Search<'a, 'b> {
    lp: &'a Lp,
    state: &'a State,
    effort: &'a Effort<'a>,
    work: &'b mut Work,
    /// Distance between the two best values of every query; negative when tied in the basis.
    margin: Vec<(f64, u32)>,
    /// `g(y)` of the program and the distance from it that is good enough.
    bound: f64,
    target: f64,
    best: f64,
    model: Option<Vec<u8>>,
    left: usize,
    nodes: usize,
    steps: usize,
    proven: bool,
    proven_bound: f64,
}

/// Searches for whole assignments of the relaxed program.
pub(crate) fn search(relaxed: &Relaxed, effort: &Effort<'_>, work: &mut Work) -> Whole {
    let (lp, state) = (&relaxed.lp, &relaxed.state);
    let bound = state.objective;
    let scale = (bound + relaxed.held).abs().max(1e-9);
    let mut search = Search {
        lp,
        state,
        effort,
        work,
        margin: margins(lp, state),
        bound,
        target: effort.tolerance * scale,
        best: f64::INFINITY,
        model: None,
        left: 0,
        nodes: 0,
        steps: 0,
        proven: false,
        proven_bound: f64::NEG_INFINITY,
    };
    if lp.families.iter().all(|family| family.coef.is_empty()) {
        search.exchange();
    } else {
        search.anneal(relaxed);
    }
    let asked = if effort.nodes > 0 { ENUMERATED.2 } else { ENUMERATED.1 };
    if search.model.is_none() && lp.n <= ENUMERATED.0 {
        search.enumerate(scale, asked);
    }
    if search.model.is_none() && !search.proven {
        search.rescue(scale);
    }
    let small = lp.n * lp.m <= CLOSED.0 && !effort.limited && !lp.is_unit();
    search.left = if small { effort.nodes.max(CLOSED.1) } else { effort.nodes };
    if search.model.is_some() && search.left > 0 && !search.proven {
        search.close(scale);
    }
    if search.left_to_prove() && lp.n <= ENUMERATED.0 {
        search.enumerate(scale, asked);
    }
    search.proven |= search.best - bound <= ROUNDING * scale;
    let bound = if search.proven && search.best.is_finite() { search.best } else { search.proven_bound };
    Whole {
        model: search.model,
        bound: bound - ROUNDING * scale + relaxed.held,
        rounding: ROUNDING * scale + PERTURBED_ZERO * lp.n as f64,
        nodes: search.nodes,
        steps: search.steps,
        proven: search.proven,
    }
}

impl Search<'_, '_> {
    /// Rounds the vertex and exchanges on cores of growing size until something feasible is found.
    fn exchange(&mut self) {
        let rounded = round_vertex(self.lp, self.state);
        let mut size = (8 * self.lp.rows()).max(96);
        for _ in 0..3 {
            let core = self.core(size);
            let (sub, held, at) = self.restrict(&core);
            let start: Vec<u8> = core.iter().map(|&i| rounded[i as usize]).collect();
            let exchange = Exchange::new(&sub, &at.y, at.objective, start, BUDGET);
            if let Some((model, objective)) = exchange.run(self.target) {
                self.offer(&core, &model, objective + held);
                return;
            }
            if core.len() == self.lp.n || self.effort.control.expired() {
                return;
            }
            size *= 4;
        }
    }

    /// Anneals on a core from the rounded vertex; when that finds nothing, from the assignment that is known to fit.
    fn anneal(&mut self, relaxed: &Relaxed) {
        let rounded = round_vertex(self.lp, self.state);
        let core = self.core(ANNEALED.max(64 * self.lp.rows()));
        let (sub, held, at) = self.restrict(&core);
        let proposals = PROPOSALS.0 + PROPOSALS.1 * core.len();
        let start: Vec<u8> = core.iter().map(|&i| rounded[i as usize]).collect();
        let target = self.target + self.bound - held - at.objective;
        let run = |start: &[u8], proposals: usize, anywhere: Option<f64>| {
            anneal(&sub, &at.y, start, Ask { proposals, target, anywhere }, self.effort.control)
        };
        let mut found = run(&start, proposals, None);
        // Nothing fits yet: anywhere, from other starts, and with limits that weigh ever more than the objective.
        let at_core =
            |fits: &[u8]| -> Vec<u8> { core.iter().map(|&i| fits[relaxed.places[i as usize] as usize]).collect() };
        let fits = self.effort.start.map(at_core);
        for (start, weight) in [fits, Some(start.clone()), Some(start)].into_iter().flatten().zip([1.0, 10.0, 100.0])
        {
            if found.is_none() && !self.effort.control.expired() {
                found = run(&start, WIDE.1 * proposals, Some(weight));
            }
        }
        let size = (self.bound + relaxed.held).abs();
        // Among few queries one that does not fit well weighs more; and they are branched on afterwards.
        let wide = if self.lp.n <= SMALL.0 && self.effort.nodes == 0 { SMALL.1 } else { WIDE.0 };
        if let Some((model, objective)) = found.clone()
            && objective + held - self.bound > wide.max(self.effort.tolerance) * size
        {
            let again = run(&model, WIDE.1 * proposals, None);
            found = again.filter(|again| again.1 < objective).or(found);
        }
        if let Some((model, objective)) = found {
            self.offer(&core, &model, objective + held);
        }
    }

    fn left_to_prove(&self) -> bool {
        !self.proven && self.best - self.bound > self.target && self.effort.nodes > 0
    }

    /// Goes through the assignments pair by pair; when that comes to its end, the best is proven.
    fn enumerate(&mut self, scale: f64, nodes: usize) {
        let cutoff = self.best - ROUNDING * scale;
        let found = enumerate::search(self.lp, &self.state.y, self.bound, cutoff, nodes, self.effort.control);
        if let Some((model, objective)) = found.found {
            let all: Vec<u32> = (0..self.lp.n as u32).collect();
            self.offer(&all, &model, objective);
        }
        self.nodes += found.nodes;
        self.proven |= found.complete;
    }

    /// Branches for any feasible point, on cores of growing size.
    fn rescue(&mut self, scale: f64) {
        let mut size = (8 * self.lp.rows()).max(64);
        loop {
            let core = self.core(size);
            let (sub, held, at) = self.restrict(&core);
            let nodes = self.effort.nodes.max(RESCUE_NODES);
            let (sub, found, complete) = self.any(sub, at, nodes, ROUNDING * scale);
            if let Some((model, objective)) = found {
                self.improve(&core, &sub, held, (model, objective));
                return;
            }
            if core.len() == self.lp.n {
                self.proven = complete;
                if !complete && self.lp.n <= RESTARTED {
                    self.restart();
                }
                return;
            }
            if self.effort.control.expired() {
                return;
            }
            size *= 4;
        }
    }

    /// Looks for any feasible point of a small program along other ways: depth first, an early wrong turn costs all the
    /// nodes there are, and another objective makes other turns.
    fn restart(&mut self) {
        for salt in 1..=RESTARTS {
            if self.effort.control.expired() {
                return;
            }
            let mut lp = self.lp.clone();
            for i in 0..lp.n {
                for j in (0..lp.m).filter(|&j| self.lp.may(i, j)) {
                    lp.p[j * lp.stride + i] = hash(i as u64, salt << 32 | j as u64);
                }
            }
            let at = State::new(&lp, &vec![0.0; lp.rows()]);
            let (_, found, complete) = self.any(lp, at, RESTART_NODES, ROUNDING);
            if let Some((model, _)) = found {
                let all: Vec<u32> = (0..self.lp.n as u32).collect();
                let objective = self.lp.objective(&model);
                self.improve(&all, self.lp, 0.0, (model, objective));
                return;
            }
            if complete {
                self.proven = true;
                return;
            }
        }
    }

    /// Branches until there is a feasible point: the program again, the point, and whether everything was searched.
    fn any(&mut self, lp: Lp, at: State, nodes: usize, tolerance: f64) -> (Lp, Option<Found>, bool) {
        let limits = Limits::new(self.effort.control);
        let mut branch = Branch::new(lp, f64::INFINITY, nodes, tolerance, limits, self.work);
        branch.target = f64::INFINITY;
        branch.search(at);
        self.nodes += branch.nodes;
        self.steps += branch.steps;
        let found = branch.model.take().map(|model| (model, branch.best));
        (branch.lp, found, branch.open.is_infinite())
    }

    /// Offers a point of a core, and what exchanges make of it.
    fn improve(&mut self, core: &[u32], lp: &Lp, held: f64, (model, objective): Found) {
        self.offer(core, &model, objective + held);
        let exchange = Exchange::new(lp, &self.state.y, self.bound - held, model, BUDGET);
        if let Some((model, objective)) = exchange.run(self.target) {
            self.offer(core, &model, objective + held);
        }
    }

    /// Branches on everything that an improving assignment may change, until the gap is closed or a limit is reached.
    fn close(&mut self, scale: f64) {
        let mut left = self.left;
        for round in 0..6 {
            let gap = self.best - self.bound;
            if left == 0 || gap <= self.target || self.effort.control.expired() {
                break;
            }
            let mut core: Vec<u32> = self.margin.iter().filter(|(m, _)| *m < gap).map(|&(_, i)| i).collect();
            core.sort_unstable();
            let (mut sub, held, mut at) = self.restrict(&core);
            forbid_hopeless(&mut sub, &mut at, gap);
            let nodes = if round == 0 { left.min(500) } else { left };
            let limits = Limits::new(self.effort.control);
            let mut branch = Branch::new(sub, self.best - held, nodes, ROUNDING * scale, limits, self.work);
            branch.target = self.bound + self.target - held;
            branch.search(at);
            self.nodes += branch.nodes;
            self.steps += branch.steps;
            left = left.saturating_sub(branch.nodes);
            let (open, before) = (branch.open + held, self.best);
            if let Some(model) = branch.model.take() {
                let objective = branch.best + held;
                self.offer(&core, &model, objective);
            }
            self.proven_bound = self.proven_bound.max(open.min(self.best));
            if open.is_infinite() {
                self.proven = true;
                break;
            }
            if round > 0 && self.best - self.bound > 0.7 * (before - self.bound) {
                break;
            }
        }
    }

    /// Takes an assignment of the core when it is the best so far.
    fn offer(&mut self, core: &[u32], model: &[u8], objective: f64) {
        if objective < self.best {
            self.best = objective;
            let all = self.model.insert(self.state.key.clone());
            for (&i, &j) in core.iter().zip(model) {
                all[i as usize] = j;
            }
        }
    }

    /// The `size` queries nearest to a tie, ascending.
    fn core(&mut self, size: usize) -> Vec<u32> {
        if size >= self.margin.len() {
            return (0..self.lp.n as u32).collect();
        }
        self.margin.select_nth_unstable_by(size - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut core: Vec<u32> = self.margin[..size].iter().map(|&(_, i)| i).collect();
        core.sort_unstable();
        core
    }

    /// The program on the core, the objective of the others, and the state on the core.
    fn restrict(&self, core: &[u32]) -> (Lp, f64, State) {
        let (sub, held) = self.lp.restrict(core, &self.state.key);
        let mut place = vec![u32::MAX; self.lp.n];
        for (t, &i) in core.iter().enumerate() {
            place[i as usize] = t as u32;
        }
        let state = self.state.restrict(core, &place, &sub);
        (sub, held, state)
    }
}

/// Distance between the two best values of every query, column by column.
fn margins(lp: &Lp, state: &State) -> Vec<(f64, u32)> {
    let mut second = vec![f64::INFINITY; lp.n];
    for j in 0..lp.m {
        for (i, (second, &key)) in second.iter_mut().zip(&state.key).enumerate() {
            let value = lp.value(&state.y, i, j);
            *second = if usize::from(key) != j && value < *second { value } else { *second };
        }
    }
    let margin = |i: usize| {
        if state.ties[i] > 0 { -1.0 } else { second[i] - lp.value(&state.y, i, usize::from(state.key[i])) }
    };
    (0..lp.n).map(|i| (margin(i), i as u32)).collect()
}

/// A pair whose reduced cost is above the gap cannot be in a better assignment.
fn forbid_hopeless(lp: &mut Lp, state: &mut State, gap: f64) {
    for i in 0..lp.n {
        let key = state.key[i] as usize;
        let least = lp.value(&state.y, i, key);
        for j in (0..lp.m).filter(|&j| j != key) {
            if lp.value(&state.y, i, j) - least > gap * (1.0 + 1e-6) {
                forbid(lp, state, i, j);
            }
        }
    }
}
