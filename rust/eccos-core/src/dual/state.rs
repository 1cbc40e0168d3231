//! Where a search stands: multipliers, keys, basis, and the sums that go with them.

use super::basis::{Basis, Element};
use crate::program::{Lp, dot};

/// Multipliers, keys and basis of one program.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub y: Vec<f64>,
    /// Every query's model of least value.
    pub key: Vec<u8>,
    /// r(y).
    pub residual: Vec<f64>,
    pub basis: Basis,
    /// Number of basic ties of each query.
    pub ties: Vec<u8>,
    /// g(y) of the perturbed program.
    pub objective: f64,
    pub steps: usize,
    /// Length of the last step: the first guess for the next.
    pub stride: f64,
    pub at_key: AtKey,
}

/// Coefficients of every query's key, kept together for the vector passes.
#[derive(Clone, Debug, Default)]
pub(crate) struct AtKey {
    pub p: Vec<f64>,
    pub q: Vec<f64>,
    /// One column for each family with coefficients of its own.
    pub coef: Vec<Vec<f64>>,
}

/// What is needed to take a search up again: multipliers, elements, and the keys of the tied queries.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    y: Vec<f64>,
    elements: Vec<Element>,
    tied: Vec<(u32, u8)>,
    /// Normals of the elements that have no pair any more.
    gone: Vec<f64>,
}

impl Start {
    /// Where a state stands.
    pub fn of(state: &State) -> Self {
        let tied = state.basis.elements.iter().filter_map(|element| match element {
            Element::Tie { row, .. } => Some((*row, state.key[*row as usize])),
            _ => None,
        });
        let elements = state.basis.elements.clone();
        let gone = elements.iter().enumerate().filter(|(_, element)| **element == Element::Gone);
        let gone = gone.flat_map(|(t, _)| state.basis.column(t)).copied().collect();
        Self { y: state.y.clone(), tied: tied.collect(), gone, elements }
    }

    /// The multipliers.
    pub fn multipliers(&self) -> &[f64] {
        &self.y
    }

    /// The same with other numbers for the tied queries; `None` when one of them has none.
    pub fn renamed(mut self, number: impl Fn(u32) -> Option<u32>) -> Option<Self> {
        for element in &mut self.elements {
            if let Element::Tie { row, .. } = element {
                *row = number(*row)?;
            }
        }
        for (row, _) in &mut self.tied {
            *row = number(*row)?;
        }
        Some(self)
    }

    /// The state again, of a program with the same pairs allowed.
    pub fn state(&self, lp: &Lp) -> State {
        let mut state = State::new(lp, &self.y);
        for &(row, key) in &self.tied {
            state.key[row as usize] = key;
        }
        state.refresh_sums(lp);
        let mut normal = vec![];
        let mut gone = self.gone.chunks_exact(self.y.len());
        for (t, element) in self.elements.iter().enumerate() {
            normal.clear();
            match *element {
                Element::Slack(c) | Element::Ceiling(c) | Element::Start(c) => normal.push((c as usize, 1.0)),
                Element::Tie { row, model } => {
                    let i = row as usize;
                    lp.normal(i, state.key[i] as usize, model as usize, &mut normal);
                    state.ties[i] += 1;
                }
                Element::Gone => normal.extend(gone.next().into_iter().flatten().copied().enumerate()),
            }
            state.basis.set(t, *element, &normal);
        }
        state.refresh(lp);
        state
    }
}

impl State {
    /// At given multipliers, with a basis that holds none of the ties there.
    pub fn new(lp: &Lp, y: &[f64]) -> Self {
        let mut state = Self {
            y: y.to_vec(),
            key: vec![0; lp.n],
            residual: vec![],
            basis: Basis::new(y, &lp.ceiling),
            ties: vec![0; lp.n],
            objective: 0.0,
            steps: 0,
            stride: 0.0,
            at_key: AtKey::default(),
        };
        state.objective = lp.keys(y, &mut state.key);
        state.refresh_sums(lp);
        state
    }

