//! The screening pass over rows as they lie in memory: one query at a time, its models in the lanes.

use std::ops::Range;

use crate::problem::Matrix;
use crate::screen::{Chunk, Sums};
use crate::simd::vector::{Portable, Vector};

/// Values from here on mean "not allowed".
const HUGE: f32 = 1e30;
/// Rounding of a single-precision value, relative to its parts, with room to spare.
const MARGIN: f32 = 2e-6;
/// How many rows ahead a scattered list is fetched.
const AHEAD: usize = 24;

/// A pass: the data as given, and the multipliers folded into weights.
pub(crate) struct Kernel<'a> {
    pub queries: usize,
    pub models: usize,
    pub cost: Matrix<'a>,
    pub quality: Matrix<'a>,
    /// All loads, and the resource of this pass.
    pub load: Option<(Matrix<'a>, usize)>,
    pub allowed: Option<&'a [bool]>,
    /// `v = cost_weight * c - quality_weight * a + price_j * w`.
    pub cost_weight: f32,
    pub quality_weight: f32,
    /// The box acts on differences of cost (else of quality), with this weight, and on loads by `radius`.
    pub box_on_cost: bool,
    pub box_weight: f32,
    pub price: Vec<f32>,
    pub radius: Vec<f32>,
    /// Bound of the part of a value that can cancel.
    pub bounded: f32,
}

/// Which rows: places among the served queries, and those queries.
pub(crate) struct Lists<'a> {
    pub places: Option<&'a [u32]>,
    pub served: Option<&'a [u32]>,
}

impl Lists<'_> {
    #[inline(always)]
    fn place(&self, at: usize) -> usize {
        self.places.map_or(at, |places| places[at] as usize)
    }

    #[inline(always)]
    fn query(&self, at: usize) -> usize {
        let place = self.place(at);
        self.served.map_or(place, |served| served[place] as usize)
    }

    fn scattered(&self) -> bool {
        self.places.is_some() || self.served.is_some()
    }
}

/// A number that a row pass can read: single or double precision.
trait Element: Copy + Into<f64> {
    /// # Safety
    /// As [`Vector::load`].
    unsafe fn load<V: Vector>(from: *const Self, lanes: usize) -> V;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self, lanes: usize) -> V {
        // SAFETY: passed on.
        unsafe { V::load(from, lanes) }
    }
}

impl Element for f64 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self, lanes: usize) -> V {
        // SAFETY: passed on.
        unsafe { V::load_f64(from, lanes) }
    }
}

/// Decides one query in double precision: its key, and whether it is safe.
type Exact<'a> = &'a dyn Fn(usize) -> (usize, bool);

/// The arrays of a pass in one type, checked to hold every row.
#[derive(Clone, Copy)]
struct Data<'a, T> {
    cost: &'a [T],
    quality: &'a [T],
    load: Option<&'a [T]>,
}

/// Screens a chunk of rows. `exact` decides rows that single precision cannot. `None` when the arrays differ in type.
pub(crate) fn screen(
    kernel: &Kernel<'_>,
    lists: &Lists<'_>,
    range: Range<usize>,
    exact: impl Fn(usize) -> (usize, bool),
) -> Chunk {
    let size = kernel.queries * kernel.models;
    match (kernel.cost, kernel.quality, kernel.load) {
        (Matrix::F32(cost), Matrix::F32(quality), None) => {
            typed(kernel, Data { cost, quality, load: None }, lists, range, &exact)
        }
        (Matrix::F64(cost), Matrix::F64(quality), None) => {
            typed(kernel, Data { cost, quality, load: None }, lists, range, &exact)
        }
        (Matrix::F32(cost), Matrix::F32(quality), Some((Matrix::F32(load), resource))) => {
            let load = Some(&load[resource * size..(resource + 1) * size]);
            typed(kernel, Data { cost, quality, load }, lists, range, &exact)
        }
        (Matrix::F64(cost), Matrix::F64(quality), Some((Matrix::F64(load), resource))) => {
            let load = Some(&load[resource * size..(resource + 1) * size]);
            typed(kernel, Data { cost, quality, load }, lists, range, &exact)
        }
        _ => unreachable!("`Kernel` is only made when the arrays share a type"),
    }
}

