//! The screening pass over rows as they lie in memory, sixteen queries at a time: the rows of a tile are turned into
//! columns, and then every query is a lane.

use std::ops::Range;

use super::columns::{SideColumns, turn};
use super::kernel::{Kernel, Lists, Weights};
use super::tile::{Exact, ROWS, Tally, Tile};
use crate::problem::Matrix;
use crate::screen::Chunk;
use crate::simd::vector::{Even, Portable, Vector};

/// Values from here on mean "not allowed".
const HUGE: f32 = 1e30;
/// Rounding of a single-precision value of a few parts, relative to them, with room to spare.
const MARGIN: f32 = 2e-6;
/// How many rows ahead a scattered list is fetched.
const AHEAD: usize = 32;

/// Keys of the rows, and room for the places of the open ones.
pub(crate) type Out<'a> = (&'a mut [u8], &'a mut [u32]);

/// Screens a chunk of rows and writes their keys. `exact` decides rows that single precision cannot.
pub(crate) fn screen(
    kernel: &Kernel<'_>,
    lists: &Lists<'_>,
    range: Range<usize>,
    (key, open): Out<'_>,
    exact: impl Fn(usize) -> (usize, bool),
) -> Chunk {
    kernel.check();
    #[cfg(target_arch = "x86_64")]
    {
        if crate::simd::avx512() {
            // SAFETY: the processor has the features, and the lengths were checked above.
            return unsafe { with_avx512(kernel, lists, range, (key, open), &exact) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, and the lengths were checked above.
            return unsafe { with_avx2(kernel, lists, range, (key, open), &exact) };
        }
    }
    // SAFETY: `Portable` needs no features, and the lengths were checked above.
    unsafe { scan::<Portable>(kernel, lists, range, (key, open), &exact) }
}

/// # Safety
/// The processor has the features below; the kernel was checked.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,popcnt")]
unsafe fn with_avx512(
    kernel: &Kernel<'_>,
    lists: &Lists<'_>,
    range: Range<usize>,
    (key, open): Out<'_>,
    exact: Exact<'_>,
) -> Chunk {
    // SAFETY: passed on.
    unsafe { scan::<crate::simd::vector::Avx512>(kernel, lists, range, (key, open), exact) }
}

/// # Safety
/// The processor has AVX2; the kernel was checked.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn with_avx2(
    kernel: &Kernel<'_>,
    lists: &Lists<'_>,
    range: Range<usize>,
    (key, open): Out<'_>,
    exact: Exact<'_>,
) -> Chunk {
    // SAFETY: passed on.
    unsafe { scan::<crate::simd::vector::Avx2>(kernel, lists, range, (key, open), exact) }
}

/// # Safety
/// The processor has the features of `V`; the kernel was checked.
#[inline(always)]
unsafe fn scan<V: Vector>(
    kernel: &Kernel<'_>,
    lists: &Lists<'_>,
    range: Range<usize>,
    (key, open): Out<'_>,
    exact: Exact<'_>,
) -> Chunk {
    assert!(key.len() == range.len() && open.len() == range.len(), "room for every row");
    let mut tally = Tally::new(kernel);
    let mut listed = 0;
    let (scattered, plain) = (lists.scattered(), kernel.is_plain());
    // SAFETY: `V`'s features are there.
    let mut columns = unsafe { Columns::<V>::new(kernel) };
    for (t, keys) in key.chunks_mut(ROWS).enumerate() {
        let start = range.start + t * ROWS;
        let (mut places, query) = lists.tile(start, range.end);
        assert!(query.iter().all(|&query| query < kernel.queries), "lists hold queries");
        if scattered && start + AHEAD < range.end {
            fetch::<V>(kernel, &lists.tile(start + AHEAD, range.end).1);
        }
        let mut tile = Tile::new(query, keys.len());
        let even = !scattered && keys.len() == ROWS;
        for half in 0..ROWS / V::WIDTH {
            // SAFETY: `V`'s features are there, the kernel was checked, and every query is below its number; the queries of
            // a whole tile of no list are consecutive.
            unsafe {
                match (plain, even) {
                    (true, true) => columns.judge::<true, true>(&mut tile, half),
                    (true, false) => columns.judge::<true, false>(&mut tile, half),
                    (false, true) => columns.judge::<false, true>(&mut tile, half),
                    (false, false) => columns.judge::<false, false>(&mut tile, half),
                }
            }
        }
        tile.settle(kernel, exact);
        keys.copy_from_slice(&tile.key[..keys.len()]);
        tally.add(kernel, &tile);
        let found = tile.open.count_ones() as usize;
        // SAFETY: `V`'s features are there.
        unsafe { V::pack(&mut places, tile.open) };
        match open.get_mut(listed..listed + ROWS) {
            Some(slots) => slots.copy_from_slice(&places),
            None => open[listed..listed + found].copy_from_slice(&places[..found]),
        }
        listed += found;
    }
    tally.finish(listed)
}

