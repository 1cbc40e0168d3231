//! Exchanges among the rows nearest to a tie.
//!
//! Single moves, pairs and triples (a: j->k, b: k->l, c) are tried in the order of their reduced cost: first the cheapest that
//! repairs what is still violated, then the one that saves most. A change whose reduced cost exceeds the distance to the
//! bound cannot help, which cuts the search to a few hundred moves.

use super::ledger::{Ledger, Move};
use crate::program::Lp;

/// Moves kept in a round: while something is violated, and while saving.
const KEEP: (usize, usize) = (500, 1500);
/// Rounds of exchange.
const ROUNDS: usize = 60;

/// The exchange search over one (small) program.
pub(crate) struct Exchange<'a> {
    ledger: Ledger<'a>,
    /// Reduced cost of every pair, row by row.
    reduced: Vec<f64>,
    model: Vec<u8>,
    moves: Vec<Move>,
    /// Places in `moves` by the model they leave, and those whose target has room.
    from: Vec<Vec<u32>>,
    free: Vec<u32>,
    has_room: Vec<bool>,
    cost: f64,
    reduced_cost: f64,
    /// What is proven for this program.
    bound: f64,
    /// Combinations that may still be looked at.
    pub budget: usize,
}

/// The best change of a round: places in `moves`.
struct Best {
    objective: f64,
    moves: [u32; 3],
    len: usize,
}

impl Best {
    fn new(objective: f64) -> Self {
        Self { objective, moves: [0; 3], len: 0 }
    }

    fn take(&mut self, objective: f64, moves: &[usize]) {
        self.objective = objective;
        self.len = moves.len();
        for (slot, &place) in self.moves.iter_mut().zip(moves) {
            *slot = place as u32;
        }
    }
}

/// What a round has found.
struct Found {
    /// By how much the requirement has to rise.
    need: f64,
    /// Distance of the cost from the bound that reduced costs do not account for.
    room: f64,
    feasible: bool,
    best: Best,
    /// While infeasible: most requirement for the reduced cost.
    relief: Best,
}

impl Found {
    /// Changes of this reduced cost or more cannot beat the best: the cost after a change that keeps every limit is at least
    /// the bound plus the reduced costs of all rows.
    #[inline(always)]
    fn limit(&self) -> f64 {
        self.room + self.best.objective
    }

    #[inline(always)]
    fn offer(&mut self, moves: &[&Move], places: &[usize], fits: impl FnOnce() -> bool) {
        let objective: f64 = moves.iter().map(|m| m.objective).sum();
        let gain: f64 = moves.iter().map(|m| m.requirement).sum();
        if gain >= self.need {
            if objective < self.best.objective && fits() {
                self.best.take(objective, places);
            }
        } else if !self.feasible && gain > 0.0 && self.best.len == 0 {
            let reduced: f64 = moves.iter().map(|m| m.reduced).sum();
            let rate = gain / (reduced.max(0.0) + 1e-9);
            if rate > self.relief.objective && fits() {
                self.relief.take(rate, places);
            }
        }
    }
}

impl<'a> Exchange<'a> {
    pub fn new(lp: &'a Lp, y: &[f64], bound: f64, model: Vec<u8>, budget: usize) -> Self {
        let mut reduced = vec![0.0; lp.n * lp.m];
        let mut reduced_cost = 0.0;
        for (i, row) in reduced.chunks_exact_mut(lp.m).enumerate() {
            let mut least = f64::INFINITY;
            for (j, slot) in row.iter_mut().enumerate() {
                *slot = lp.value(y, i, j);
                least = least.min(*slot);
            }
            row.iter_mut().for_each(|x| *x -= least);
            reduced_cost += row[model[i] as usize];
        }
        Self {
            ledger: Ledger::new(lp, &model),
            cost: lp.objective(&model),
            reduced,
            model,
            moves: vec![],
            from: vec![vec![]; lp.m],
            free: vec![],
            has_room: vec![],
            reduced_cost,
            bound,
            budget,
        }
    }

