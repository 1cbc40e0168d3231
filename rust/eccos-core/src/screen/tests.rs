//! Every width does the same: rows screened by each kind of vector, columns passed by each kind of compilation.

use super::kernel::{Kernel, Lists, Load, Side, Weights};
use super::rows::tests_only::screen_with_each;
use crate::problem::{Matrix, SideRow};
use crate::program::hash;

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
        let group: Vec<u32> = (0..queries as u32).map(|i| i % 5).collect();
        for (double, masked, loads, grouped, listed) in [
            (false, false, 0, false, false),
            (false, true, 1, false, true),
            (true, false, 0, true, false),
            (true, false, 2, false, true),
            (false, true, 3, true, true),
        ] {
            let matrix =
                |t: usize| if double { Matrix::F64(&wide[t]) } else { Matrix::F32([&cost, &quality, &load][t]) };
            // Loads of both kinds beside requests; of either precision, whatever the others have.
            let load = |r: usize| Load {
                sign: 1.0,
                values: (r > 0).then(|| if r == 1 { matrix(2) } else { Matrix::F64(&wide[2]) }),
                price: numbers(models, 4 + r as u64),
                radius: (0..models).map(|j| 0.01 * (j + r) as f32).collect(),
            };
            let weights = |g: usize| Weights {
                cost: 0.7 + 0.1 * g as f32,
                quality: 1.3,
                box_on_cost: if masked || grouped { 0.02 } else { 0.0 },
                box_on_quality: if masked && !grouped { 0.0 } else { 0.01 * g as f32 },
            };
            let members: Vec<bool> = (0..queries).map(|i| i % 4 != 2).collect();
            let side = |r: usize| Side {
                row: SideRow {
                    values: matrix(2),
                    members: (r > 0).then_some(&members[..]),
                    at_least: r > 0,
                    mean: false,
                    limit: 0.0,
                },
                price: if r > 0 { -0.3 } else { 0.2 },
                radius: 0.01,
            };
            let kernel = Kernel {
                queries,
                models,
                width: models,
                columns: None,
                cost: matrix(0),
                quality: matrix(1),
                loads: (0..=loads).map(load).collect(),
                sides: (0..loads).map(side).collect(),
                allowed: masked.then_some(&allowed[..]),
                group: grouped.then_some(&group[..]),
                weights: (1..=if grouped { 5 } else { 1 }).map(weights).collect(),
            };
            let lists = Lists { places: listed.then_some(&places[..]), served: None };
            let count = if listed { places.len() } else { queries };
            let found = screen_with_each(&kernel, &lists, count);
            let (key, _, chunk) = &found[0];
            assert_eq!(key.len(), count);
            assert!(chunk.open < count || models > 1 || count == 0);
            let total: f64 = (0..count)
                .map(|t| {
                    let query = if listed { places[t] as usize } else { t };
                    assert!(!masked || allowed[query * models + usize::from(key[t])], "the key is allowed");
                    kernel.cost.at(query * models + usize::from(key[t]))
                })
                .sum();
            assert!((total - chunk.all.cost).abs() <= 1e-9 * total, "{total} {}", chunk.all.cost);
            assert_eq!(chunk.all.load[..models].iter().sum::<f64>(), count as f64);
            for other in &found[1..] {
                assert_eq!(found[0], *other, "{models} models, double {double}, mask {masked}, loads {loads}");
            }
        }
    }
}

#[test]
fn the_highest_bits_show_what_is_out_of_range() {
    let fine: Vec<f32> = numbers(1000, 5);
    let most = fine.iter().copied().fold(0.0, f32::max);
    assert_eq!(crate::simd::highest_f32(&fine), most.to_bits());
    for stray in [f32::NAN, f32::INFINITY, -1e-30, -f32::NAN] {
        let mut values = fine.clone();
        values[777] = stray;
        assert!(crate::simd::highest_f32(&values) > f32::MAX.to_bits(), "{stray}");
        let wide: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
        assert!(crate::simd::highest_f64(&wide) > f64::MAX.to_bits(), "{stray}");
    }
}