/// Asks for rows before they are needed.
#[inline(always)]
fn fetch<V: Vector>(kernel: &Kernel<'_>, query: &[usize; ROWS]) {
    let bytes = |matrix: Matrix<'_>| match matrix {
        Matrix::F32(values) => (values.as_ptr().cast::<u8>(), 4 * kernel.width),
        Matrix::F64(values) => (values.as_ptr().cast::<u8>(), 8 * kernel.width),
    };
    for (from, row) in [bytes(kernel.cost), bytes(kernel.quality)] {
        for query in query {
            // SAFETY: a prefetch reads nothing.
            unsafe { V::prefetch(from.wrapping_add(query * row)) };
        }
    }
}

/// The columns of a tile, one vector a model.
struct Columns<'a, V> {
    kernel: &'a Kernel<'a>,
    cost: Vec<V>,
    quality: Vec<V>,
    /// One after the other for loads of their own; empty for requests.
    load: Vec<Vec<V>>,
    side: Vec<SideColumns<V>>,
    value: Vec<V>,
    bounded: f32,
}

impl<'a, V: Vector> Columns<'a, V> {
    /// # Safety
    /// The processor has the features of `V`; the kernel was checked, and it is for every function below.
    #[inline(always)]
    unsafe fn new(kernel: &'a Kernel<'a>) -> Self {
        let width = kernel.width.next_multiple_of(4);
        // SAFETY: the features are there.
        let zero = unsafe { V::splat(0.0) };
        let empty = vec![zero; width];
        let load = kernel.loads.iter().map(|load| load.values.map_or(vec![], |_| empty.clone())).collect();
        // Rounding grows with the number of parts.
        let bounded = MARGIN * (1.0 + (kernel.loads.len() + kernel.sides.len()) as f32 / 4.0);
        let side =
            vec![SideColumns { figure: empty.clone(), price: zero, radius: zero, key: zero }; kernel.sides.len()];
        Self { kernel, cost: empty.clone(), quality: empty.clone(), load, side, value: empty, bounded }
    }

