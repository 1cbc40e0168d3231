//! Exact mode: branch and bound on the queries that an improving assignment may change.
//!
//! Best bound first, with dives: from the open node of least bound the search follows the largest fractions down (the
//! query takes that model) and leaves the other child of every node (it may not) on a heap. Forbidding a pair turns its
//! tie into an element that must leave, so a child starts from its parent's basis and needs a few dual steps. Open
//! nodes keep their decision, their parent and the basis to start from; the program itself exists once.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::ledger::Ledger;
use crate::dual::{Element, Limits, Outcome, Start, State, Work};
use crate::program::Lp;

/// Fractions this near to 0 or 1 count as whole, unless the assignment that this gives breaks a limit.
const WHOLE: f64 = 1e-7;
/// Steps of one node.
const STEPS: usize = 4000;
/// Nodes in which the vertex is also rounded.
const ROUNDED: usize = 64;
/// Numbers that all open nodes together may hold.
const MEMORY: usize = 1 << 23;

/// The search over one program.
pub(crate) struct Branch<'a> {
    pub lp: Lp,
    /// Objective of the best assignment known; only better ones are looked for.
    pub best: f64,
    pub model: Option<Vec<u8>>,
    pub nodes: usize,
    pub node_limit: usize,
    /// Differences below this are rounding.
    pub tolerance: f64,
    /// The search ends once the best is at or below this.
    pub target: f64,
    /// Least bound among the nodes that a limit cut off; infinite when the search was complete.
    pub open: f64,
    pub limits: Limits<'a>,
    pub work: &'a mut Work,
    pub steps: usize,
    decisions: Vec<Decision>,
    /// The pairs forbidden at the current node, with their coefficients.
    forbidden: Vec<(u32, u8, f64)>,
    heap: BinaryHeap<Open>,
    done: bool,
}

/// One step down: the query takes the model, or it may not.
#[derive(Clone, Copy)]
struct Decision {
    parent: Option<u32>,
    query: u32,
    model: u8,
    takes: bool,
}

/// A child that waits: its decision, the bound of its parent, and where its parent stood.
struct Open {
    bound: f64,
    decision: Decision,
    from: From,
}

