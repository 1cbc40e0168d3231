//! Rows as they lie in memory, turned into columns: one vector a model, a query a lane.

use super::kernel::{Kernel, Side};
use super::tile::ROWS;
use crate::problem::Matrix;
use crate::simd::vector::{Even, Rows, Vector};

/// The figures of a side row, one vector a model, with their weights; 0 for queries that do not count.
#[derive(Clone)]
pub(super) struct SideColumns<V> {
    pub figure: Vec<V>,
    pub price: V,
    pub radius: V,
    /// The figure at the key.
    pub key: V,
}

impl<V: Vector> SideColumns<V> {
    /// The figures of a side row for `WIDTH` queries, which begin at `at`.
    ///
    /// # Safety
    /// The processor has the features of `V`, the kernel was checked, and the queries are of it; with `EVEN` they are consecutive.
    #[inline(always)]
    pub unsafe fn read<const EVEN: bool>(
        &mut self,
        kernel: &Kernel<'_>,
        Side { row, price, radius }: &Side<'_>,
        query: &[usize],
        at: &[usize; ROWS],
    ) {
        let width = kernel.width;
        let last = at.iter().copied().fold(0, usize::max);
        let figure = &mut self.figure;
        // SAFETY: as the caller says; the array on the stack has `ROWS` entries.
        unsafe {
            if EVEN {
                turn(row.values, width, Even(at[0], width), last, figure);
            } else {
                turn(row.values, width, at, last, figure);
            }
            if let Some(from) = kernel.columns {
                from.iter().enumerate().for_each(|(j, &from)| figure[j] = figure[usize::from(from)]);
            }
            (self.price, self.radius, self.key) = (V::splat(*price), V::splat(*radius), V::splat(0.0));
            if let Some(members) = row.members {
                let mut outside = [0.0; ROWS];
                for (slot, &query) in outside.iter_mut().zip(query) {
                    *slot = if members[query] { 0.0 } else { 1.0 };
                }
                let (outside, zero) = (V::load(outside.as_ptr()), V::splat(0.0));
                figure.iter_mut().for_each(|e| *e = V::select(outside.eq(zero), *e, zero));
            }
        }
    }
}

/// Turns rows of `m` entries each into columns, four at a time; `last` is where the last of them begins.
///
/// # Safety
/// The processor has the features of `V`; the matrix holds every row; `out` has room for `m` columns rounded up to a
/// multiple of four.
#[inline(always)]
pub(super) unsafe fn turn<V: Vector, R: Rows>(matrix: Matrix<'_>, m: usize, rows: R, last: usize, out: &mut [V]) {
    for (g, out) in out.chunks_exact_mut(4).enumerate() {
        // The last four entries of the last row may reach beyond the array: such rows are copied.
        let inside = last + 4 * g + 4 <= matrix.len();
        // SAFETY: when the four entries of the last row lie inside the matrix, those of every other row do too.
        let turned = unsafe {
            match matrix {
                Matrix::F32(values) if inside => V::columns(values.as_ptr().add(4 * g), rows),
                Matrix::F64(values) if inside => V::columns_f64(values.as_ptr().add(4 * g), rows),
                Matrix::F32(values) => V::columns(copy::<V, _, _>(values, m, rows, 4 * g).as_ptr(), &FOURS),
                Matrix::F64(values) => V::columns_f64(copy::<V, _, _>(values, m, rows, 4 * g).as_ptr(), &FOURS),
            }
        };
        out.copy_from_slice(&turned);
    }
}

/// Up to four entries of each row.
#[cold]
fn copy<V: Vector, T: Copy + Default, R: Rows>(values: &[T], m: usize, rows: R, from: usize) -> [T; 4 * ROWS] {
    let mut copied = [T::default(); 4 * ROWS];
    for (l, slot) in copied.chunks_exact_mut(4).take(V::WIDTH).enumerate() {
        let rest = &values[rows.at(l) + from..rows.at(l) + m];
        let length = rest.len().min(4);
        slot[..length].copy_from_slice(&rest[..length]);
    }
    copied
}

/// Where the copied rows begin.
static FOURS: [usize; ROWS] = [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60];