/// Checks the lengths that the unsafe reads below rely on, and picks the widest vectors there are.
fn typed<T: Element>(
    kernel: &Kernel<'_>,
    data: Data<'_, T>,
    lists: &Lists<'_>,
    range: Range<usize>,
    exact: Exact<'_>,
) -> Chunk {
    let size = kernel.queries * kernel.models;
    assert!(data.cost.len() >= size && data.quality.len() >= size, "arrays hold every row");
    assert!(data.load.is_none_or(|load| load.len() >= size), "loads hold every row");
    assert!(kernel.allowed.is_none_or(|allowed| allowed.len() >= size), "the mask holds every row");
    #[cfg(target_arch = "x86_64")]
    {
        if crate::simd::avx512() {
            // SAFETY: the processor has the features, and the lengths were checked above.
            return unsafe { with_avx512(kernel, data, lists, range, exact) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, and the lengths were checked above.
            return unsafe { with_avx2(kernel, data, lists, range, exact) };
        }
    }
    // SAFETY: `Portable` needs no features, and the lengths were checked above.
    unsafe { sized::<Portable, T>(kernel, data, lists, range, exact) }
}

/// # Safety
/// The processor has the features below; the arrays hold `queries * models` entries.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,popcnt")]
unsafe fn with_avx512<T: Element>(
    kernel: &Kernel<'_>,
    data: Data<'_, T>,
    lists: &Lists<'_>,
    range: Range<usize>,
    exact: Exact<'_>,
) -> Chunk {
    // SAFETY: passed on.
    unsafe { sized::<crate::simd::vector::Avx512, T>(kernel, data, lists, range, exact) }
}

/// # Safety
/// The processor has AVX2; the arrays hold `queries * models` entries.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn with_avx2<T: Element>(
    kernel: &Kernel<'_>,
    data: Data<'_, T>,
    lists: &Lists<'_>,
    range: Range<usize>,
    exact: Exact<'_>,
) -> Chunk {
    // SAFETY: passed on.
    unsafe { sized::<crate::simd::vector::Avx2, T>(kernel, data, lists, range, exact) }
}

/// Picks the number of vectors a row takes, and whether there are loads or masks.
///
/// # Safety
/// The processor has the features of `V`; the arrays hold `queries * models` entries.
#[inline(always)]
unsafe fn sized<V: Vector, T: Element>(
    kernel: &Kernel<'_>,
    data: Data<'_, T>,
    lists: &Lists<'_>,
    range: Range<usize>,
    exact: Exact<'_>,
) -> Chunk {
    let plain = data.load.is_none() && kernel.allowed.is_none();
    // SAFETY: passed on.
    unsafe {
        match (kernel.models.div_ceil(V::WIDTH), plain) {
            (0..=1, true) => scan::<V, T, 1, true>(kernel, data, lists, range, exact),
            (0..=1, false) => scan::<V, T, 1, false>(kernel, data, lists, range, exact),
            (2, true) => scan::<V, T, 2, true>(kernel, data, lists, range, exact),
            (2, false) => scan::<V, T, 2, false>(kernel, data, lists, range, exact),
            (3..=8, true) => scan::<V, T, 8, true>(kernel, data, lists, range, exact),
            (3..=8, false) => scan::<V, T, 8, false>(kernel, data, lists, range, exact),
            (_, true) => scan::<V, T, 32, true>(kernel, data, lists, range, exact),
            (_, false) => scan::<V, T, 32, false>(kernel, data, lists, range, exact),
        }
    }
}

/// Bits of the lanes of one vector that are padding or not allowed.
#[inline(always)]
fn closed(allowed: Option<&[bool]>, at: usize, lanes: usize, padding: u32) -> u32 {
    let Some(allowed) = allowed else { return padding };
    let row = &allowed[at..at + lanes];
    row.iter().enumerate().fold(padding, |bits, (l, &may)| bits | u32::from(!may) << l)
}

