//! Sixteen queries of a screening pass: what is found of them, and the sums of a chunk of such tiles.

use super::kernel::{Kernel, Load};
use crate::problem::Matrix;
use crate::screen::{Chunk, Sums};

/// Queries of a tile; a multiple of every vector's width.
pub(crate) const ROWS: usize = 16;

/// Decides one query in double precision: its key, and whether it is safe.
pub(crate) type Exact<'a> = &'a dyn Fn(usize) -> (usize, bool);

/// Sixteen queries and what is found of them. Rows beyond `rows` repeat the last query and count for nothing.
pub(crate) struct Tile {
    pub query: [usize; ROWS],
    pub rows: usize,
    pub key: [u8; ROWS],
    /// Cost and quality at the key: in single precision, and as given.
    pub narrow: [[f32; ROWS]; 2],
    wide: [[f64; ROWS]; 2],
    /// A bit for every query that is not safe, and for every one that single precision cannot decide.
    pub open: u32,
    pub odd: u32,
}

impl Tile {
    #[inline(always)]
    pub fn new(query: [usize; ROWS], rows: usize) -> Self {
        let (narrow, wide) = ([[0.0; ROWS]; 2], [[0.0; ROWS]; 2]);
        Self { query, rows, key: [0; ROWS], narrow, wide, open: 0, odd: 0 }
    }

    /// Decides what single precision cannot, and reads cost and quality at the keys in double precision.
    #[inline(always)]
    pub fn settle(&mut self, kernel: &Kernel<'_>, exact: Exact<'_>) {
        let valid = (1u32 << self.rows) - 1;
        self.open &= valid;
        self.odd &= valid;
        if self.odd != 0 {
            self.decide(exact);
        }
        for ((wide, narrow), matrix) in self.wide.iter_mut().zip(&self.narrow).zip([kernel.cost, kernel.quality]) {
            match matrix {
                Matrix::F32(_) if self.odd == 0 => {
                    wide.iter_mut().zip(narrow).for_each(|(wide, &narrow)| *wide = f64::from(narrow));
                }
                _ => {
                    for ((wide, query), &key) in wide.iter_mut().zip(&self.query).zip(&self.key) {
                        *wide = matrix.at(query * kernel.width + kernel.column(usize::from(key)));
                    }
                }
            }
            if self.rows < ROWS {
                wide[self.rows..].fill(0.0);
            }
        }
    }

    #[cold]
    fn decide(&mut self, exact: Exact<'_>) {
        for l in (0..ROWS).filter(|l| self.odd >> l & 1 == 1) {
            let (key, safe) = exact(self.query[l]);
            self.key[l] = key as u8;
            self.open = self.open & !(1 << l) | u32::from(!safe) << l;
        }
    }
}

/// Sums of a chunk in sixteen fixed lanes, in double precision from the data as given.
pub(crate) struct Tally {
    chunk: Chunk,
    cost: [[f64; ROWS]; 2],
    quality: [[f64; ROWS]; 2],
    /// Queries by key, first the safe and then the open ones; of even and of odd rows.
    count: [[u32; 512]; 2],
    unit: bool,
}

impl Tally {
    pub fn new(kernel: &Kernel<'_>) -> Self {
        let groups = if kernel.group.is_some() { kernel.weights.len() } else { 0 };
        let sums = Sums::new((kernel.loads.len() + kernel.sides.len()) * kernel.models, groups);
        let chunk = Chunk { open: 0, all: sums.clone(), safe: sums };
        let requests = |load: &Load<'_>| load.values.is_none() && load.sign > 0.0;
        let unit = kernel.loads.len() == 1 && requests(&kernel.loads[0]) && kernel.sides.is_empty() && groups == 0;
        Self { chunk, cost: [[0.0; ROWS]; 2], quality: [[0.0; ROWS]; 2], count: [[0; 512]; 2], unit }
    }

    #[inline(always)]
    pub fn add(&mut self, kernel: &Kernel<'_>, tile: &Tile) {
        for (sums, values) in [(&mut self.cost, &tile.wide[0]), (&mut self.quality, &tile.wide[1])] {
            let [all, safe] = sums;
            for l in 0..ROWS {
                let mask = (u64::from(tile.open) >> l & 1).wrapping_sub(1);
                all[l] += values[l];
                safe[l] += f64::from_bits(values[l].to_bits() & mask);
            }
        }
        if self.unit {
            let mut slot = [0; ROWS];
            for l in 0..ROWS {
                slot[l] = ((tile.open as u16) >> l & 1) << 8 | u16::from(tile.key[l]);
            }
            if tile.rows == ROWS {
                for l in 0..ROWS {
                    self.count[l & 1][usize::from(slot[l] & 511)] += 1;
                }
            } else {
                slot[..tile.rows].iter().for_each(|&slot| self.count[0][usize::from(slot)] += 1);
            }
        } else {
            self.add_rows(kernel, tile);
        }
    }

    /// Loads, side rows and groups, row by row.
    fn add_rows(&mut self, kernel: &Kernel<'_>, tile: &Tile) {
        let (m, [cost, quality]) = (kernel.models, &tile.wide);
        for l in 0..tile.rows {
            let (query, key) = (tile.query[l], usize::from(tile.key[l]));
            let safe = tile.open >> l & 1 == 0;
            for (r, load) in kernel.loads.iter().enumerate() {
                let used = load.values.map_or(1.0, |values| values.at(query * kernel.width + kernel.column(key)));
                self.chunk.all.load[r * m + key] += load.sign * used;
                self.chunk.safe.load[r * m + key] += if safe { load.sign * used } else { 0.0 };
            }
            for (r, side) in (kernel.loads.len()..).zip(&kernel.sides) {
                let used = side.row.coefficient(query, query * kernel.width + kernel.column(key));
                self.chunk.all.load[r * m + key] += used;
                self.chunk.safe.load[r * m + key] += if safe { used } else { 0.0 };
            }
            if let Some(group) = kernel.group {
                let group = group[query] as usize;
                self.chunk.all.add_group(group, cost[l], quality[l]);
                if safe {
                    self.chunk.safe.add_group(group, cost[l], quality[l]);
                }
            }
        }
    }

    pub fn finish(self, open: usize) -> Chunk {
        let mut chunk = Chunk { open, ..self.chunk };
        for (sums, which) in [(&mut chunk.all, 0), (&mut chunk.safe, 1)] {
            sums.cost = self.cost[which].iter().sum();
            sums.quality = self.quality[which].iter().sum();
        }
        if self.unit {
            for (j, (all, safe)) in chunk.all.load.iter_mut().zip(&mut chunk.safe.load).enumerate() {
                let count = |slot: usize| f64::from(self.count[0][slot] + self.count[1][slot]);
                (*all, *safe) = (count(j) + count(256 + j), count(j));
            }
        }
        chunk
    }
}
