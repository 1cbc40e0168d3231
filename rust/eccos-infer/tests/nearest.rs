//! Exact search against sorting all products; independence of batch and threads; malformed input.

use eccos_infer::{SharedVectors, Vectors};
use proptest::prelude::*;

/// Numbers between -1 and 1 from a fixed sequence.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn product(one: &[f32], other: &[f32]) -> f64 {
    one.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_nearest_are_those_of_all_products(
        rows in 1_usize..700, dimension in 1_usize..40, queries in 0_usize..9, share in 0.0_f64..1.0, seed in any::<u64>()
    ) {
        let k = 1 + ((rows - 1) as f64 * share) as usize;
        let vectors = Vectors::new(&numbers(rows * dimension, seed), dimension).unwrap();
        let kept = vectors.to_vec();
        let asked = numbers(queries * dimension, seed ^ 0x4d);
        let found = vectors.search(&asked, k, 3).unwrap();
        prop_assert_eq!(found.row.len(), queries * k);
        for (at, query) in asked.chunks_exact(dimension).enumerate() {
            let mut wanted: Vec<f64> = kept.chunks_exact(dimension).map(|row| product(query, row)).collect();
            let (row, similarity) = (&found.row[at * k..][..k], &found.similarity[at * k..][..k]);
            for (row, similarity) in row.iter().zip(similarity) {
                prop_assert!((wanted[*row as usize] - f64::from(*similarity)).abs() < 1e-4);
            }
            let mut once = row.to_vec();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), k, "a row is found once");
            wanted.sort_by(|a, b| b.total_cmp(a));
            for (similarity, wanted) in similarity.iter().zip(&wanted) {
                prop_assert!((f64::from(*similarity) - wanted).abs() < 1e-4);
            }
        }
    }
}

#[test]
fn an_answer_depends_neither_on_the_batch_nor_on_threads() {
    let dimension = 64;
    let vectors = Vectors::new(&numbers(20_000 * dimension, 3), dimension).unwrap();
    let asked = numbers(23 * dimension, 5);
    let whole = vectors.search(&asked, 40, 1).unwrap();
    for threads in [2, 3, 16] {
        assert_eq!(vectors.search(&asked, 40, threads).unwrap(), whole);
    }
    for (at, query) in asked.chunks_exact(dimension).enumerate() {
        for threads in [1, 7] {
            let alone = vectors.search(query, 40, threads).unwrap();
            assert_eq!(alone.row, whole.row[at * 40..][..40]);
            assert_eq!(alone.similarity, whole.similarity[at * 40..][..40]);
        }
    }
}

#[test]
fn equal_rows_come_in_their_order() {
    let vectors = Vectors::new(&[0.5, 0.5].repeat(3000), 2).unwrap();
    for threads in [1, 8] {
        let found = vectors.search(&[1.0, 1.0].repeat(600), 7, threads).unwrap();
        for rows in found.row.chunks_exact(7) {
            assert_eq!(rows, [0, 1, 2, 3, 4, 5, 6]);
        }
    }
}

#[test]
fn a_row_can_be_set_and_added() {
    let mut vectors = Vectors::new(&[1.0, 0.0, 0.0, 1.0], 2).unwrap();
    vectors.put(2, &[-1.0, 0.0]).unwrap();
    assert_eq!(vectors.search(&[-1.0, 0.0], 1, 1).unwrap().row, [2]);
    vectors.put(0, &[-3.0, 0.0]).unwrap();
    assert_eq!(vectors.search(&[-1.0, 0.0], 2, 1).unwrap().row, [0, 2]);
    assert_eq!(vectors.to_vec(), [-3.0, 0.0, 0.0, 1.0, -1.0, 0.0]);
    assert_eq!((vectors.len(), vectors.dimension(), vectors.is_empty()), (3, 2, false));
}

#[test]
fn threads_search_while_one_adds() {
    let vectors = SharedVectors::new(&[1.0, 0.0], 2).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (1..500).for_each(|row| vectors.put(row, &[0.0, row as f32]).unwrap()));
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let before = vectors.len();
                    let found = vectors.search(&[0.0, 1.0], 1, 1).unwrap();
                    assert!(found.row[0] + 1 >= before as i64, "a row that was there is found");
                }
            });
        }
    });
    let (values, width) = vectors.to_vec();
    assert_eq!((vectors.len(), vectors.is_empty(), values.len(), width), (500, false, 1000, 2));
    assert_eq!(
        vectors.put(501, &[1.0, 0.0]).unwrap_err().to_string(),
        "row: got 501, wanted one of the 500 rows or the next"
    );
}

#[test]
fn a_query_that_is_no_number_is_answered() {
    let vectors = Vectors::new(&numbers(3000 * 4, 1), 4).unwrap();
    let found = vectors.search(&[f32::NAN, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], 5, 1).unwrap();
    assert_eq!(found.row.len(), 10);
    assert!(found.similarity[..5].iter().all(|value| value.is_nan()));
    assert!(found.similarity[5..].iter().all(|value| value.is_finite()));
}

#[test]
fn what_does_not_fit_is_refused() {
    let said = |result: Result<(), eccos_infer::ShapeError>| result.unwrap_err().to_string();
    let mut vectors = Vectors::new(&[1.0, 0.0, 0.0, 1.0], 2).unwrap();
    assert_eq!(said(Vectors::new(&[1.0; 5], 2).map(drop)), "vectors: got 5 numbers, wanted rows of 2");
    assert_eq!(said(Vectors::new(&[], 0).map(drop)), "vectors: got 0 numbers, wanted rows of 0");
    for bad in [f32::NAN, f32::INFINITY, 1e6] {
        assert_eq!(said(vectors.put(0, &[bad, 0.0])), format!("vector: got {bad}, wanted numbers of at most 65504"));
    }
    assert_eq!(said(vectors.put(3, &[1.0, 0.0])), "row: got 3, wanted one of the 2 rows or the next");
    assert_eq!(said(vectors.put(0, &[1.0])), "vector: got 1 numbers, wanted 2");
    assert_eq!(said(vectors.search(&[1.0], 1, 1).map(drop)), "queries: got 1 numbers, wanted rows of 2");
    assert_eq!(said(vectors.search(&[1.0, 0.0], 3, 1).map(drop)), "k: got 3, wanted 1 to 2");
    assert_eq!(said(vectors.search(&[1.0, 0.0], 0, 1).map(drop)), "k: got 0, wanted 1 to 2");
    assert_eq!(vectors.search(&[], 1, 4).unwrap().row.len(), 0);
    assert_eq!(vectors.to_vec(), [1.0, 0.0, 0.0, 1.0], "what was refused changed nothing");
}
