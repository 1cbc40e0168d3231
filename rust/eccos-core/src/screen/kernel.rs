//! What a screening pass works on: the data as given, the multipliers, and which rows.

use super::tile::ROWS;
use crate::problem::{Matrix, SideRow};

/// A pass: the data as given, and the multipliers folded into weights.
pub(crate) struct Kernel<'a> {
    pub queries: usize,
    pub models: usize,
    /// Entries of a row of the arrays, and the column of each model when that is not its number.
    pub width: usize,
    pub columns: Option<&'a [u16]>,
    pub cost: Matrix<'a>,
    pub quality: Matrix<'a>,
    pub loads: Vec<Load<'a>>,
    pub sides: Vec<Side<'a>>,
    pub allowed: Option<&'a [bool]>,
    /// Group of every query, when groups have weights of their own.
    pub group: Option<&'a [u32]>,
    /// One for each group, or one for all queries.
    pub weights: Vec<Weights>,
}

/// One resource: `price_j w` is added to a value, and the box acts on it by `radius_j w`.
pub(crate) struct Load<'a> {
    /// (N, M); `None`: one per query.
    pub values: Option<Matrix<'a>>,
    /// -1 where less of it counts.
    pub sign: f64,
    pub price: Vec<f32>,
    pub radius: Vec<f32>,
}

/// One side row, over all models: `price e` is added to a value, and the box acts on differences of `e`.
pub(crate) struct Side<'a> {
    pub row: SideRow<'a>,
    /// With the sign of the row.
    pub price: f32,
    pub radius: f32,
}

/// `v = cost c - quality a + sum of loads`; the box acts on differences of cost and of quality.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weights {
    pub cost: f32,
    pub quality: f32,
    pub box_on_cost: f32,
    pub box_on_quality: f32,
}

/// Which rows: places among the served queries, and those queries.
pub(crate) struct Lists<'a> {
    pub places: Option<&'a [u32]>,
    pub served: Option<&'a [u32]>,
}

impl Lists<'_> {
    /// The places and queries of some rows; rows beyond the last repeat it.
    #[inline(always)]
    pub fn tile(&self, start: usize, end: usize) -> ([u32; ROWS], [usize; ROWS]) {
        let mut places = [0; ROWS];
        for (l, place) in places.iter_mut().enumerate() {
            *place = (start + l).min(end - 1) as u32;
        }
        if let Some(list) = self.places {
            places.iter_mut().for_each(|place| *place = list[*place as usize]);
        }
        let mut queries = [0; ROWS];
        for (query, &place) in queries.iter_mut().zip(&places) {
            *query = self.served.map_or(place, |served| served[place as usize]) as usize;
        }
        (places, queries)
    }

    pub fn scattered(&self) -> bool {
        self.places.is_some() || self.served.is_some()
    }
}

impl Kernel<'_> {
    /// Requests only: no loads of their own, no mask, no groups, the box on one of cost and quality.
    pub fn is_plain(&self) -> bool {
        let one_load = self.loads.len() == 1 && self.loads[0].values.is_none() && self.sides.is_empty();
        let one_box = self.weights[0].box_on_cost == 0.0 || self.weights[0].box_on_quality == 0.0;
        one_load && one_box && self.allowed.is_none() && self.group.is_none()
    }

    /// The column of the arrays that a model stands in.
    #[inline(always)]
    pub fn column(&self, model: usize) -> usize {
        self.columns.map_or(model, |columns| usize::from(columns[model]))
    }

    /// What the unsafe reads of a pass rely on.
    pub fn check(&self) {
        let size = self.queries * self.width;
        assert!(self.models <= self.width && self.columns.is_none_or(|columns| columns.len() == self.models));
        assert!(self.cost.len() >= size && self.quality.len() >= size, "arrays hold every row");
        assert!(self.allowed.is_none_or(|allowed| allowed.len() >= size), "the mask holds every row");
        for Side { row, .. } in &self.sides {
            assert!(row.values.len() >= size, "side rows hold every row");
            assert!(
                row.members.is_none_or(|members| members.len() >= self.queries),
                "a member or not, for every row"
            );
        }
        for load in &self.loads {
            assert!(load.values.is_none_or(|values| values.len() >= size), "loads hold every row");
            assert!(load.price.len() == self.models && load.radius.len() == self.models, "a price for every model");
        }
    }
}
