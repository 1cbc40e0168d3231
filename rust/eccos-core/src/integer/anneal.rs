//! Whole answers under loads: simulated annealing on the distance to the bound.
//!
//! With multipliers `y` and reduced costs `d` (a pair's value above the least of its query), the objective of a
//! feasible assignment is `g(y) + sum d + sum_k y_k room_k`: what it pays above the bound is the reduced cost of its
//! pairs and the price of the room that it leaves unused. That sum is what the search makes small, a row over its limit
//! charged above its price. It moves one query, or moves one and ejects another from where the first went; a pair
//! whose reduced cost alone exceeds the best distance known cannot be in a better assignment and is no candidate.
//! Deterministic: the random numbers depend on nothing but the seed.

use super::ledger::Ledger;
use super::random::Random;
use crate::control::Control;
use crate::program::Lp;

/// Proposals between two looks at the clock.
const POLL: usize = 2048;
/// Ejections tried for one move.
const EJECTIONS: usize = 3;
/// Rounds, and up to how many queries half of them start afresh.
const ROUNDS: usize = 6;
const RESTARTED: usize = 256;
/// Steps of the temperature in a round.
const STEPS: usize = 16;
/// Near the bound: the first temperature over 64 queries, in ranges of a typical query, falls with a power of their number,
/// because the more queries there are, the nearer a whole assignment comes to the bound.
const NEAR: Cooling = Cooling { hot: 0.02, power: 0.7, fall: 0.2, reach: 2.0, least: 2, charge: 0.6 };
/// Anywhere, for assignments that hardly fit.
const WIDE: Cooling = Cooling { hot: 0.2, power: 0.0, fall: 1e-3, reach: 20.0, least: 40, charge: 1.0 };

/// How a search cools.
#[derive(Clone, Copy)]
struct Cooling {
    hot: f64,
    power: f64,
    /// The last temperature, as a share of the first.
    fall: f64,
    /// Only pairs within so many temperatures of the least value of their query are proposed, and at least so many for each
    /// row: the pairs of good assignments are few, and most proposals of others are undone.
    reach: f64,
    least: usize,
    /// What a row over its limit is charged, as a share of what repairs most.
    charge: f64,
}

/// What a search is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Ask {
    /// About so many proposals, until the distance from the bound is at most `target`.
    pub proposals: usize,
    pub target: f64,
    /// What limits count for beside the objective, once assignments that fit are looked for anywhere; `None`: near the bound.
    pub anywhere: Option<f64>,
}

/// The search over one program, whose pairs touch `W` rows each (0: any number).
pub(crate) struct Anneal<'a, const W: usize> {
    lp: &'a Lp,
    control: &'a Control<'a>,
    cooling: Cooling,
    /// Numbers of a pair: the requirement, and one entry for each family.
    width: usize,
    pairs: Vec<Pair>,
    /// Row and coefficient of every entry of every pair; the row beyond the last is none.
    entries: Vec<(u32, f64)>,
    /// Every query's place among `pairs`.
    current: Vec<u32>,
    /// All pairs by reduced cost, and how many of them are within reach at the current temperature.
    order: Vec<u32>,
    active: usize,
    /// Pairs within reach of the queries that were at each model when the temperature was set.
    leaving: Vec<Vec<u32>>,
    rows: Vec<Row>,
    /// Rows as they were before the changes of a proposal.
    log: Vec<(u32, Row)>,
    /// Rows over their limits, and the distance with what they are charged.
    over: usize,
    distance: f64,
    random: Random,
    best: Best,
}

#[derive(Clone, Copy)]
struct Pair {
    query: u32,
    model: u8,
    reduced: f64,
}

/// What is left of a limit, and what that is charged.
#[derive(Clone, Copy)]
struct Row {
    room: f64,
    charge: f64,
    slack: f64,
    price: f64,
    penalty: f64,
}

impl Row {
    #[inline(always)]
    fn charged(&self, room: f64) -> f64 {
        if room >= -self.slack { self.price * room.max(0.0) } else { -self.penalty * room }
    }

    #[inline(always)]
    fn over(&self) -> bool {
        self.room < -self.slack
    }
}

/// The best feasible assignment, and its distance from the bound.
struct Best {
    distance: f64,
    model: Option<Vec<u8>>,
}

/// Where a proposal can be taken back to.
#[derive(Clone, Copy)]
struct Mark {
    distance: f64,
    over: usize,
    log: usize,
}

/// Searches at `y` from an assignment that may break limits; returns the best feasible one and its objective.
pub(crate) fn anneal(lp: &Lp, y: &[f64], model: &[u8], ask: Ask, control: &Control<'_>) -> Option<(Vec<u8>, f64)> {
    match 1 + lp.families.len() {
        2 => Anneal::<2>::new(lp, y, model, ask, control).run(ask),
        3 => Anneal::<3>::new(lp, y, model, ask, control).run(ask),
        _ => Anneal::<0>::new(lp, y, model, ask, control).run(ask),
    }
}

