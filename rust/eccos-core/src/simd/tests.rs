//! Every width does the same: rows screened by each kind of vector, columns passed by each kind of compilation.

use super::rows::{Kernel, Lists, tests_only::screen_with_each};
use crate::lp::hash;
use crate::problem::Matrix;

/// Numbers with ties, zeros and a wide range.
fn numbers(count: usize, salt: u64) -> Vec<f32> {
    let number = |t: usize| match t % 7 {
        0 => 0.0,
        1 => 0.5,
        _ => (hash(t as u64, salt) * (1.0 + (t % 3) as f64 * 50.0)) as f32,
    };
    (0..count).map(number).collect()
}

#[test]
fn every_vector_screens_alike() {
    // The interpreter is some thousand times slower: it gets the shapes that differ in their vectors.
    let widths = [1, 2, 7, 8, 9, 16, 17, 50, 64, 65, 130, 256];
    for &models in if cfg!(miri) { &widths[2..7] } else { &widths[..] } {
        let queries = if cfg!(miri) { 3 } else { 97 };
        let size = queries * models;
        let (cost, quality, load) = (numbers(size, 1), numbers(size, 2), numbers(size, 3));
        let wide: Vec<Vec<f64>> =
            [&cost, &quality, &load].iter().map(|x| x.iter().map(|&x| f64::from(x)).collect()).collect();
        let allowed: Vec<bool> = (0..size).map(|t| t % models == 0 || hash(t as u64, 9) < 0.7).collect();
        let places: Vec<u32> = (0..queries as u32).filter(|i| i % 3 != 1).collect();
        for (double, masked, loaded, listed) in [
            (false, false, false, false),
            (false, true, false, true),
            (true, false, true, false),
            (true, true, true, true),
        ] {
            let matrix = |single: &'static str, t: usize| match (single, double) {
                ("cost", false) => Matrix::F32(&cost),
                ("quality", false) => Matrix::F32(&quality),
                (_, false) => Matrix::F32(&load),
                (_, true) => Matrix::F64(&wide[t]),
            };
            let kernel = Kernel {
                queries,
                models,
                cost: matrix("cost", 0),
                quality: matrix("quality", 1),
                load: loaded.then(|| (matrix("load", 2), 0)),
                allowed: masked.then_some(&allowed[..]),
                cost_weight: 0.7,
                quality_weight: 1.3,
                box_on_cost: masked,
                box_weight: 0.02,
                price: numbers(models, 4),
                radius: (0..models).map(|j| 0.01 * j as f32).collect(),
                bounded: 2.3,
            };
            let lists = Lists { places: listed.then_some(&places[..]), served: None };
            let count = if listed { places.len() } else { queries };
            let found = screen_with_each(&kernel, &lists, count);
            assert_eq!(found[0].key.len(), count);
            assert!(found[0].open.len() < count || models > 1 || count == 0);
            for other in &found[1..] {
                assert_eq!(found[0], *other, "{models} models, double {double}, mask {masked}, load {loaded}");
            }
        }
    }
}

#[test]
fn the_highest_bits_show_what_is_out_of_range() {
    let fine: Vec<f32> = numbers(1000, 5);
    let most = fine.iter().copied().fold(0.0, f32::max);
    assert_eq!(super::highest_f32(&fine), most.to_bits());
    for stray in [f32::NAN, f32::INFINITY, -1e-30, -f32::NAN] {
        let mut values = fine.clone();
        values[777] = stray;
        assert!(super::highest_f32(&values) > f32::MAX.to_bits(), "{stray}");
        let wide: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
        assert!(super::highest_f64(&wide) > f64::MAX.to_bits(), "{stray}");
    }
}
