//! Solves of growing size, beside one argmin pass over the same data: the physical yardstick.
//!
//! `cargo bench -p eccos-core`. Every answer is checked before it is timed.

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use eccos_core::{Goal, Inputs, Matrix, Options, Problem, Status, solve};
use std::hint::black_box;
use std::time::Duration;

/// Queries, models, and the gap that must be reached.
const SIZES: [(usize, usize, f64); 7] = [
    (64, 6, 5e-3),
    (256, 10, 2e-3),
    (1_024, 10, 2e-4),
    (1_024, 50, 3e-4),
    (10_000, 10, 1e-4),
    (100_000, 10, 1e-5),
    (1_000_000, 10, 1e-6),
];

struct Batch {
    queries: usize,
    models: usize,
    cost: Vec<f32>,
    quality: Vec<f32>,
    capacity: Vec<f64>,
    floor: f64,
}

impl Batch {
    /// Dearer models are better, queries differ in difficulty and length; capacities are 1.5 times the demand.
    fn new(queries: usize, models: usize) -> Self {
        let mut state = 0x1234_5678_9abc_def0u64;
        let mut unit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let (mut cost, mut quality) = (vec![], vec![]);
        let (mut cheapest, mut best) = (0.0, 0.0);
        for _ in 0..queries {
            let (difficulty, length) = (4.0 * unit() - 2.0, (2.0 * unit() - 1.0).exp());
            for j in 0..models {
                let rank = j as f32 / models as f32;
                let skill = 2.5 * rank - 0.7 + unit() - 0.5;
                cost.push(1e-4 * length * (0.5 + unit()) * (3.5 * rank).exp());
                quality.push(1.0 / (1.0 + (1.2 * (difficulty - skill)).exp()));
            }
            let row = &quality[quality.len() - models..];
            cheapest += f64::from(row[0]);
            best += row.iter().fold(0.0, |a: f64, &b| a.max(f64::from(b)));
        }
        let floor = (0.6 * cheapest + 0.4 * best) / queries as f64;
        let capacity = vec![(1.5 * queries as f64 / models as f64).ceil(); models];
        Self { queries, models, cost, quality, capacity, floor }
    }

    fn inputs(&self) -> Inputs<'_> {
        let (cost, quality) = (Matrix::F32(&self.cost), Matrix::F32(&self.quality));
        let goal = Goal::Quality { min: self.floor };
        Inputs { capacity: Some(&self.capacity), ..Inputs::new(self.queries, self.models, cost, quality, goal) }
    }

    /// The least any method must do: look at every pair once.
    fn argmin(&self, price: f32, model: &mut [u8]) {
        let rows = self.cost.chunks_exact(self.models).zip(self.quality.chunks_exact(self.models));
        for (slot, (cost, quality)) in model.iter_mut().zip(rows) {
            let (mut least, mut key) = (f32::INFINITY, 0);
            for j in 0..self.models {
                let value = cost[j] - price * quality[j];
                (least, key) = if value < least { (value, j) } else { (least, key) };
            }
            *slot = key as u8;
        }
    }
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("solve");
    group.sampling_mode(SamplingMode::Flat).sample_size(20).measurement_time(Duration::from_secs(2));
    for (queries, models, gap) in SIZES {
        let batch = Batch::new(queries, models);
        let size = format!("{queries}x{models}");
        let options = Options { threads: Some(1), ..Options::default() };
        let once = || {
            let problem = Problem::new(batch.inputs()).expect("well formed");
            solve(&problem, &options).expect("options are fine")
        };
        let answer = once();
        assert!(matches!(answer.status, Status::Optimal | Status::Feasible), "{size}: {:?}", answer.status);
        assert!(answer.gap <= gap, "{size}: gap {}", answer.gap);
        group.bench_function(BenchmarkId::new("fast", &size), |b| b.iter(&once));
        let mut model = vec![0; queries];
        group.bench_function(BenchmarkId::new("argmin", &size), |b| {
            b.iter(|| batch.argmin(black_box(1e-3), black_box(&mut model)));
        });
        if queries <= 1_024 && models <= 10 {
            let exact = Options { tolerance: 0.0, ..options.clone() };
            group.bench_function(BenchmarkId::new("exact", &size), |b| {
                b.iter(|| {
                    let problem = Problem::new(batch.inputs()).expect("well formed");
                    solve(&problem, &exact).expect("options are fine")
                });
            });
        }
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
