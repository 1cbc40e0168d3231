//! Exact mode: branch and bound on the queries that an improving assignment may change.
//!
//! Depth first; branch on the largest fraction: the query takes that model, or it may not. Forbidding a pair turns its tie
//! into an element that must leave, so a child starts from its parent's basis and needs a few dual steps.

use crate::basis::Element;
use crate::dual::{Limits, Outcome, Work};
use crate::ledger::Ledger;
use crate::lp::Lp;
use crate::prepare::FORBIDDEN;
use crate::state::State;

/// Fractions this near to 0 or 1 count as whole.
const WHOLE: f64 = 1e-7;
/// Steps of one node.
const STEPS: usize = 4000;
/// Nodes in which the vertex is also rounded.
const ROUNDED: usize = 64;

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
    done: bool,
}

/// A vertex in fractions.
struct Vertex {
    /// (query, model, fraction) of all ties and their keys.
    shares: Vec<(u32, u8, f64)>,
    /// The keys, with whole ties applied.
    model: Vec<u8>,
    /// The largest fraction strictly between 0 and 1.
    branch: Option<(usize, usize)>,
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
            done: false,
        }
    }

    /// Searches below a state of the program.
    pub fn search(&mut self, state: &mut State) {
        self.nodes += 1;
        let before = state.steps;
        let limits = Limits { cutoff: self.best - self.tolerance, steps: STEPS, ..self.limits };
        let outcome = state.climb(&self.lp, self.work, &limits);
        self.steps += state.steps - before;
        match outcome {
            Outcome::Infeasible | Outcome::Cutoff => return,
            Outcome::Limit => {
                self.open = self.open.min(state.objective);
                self.done |= self.limits.control.expired();
                return;
            }
            Outcome::Optimal => {}
        }
        let vertex = Self::vertex(state);
        let Some((i, j)) = vertex.branch else {
            self.offer(vertex.model);
            return;
        };
        if self.nodes < ROUNDED {
            self.offer(Self::rounded(&vertex));
        }
        self.done |= self.best.is_finite() && self.best <= self.target || self.nodes >= self.node_limit;
        // A node is often too few steps for the climb to poll.
        self.done |= self.nodes.is_multiple_of(64) && self.limits.control.expired();
        if self.done {
            self.open = self.open.min(state.objective);
            return;
        }
        let bound = state.objective;
        self.take(state, i, j);
        if bound >= self.best - self.tolerance {
            return;
        }
        if self.done {
            self.open = self.open.min(bound);
            return;
        }
        self.refuse(state, i, j);
    }

    /// The child in which query i takes model j.
    fn take(&mut self, state: &State, i: usize, j: usize) {
        let mut child = state.clone();
        let mut undo = vec![];
        for other in (0..self.lp.m).filter(|&other| other != j) {
            undo.push((other, forbid(&mut self.lp, &mut child, i, other)));
        }
        self.search(&mut child);
        for (other, p) in undo {
            self.lp.p[other * self.lp.stride + i] = p;
        }
    }

    /// The child in which query i does not take model j.
    fn refuse(&mut self, state: &mut State, i: usize, j: usize) {
        if (0..self.lp.m).any(|other| other != j && self.lp.may(i, other)) {
            let p = forbid(&mut self.lp, state, i, j);
            self.search(state);
            self.lp.p[j * self.lp.stride + i] = p;
        }
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
        let mut branch: Option<(usize, usize, f64)> = None;
        for &(i, j, share) in &shares {
            if share > 1.0 - WHOLE {
                model[i as usize] = j;
            } else if share > WHOLE && branch.is_none_or(|(.., most)| share > most) {
                branch = Some((i as usize, j as usize, share));
            }
        }
        Vertex { shares, model, branch: branch.map(|(i, j, _)| (i, j)) }
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
        if objective < self.best && objective < FORBIDDEN / 2.0 && Ledger::new(&self.lp, &model).holds() {
            self.best = objective;
            self.model = Some(model);
        }
    }
}

/// Forbids a pair in the program and in a state of it; returns its old objective coefficient.
pub(crate) fn forbid(lp: &mut Lp, state: &mut State, i: usize, j: usize) -> f64 {
    let at = j * lp.stride + i;
    let old = lp.p[at];
    if old >= FORBIDDEN {
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
    lp.p[at] = FORBIDDEN;
    if state.key[i] as usize == j {
        let value = |u: &usize| lp.value(&state.y, i, *u);
        let next = (0..lp.m).min_by(|a, b| value(a).total_cmp(&value(b))).unwrap_or(j);
        state.objective += lp.value(&state.y, i, next) - was;
        state.move_key(lp, i, next);
    } else if let Some(t) =
        state.basis.elements.iter().position(|e| *e == Element::Tie { row: i as u32, model: j as u8 })
    {
        state.basis.elements[t] = Element::Gone;
        state.ties[i] -= 1;
    }
    old
}
