//! Whole queries where loads above or below a level cost a price.
//!
//! The relaxation says how far each priced row is overstepped. With that much bought, the row is a limit like any other, and the
//! search over whole queries is the usual one; a few more or fewer units are tried, and moves of single queries and of pairs
//! then count what the rows really cost.

use super::ledger::Ledger;
use super::{Effort, Whole, margins, search};
use crate::dual::{Element, State, Work};
use crate::program::{Lp, Prepared};
use crate::relax::Relaxed;
use crate::screen::Sums;

/// Queries nearest to a tie whose moves are tried, moves of which pairs are tried, and rounds.
const NEAR: usize = 256;
const MOVES: usize = 400;
const ROUNDS: usize = 60;

/// Searches for whole assignments of a program with priced rows. Nothing but their absence is proven.
pub(crate) fn search_priced(
    prepared: &Prepared<'_>,
    relaxed: &Relaxed,
    effort: &Effort<'_>,
    work: &mut Work,
) -> Whole {
    let lp = &relaxed.lp;
    let bought = bought(lp, &relaxed.state);
    let most = most_used(lp);
    let typical: Vec<f64> = most.iter().map(|most| most / lp.n.max(1) as f64).collect();
    let mut best: Option<(f64, Vec<u8>)> = None;
    let (mut nodes, mut steps, mut none) = (0, 0, false);
    for round in 0..3 {
        if round == 2 && best.is_some() || effort.control.expired() && best.is_some() {
            break;
        }
        let more = |k: usize| match round {
            0 => bought[k],
            1 => bought[k] + typical[k],
            _ => (most[k] - lp.limit[k]).max(0.0),
        };
        let hard = hardened(prepared, relaxed, more);
        let found = search(&hard, effort, work);
        nodes += found.nodes;
        steps += found.steps;
        none = round == 2 && found.proven && found.model.is_none();
        if let Some(model) = found.model {
            let total = total(lp, &model);
            if best.as_ref().is_none_or(|(least, _)| total < *least) {
                best = Some((total, model));
            }
        }
    }
    let model = best.map(|(_, model)| Polish::new(lp, &relaxed.state, model).run(effort));
    Whole { model, bound: f64::NEG_INFINITY, nodes, steps, proven: none, rounding: 0.0 }
}

/// By how much the relaxation oversteps each priced row.
fn bought(lp: &Lp, state: &State) -> Vec<f64> {
    let mut bought = vec![0.0; lp.rows()];
    for (t, element) in state.basis.elements.iter().enumerate() {
        if let Element::Ceiling(row) = element {
            bought[usize::from(*row)] = (-state.fraction(t)).max(0.0);
        }
    }
    bought
}

/// What each priced row can come to at most.
fn most_used(lp: &Lp) -> Vec<f64> {
    let mut most = vec![0.0; lp.rows()];
    for i in 0..lp.n {
        let mut own = vec![0.0; lp.rows()];
        for j in (0..lp.m).filter(|&j| lp.may(i, j)) {
            lp.each(i, j, |k, a| own[k] = f64::max(own[k], a.abs()));
        }
        most.iter_mut().zip(own).for_each(|(sum, x)| *sum += x);
    }
    most
}

/// The program with so much more of every priced row, which is then a limit, at the same multipliers.
fn hardened(prepared: &Prepared<'_>, relaxed: &Relaxed, more: impl Fn(usize) -> f64) -> Relaxed {
    let (mut lp, mut state) = (relaxed.lp.clone(), relaxed.state.clone());
    for k in (0..lp.rows()).filter(|&k| relaxed.lp.ceiling[k].is_finite()) {
        let more = more(k);
        lp.limit[k] += more;
        lp.ceiling[k] = f64::INFINITY;
        state.residual[k] -= more;
        state.objective -= state.y[k] * more;
    }
    for element in &mut state.basis.elements {
        if let Element::Ceiling(k) = *element {
            *element = Element::Start(k);
        }
    }
    Relaxed {
        lp,
        state,
        outcome: relaxed.outcome,
        places: relaxed.places.clone(),
        key: vec![],
        fixed: Sums::of(prepared),
        held: relaxed.held,
        bound: relaxed.bound,
        seen: relaxed.seen,
        steps: 0,
        passes: 0,
    }
}

