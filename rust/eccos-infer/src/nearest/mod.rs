//! Exact search: every vector is compared with every query.
//!
//! Vectors are kept in half precision, which halves what a search reads; products and sums are in single precision.
//! A similarity of unit vectors is off by less than 2^-11 for it, and usually by a tenth of that.

mod best;
mod kernel;
mod shared;

use std::ops::Range;
use std::thread;

use half::f16;

use crate::ShapeError;
use best::Best;
use kernel::{Kernel, LANES};
pub use shared::SharedVectors;

/// Products that a thread does before another one is worth its start (some tens of microseconds).
const PRODUCTS_PER_THREAD: usize = 1 << 22;

/// Rows scored before their scores are looked at: scores of a block stay in the first cache.
const BLOCK: usize = 256;

/// What [`Vectors::search`] returns, both (N, K), nearest first; equal ones in the order of their rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Inner products.
    pub similarity: Vec<f32>,
    /// Row numbers.
    pub row: Vec<i64>,
}

/// Vectors of one dimension by row number.
#[derive(Debug, Clone)]
pub struct Vectors {
    dimension: usize,
    /// The dimension rounded up to whole vectors of the processor; what is added is zero.
    width: usize,
    rows: usize,
    halves: Vec<u16>,
    kernel: Kernel,
}

impl Vectors {
    /// Copies vectors (n, D) into half precision.
    ///
    /// # Errors
    ///
    /// If `dimension` is zero, `vectors` is no whole number of rows, or a number is not finite in half precision
    /// (65,504 is the largest).
    pub fn new(vectors: &[f32], dimension: usize) -> Result<Self, ShapeError> {
        if dimension == 0 || !vectors.len().is_multiple_of(dimension) {
            return Err(ShapeError::new(format!(
                "vectors: got {} numbers, wanted rows of {dimension}",
                vectors.len()
            )));
        }
        let width = dimension.next_multiple_of(LANES);
        let rows = vectors.len() / dimension;
        let halves = Vec::with_capacity(rows * width);
        let mut made = Self { dimension, width, rows: 0, halves, kernel: Kernel::fastest() };
        for vector in vectors.chunks_exact(dimension) {
            made.put(made.rows, vector)?;
        }
        Ok(made)
    }

    /// Number of rows n.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows
    }

    /// True without any row.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Numbers per vector, D.
    #[must_use]
    pub const fn dimension(&self) -> usize {
        self.dimension
    }

    /// Sets a row: one that is there, or the next.
    ///
    /// # Errors
    ///
    /// If the row is neither, the length is not D, or a number is not finite in half precision.
    pub fn put(&mut self, row: usize, vector: &[f32]) -> Result<(), ShapeError> {
        if row > self.rows {
            return Err(ShapeError::new(format!("row: got {row}, wanted one of the {} rows or the next", self.rows)));
        }
        if vector.len() != self.dimension {
            let sentence = format!("vector: got {} numbers, wanted {}", vector.len(), self.dimension);
            return Err(ShapeError::new(sentence));
        }
        if let Some(bad) = vector.iter().find(|value| !f16::from_f32(**value).is_finite()) {
            return Err(ShapeError::new(format!("vector: got {bad}, wanted numbers of at most 65504")));
        }
        if row == self.rows {
            self.halves.resize(self.halves.len() + self.width, 0);
            self.rows += 1;
        }
        let place = &mut self.halves[row * self.width..][..self.dimension];
        for (half, value) in place.iter_mut().zip(vector) {
            *half = f16::from_f32(*value).to_bits();
        }
        Ok(())
    }

    /// All vectors in single precision, (n, D).
    #[must_use]
    pub fn to_vec(&self) -> Vec<f32> {
        let rows = self.halves.chunks_exact(self.width);
        rows.flat_map(|row| row[..self.dimension].iter().map(|half| f16::from_bits(*half).to_f32())).collect()
    }

    /// Finds the K rows of the largest inner product with each of N queries (N, D), on at most `threads` threads.
    ///
    /// The answer to a query does not depend on the other queries or on the number of threads.
    ///
    /// # Errors
    ///
    /// If `queries` is no whole number of rows, or `k` is zero or more than there are vectors.
    pub fn search(&self, queries: &[f32], k: usize, threads: usize) -> Result<Found, ShapeError> {
        if !queries.len().is_multiple_of(self.dimension) {
            let sentence = format!("queries: got {} numbers, wanted rows of {}", queries.len(), self.dimension);
            return Err(ShapeError::new(sentence));
        }
        if k == 0 || k > self.rows {
            return Err(ShapeError::new(format!("k: got {k}, wanted 1 to {}", self.rows)));
        }
        let count = queries.len() / self.dimension;
        let mut padded = vec![0.0; count * self.width];
        for (to, from) in padded.chunks_exact_mut(self.width).zip(queries.chunks_exact(self.dimension)) {
            to[..self.dimension].copy_from_slice(from);
        }
        let products = count * self.rows * self.width;
        let threads = (products / PRODUCTS_PER_THREAD).clamp(1, threads.max(1));
        let mut found = Found { similarity: Vec::with_capacity(count * k), row: Vec::with_capacity(count * k) };
        for best in self.split(&padded, k, threads) {
            for (similarity, row) in best.into_sorted() {
                found.similarity.push(similarity);
                found.row.push(i64::from(row));
            }
        }
        Ok(found)
    }

    /// Divides the queries among the threads, or the rows where queries are few.
    fn split(&self, padded: &[f32], k: usize, threads: usize) -> Vec<Best> {
        let count = padded.len() / self.width;
        if threads == 1 || count == 0 {
            return self.scan(padded, 0..self.rows, k);
        }
        if count >= 2 * threads {
            return thread::scope(|scope| {
                let parts = padded.chunks(count.div_ceil(threads) * self.width);
                let working: Vec<_> =
                    parts.map(|part| scope.spawn(move || self.scan(part, 0..self.rows, k))).collect();
                working.into_iter().flat_map(|part| part.join().expect("a scan does not panic")).collect()
            });
        }
        let step = self.rows.div_ceil(threads).next_multiple_of(BLOCK);
        let mut parts: Vec<Vec<Best>> = thread::scope(|scope| {
            let ranges = (0..self.rows).step_by(step).map(|start| start..self.rows.min(start + step));
            let working: Vec<_> = ranges.map(|range| scope.spawn(move || self.scan(padded, range, k))).collect();
            working.into_iter().map(|part| part.join().expect("a scan does not panic")).collect()
        });
        let mut merged = parts.remove(0);
        for part in parts {
            for (best, more) in merged.iter_mut().zip(part) {
                best.merge(more);
            }
        }
        merged
    }

    /// Compares queries, padded, with a range of rows on this thread.
    fn scan(&self, padded: &[f32], rows: Range<usize>, k: usize) -> Vec<Best> {
        let count = padded.len() / self.width;
        let mut best: Vec<Best> = (0..count).map(|_| Best::new(k)).collect();
        let group = self.kernel.queries();
        let mut scores = vec![0.0; group * BLOCK];
        for start in rows.clone().step_by(BLOCK) {
            let end = rows.end.min(start + BLOCK);
            let block = &self.halves[start * self.width..end * self.width];
            let groups = padded.chunks(group * self.width).zip(best.chunks_mut(group));
            for (queries, best) in groups {
                self.kernel.score(queries, block, self.width, &mut scores);
                for (best, scores) in best.iter_mut().zip(scores.chunks_exact(end - start)) {
                    best.offer(scores, start as u32);
                }
            }
        }
        best
    }
}
