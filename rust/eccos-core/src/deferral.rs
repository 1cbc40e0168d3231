//! Who is served when not everything fits.
//!
//! Queries are taken by priority, then in their order. With one request a query, the sets that fit together are those that
//! can be matched into the slots (a transversal matroid), so taking each query whenever the ones before it can
//! be rearranged to make room serves the lexicographically best set. With loads of their own that is bin packing:
//! each query then goes where it uses the smallest share of what is left.

use crate::control::Control;
use crate::problem::{Problem, Room};

/// Queries between two looks at the clock.
const POLL: usize = 1024;

/// The queries served, and where each fits.
pub(crate) struct Packing {
    /// Ascending.
    pub served: Vec<u32>,
    /// A model for every served query, within all capacities.
    pub model: Vec<u8>,
}

impl Packing {
    fn new(mut placed: Vec<(u32, u8)>) -> Self {
        placed.sort_unstable();
        Self { served: placed.iter().map(|&(i, _)| i).collect(), model: placed.iter().map(|&(_, j)| j).collect() }
    }

    /// The model of each of so many queries, -1 when it is not served.
    pub fn spread(&self, queries: usize) -> Vec<i32> {
        let mut model = vec![-1; queries];
        for (&query, &j) in self.served.iter().zip(&self.model) {
            model[query as usize] = i32::from(j);
        }
        model
    }
}

/// A matching of requests into slots.
pub(crate) struct Matching {
    pub packing: Packing,
    /// False when the time was up before every query had been tried with rearrangements.
    pub complete: bool,
}

/// Queries by priority, then in their order.
fn by_priority(problem: &Problem<'_>) -> Vec<u32> {
    let mut order = routable(problem);
    if let Some(priority) = problem.input.priority {
        order.sort_by_key(|&i| std::cmp::Reverse(priority[i as usize]));
    }
    order
}

fn routable(problem: &Problem<'_>) -> Vec<u32> {
    problem.routable.clone().unwrap_or_else(|| (0..problem.queries() as u32).collect())
}

/// One request a query: the best set that fits, and where; `None` when everything does without looking, and when models
/// share capacities, which slots of their own do not express.
pub(crate) fn match_requests(problem: &Problem<'_>, control: &Control<'_>) -> Option<Matching> {
    problem.input.capacity?;
    if !problem.input.pools.is_empty() {
        return None;
    }
    let (n, m) = (problem.routable.as_ref().map_or(problem.queries(), Vec::len), problem.models());
    let room: Vec<usize> = (0..m).map(|j| problem.whole_capacity(0, j).min(n as f64) as usize).collect();
    if problem.usable.is_none() {
        let total: usize = room.iter().sum();
        if total >= n {
            return None;
        }
        let slots = room.iter().enumerate().flat_map(|(j, &room)| std::iter::repeat_n(j as u8, room));
        let placed = by_priority(problem).into_iter().zip(slots).collect();
        return Some(Matching { packing: Packing::new(placed), complete: true });
    }
    if room.iter().all(|&room| room >= n) {
        return None;
    }
    let mut slots = Slots::new(problem, room);
    let mut served = vec![];
    for (t, query) in by_priority(problem).into_iter().enumerate() {
        slots.hurried |= t % POLL == POLL - 1 && control.expired();
        if slots.place(query) {
            served.push(query);
        }
    }
    let placed = served.into_iter().map(|query| (query, slots.holds[query as usize])).collect();
    Some(Matching { packing: Packing::new(placed), complete: !slots.hurried })
}

/// No slot yet.
const NONE: u8 = u8::MAX;

/// Slots of every model and who holds them.
struct Slots<'a> {
    problem: &'a Problem<'a>,
    room: Vec<usize>,
    /// The model whose slot each query holds; only read of those that hold one.
    holds: Vec<u8>,
    placed: Vec<bool>,
    /// `movable[j * m + k]`: queries that held j when they were listed and that k may take. Those that have left j since
    /// are dropped when they come up, so every entry is looked at once. Empty until the first chain is looked for.
    movable: Vec<Vec<u32>>,
    /// Models from which no free slot can be reached any more; that never changes back.
    closed: Vec<bool>,
    /// Out of time: free slots only.
    hurried: bool,
}