    /// Repairs, then improves until the objective is within `target` of the bound or nothing helps. Returns the
    /// assignment and its objective when every limit holds.
    pub fn run(mut self, target: f64) -> Option<(Vec<u8>, f64)> {
        for _ in 0..ROUNDS {
            let feasible = self.ledger.holds();
            if self.budget == 0 || feasible && self.cost - self.bound <= target {
                break;
            }
            let limit = if feasible { self.cost - self.bound - self.reduced_cost } else { f64::INFINITY };
            self.list_moves(limit, if feasible { KEEP.1 } else { KEEP.0 });
            let best = if feasible || self.ledger.capacities_hold() {
                self.best_change(feasible)
            } else {
                self.best_repair()
            };
            let Some(best) = best else { break };
            self.apply(&best);
        }
        let lp = self.ledger.lp;
        if !Ledger::new(lp, &self.model).holds() {
            return None;
        }
        let objective = lp.objective(&self.model);
        Some((self.model, objective))
    }

    fn apply(&mut self, best: &Best) {
        let chosen: Vec<Move> = best.moves[..best.len].iter().map(|&u| self.moves[u as usize]).collect();
        self.ledger.apply(&chosen.iter().collect::<Vec<_>>());
        for m in chosen {
            self.model[m.row as usize] = m.to;
            self.cost += m.objective;
            self.reduced_cost += m.reduced;
        }
    }

    /// The moves of reduced cost below `limit`, cheapest first, at most `keep`.
    fn list_moves(&mut self, limit: f64, keep: usize) {
        let lp = self.ledger.lp;
        self.moves.clear();
        for (i, row) in self.reduced.chunks_exact(lp.m).enumerate() {
            let from = self.model[i] as usize;
            for (to, &reduced) in row.iter().enumerate() {
                if to == from || reduced - row[from] >= limit || !lp.may(i, to) {
                    continue;
                }
                let (old, new) = (from * lp.stride + i, to * lp.stride + i);
                self.moves.push(Move {
                    row: i as u32,
                    from: from as u8,
                    to: to as u8,
                    reduced: reduced - row[from],
                    objective: lp.p[new] - lp.p[old],
                    requirement: lp.q[new] - lp.q[old],
                });
            }
        }
        let order =
            |a: &Move, b: &Move| a.reduced.total_cmp(&b.reduced).then(a.row.cmp(&b.row)).then(a.to.cmp(&b.to));
        if self.moves.len() > keep {
            self.moves.select_nth_unstable_by(keep, order);
            self.moves.truncate(keep);
        }
        self.moves.sort_unstable_by(order);
        self.from.iter_mut().for_each(Vec::clear);
        self.free.clear();
        self.has_room.clear();
        for (u, m) in self.moves.iter().enumerate() {
            self.from[m.from as usize].push(u as u32);
            let room = self.ledger.fits(&[m]);
            self.has_room.push(room);
            if room {
                self.free.push(u as u32);
            }
        }
    }

    /// While only the requirement is violated or nothing is: the change that costs least among those that meet the
    /// requirement and keep the other limits; else, when none meets it, the one that gains most for its reduced cost.
    fn best_change(&mut self, feasible: bool) -> Option<Best> {
        let worst = if feasible { -1e-12 * self.cost.abs() } else { f64::INFINITY };
        let mut found = Found {
            need: self.ledger.need(),
            room: self.cost - self.bound - self.reduced_cost,
            feasible,
            best: Best::new(worst),
            relief: Best::new(0.0),
        };
        let lowest = self.moves.first().map_or(0.0, |m| m.reduced.min(0.0));
        for x in 0..self.moves.len() {
            if self.moves[x].reduced + 2.0 * lowest >= found.limit() || self.budget == 0 {
                break;
            }
            if self.has_room[x] {
                self.pair_with_free(x, &mut found);
            }
            self.chain_from(x, lowest, &mut found);
        }
        [found.best, found.relief].into_iter().find(|b| b.len > 0)
    }