    /// Keys of `WIDTH` queries, and which of them are open.
    ///
    /// # Safety
    /// Every query of the tile is one of the kernel's; with `EVEN` they are consecutive.
    #[inline(always)]
    unsafe fn judge<const PLAIN: bool, const EVEN: bool>(&mut self, tile: &mut Tile, half: usize) {
        let kernel = self.kernel;
        let (m, first) = (kernel.models, half * V::WIDTH);
        let query = &tile.query[first..first + V::WIDTH];
        // SAFETY: as the caller says; the arrays on the stack have `ROWS` entries.
        unsafe {
            let at = self.read::<EVEN>(query);
            let (zero, one, huge) = (V::splat(0.0), V::splat(1.0), V::splat(HUGE));
            // How large the parts of side rows are, which may cancel, and their sum, which shows what is no number.
            let (mut largest, mut total) = (zero, zero);
            let [wc, wa, bc, ba] = weights::<V>(kernel, query);
            let (mut least, mut key, mut index) = (huge, zero, zero);
            let (mut key_cost, mut key_quality, mut reach) = (zero, zero, zero);
            let (cost, quality, value) = (&self.cost[..m], &self.quality[..m], &mut self.value[..m]);
            let first_load = kernel.loads.first();
            let (price, radius) = first_load.map_or((&[][..], &[][..]), |load| (&load.price[..m], &load.radius[..m]));
            for j in 0..m {
                let (c, a) = (cost[j], quality[j]);
                let mut v = c.mul(wc).sub(a.mul(wa));
                let mut r = zero;
                if PLAIN {
                    v = v.add(V::splat(price[j]));
                    r = V::splat(radius[j]);
                } else {
                    for (load, column) in kernel.loads.iter().zip(&self.load) {
                        let w = if column.is_empty() { one } else { column[j] };
                        v = v.add(V::splat(load.price[j]).mul(w));
                        r = r.add(V::splat(load.radius[j]).mul(w));
                    }
                    let mut part = zero;
                    for side in &self.side {
                        let figure = side.figure[j];
                        v = v.add(side.price.mul(figure));
                        part = part.add(side.price.abs().add(side.radius).mul(figure.abs()));
                    }
                    if let Some(allowed) = kernel.allowed {
                        let mut shut = [0.0; ROWS];
                        for (slot, &at) in shut.iter_mut().zip(&at[..V::WIDTH]) {
                            *slot = if allowed[at + kernel.column(j)] { 0.0 } else { 1.0 };
                        }
                        let may = V::load(shut.as_ptr()).eq(zero);
                        v = V::select(may, v, huge);
                        part = V::select(may, part, zero);
                    }
                    largest = V::select(largest.lt(part), part, largest);
                    total = total.add(part);
                }
                let less = v.lt(least);
                least = V::select(less, v, least);
                key = V::select(less, index, key);
                key_cost = V::select(less, c, key_cost);
                key_quality = V::select(less, a, key_quality);
                reach = V::select(less, r, reach);
                if !PLAIN {
                    self.side.iter_mut().for_each(|side| side.key = V::select(less, side.figure[j], side.key));
                }
                index = index.add(one);
                value[j] = v;
            }
            let margin = V::splat(self.bounded).mul(one.add(wa).add(least.abs()).add(largest));
            let limit = least.add(reach.add(margin));
            let mut open = 0;
            let on_cost = kernel.weights[0].box_on_cost > 0.0;
            let (of, key_of, weight) = if on_cost { (cost, key_cost, bc) } else { (quality, key_quality, ba) };
            // The key is always near: another model must be too.
            let mut once = 0;
            for j in 0..m {
                let mut v = value[j];
                if PLAIN {
                    v = v.sub(of[j].sub(key_of).abs().mul(weight)).sub(V::splat(radius[j]));
                } else {
                    v = v.sub(cost[j].sub(key_cost).abs().mul(bc)).sub(quality[j].sub(key_quality).abs().mul(ba));
                    for (load, column) in kernel.loads.iter().zip(&self.load) {
                        let w = if column.is_empty() { one } else { column[j] };
                        v = v.sub(V::splat(load.radius[j]).mul(w));
                    }
                    for side in &self.side {
                        v = v.sub(side.figure[j].sub(side.key).abs().mul(side.radius));
                    }
                }
                let near = V::bits(v.le(limit));
                open |= once & near;
                once |= near;
            }
            let fine = V::bits(least.lt(V::splat(HUGE / 10.0))) & V::bits(total.lt(V::splat(HUGE / 10.0)));
            let odd = !fine & ((1 << V::WIDTH) - 1);
            let mut keys = [0.0; ROWS];
            key.store(keys.as_mut_ptr());
            for (slot, key) in tile.key[first..first + V::WIDTH].iter_mut().zip(keys) {
                // Beside 2^23 a whole number stands in the lowest bits.
                *slot = (key + 8_388_608.0).to_bits() as u8;
            }
            key_cost.store(tile.narrow[0][first..].as_mut_ptr());
            key_quality.store(tile.narrow[1][first..].as_mut_ptr());
            tile.open |= open << first;
            tile.odd |= odd << first;
        }
    }
}

