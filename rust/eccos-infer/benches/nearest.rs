//! Exact search over 1,000 to 100,000 vectors of 256 numbers, one query and 256 at once, on one thread.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use eccos_infer::Vectors;

const DIMENSION: usize = 256;
const NEIGHBOURS: usize = 64;

/// Unit vectors from a fixed sequence of pseudo-random numbers.
fn unit(count: usize, mut state: u64) -> Vec<f32> {
    let mut made: Vec<f32> = (0..count * DIMENSION)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    for vector in made.chunks_exact_mut(DIMENSION) {
        let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        for value in vector {
            *value /= norm;
        }
    }
    made
}

fn search(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("nearest");
    for rows in [1_000, 10_000, 100_000] {
        let vectors = Vectors::new(&unit(rows, 1), DIMENSION).expect("rows of the dimension");
        for queries in [1, 256] {
            let asked = unit(queries, 2);
            group.throughput(Throughput::Elements(queries as u64));
            group.sample_size(10);
            group.bench_with_input(BenchmarkId::new(format!("{rows} rows"), queries), &asked, |bench, asked| {
                bench.iter(|| vectors.search(black_box(asked), NEIGHBOURS, 1).expect("they fit"));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, search);
criterion_main!(benches);
