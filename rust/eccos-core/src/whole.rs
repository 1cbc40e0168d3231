//! From the relaxation to an assignment of whole queries, and how far it can be from the best.
//!
//! Only queries whose two best values lie close together can change in an improving assignment. The search therefore
//! runs on a core of those nearest to a tie, the others held at their keys: exchanges first, branch and bound when
//! they find nothing feasible or when the gap is to be closed.

use crate::branch::{Branch, forbid};
use crate::control::Control;
use crate::dual::{Limits, Work};
use crate::exchange::Exchange;
use crate::lp::{Lp, hash};
use crate::relax::Relaxed;
use crate::repair::round_vertex;
use crate::state::State;

/// Combinations an exchange search may look at.
const BUDGET: usize = 20_000;
/// Differences of the objective below this are rounding and perturbation, relative.
const ROUNDING: f64 = 1e-9;
/// Nodes spent on finding any feasible point.
const RESCUE_NODES: usize = 2_000;
/// Programs of at most so many queries are searched again, so often, with so many nodes each.
const RESTARTED: usize = 128;
const RESTARTS: u64 = 40;
const RESTART_NODES: usize = 200;

/// What is asked of the search.
pub(crate) struct Effort<'a> {
    /// Relative gap to reach.
    pub tolerance: f64,
    /// Branch-and-bound nodes that may be spent on the gap.
    pub nodes: usize,
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
        nodes: 0,
        steps: 0,
        proven: false,
        proven_bound: f64::NEG_INFINITY,
    };
    search.exchange();
    if search.model.is_none() {
        search.rescue(scale);
    }
    if search.model.is_some() && effort.nodes > 0 {
        search.close(scale);
    }
    search.proven |= search.best - bound <= ROUNDING * scale;
    Whole {
        model: search.model,
        bound: search.proven_bound + relaxed.held,
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

    /// Branches for any feasible point, on cores of growing size.
    fn rescue(&mut self, scale: f64) {
        let mut size = (8 * self.lp.rows()).max(64);
        loop {
            let core = self.core(size);
            let (sub, held, mut at) = self.restrict(&core);
            let nodes = self.effort.nodes.max(RESCUE_NODES);
            let (sub, found, complete) = self.any(sub, &mut at, nodes, ROUNDING * scale);
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
            let mut at = State::new(&lp, &vec![0.0; lp.rows()]);
            let (_, found, complete) = self.any(lp, &mut at, RESTART_NODES, ROUNDING);
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
    fn any(&mut self, lp: Lp, at: &mut State, nodes: usize, tolerance: f64) -> (Lp, Option<Found>, bool) {
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
        let mut left = self.effort.nodes;
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
            branch.search(&mut at);
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