impl<'a, const W: usize> Anneal<'a, W> {
    fn new(lp: &'a Lp, y: &[f64], model: &[u8], ask: Ask, control: &'a Control<'a>) -> Self {
        let cooling = if ask.anywhere.is_some() { WIDE } else { NEAR };
        let weight = cooling.charge * ask.anywhere.unwrap_or(1.0);
        let typical = y.iter().sum::<f64>() / lp.rows() as f64;
        let row = |(&slack, &price): (&f64, &f64)| Row {
            room: 0.0,
            charge: 0.0,
            slack,
            price,
            penalty: weight * (3.0 * price + typical + 0.3),
        };
        let mut rows: Vec<Row> = Ledger::new(lp, model).slack().iter().zip(y).map(row).collect();
        rows.push(Row { room: 0.0, charge: 0.0, slack: f64::INFINITY, price: 0.0, penalty: 0.0 });
        let mut anneal = Self {
            lp,
            control,
            cooling,
            width: 1 + lp.families.len(),
            pairs: vec![],
            entries: vec![],
            current: vec![],
            order: vec![],
            active: 0,
            leaving: vec![vec![]; lp.m],
            rows,
            log: vec![],
            over: 0,
            distance: 0.0,
            random: Random::new(),
            best: Best { distance: f64::INFINITY, model: None },
        };
        anneal.place_all(model, f64::INFINITY);
        anneal
    }

    /// The first rounds start from the given assignment, the others from the best.
    fn run(mut self, Ask { proposals, target, .. }: Ask) -> Option<(Vec<u8>, f64)> {
        let fresh = if self.lp.n <= RESTARTED { ROUNDS / 2 } else { 1 };
        let start: Vec<u8> = self.current.iter().map(|&pair| self.pairs[pair as usize].model).collect();
        for round in 0..ROUNDS {
            self.record();
            if self.best.distance <= target || self.control.expired() {
                break;
            }
            self.cool(proposals / ROUNDS, target);
            match self.best.model.clone() {
                Some(_) if round + 1 < fresh => self.place_all(&start, self.best.distance),
                Some(model) => self.place_all(&model, self.best.distance),
                None => {
                    self.rows.iter_mut().for_each(|row| row.penalty *= 3.0);
                    self.charge_all();
                }
            }
        }
        let model = self.best.model?;
        let objective = self.lp.objective(&model);
        Ledger::new(self.lp, &model).holds().then_some((model, objective))
    }

    /// Lists the candidates of reduced cost up to `limit` and stands at an assignment.
    fn place_all(&mut self, model: &[u8], limit: f64) {
        let lp = self.lp;
        self.pairs.clear();
        self.entries.clear();
        self.current.clear();
        for (row, r) in self.rows.iter_mut().zip(lp.residual(model)) {
            row.room = -r;
        }
        let y: Vec<f64> = self.rows.iter().map(|row| row.price).collect();
        let mut row = vec![];
        for i in 0..lp.n {
            row.clear();
            row.extend((0..lp.m).filter(|&j| lp.may(i, j)).map(|j| (lp.value(&y, i, j), j)));
            let least = row.iter().map(|pair| pair.0).fold(f64::INFINITY, f64::min);
            for &(value, j) in &row {
                let own = usize::from(model[i]) == j;
                if own {
                    self.current.push(self.pairs.len() as u32);
                } else if value - least > limit {
                    continue;
                }
                self.pairs.push(Pair { query: i as u32, model: j as u8, reduced: value - least });
                let before = self.entries.len();
                lp.each(i, j, |k, a| self.entries.push((k as u32, a)));
                self.entries.resize(before + self.width, (lp.rows() as u32, 0.0));
            }
        }
        self.order.clear();
        self.order.extend(0..self.pairs.len() as u32);
        let pairs = &self.pairs;
        self.order.sort_unstable_by(|&a, &b| {
            pairs[a as usize].reduced.total_cmp(&pairs[b as usize].reduced).then(a.cmp(&b))
        });
        self.charge_all();
    }

    /// What all rows are charged, and the distance, afresh.
    fn charge_all(&mut self) {
        self.rows.iter_mut().for_each(|row| row.charge = row.charged(row.room));
        self.over = self.rows.iter().filter(|row| row.over()).count();
        let reduced = self.current.iter().map(|&pair| self.pairs[pair as usize].reduced).sum::<f64>();
        self.distance = reduced + self.rows.iter().map(|row| row.charge).sum::<f64>();
    }

    /// Keeps the assignment when it is feasible and better.
    #[inline(always)]
    fn record(&mut self) {
        if self.over == 0 && self.distance < self.best.distance * (1.0 - 1e-9) {
            self.keep();
        }
    }

    #[inline(never)]
    fn keep(&mut self) {
        self.best.distance = self.distance;
        let model = self.best.model.get_or_insert_with(|| vec![0; self.lp.n]);
        for (slot, &pair) in model.iter_mut().zip(&self.current) {
            *slot = self.pairs[pair as usize].model;
        }
    }