    /// Move x into a free slot, alone and with another move into a free slot.
    fn pair_with_free(&mut self, x: usize, found: &mut Found) {
        let a = self.moves[x];
        self.budget = self.budget.saturating_sub(1);
        found.offer(&[&a], &[x], || true);
        let after = self.free.partition_point(|&u| u as usize <= x);
        for &y in &self.free[after..] {
            let b = &self.moves[y as usize];
            if a.reduced + b.reduced >= found.limit() || self.budget == 0 {
                break;
            }
            self.budget = self.budget.saturating_sub(1);
            if b.row != a.row {
                let ledger = &mut self.ledger;
                found.offer(&[&a, b], &[x, y as usize], || ledger.fits(&[&a, b]));
            }
        }
    }

    /// Move x, with b leaving its target, and c leaving that of b when there is no room.
    fn chain_from(&mut self, x: usize, lowest: f64, found: &mut Found) {
        let a = self.moves[x];
        let unit = self.ledger.is_unit();
        for &y in &self.from[a.to as usize] {
            let b = &self.moves[y as usize];
            if a.reduced + b.reduced + lowest >= found.limit() || self.budget == 0 {
                break;
            }
            if b.row == a.row {
                continue;
            }
            self.budget = self.budget.saturating_sub(1);
            // With one request a query b's slot is a's, and b needs that of a or a free one.
            let closes = b.to == a.from || self.has_room[y as usize];
            if if unit { closes } else { self.ledger.fits(&[&a, b]) } {
                found.offer(&[&a, b], &[x, y as usize], || true);
                continue;
            }
            if !found.feasible {
                continue;
            }
            for &z in &self.from[b.to as usize] {
                let c = &self.moves[z as usize];
                if a.reduced + b.reduced + c.reduced >= found.limit() || self.budget == 0 {
                    break;
                }
                self.budget = self.budget.saturating_sub(1);
                if c.row == a.row || c.row == b.row {
                    continue;
                }
                let closes = c.to == a.from || self.has_room[z as usize];
                let ledger = &mut self.ledger;
                let fits = || if unit { closes } else { ledger.fits(&[&a, b, c]) };
                found.offer(&[&a, b, c], &[x, y as usize, z as usize], fits);
            }
        }
    }

    /// The cheapest change after which every limit holds; else the one that mends most for its reduced cost.
    fn best_repair(&mut self) -> Option<Best> {
        let before = self.ledger.excess();
        let mut best = Best::new(f64::INFINITY);
        let mut relief = Best::new(0.0);
        let (moves, ledger) = (&self.moves, &mut self.ledger);
        let mut offer = |ledger: &mut Ledger<'_>, chosen: &[&Move], places: &[usize]| {
            let after = ledger.excess_after(chosen, before);
            let objective: f64 = chosen.iter().map(|m| m.objective).sum();
            let reduced: f64 = chosen.iter().map(|m| m.reduced).sum();
            let mended = (before - after) / (reduced.max(0.0) + 1e-9);
            if after <= 1e-15 * before {
                if objective < best.objective {
                    best.take(objective, places);
                }
            } else if mended > relief.objective && before - after > 1e-12 * before {
                relief.take(mended, places);
            }
        };
        let mut free = self.free.iter().peekable();
        for (x, a) in moves.iter().enumerate() {
            if self.budget == 0 {
                break;
            }
            self.budget = self.budget.saturating_sub(1);
            offer(ledger, &[a], &[x]);
            if free.next_if(|&&u| u as usize == x).is_some() {
                for &y in free.clone().take(64) {
                    let b = &moves[y as usize];
                    self.budget = self.budget.saturating_sub(1);
                    if b.row != a.row {
                        offer(ledger, &[a, b], &[x, y as usize]);
                    }
                }
            }
            for &y in &self.from[a.to as usize] {
                let b = &moves[y as usize];
                if self.budget == 0 {
                    break;
                }
                self.budget = self.budget.saturating_sub(1);
                if b.row != a.row {
                    offer(ledger, &[a, b], &[x, y as usize]);
                }
            }
        }
        [best, relief].into_iter().find(|b| b.len > 0)
    }
}