impl<V: Vector> Columns<'_, V> {
    /// Reads the rows of `WIDTH` queries and returns where they begin.
    ///
    /// # Safety
    /// As for `judge`.
    #[inline(always)]
    unsafe fn read<const EVEN: bool>(&mut self, query: &[usize]) -> [usize; ROWS] {
        let (kernel, width) = (self.kernel, self.kernel.width);
        let (mut at, mut last) = ([0; ROWS], 0);
        for (slot, &query) in at.iter_mut().zip(query) {
            *slot = query * width;
            last = if *slot > last { *slot } else { last };
        }
        // SAFETY: as the caller says.
        unsafe {
            for (side, columns) in kernel.sides.iter().zip(&mut self.side) {
                columns.read::<EVEN>(kernel, side, query, &at);
            }
            let loads = kernel.loads.iter().zip(&mut self.load);
            let loads = loads.filter_map(|(load, column)| load.values.map(|values| (values, column)));
            for (matrix, column) in
                [(kernel.cost, &mut self.cost), (kernel.quality, &mut self.quality)].into_iter().chain(loads)
            {
                if EVEN {
                    turn(matrix, width, Even(at[0], width), last, column);
                } else {
                    turn(matrix, width, &at, last, column);
                }
                if let Some(columns) = kernel.columns {
                    // Ascending: nothing is overwritten before it has moved.
                    columns.iter().enumerate().for_each(|(j, &from)| column[j] = column[usize::from(from)]);
                }
            }
        }
        at
    }
}

/// The weights of some queries: cost, quality, and the box on both.
///
/// # Safety
/// The processor has the features of `V`, and there are `WIDTH` queries of the kernel.
#[inline(always)]
unsafe fn weights<V: Vector>(kernel: &Kernel<'_>, query: &[usize]) -> [V; 4] {
    let each = |w: &Weights| [w.cost, w.quality, w.box_on_cost, w.box_on_quality];
    let Some(group) = kernel.group else {
        let [cost, quality, on_cost, on_quality] = each(&kernel.weights[0]);
        // SAFETY: the features are there.
        return unsafe { [V::splat(cost), V::splat(quality), V::splat(on_cost), V::splat(on_quality)] };
    };
    let mut lanes = [[0.0; ROWS]; 4];
    for (l, &query) in query.iter().enumerate() {
        for (lane, x) in lanes.iter_mut().zip(each(&kernel.weights[group[query] as usize])) {
            lane[l] = x;
        }
    }
    // SAFETY: the features are there, and `ROWS` is at least `WIDTH`.
    unsafe {
        let [a, b, c, d] = &lanes;
        [V::load(a.as_ptr()), V::load(b.as_ptr()), V::load(c.as_ptr()), V::load(d.as_ptr())]
    }
}

/// The same rows by every kind of vector that this machine has.
#[cfg(test)]
pub(crate) mod tests_only {
    use super::{Chunk, Kernel, Lists, Portable, scan};

    /// Keys, open places and sums.
    pub(crate) fn screen_with_each(
        kernel: &Kernel<'_>,
        lists: &Lists<'_>,
        count: usize,
    ) -> Vec<(Vec<u8>, Vec<u32>, Chunk)> {
        let exact = |query: usize| (query % kernel.models, false);
        kernel.check();
        let run = |how: &dyn Fn(super::Out<'_>) -> Chunk| {
            let (mut key, mut open) = (vec![0; count], vec![0; count]);
            let chunk = how((&mut key, &mut open));
            open.truncate(chunk.open);
            (key, open, chunk)
        };
        // SAFETY: `Portable` needs no features, and the kernel was checked.
        let mut found = vec![run(&|out| unsafe { scan::<Portable>(kernel, lists, 0..count, out, &exact) })];
        #[cfg(target_arch = "x86_64")]
        {
            if crate::simd::avx512() {
                // SAFETY: the processor has the features, and the kernel was checked.
                found.push(run(&|out| unsafe { super::with_avx512(kernel, lists, 0..count, out, &exact) }));
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2, and the kernel was checked.
                found.push(run(&|out| unsafe { super::with_avx2(kernel, lists, 0..count, out, &exact) }));
            }
        }
        found
    }
}
