//! From the fractional vertex to whole queries, and the search that repairs what rounding broke.
//!
//! A vertex has at most as many fractional queries as there are rows. They go to their heaviest model with room. What is
//! then still violated or worse than need be is left to exchanges ([`crate::integer::exchange`]).

use super::ledger::Ledger;
use crate::dual::{Element, State};
use crate::program::Lp;

/// Fractional queries of a vertex: query, then (fraction, model), heaviest first.
fn fractional(lp: &Lp, state: &State) -> Vec<(u32, Vec<(f64, u8)>)> {
    let mut rows: Vec<(u32, Vec<(f64, u8)>)> = vec![];
    for (t, element) in state.basis.elements.iter().enumerate() {
        let Element::Tie { row, model } = *element else {
            continue;
        };
        let theta = state.fraction(t);
        match rows.iter_mut().find(|(i, _)| *i == row) {
            Some((_, shares)) => {
                shares[0].0 -= theta;
                shares.push((theta, model));
            }
            None => rows.push((row, vec![(1.0 - theta, state.key[row as usize]), (theta, model)])),
        }
    }
    for (_, shares) in &mut rows {
        shares.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    }
    rows.sort_by(|a, b| b.1[0].0.total_cmp(&a.1[0].0).then(a.0.cmp(&b.0)));
    debug_assert!(rows.iter().all(|(i, _)| (*i as usize) < lp.n));
    rows
}

/// The vertex in whole queries: fractional ones to their heaviest model with room, else to the one of least value.
pub(crate) fn round_vertex(lp: &Lp, state: &State) -> Vec<u8> {
    let mut model = state.key.clone();
    let open = fractional(lp, state);
    if open.is_empty() {
        return model;
    }
    let mut ledger = Ledger::new(lp, &model);
    for (i, _) in &open {
        let i = *i as usize;
        lp.each(i, model[i] as usize, |k, a| ledger.room[k] += a);
    }
    for (i, shares) in &open {
        let i = *i as usize;
        let heaviest = shares.iter().map(|&(_, j)| j as usize).find(|&j| ledger.takes(i, j));
        let cheapest = || {
            let open = (0..lp.m).filter(|&j| lp.may(i, j) && ledger.takes(i, j));
            open.min_by(|&a, &b| lp.value(&state.y, i, a).total_cmp(&lp.value(&state.y, i, b)))
        };
        let j = heaviest.or_else(cheapest).unwrap_or(shares[0].1 as usize);
        model[i] = j as u8;
        lp.each(i, j, |k, a| ledger.room[k] -= a);
    }
    model
}
