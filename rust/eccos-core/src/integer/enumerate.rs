//! Small programs pair by pair: depth first over the queries, with the limits as given and no fractions at all.
//!
//! A partial assignment is dropped when its reduced costs exceed what an improving assignment may spend, or when what the
//! remaining queries use at least does not fit any row. Queries with few pairs left and heavy loads come first. The passes
//! allow ever more departures from the pair of least value (limited discrepancy), the last one any number: if that one
//! ends, the answer is proven.

use super::ledger::Ledger;
use crate::control::Control;
use crate::program::Lp;

/// Departures allowed in the first passes.
const PASSES: [usize; 4] = [2, 4, 8, usize::MAX];
/// Partial assignments between two looks at the clock.
const POLL: usize = 4096;

/// What a search came to.
pub(crate) struct Enumerated {
    /// The best assignment below the cutoff, and its objective.
    pub found: Option<(Vec<u8>, f64)>,
    /// Nothing was left out.
    pub complete: bool,
    pub nodes: usize,
}

/// One way on for a query.
struct Way {
    model: u8,
    reduced: f64,
    objective: f64,
    uses: Vec<(usize, f64)>,
}

struct Search<'a> {
    lp: &'a Lp,
    control: &'a Control<'a>,
    order: Vec<u32>,
    options: Vec<Vec<Way>>,
    /// `least[t * rows + k]`: what the queries from place t on use of row k at least.
    least: Vec<f64>,
    least_objective: Vec<f64>,
    room: Vec<f64>,
    /// What the sums of a row are rounded by, whatever their order: no reason to drop anything.
    rounding: Vec<f64>,
    /// Rows and their room before each step down.
    taken: Vec<(usize, f64)>,
    model: Vec<u8>,
    best: f64,
    found: Option<Vec<u8>>,
    nodes: usize,
    limit: usize,
    stopped: bool,
}

/// Looks for the assignment of least objective below `cutoff`, with so many partial assignments at most; `bound` is `g(y)`.
pub(crate) fn search(lp: &Lp, y: &[f64], bound: f64, cutoff: f64, nodes: usize, control: &Control<'_>) -> Enumerated {
    let mut search = Search::new(lp, y, cutoff - bound, cutoff, nodes, control);
    let mut complete = false;
    for departures in PASSES {
        let allowance = search.best - bound;
        search.descend(0, allowance, 0.0, departures);
        if search.stopped {
            break;
        }
        complete = departures == usize::MAX;
    }
    let best = search.best;
    Enumerated { found: search.found.map(|model| (model, best)), complete, nodes: search.nodes }
}

impl<'a> Search<'a> {
    fn new(lp: &'a Lp, y: &[f64], allowance: f64, cutoff: f64, limit: usize, control: &'a Control<'a>) -> Self {
        let rows = lp.rows();
        let mut options: Vec<Vec<Way>> = (0..lp.n).map(|i| ways(lp, y, i, allowance)).collect();
        let weight = |i: usize| -> f64 {
            options[i].iter().flat_map(|way| &way.uses).filter(|(k, _)| *k > 0).map(|(_, a)| a).sum::<f64>()
                / options[i].len().max(1) as f64
        };
        let mut order: Vec<u32> = (0..lp.n as u32).collect();
        order.sort_by(|&a, &b| {
            let single = |i: u32| options[i as usize].len() > 1;
            single(a).cmp(&single(b)).then(weight(b as usize).total_cmp(&weight(a as usize))).then(a.cmp(&b))
        });
        let mut least = vec![0.0; (lp.n + 1) * rows];
        let mut least_objective = vec![0.0; lp.n + 1];
        for t in (0..lp.n).rev() {
            let ways = &options[order[t] as usize];
            for k in 0..rows {
                let of = |way: &Way| way.uses.iter().filter(|(row, _)| *row == k).map(|(_, a)| a).sum::<f64>();
                let own = ways.iter().map(of).fold(f64::INFINITY, f64::min);
                least[t * rows + k] = least[(t + 1) * rows + k] + if own.is_finite() { own } else { 0.0 };
            }
            let own = ways.iter().map(|way| way.objective).fold(f64::INFINITY, f64::min);
            least_objective[t] = least_objective[t + 1] + own;
        }
        let mut rounding = vec![0.0; rows];
        for ways in &options {
            for (k, sum) in rounding.iter_mut().enumerate() {
                let of = |way: &Way| way.uses.iter().filter(|(row, _)| *row == k).map(|(_, a)| a.abs()).sum::<f64>();
                *sum += 4.0 * f64::EPSILON * lp.n as f64 * ways.iter().map(of).fold(0.0, f64::max);
            }
        }
        let ordered = order.iter().map(|&i| std::mem::take(&mut options[i as usize])).collect();
        let slack = Ledger::new(lp, &vec![0; lp.n]).slack().to_vec();
        Self {
            room: lp.limit.iter().zip(slack).map(|(b, slack)| b + slack).collect(),
            rounding,
            taken: vec![],
            lp,
            control,
            order,
            options: ordered,
            least,
            least_objective,
            model: vec![0; lp.n],
            best: cutoff,
            found: None,
            nodes: 0,
            limit,
            stopped: false,
        }
    }