impl<'a> Slots<'a> {
    fn new(problem: &'a Problem<'a>, room: Vec<usize>) -> Self {
        let (n, m) = (problem.queries(), room.len());
        let (holds, placed) = (vec![NONE; n], vec![false; n]);
        Self { problem, room, holds, placed, movable: vec![], closed: vec![false; m], hurried: false }
    }

    /// Gives the query a slot, moving others along a shortest chain of models when needed.
    fn place(&mut self, query: u32) -> bool {
        let m = self.room.len();
        let may = |j: usize| self.problem.may(query as usize, j);
        // Nearly always a model has room; filling the one with the most keeps chains rare.
        let open = (0..m).filter(|&j| self.room[j] > 0 && may(j));
        if let Some(j) = open.max_by_key(|&j| (self.room[j], std::cmp::Reverse(j))) {
            self.room[j] -= 1;
            self.hold(query, j);
            return true;
        }
        if self.hurried {
            return false;
        }
        let mut queue: Vec<usize> = (0..m).filter(|&j| !self.closed[j] && may(j)).collect();
        if queue.is_empty() {
            return false;
        }
        self.list_holders();
        let mut before = vec![None; m];
        let mut seen = vec![false; m];
        for &j in &queue {
            seen[j] = true;
        }
        let mut next = 0;
        while next < queue.len() {
            let j = queue[next];
            next += 1;
            if self.room[j] > 0 {
                self.room[j] -= 1;
                self.shift(query, j, &before);
                return true;
            }
            for k in 0..m {
                if !seen[k] && !self.closed[k] && self.holder(j, k).is_some() {
                    seen[k] = true;
                    before[k] = Some(j);
                    queue.push(k);
                }
            }
        }
        for j in queue {
            self.closed[j] = true;
        }
        false
    }

    /// Lists who may move where, the first time that it matters.
    fn list_holders(&mut self) {
        let m = self.room.len();
        if self.movable.is_empty() {
            self.movable = vec![vec![]; m * m];
            for query in 0..self.holds.len() as u32 {
                if self.placed[query as usize] {
                    self.list(query);
                }
            }
        }
    }

    fn list(&mut self, query: u32) {
        let (m, j) = (self.room.len(), usize::from(self.holds[query as usize]));
        for k in (0..m).filter(|&k| k != j && self.problem.may(query as usize, k)) {
            self.movable[j * m + k].push(query);
        }
    }

    /// A holder of j that k may take.
    fn holder(&mut self, j: usize, k: usize) -> Option<u32> {
        let list = &mut self.movable[j * self.room.len() + k];
        while let Some(&query) = list.last() {
            if usize::from(self.holds[query as usize]) == j {
                return Some(query);
            }
            list.pop();
        }
        None
    }

    /// Moves one holder along each link of the chain that ends at the free model `end`; the query takes its head.
    fn shift(&mut self, query: u32, end: usize, before: &[Option<usize>]) {
        let mut k = end;
        while let Some(j) = before[k] {
            let holder = self.holder(j, k).expect("the search came by a holder of j that k may take");
            self.hold(holder, k);
            k = j;
        }
        self.hold(query, k);
    }

    fn hold(&mut self, query: u32, j: usize) {
        self.holds[query as usize] = j as u8;
        self.placed[query as usize] = true;
        if !self.movable.is_empty() {
            self.list(query);
        }
    }
}

/// Loads of their own, or shared capacities: every query in turn to the model where it uses the smallest share of what is
/// left.
pub(crate) fn pack_loads(problem: &Problem<'_>, control: &Control<'_>) -> Packing {
    let m = problem.models();
    let mut room = Room::new(problem);
    let mut placed = vec![];
    for (t, query) in by_priority(problem).into_iter().enumerate() {
        if t % POLL == POLL - 1 && control.stopped() {
            break;
        }
        let i = query as usize;
        let options = (0..m).filter(|&j| problem.may(i, j)).map(|j| (room.share(i, j), j));
        let Some((share, j)) = options.min_by(|a, b| a.0.total_cmp(&b.0)) else {
            continue;
        };
        if share <= 1.0 {
            room.take(i, j);
            placed.push((query, j as u8));
        }
    }
    Packing::new(placed)
}