    /// One round: proposals at a falling temperature.
    fn cool(&mut self, proposals: usize, target: f64) {
        let blocks = STEPS.max(proposals / POLL);
        let Cooling { hot, power, fall, reach, .. } = self.cooling;
        let fall = fall.powf(1.0 / blocks as f64);
        let mut temperature = hot * (64.0 / self.lp.n.max(16) as f64).powf(power);
        for _ in 0..blocks {
            if self.best.distance <= target || self.control.expired() {
                return;
            }
            self.reach(reach * temperature);
            for _ in 0..proposals.div_ceil(blocks) {
                self.propose(temperature);
            }
            temperature *= fall;
        }
    }

    /// Lists the pairs of reduced cost within reach, by the model that their query would leave.
    fn reach(&mut self, reach: f64) {
        let pairs = &self.pairs;
        let least = (self.cooling.least * self.lp.rows() + self.lp.n).min(self.order.len());
        self.active = self.order.partition_point(|&pair| pairs[pair as usize].reduced <= reach).max(least);
        self.leaving.iter_mut().for_each(Vec::clear);
        for &pair in &self.order[..self.active] {
            let at = self.current[pairs[pair as usize].query as usize];
            if at != pair {
                self.leaving[usize::from(pairs[at as usize].model)].push(pair);
            }
        }
    }

    /// One query to another model, alone or with ejections from where it goes; taken or undone.
    #[inline(always)]
    fn propose(&mut self, temperature: f64) {
        let to = self.order[self.random.below(self.active)] as usize;
        let i = self.pairs[to].query as usize;
        let from = self.current[i] as usize;
        if from == to {
            return;
        }
        let worst = self.distance + temperature * self.random.exponential();
        self.log.clear();
        let first = self.mark();
        self.shift(from, to);
        if self.distance < worst {
            self.current[i] = to as u32;
            self.record();
            return;
        }
        for _ in 0..EJECTIONS {
            let Some((k, out, next)) = self.ejected(to, [i, i], worst) else { continue };
            let second = self.mark();
            self.shift(out, next);
            if self.distance < worst {
                self.current[i] = to as u32;
                self.current[k] = next as u32;
                self.record();
                return;
            }
            if let Some((l, last, end)) = self.ejected(next, [i, k], worst) {
                self.shift(last, end);
                if self.distance < worst {
                    self.current[i] = to as u32;
                    self.current[k] = next as u32;
                    self.current[l] = end as u32;
                    self.record();
                    return;
                }
            }
            self.back(second);
        }
        self.back(first);
    }

    /// A query to eject from where a pair goes: the query, its pair, and its next one. None when even free rows
    /// would leave the distance above `worst`.
    #[inline(always)]
    fn ejected(&mut self, pair: usize, not: [usize; 2], worst: f64) -> Option<(usize, usize, usize)> {
        let model = self.pairs[pair].model;
        let leaving = &self.leaving[usize::from(model)];
        if leaving.is_empty() {
            return None;
        }
        let next = leaving[self.random.below(leaving.len())] as usize;
        let query = self.pairs[next].query as usize;
        let out = self.current[query] as usize;
        let fits = out != next && self.pairs[out].model == model && !not.contains(&query);
        (fits && self.least_after(out, next) < worst).then_some((query, out, next))
    }

    /// What the distance would be after a shift if the rows that it touches were charged nothing.
    #[inline(always)]
    fn least_after(&self, from: usize, to: usize) -> f64 {
        let width = if W > 0 { W } else { self.width };
        let mut least = self.distance + self.pairs[to].reduced - self.pairs[from].reduced - self.rows[0].charge;
        for t in 1..width {
            least -= self.rows[self.entries[from * width + t].0 as usize].charge;
            least -= self.rows[self.entries[to * width + t].0 as usize].charge;
        }
        least
    }

    fn mark(&self) -> Mark {
        Mark { distance: self.distance, over: self.over, log: self.log.len() }
    }

    /// Takes back what came after a mark.
    #[inline(always)]
    fn back(&mut self, mark: Mark) {
        while self.log.len() > mark.log {
            if let Some((k, row)) = self.log.pop() {
                self.rows[k as usize] = row;
            }
        }
        (self.distance, self.over) = (mark.distance, mark.over);
    }

    /// Moves the sums from one pair of a query to another.
    #[inline(always)]
    fn shift(&mut self, from: usize, to: usize) {
        let width = if W > 0 { W } else { self.width };
        self.distance += self.pairs[to].reduced - self.pairs[from].reduced;
        let (from, to) = (from * width, to * width);
        self.change(0, self.entries[from].1 - self.entries[to].1);
        for t in 1..width {
            let (old, new) = (self.entries[from + t], self.entries[to + t]);
            self.change(old.0 as usize, old.1);
            self.change(new.0 as usize, -new.1);
        }
    }

    #[inline(always)]
    fn change(&mut self, k: usize, by: f64) {
        let row = &mut self.rows[k];
        self.log.push((k as u32, *row));
        let over = row.over();
        row.room += by;
        let charge = row.charged(row.room);
        self.distance += charge - row.charge;
        self.over = self.over + usize::from(row.over()) - usize::from(over);
        row.charge = charge;
    }
}
