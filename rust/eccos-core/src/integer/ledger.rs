//! What an assignment leaves of every limit, and whether a few moves fit in it.

use crate::program::NO_ROW;
use crate::program::{Lp, Sparse};
use crate::tolerance::LOAD;

/// One query from one model to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub row: u32,
    pub from: u8,
    pub to: u8,
    /// Change of the reduced cost, of the objective, and of the requirement's left side.
    pub reduced: f64,
    pub objective: f64,
    pub requirement: f64,
}

/// Room left in every row of a program: `b - A x`.
pub(crate) struct Ledger<'a> {
    pub lp: &'a Lp,
    pub room: Vec<f64>,
    /// Excess that still counts as none.
    slack: Vec<f64>,
    /// The row of every model's own slots when those are the only family.
    slots: Option<Vec<u16>>,
    change: Sparse,
}

impl<'a> Ledger<'a> {
    pub fn new(lp: &'a Lp, model: &[u8]) -> Self {
        let room: Vec<f64> = lp.residual(model).iter().map(|r| -r).collect();
        let own = lp.is_unit() && !lp.families.iter().any(|family| family.shared);
        let slots = own.then(|| lp.families.first().map_or_else(|| vec![NO_ROW; lp.m], |f| f.rows.clone()));
        // A requirement was relaxed by 2e-10 and is checked with 1e-9 outside; loads are exact but for half of what is
        // allowed for the rounding of their sum.
        let sum = 0.5 * LOAD * lp.n.max(1) as f64;
        let allowed = |(k, b): (usize, &f64)| if k == 0 { 1e-12 * b.abs() } else { sum * b.abs() };
        let slack = lp.limit.iter().enumerate().map(allowed).collect();
        Self { lp, room, slack, slots, change: vec![] }
    }

    /// Excess of every row that still counts as none.
    pub fn slack(&self) -> &[f64] {
        &self.slack
    }

    /// True when every limit holds.
    pub fn holds(&self) -> bool {
        self.room.iter().zip(&self.slack).all(|(room, slack)| *room >= -slack)
    }

    /// True when every limit but the requirement holds.
    pub fn capacities_hold(&self) -> bool {
        self.room.iter().zip(&self.slack).skip(1).all(|(room, slack)| *room >= -slack)
    }

    /// By how much the requirement is missed, the rounding left out; negative when there is room.
    pub fn need(&self) -> f64 {
        -self.room[0] - self.slack[0]
    }

    /// Sum of what all rows are over their limits.
    pub fn excess(&self) -> f64 {
        let over = |(room, slack): (&f64, &f64)| if *room < -slack { -room } else { 0.0 };
        self.room.iter().zip(&self.slack).map(over).sum()
    }

    /// True when every query takes one slot and nothing else.
    pub fn is_unit(&self) -> bool {
        self.slots.is_some()
    }

    /// True when query i fits at model j beside everything that the ledger holds (the requirement left aside).
    pub fn takes(&self, i: usize, j: usize) -> bool {
        let mut fits = true;
        self.lp.each(i, j, |k, a| fits &= k == 0 || self.room[k] - a >= -self.slack[k]);
        fits
    }

    /// True when the moves together keep every row but the requirement.
    pub fn fits(&mut self, moves: &[&Move]) -> bool {
        if let Some(slots) = &self.slots {
            return moves.iter().all(|a| {
                let row = slots[a.to as usize];
                if row == NO_ROW {
                    return true;
                }
                let comes = moves.iter().filter(|b| b.to == a.to).count() as f64;
                let goes = moves.iter().filter(|b| b.from == a.to).count() as f64;
                comes <= goes || self.room[row as usize] >= comes - goes
            });
        }
        self.collect(moves);
        self.change.iter().all(|&(k, a)| k == 0 || a <= 0.0 || self.room[k] - a >= -self.slack[k])
    }

    /// The total excess after the moves, given the excess before them.
    pub fn excess_after(&mut self, moves: &[&Move], before: f64) -> f64 {
        self.collect(moves);
        let over = |room: f64, slack: f64| if room < -slack { -room } else { 0.0 };
        let change =
            |&(k, a): &(usize, f64)| over(self.room[k] - a, self.slack[k]) - over(self.room[k], self.slack[k]);
        before + self.change.iter().map(change).sum::<f64>()
    }

    /// Enters the moves.
    pub fn apply(&mut self, moves: &[&Move]) {
        self.collect(moves);
        for &(k, a) in &self.change {
            self.room[k] -= a;
        }
    }

    fn collect(&mut self, moves: &[&Move]) {
        let change = &mut self.change;
        change.clear();
        let mut add = |k: usize, a: f64| match change.iter_mut().find(|(row, _)| *row == k) {
            Some((_, sum)) => *sum += a,
            None => change.push((k, a)),
        };
        for m in moves {
            self.lp.each(m.row as usize, m.to as usize, &mut add);
            self.lp.each(m.row as usize, m.from as usize, |k, a| add(k, -a));
        }
    }
}
