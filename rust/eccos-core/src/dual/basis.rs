//! The basis of the dual simplex: as many tight elements as there are multipliers, and the inverse of their normals.

use crate::program::Sparse;

/// Something tight at the current multipliers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    /// Multiplier k is 0.
    Slack(u16),
    /// Multiplier k is at its ceiling.
    Ceiling(u16),
    /// Multiplier k is at its starting value; it must leave as soon as it matters.
    Start(u16),
    /// Query `row` values `model` exactly as much as its key.
    Tie { row: u32, model: u8 },
    /// A tie whose pair was forbidden by branching; it must leave.
    Gone,
}

/// Pivots smaller than this count as singular.
const SINGULAR: f64 = 1e-12;

/// Normals of the elements (columns of B) and the rows of the inverse of B.
#[derive(Clone, Debug)]
pub(crate) struct Basis {
    k: usize,
    pub elements: Vec<Element>,
    columns: Vec<f64>,
    inverse: Vec<f64>,
    /// Replacements since the inverse was computed afresh.
    pub age: usize,
}

impl Basis {
    /// Every multiplier at its bound or its starting value.
    pub fn new(y: &[f64], ceiling: &[f64]) -> Self {
        let k = y.len();
        let mut identity = vec![0.0; k * k];
        for t in 0..k {
            identity[t * k + t] = 1.0;
        }
        let at = |(t, (&y, &ceiling)): (usize, (&f64, &f64))| {
            if y <= 0.0 {
                Element::Slack(t as u16)
            } else if y >= ceiling {
                Element::Ceiling(t as u16)
            } else {
                Element::Start(t as u16)
            }
        };
        let elements = y.iter().zip(ceiling).enumerate().map(at).collect();
        Self { k, elements, columns: identity.clone(), inverse: identity, age: 0 }
    }

    /// Row t of the inverse: the direction that leaves element t and keeps the others tight.
    pub fn row(&self, t: usize) -> &[f64] {
        &self.inverse[t * self.k..(t + 1) * self.k]
    }

    /// The normal of element t.
    pub fn column(&self, t: usize) -> &[f64] {
        &self.columns[t * self.k..(t + 1) * self.k]
    }

    /// Puts an element in place t without touching the inverse, which [`Basis::refactor`] then has to compute.
    pub fn set(&mut self, t: usize, element: Element, normal: &Sparse) {
        self.elements[t] = element;
        let column = &mut self.columns[t * self.k..(t + 1) * self.k];
        column.fill(0.0);
        for &(c, a) in normal {
            column[c] = a;
        }
    }

    /// Puts a new element with the given normal in place t. `work` is scratch of any length.
    pub fn replace(&mut self, t: usize, element: Element, normal: &Sparse, work: &mut Vec<f64>) {
        let k = self.k;
        self.set(t, element, normal);
        // The new column in terms of the old basis; then one elimination step on the inverse.
        work.clear();
        work.extend((0..k).map(|u| {
            let row = &self.inverse[u * k..(u + 1) * k];
            normal.iter().map(|&(c, a)| row[c] * a).sum::<f64>()
        }));
        let pivot = 1.0 / work[t];
        let (before, rest) = self.inverse.split_at_mut(t * k);
        let (own, after) = rest.split_at_mut(k);
        own.iter_mut().for_each(|x| *x *= pivot);
        let others = before.chunks_exact_mut(k).zip(0..).chain(after.chunks_exact_mut(k).zip(t + 1..));
        for (row, u) in others {
            let factor = work[u];
            if factor != 0.0 {
                row.iter_mut().zip(&*own).for_each(|(x, o)| *x -= factor * o);
            }
        }
        self.age += 1;
    }

    /// Makes tie t the reference of its query: the old key becomes element t, and the normals of the query's other
    /// ties (`siblings`, t included) are taken against the new key.
    pub fn swap_reference(&mut self, t: usize, old_key: u8, siblings: &[usize]) {
        let k = self.k;
        let base = self.column(t).to_vec();
        let mut row = vec![0.0; k];
        for &u in siblings {
            row.iter_mut().zip(&self.inverse[u * k..(u + 1) * k]).for_each(|(x, y)| *x -= y);
            if u != t {
                self.columns[u * k..(u + 1) * k].iter_mut().zip(&base).for_each(|(x, b)| *x -= b);
            }
        }
        self.columns[t * k..(t + 1) * k].iter_mut().for_each(|x| *x = -*x);
        self.inverse[t * k..(t + 1) * k].copy_from_slice(&row);
        if let Element::Tie { model, .. } = &mut self.elements[t] {
            *model = old_key;
        }
    }

    /// Inverts B afresh by Gauss-Jordan elimination with partial pivoting. False when B is singular.
    #[must_use]
    pub fn refactor(&mut self) -> bool {
        let k = self.k;
        let mut a = vec![0.0; k * k];
        for t in 0..k {
            for r in 0..k {
                a[r * k + t] = self.columns[t * k + r];
            }
        }
        let mut inverse = Self::new(&vec![0.0; k], &vec![0.0; k]).inverse;
        for c in 0..k {
            let pivot_row =
                (c..k).fold(c, |best, r| if a[r * k + c].abs() > a[best * k + c].abs() { r } else { best });
            let pivot = a[pivot_row * k + c];
            if pivot.abs() < SINGULAR {
                return false;
            }
            for matrix in [&mut a, &mut inverse] {
                for t in 0..k {
                    matrix.swap(pivot_row * k + t, c * k + t);
                    matrix[c * k + t] /= pivot;
                }
            }
            for r in (0..k).filter(|&r| r != c) {
                let factor = a[r * k + c];
                if factor == 0.0 {
                    continue;
                }
                for t in 0..k {
                    a[r * k + t] -= factor * a[c * k + t];
                    inverse[r * k + t] -= factor * inverse[c * k + t];
                }
            }
        }
        self.inverse = inverse;
        self.age = 0;
        true
    }
}
