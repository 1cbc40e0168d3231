//! Vectors that several threads search while one adds to them.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::{Found, Vectors};
use crate::ShapeError;

/// [`Vectors`] behind a lock. A panic while they are changed leaves them as they are: `put` sets a row as a whole.
#[derive(Debug)]
pub struct SharedVectors(RwLock<Vectors>);

impl SharedVectors {
    /// As [`Vectors::new`].
    ///
    /// # Errors
    ///
    /// As [`Vectors::new`].
    pub fn new(vectors: &[f32], dimension: usize) -> Result<Self, ShapeError> {
        Vectors::new(vectors, dimension).map(|made| Self(RwLock::new(made)))
    }

    fn read(&self) -> RwLockReadGuard<'_, Vectors> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of rows n.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// True without any row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// As [`Vectors::put`].
    ///
    /// # Errors
    ///
    /// As [`Vectors::put`].
    pub fn put(&self, row: usize, vector: &[f32]) -> Result<(), ShapeError> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).put(row, vector)
    }

    /// As [`Vectors::search`].
    ///
    /// # Errors
    ///
    /// As [`Vectors::search`].
    pub fn search(&self, queries: &[f32], k: usize, threads: usize) -> Result<Found, ShapeError> {
        self.read().search(queries, k, threads)
    }

    /// All vectors in single precision, (n, D), and D.
    #[must_use]
    pub fn to_vec(&self) -> (Vec<f32>, usize) {
        let vectors = self.read();
        (vectors.to_vec(), vectors.dimension())
    }
}