    /// The depth is the number of queries, which is small here.
    fn descend(&mut self, t: usize, allowance: f64, objective: f64, departures: usize) {
        self.nodes += 1;
        self.stopped |= self.nodes >= self.limit || self.nodes.is_multiple_of(POLL) && self.control.expired();
        if self.stopped {
            return;
        }
        if t == self.order.len() {
            self.offer();
            return;
        }
        let rows = self.room.len();
        let needed = &self.least[t * rows..(t + 1) * rows];
        let room = self.room.iter().zip(&self.rounding);
        if needed.iter().zip(room).any(|(need, (room, rounding))| *need > room + rounding) {
            return;
        }
        let later = (t + 1) * rows;
        for way in 0..self.options[t].len() {
            let chosen = &self.options[t][way];
            let rest = objective + chosen.objective + self.least_objective[t + 1];
            if chosen.reduced > allowance || way > 0 && departures == 0 {
                break;
            }
            // A row whose figures are of either sign may be over its limit now and not when those after it are placed.
            let over = |&(k, a): &(usize, f64)| a + self.least[later + k] > self.room[k] + self.rounding[k];
            if rest >= self.best || chosen.uses.iter().any(over) {
                continue;
            }
            let (reduced, next) = (chosen.reduced, objective + chosen.objective);
            self.model[self.order[t] as usize] = chosen.model;
            let mark = self.taken.len();
            for u in 0..self.options[t][way].uses.len() {
                let (k, a) = self.options[t][way].uses[u];
                self.taken.push((k, self.room[k]));
                self.room[k] -= a;
            }
            let fewer = if way > 0 { departures.saturating_sub(1) } else { departures };
            let left = if departures == usize::MAX { departures } else { fewer };
            self.descend(t + 1, allowance - reduced, next, left);
            // The very room that there was: what is added back to a sum would leave a trace of its rounding each time.
            for (k, room) in self.taken.drain(mark..).rev() {
                self.room[k] = room;
            }
            if self.stopped {
                return;
            }
        }
    }

    /// A whole assignment: judged by the ledger, whose sums have one rounding.
    fn offer(&mut self) {
        let objective = self.lp.objective(&self.model);
        if objective < self.best && Ledger::new(self.lp, &self.model).holds() {
            self.best = objective;
            self.found = Some(self.model.clone());
        }
    }
}

/// The pairs of a query of reduced cost up to `allowance`, cheapest first.
fn ways(lp: &Lp, y: &[f64], i: usize, allowance: f64) -> Vec<Way> {
    let least = (0..lp.m).map(|j| lp.value(y, i, j)).fold(f64::INFINITY, f64::min);
    let of = |j: usize| {
        let mut uses = vec![];
        lp.each(i, j, |k, a| uses.push((k, a)));
        Way { model: j as u8, reduced: lp.value(y, i, j) - least, objective: lp.p[j * lp.stride + i], uses }
    };
    let mut ways: Vec<Way> =
        (0..lp.m).filter(|&j| lp.may(i, j)).map(of).filter(|way| way.reduced <= allowance).collect();
    ways.sort_by(|a, b| a.reduced.total_cmp(&b.reduced).then(a.model.cmp(&b.model)));
    ways
}