    /// The state of a program restricted to some of the rows, with the same multipliers and basis.
    pub fn restrict(&self, rows: &[u32], place: &[u32], sub: &Lp) -> Self {
        let mut state = self.clone();
        state.key = rows.iter().map(|&i| self.key[i as usize]).collect();
        state.ties = rows.iter().map(|&i| self.ties[i as usize]).collect();
        for element in &mut state.basis.elements {
            if let Element::Tie { row, .. } = element {
                *row = place[*row as usize];
            }
        }
        state.refresh_sums(sub);
        state.objective = sub.keys(&state.y, &mut vec![0; sub.n]);
        state
    }

    /// Residual and key columns from the keys.
    pub fn refresh_sums(&mut self, lp: &Lp) {
        self.residual = lp.residual(&self.key);
        let pick = |column: &[f64]| -> Vec<f64> {
            self.key.iter().enumerate().map(|(i, &j)| column[j as usize * lp.stride + i]).collect()
        };
        let families = lp.families.iter().map(|f| if f.coef.is_empty() { vec![] } else { pick(&f.coef) });
        self.at_key = AtKey { p: pick(&lp.p), q: pick(&lp.q), coef: families.collect() };
    }

    /// Moves query i to model j as its key, without touching the sums.
    #[inline]
    pub fn set_key(&mut self, lp: &Lp, i: usize, j: usize) {
        let at = j * lp.stride + i;
        self.key[i] = j as u8;
        self.at_key.p[i] = lp.p[at];
        self.at_key.q[i] = lp.q[at];
        for (column, family) in self.at_key.coef.iter_mut().zip(&lp.families) {
            if !column.is_empty() {
                column[i] = family.coef[at];
            }
        }
    }

    /// Moves query i to model j as its key, and the residual with it.
    pub fn move_key(&mut self, lp: &Lp, i: usize, j: usize) {
        let old = self.key[i] as usize;
        lp.each(i, old, |k, a| self.residual[k] -= a);
        lp.each(i, j, |k, a| self.residual[k] += a);
        self.set_key(lp, i, j);
    }

    /// Fraction of element t at the vertex.
    pub fn fraction(&self, t: usize) -> f64 {
        -dot(self.basis.row(t), &self.residual)
    }

    /// Makes tie t the key of its query.
    pub fn swap_key(&mut self, lp: &Lp, t: usize) {
        let Element::Tie { row, model } = self.basis.elements[t] else {
            return;
        };
        let same = |e: &Element| matches!(e, Element::Tie { row: other, .. } if *other == row);
        let elements = self.basis.elements.iter().enumerate();
        let siblings: Vec<usize> = elements.filter(|(_, e)| same(e)).map(|(u, _)| u).collect();
        for (r, c) in self.residual.iter_mut().zip(self.basis.column(t)) {
            *r += c;
        }
        self.basis.swap_reference(t, self.key[row as usize], &siblings);
        self.set_key(lp, row as usize, model as usize);
    }

    /// A fresh inverse and fresh sums; when the basis has become singular, a new one at the same multipliers.
    pub fn refresh(&mut self, lp: &Lp) {
        if !self.basis.refactor() {
            self.basis = Basis::new(&self.y, &lp.ceiling);
            self.ties.fill(0);
        }
        self.residual = lp.residual(&self.key);
        self.measure(lp);
    }

    /// Takes out what many steps have left between the values of tied pairs.
    pub fn settle(&mut self, lp: &Lp) {
        let mut apart = vec![0.0; self.y.len()];
        for (t, element) in self.basis.elements.iter().enumerate() {
            if let Element::Tie { row, model } = *element {
                let i = row as usize;
                let off = lp.value(&self.y, i, usize::from(model)) - lp.value(&self.y, i, usize::from(self.key[i]));
                apart.iter_mut().zip(self.basis.row(t)).for_each(|(sum, d)| *sum += off * d);
            }
        }
        self.y.iter_mut().zip(&apart).for_each(|(y, d)| *y = (*y - d).max(0.0));
        self.measure(lp);
    }

    /// `g(y)` afresh.
    pub fn measure(&mut self, lp: &Lp) {
        let values: f64 = (0..lp.n).map(|i| lp.value(&self.y, i, self.key[i] as usize)).sum();
        self.objective = values - dot(&self.y, &lp.limit);
    }

    /// Numbers that a copy holds.
    pub fn size(&self) -> usize {
        2 * self.y.len() * self.y.len() + 4 * self.key.len()
    }
}