/// The state of the parent: copied while there is memory for it, else to be computed again.
enum From {
    State(Box<State>),
    Start(Start),
}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> Ordering {
        other.bound.total_cmp(&self.bound).then(self.decision.parent.cmp(&other.decision.parent))
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Open {}

/// A vertex in fractions.
struct Vertex {
    /// (query, model, fraction) of all ties and their keys.
    shares: Vec<(u32, u8, f64)>,
    /// The keys, with whole ties applied.
    model: Vec<u8>,
}

impl<'a> Branch<'a> {
    pub fn new(lp: Lp, best: f64, node_limit: usize, tolerance: f64, limits: Limits<'a>, work: &'a mut Work) -> Self {
        Self {
            lp,
            best,
            model: None,
            nodes: 0,
            node_limit,
            tolerance,
            target: f64::NEG_INFINITY,
            open: f64::INFINITY,
            limits,
            work,
            steps: 0,
            decisions: vec![],
            forbidden: vec![],
            heap: BinaryHeap::new(),
            done: false,
        }
    }

    /// Searches below a state of the program, until the search is complete or a limit is reached. The program is left as
    /// it was.
    pub fn search(&mut self, state: State) {
        self.dive(state, None);
        while let Some(node) = self.heap.pop() {
            if self.done || self.pruned(node.bound) {
                if self.done {
                    self.open = self.open.min(node.bound);
                }
                break;
            }
            let (state, at) = self.resume(node);
            if let Some(state) = state {
                self.dive(state, at);
            }
        }
        self.heap.clear();
        self.undo();
    }

    fn pruned(&self, bound: f64) -> bool {
        bound >= self.best - self.tolerance
    }

    /// Gives every forbidden pair its coefficient back.
    fn undo(&mut self) {
        while let Some((i, j, p)) = self.forbidden.pop() {
            self.lp.p[usize::from(j) * self.lp.stride + i as usize] = p;
        }
    }

    /// The state of a waiting node, and its decision; no state when the decision leaves its query nothing.
    fn resume(&mut self, node: Open) -> (Option<State>, Option<u32>) {
        self.undo();
        let mut chain = vec![];
        let mut at = node.decision.parent;
        while let Some(index) = at {
            let decision = self.decisions[index as usize];
            chain.push(decision);
            at = decision.parent;
        }
        for decision in chain.into_iter().rev() {
            for j in self.excluded(decision) {
                let at = usize::from(j) * self.lp.stride + decision.query as usize;
                self.forbidden.push((decision.query, j, self.lp.p[at]));
                self.lp.p[at] = f64::INFINITY;
            }
        }
        let mut state = match node.from {
            From::State(state) => *state,
            From::Start(start) => start.state(&self.lp),
        };
        let at = self.decide(&mut state, node.decision);
        let i = node.decision.query as usize;
        let left = (0..self.lp.m).any(|j| self.lp.may(i, j));
        (left.then_some(state), Some(at))
    }

    /// The models that a decision forbids and that were allowed before it.
    fn excluded(&self, decision: Decision) -> Vec<u8> {
        let i = decision.query as usize;
        let hit = |j: usize| (j == usize::from(decision.model)) != decision.takes;
        (0..self.lp.m).filter(|&j| hit(j) && self.lp.may(i, j)).map(|j| j as u8).collect()
    }

    /// Enters a decision in the program and in a state of it.
    fn decide(&mut self, state: &mut State, decision: Decision) -> u32 {
        for j in self.excluded(decision) {
            let p = forbid(&mut self.lp, state, decision.query as usize, usize::from(j));
            self.forbidden.push((decision.query, j, p));
        }
        self.decisions.push(decision);
        self.decisions.len() as u32 - 1
    }

    /// Follows the largest fractions down from a state until a node is closed; the other children go to the heap.
    fn dive(&mut self, mut state: State, mut at: Option<u32>) {
        loop {
            self.nodes += 1;
            match self.climb(&mut state) {
                Outcome::Infeasible | Outcome::Cutoff => return,
                Outcome::Limit => {
                    self.open = self.open.min(state.objective);
                    self.done |= self.limits.control.expired();
                    return;
                }
                Outcome::Optimal => {}
            }
            let vertex = Self::vertex(&state);
            let Some((i, j)) = self.next(&vertex, &state) else { return };
            if self.nodes < ROUNDED {
                self.offer(Self::rounded(&vertex));
            }
            let bound = state.objective;
            if self.pruned(bound) {
                return;
            }
            self.done |= self.best.is_finite() && self.best <= self.target || self.nodes >= self.node_limit;
            // A node is often too few steps for the climb to poll; and what waits must fit in memory.
            self.done |= self.nodes.is_multiple_of(64) && self.limits.control.expired();
            self.done |= self.heap.len() * 4 * self.lp.rows() > MEMORY;
            if self.done {
                self.open = self.open.min(bound);
                return;
            }
            let decision = Decision { parent: at, query: i as u32, model: j as u8, takes: true };
            let roomy = self.heap.len() * state.size() < MEMORY;
            let from = if roomy { From::State(Box::new(state.clone())) } else { From::Start(Start::of(&state)) };
            self.heap.push(Open { bound, decision: Decision { takes: false, ..decision }, from });
            at = Some(self.decide(&mut state, decision));
        }
    }

    /// The relaxation of a node. A cutoff is only believed of sums that were computed afresh.
    fn climb(&mut self, state: &mut State) -> Outcome {
        let limits = Limits { cutoff: self.best - self.tolerance, steps: STEPS, ..self.limits };
        let before = state.steps;
        let mut outcome = Outcome::Cutoff;
        for _ in 0..3 {
            outcome = state.climb(&self.lp, self.work, &limits);
            if outcome != Outcome::Cutoff {
                break;
            }
            state.measure(&self.lp);
            if state.objective >= limits.cutoff {
                break;
            }
            outcome = Outcome::Limit;
        }
        self.steps += state.steps - before;
        outcome
    }

    /// Where to branch next; `None` when the vertex is whole and settles the node.
    fn next(&mut self, vertex: &Vertex, state: &State) -> Option<(usize, usize)> {
        let largest = |least: f64| {
            let open = vertex
                .shares
                .iter()
                .filter(|(i, _, share)| *share > least && *share <= 1.0 - least && self.options(*i as usize) > 1);
            open.max_by(|a, b| a.2.total_cmp(&b.2)).map(|&(i, j, _)| (i as usize, usize::from(j)))
        };
        if let Some(fractional) = largest(WHOLE) {
            return Some(fractional);
        }
        let objective = self.lp.objective(&vertex.model);
        if Ledger::new(&self.lp, &vertex.model).holds() {
            self.take(objective, vertex.model.clone());
            return None;
        }
        // Nearly whole, and yet over a limit: the small fractions matter.
        let small = largest(0.0);
        if small.is_none() {
            self.open = self.open.min(state.objective);
        }
        small
    }

    fn options(&self, i: usize) -> usize {
        (0..self.lp.m).filter(|&j| self.lp.may(i, j)).count()
    }

    fn vertex(state: &State) -> Vertex {
        let mut shares: Vec<(u32, u8, f64)> = vec![];
        let mut keys: Vec<(u32, u8, f64)> = vec![];
        for (t, element) in state.basis.elements.iter().enumerate() {
            let Element::Tie { row, model } = *element else {
                continue;
            };
            let theta = state.fraction(t);
            shares.push((row, model, theta));
            match keys.iter_mut().find(|(i, ..)| *i == row) {
                Some((.., rest)) => *rest -= theta,
                None => keys.push((row, state.key[row as usize], 1.0 - theta)),
            }
        }
        shares.extend(keys);
        let mut model = state.key.clone();
        for &(i, j, share) in &shares {
            if share > 1.0 - WHOLE {
                model[i as usize] = j;
            }
        }
        Vertex { shares, model }
    }

    /// Every fractional query at its heaviest model.
    fn rounded(vertex: &Vertex) -> Vec<u8> {
        let mut model = vertex.model.clone();
        let mut most = vec![0.0; model.len()];
        for &(i, j, share) in &vertex.shares {
            if share > most[i as usize] {
                (most[i as usize], model[i as usize]) = (share, j);
            }
        }
        model
    }

    /// Takes an assignment when it is feasible and better.
    fn offer(&mut self, model: Vec<u8>) {
        let objective = self.lp.objective(&model);
        if objective < self.best && Ledger::new(&self.lp, &model).holds() {
            self.take(objective, model);
        }
    }

    fn take(&mut self, objective: f64, model: Vec<u8>) {
        if objective < self.best {
            (self.best, self.model) = (objective, Some(model));
        }
    }
}

/// Forbids a pair in the program and in a state of it; returns its old objective coefficient. A query that has no model
/// left keeps its key.
pub(crate) fn forbid(lp: &mut Lp, state: &mut State, i: usize, j: usize) -> f64 {
    let at = j * lp.stride + i;
    let old = lp.p[at];
    if !old.is_finite() {
        return old;
    }
    let ties = |e: &Element| matches!(e, Element::Tie { row, .. } if *row as usize == i);
    if state.key[i] as usize == j
        && state.ties[i] > 0
        && let Some(t) = state.basis.elements.iter().position(ties)
    {
        state.swap_key(lp, t);
    }
    let was = lp.value(&state.y, i, j);
    lp.p[at] = f64::INFINITY;
    if state.key[i] as usize == j {
        let value = |u: &usize| lp.value(&state.y, i, *u);
        let next = (0..lp.m).filter(|&u| lp.may(i, u)).min_by(|a, b| value(a).total_cmp(&value(b)));
        if let Some(next) = next {
            state.objective += lp.value(&state.y, i, next) - was;
            state.move_key(lp, i, next);
        }
    } else if let Some(t) =
        state.basis.elements.iter().position(|e| *e == Element::Tie { row: i as u32, model: j as u8 })
    {
        state.basis.elements[t] = Element::Gone;
        state.ties[i] -= 1;
    }
    old
}