/// The pass itself: `R` vectors a row.
///
/// # Safety
/// The processor has the features of `V`; the arrays hold `queries * models` entries.
#[inline(always)]
unsafe fn scan<V: Vector, T: Element, const R: usize, const PLAIN: bool>(
    kernel: &Kernel<'_>,
    data: Data<'_, T>,
    lists: &Lists<'_>,
    range: Range<usize>,
    exact: Exact<'_>,
) -> Chunk {
    let m = kernel.models;
    let empty = || Sums { load: vec![0.0; m], ..Sums::default() };
    let mut chunk = Chunk { all: empty(), safe: empty(), ..Chunk::default() };
    chunk.key.reserve_exact(range.len());
    // SAFETY: `V`'s features are there, and every pointer is to a row of a query below `queries` (asserted), whose
    // `models` entries lie inside arrays of `queries * models`.
    unsafe {
        let splat = |x: f32| V::splat(x);
        let (wc, wa, wb) = (splat(kernel.cost_weight), splat(kernel.quality_weight), splat(kernel.box_weight));
        let lanes: [usize; R] = std::array::from_fn(|g| m.saturating_sub(g * V::WIDTH).min(V::WIDTH));
        let all = if V::WIDTH == 32 { u32::MAX } else { (1 << V::WIDTH) - 1 };
        let padding: [u32; R] = std::array::from_fn(|g| all & !((1u32 << lanes[g]) - 1));
        let spread = |from: &[f32], pad: f32| -> [V; R] {
            std::array::from_fn(|g| {
                let at = (g * V::WIDTH).min(m);
                V::load(from[at..].as_ptr(), lanes[g]).put(padding[g], pad)
            })
        };
        let price = spread(&kernel.price, HUGE);
        let radius = spread(&kernel.radius, 0.0);
        let scattered = lists.scattered();
        for at in range.clone() {
            if scattered {
                let next = lists.query((at + AHEAD).min(range.end - 1)) * m;
                V::prefetch(data.cost.as_ptr().wrapping_add(next));
                V::prefetch(data.quality.as_ptr().wrapping_add(next));
            }
            let query = lists.query(at);
            assert!(query < kernel.queries, "lists hold queries");
            let row = query * m;
            let (c, a) = (data.cost.as_ptr().add(row), data.quality.as_ptr().add(row));
            let (mut v, mut d, mut w) = ([splat(0.0); R], [splat(0.0); R], [splat(1.0); R]);
            let mut least = splat(HUGE);
            for g in 0..R {
                let from = (g * V::WIDTH).min(m);
                let (x, z) = (T::load::<V>(c.add(from), lanes[g]), T::load::<V>(a.add(from), lanes[g]));
                let value = x.mul(wc).sub(z.mul(wa));
                d[g] = if kernel.box_on_cost { x } else { z };
                v[g] = if PLAIN {
                    value.add(price[g])
                } else {
                    if let Some(load) = data.load {
                        w[g] = T::load::<V>(load.as_ptr().add(row + from), lanes[g]);
                    }
                    value.add(price[g].mul(w[g])).put(closed(kernel.allowed, row + from, lanes[g], padding[g]), HUGE)
                };
                least = least.min(v[g]);
            }
            let least = least.least();
            let mut key = 0;
            let mut open = 0;
            if least < HUGE / 10.0 {
                for g in (0..R).rev() {
                    let equal = v[g].eq(splat(least));
                    if equal != 0 {
                        key = g * V::WIDTH + equal.trailing_zeros() as usize;
                    }
                }
                let chosen = if kernel.box_on_cost { *c.add(key) } else { *a.add(key) };
                let chosen: f64 = chosen.into();
                let load = data.load.map_or(1.0, |load| load[row + key].into() as f32);
                let slack = kernel.radius[key] * load + MARGIN * (kernel.bounded + least.abs());
                let (chosen, limit) = (splat(chosen as f32), splat(least + slack));
                for g in 0..R {
                    let moves = d[g].sub(chosen).abs().mul(wb);
                    let shift = if PLAIN { radius[g] } else { radius[g].mul(w[g]) };
                    let mut near = v[g].sub(moves).sub(shift).le(limit);
                    if key / V::WIDTH == g {
                        near &= !(1 << (key % V::WIDTH));
                    }
                    open |= near;
                }
            } else {
                let (exact_key, safe) = exact(query);
                key = exact_key;
                open = u32::from(!safe);
            }
            let (cost, quality): (f64, f64) = ((*c.add(key)).into(), (*a.add(key)).into());
            let load = data.load.map_or(1.0, |load| load[row + key].into());
            let safe = f64::from(u8::from(open == 0));
            chunk.key.push(key as u8);
            if open != 0 {
                chunk.open.push(lists.place(at) as u32);
            }
            chunk.all.cost += cost;
            chunk.all.quality += quality;
            chunk.all.load[key] += load;
            chunk.safe.cost += cost * safe;
            chunk.safe.quality += quality * safe;
            chunk.safe.load[key] += load * safe;
        }
    }
    chunk
}

/// The same rows by every kind of vector that this machine has.
#[cfg(test)]
pub(crate) mod tests_only {
    use super::{Chunk, Data, Element, Kernel, Lists, Matrix, Portable, sized};

    pub(crate) fn screen_with_each(kernel: &Kernel<'_>, lists: &Lists<'_>, count: usize) -> Vec<Chunk> {
        let size = kernel.queries * kernel.models;
        match (kernel.cost, kernel.quality, kernel.load) {
            (Matrix::F32(cost), Matrix::F32(quality), load) => {
                let load = load.map(|(load, _)| if let Matrix::F32(load) = load { load } else { &[] });
                with_each(kernel, Data { cost: &cost[..size], quality: &quality[..size], load }, lists, count)
            }
            (Matrix::F64(cost), Matrix::F64(quality), load) => {
                let load = load.map(|(load, _)| if let Matrix::F64(load) = load { load } else { &[] });
                with_each(kernel, Data { cost: &cost[..size], quality: &quality[..size], load }, lists, count)
            }
            _ => vec![],
        }
    }

    fn with_each<T: Element>(kernel: &Kernel<'_>, data: Data<'_, T>, lists: &Lists<'_>, count: usize) -> Vec<Chunk> {
        let exact = |query: usize| (query % kernel.models, false);
        assert!(data.load.is_none_or(|load| load.len() >= kernel.queries * kernel.models));
        // SAFETY: `Portable` needs no features, and the arrays hold every row.
        let mut found = vec![unsafe { sized::<Portable, T>(kernel, data, lists, 0..count, &exact) }];
        #[cfg(target_arch = "x86_64")]
        {
            if crate::simd::avx512() {
                // SAFETY: the processor has the features, and the arrays hold every row.
                found.push(unsafe { super::with_avx512(kernel, data, lists, 0..count, &exact) });
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2, and the arrays hold every row.
                found.push(unsafe { super::with_avx2(kernel, data, lists, 0..count, &exact) });
            }
        }
        found
    }
}