/// What an assignment costs, the priced rows included.
fn total(lp: &Lp, model: &[u8]) -> f64 {
    let over = lp.residual(model);
    let charges = over.iter().zip(&lp.ceiling).filter(|(_, ceiling)| ceiling.is_finite());
    lp.objective(model) + charges.map(|(over, price)| price * over.max(0.0)).sum::<f64>()
}

/// Moves that lower what an assignment costs with its charges.
struct Polish<'a> {
    lp: &'a Lp,
    model: Vec<u8>,
    near: Vec<u32>,
    /// `A x - b` of every row, and what counts as none.
    over: Vec<f64>,
    slack: Vec<f64>,
}

impl<'a> Polish<'a> {
    fn new(lp: &'a Lp, state: &State, model: Vec<u8>) -> Self {
        let mut margin = margins(lp, state);
        margin.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let near = margin.iter().take(NEAR).map(|&(_, i)| i).collect();
        let slack = Ledger::new(lp, &model).slack().to_vec();
        let over = lp.residual(&model);
        Self { lp, model, near, over, slack }
    }

    fn run(mut self, effort: &Effort<'_>) -> Vec<u8> {
        for _ in 0..ROUNDS {
            if effort.control.expired() {
                break;
            }
            let mut moves: Vec<(f64, u32, u8)> = vec![];
            for &i in &self.near {
                let from = self.model[i as usize];
                let to = (0..self.lp.m).filter(|&j| j != usize::from(from) && self.lp.may(i as usize, j));
                moves.extend(to.map(|j| (self.change(&[(i, j as u8)]).0, i, j as u8)));
            }
            moves.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
            moves.truncate(MOVES);
            let least = -1e-12 * self.lp.objective(&self.model).abs().max(1e-9);
            let mut best: (f64, Vec<(u32, u8)>) = (least, vec![]);
            for (at, a) in moves.iter().enumerate() {
                let one = [(a.1, a.2)];
                let (gain, holds) = self.change(&one);
                if holds && gain < best.0 {
                    best = (gain, one.to_vec());
                }
                for b in moves[at + 1..].iter().filter(|b| b.1 != a.1) {
                    let two = [(a.1, a.2), (b.1, b.2)];
                    let (gain, holds) = self.change(&two);
                    if holds && gain < best.0 {
                        best = (gain, two.to_vec());
                    }
                }
            }
            if best.1.is_empty() {
                break;
            }
            for (i, j) in best.1 {
                self.lp.each(i as usize, self.model[i as usize].into(), |k, a| self.over[k] -= a);
                self.lp.each(i as usize, j.into(), |k, a| self.over[k] += a);
                self.model[i as usize] = j;
            }
        }
        self.model
    }

    /// What moves change of the total, and whether every limit holds after them.
    fn change(&self, moves: &[(u32, u8)]) -> (f64, bool) {
        let lp = self.lp;
        let mut by: Vec<(usize, f64)> = Vec::with_capacity(8);
        let mut add = |k: usize, a: f64| match by.iter_mut().find(|(row, _)| *row == k) {
            Some((_, sum)) => *sum += a,
            None => by.push((k, a)),
        };
        let mut sum = 0.0;
        for &(i, j) in moves {
            let (i, from, to) = (i as usize, usize::from(self.model[i as usize]), usize::from(j));
            sum += lp.p[to * lp.stride + i] - lp.p[from * lp.stride + i];
            lp.each(i, to, &mut add);
            lp.each(i, from, |k, a| add(k, -a));
        }
        let mut holds = true;
        for (k, by) in by {
            let (before, after) = (self.over[k], self.over[k] + by);
            if lp.ceiling[k].is_finite() {
                sum += lp.ceiling[k] * (after.max(0.0) - before.max(0.0));
            } else {
                holds &= by <= 0.0 || after <= self.slack[k];
            }
        }
        (sum, holds)
    }
}
