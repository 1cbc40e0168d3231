//! Inner products of queries in single and rows in half precision, compiled for what the processor can do and chosen
//! at run time.
//!
//! Within one version every product is summed in the same lanes and in the same order, however many queries and rows
//! are handled together, so a score does not depend on what else is asked.

/// Rows and queries are padded to a multiple of this: the lanes of the widest version.
pub(super) const LANES: usize = 16;

/// A version of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// For any processor.
    Portable,
    /// 8 lanes, fused multiply-add, half precision converted by the processor.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 16 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernel {
    /// Every version that this processor runs, the fastest last.
    pub(super) fn available() -> Vec<Self> {
        let mut found = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") && has!("f16c") {
                found.push(Self::Avx2);
                if has!("avx512f") {
                    found.push(Self::Avx512);
                }
            }
        }
        found
    }

    pub(super) fn fastest() -> Self {
        Self::available().pop().unwrap_or(Self::Portable)
    }

    /// Queries handled together.
    #[allow(clippy::unused_self)] // a version may differ
    pub(super) const fn queries(self) -> usize {
        4
    }

    /// Scores up to `self.queries()` queries (q, width) against rows (r, width): `scores[i * r + j]`.
    pub(super) fn score(self, queries: &[f32], rows: &[u16], width: usize, scores: &mut [f32]) {
        assert!(
            width.is_multiple_of(LANES) && queries.len().is_multiple_of(width) && rows.len().is_multiple_of(width)
        );
        let (q, r) = (queries.len() / width, rows.len() / width);
        assert!(q <= self.queries() && scores.len() >= q * r);
        match self {
            Self::Portable => portable::score(queries, rows, width, scores),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` has seen the features that it is compiled for.
            Self::Avx2 => unsafe { avx2::score(queries, rows, width, scores) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` has seen the features that it is compiled for.
            Self::Avx512 => unsafe { avx512::score(queries, rows, width, scores) },
        }
    }
}

mod portable {
    use super::LANES;

    pub(super) fn score(queries: &[f32], rows: &[u16], width: usize, scores: &mut [f32]) {
        let count = rows.len() / width;
        let mut row = vec![0.0; width];
        for (j, halves) in rows.chunks_exact(width).enumerate() {
            for (value, half) in row.iter_mut().zip(halves) {
                *value = to_single(*half);
            }
            for (i, query) in queries.chunks_exact(width).enumerate() {
                scores[i * count + j] = product(query, &row);
            }
        }
    }

    /// Sixteen sums side by side, which a compiler turns into vectors.
    fn product(one: &[f32], other: &[f32]) -> f32 {
        let mut sums = [0.0; LANES];
        for (a, b) in one.chunks_exact(LANES).zip(other.chunks_exact(LANES)) {
            for lane in 0..LANES {
                sums[lane] += a[lane] * b[lane];
            }
        }
        sums.iter().sum()
    }

    /// Exact for every finite number: the exponent is moved by multiplying, which also holds for subnormal ones.
    pub(super) fn to_single(half: u16) -> f32 {
        const MOVED: f32 = f32::from_bits((127 + 112) << 23); // 2^112
        let size = f32::from_bits(u32::from(half & 0x7fff) << 13) * MOVED;
        f32::from_bits(size.to_bits() | u32::from(half & 0x8000) << 16)
    }
}

/// Defines a module with `score` for one instruction set.
#[cfg(target_arch = "x86_64")]
macro_rules! version {
    (
        $name:ident, $features:literal, $lanes:literal, $vector:ty,
        zero $zero:ident, load $load:ident, widen $widen:ident ($half:ident: $halves:ty), fma $fma:ident, sum $sum:item
    ) => {
        mod $name {
            use std::arch::x86_64::*;

            /// See [`super::Kernel::score`], which checks the lengths.
            #[target_feature(enable = $features)]
            pub(super) fn score(queries: &[f32], rows: &[u16], width: usize, scores: &mut [f32]) {
                match queries.len() / width {
                    4 => rows_by::<4, 2>(queries, rows, width, scores),
                    3 => rows_by::<3, 2>(queries, rows, width, scores),
                    2 => rows_by::<2, 4>(queries, rows, width, scores),
                    1 => rows_by::<1, 4>(queries, rows, width, scores),
                    _ => {}
                }
            }

            /// Rows in groups of R, then one by one.
            #[target_feature(enable = $features)]
            fn rows_by<const Q: usize, const R: usize>(
                queries: &[f32],
                rows: &[u16],
                width: usize,
                scores: &mut [f32],
            ) {
                let count = rows.len() / width;
                let mut put = |at: usize, made: &[[f32; Q]]| {
                    for (j, column) in made.iter().enumerate() {
                        for (i, score) in column.iter().enumerate() {
                            scores[i * count + at + j] = *score;
                        }
                    }
                };
                let mut at = 0;
                while at + R <= count {
                    put(at, &tile::<Q, R>(queries, &rows[at * width..][..R * width], width));
                    at += R;
                }
                while at < count {
                    put(at, &tile::<Q, 1>(queries, &rows[at * width..][..width], width));
                    at += 1;
                }
            }

            /// Products of Q queries with R rows; a row is converted once for all queries.
            #[target_feature(enable = $features)]
            fn tile<const Q: usize, const R: usize>(
                queries: &[f32],
                rows: &[u16],
                width: usize,
            ) -> [[f32; Q]; R] {
                assert!(queries.len() == Q * width && rows.len() == R * width && width % $lanes == 0);
                let mut sums: [[$vector; Q]; R] = [[$zero(); Q]; R];
                for at in (0..width).step_by($lanes) {
                    let mut wide = [$zero(); R];
                    for (j, wide) in wide.iter_mut().enumerate() {
                        // SAFETY: j < R and at + lanes <= width, so the load ends within `rows`.
                        #[allow(clippy::cast_ptr_alignment, reason = "read unaligned")]
                        let $half = unsafe { rows.as_ptr().add(j * width + at).cast::<$halves>() };
                        // SAFETY: the same; the load needs no alignment.
                        *wide = $widen(unsafe { $half.read_unaligned() });
                    }
                    for i in 0..Q {
                        // SAFETY: i < Q and at + lanes <= width, so the load ends within `queries`.
                        let query = unsafe { $load(queries.as_ptr().add(i * width + at)) };
                        for j in 0..R {
                            sums[j][i] = $fma(query, wide[j], sums[j][i]);
                        }
                    }
                }
                let mut out = [[0.0; Q]; R];
                for (out, sums) in out.iter_mut().zip(&sums) {
                    for (out, sum) in out.iter_mut().zip(sums) {
                        *out = total(*sum);
                    }
                }
                out
            }

            #[target_feature(enable = $features)]
            $sum
        }
    };
}

#[cfg(target_arch = "x86_64")]
version! {
    avx2, "avx2,fma,f16c", 8, __m256,
    zero _mm256_setzero_ps, load _mm256_loadu_ps, widen _mm256_cvtph_ps (half: __m128i), fma _mm256_fmadd_ps,
    sum fn total(sum: __m256) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

#[cfg(target_arch = "x86_64")]
version! {
    avx512, "avx512f,avx2,fma,f16c", 16, __m512,
    zero _mm512_setzero_ps, load _mm512_loadu_ps, widen _mm512_cvtph_ps (half: __m256i), fma _mm512_fmadd_ps,
    sum fn total(sum: __m512) -> f32 {
        _mm512_reduce_add_ps(sum)
    }
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::{Kernel, LANES, portable};

    #[test]
    fn every_half_becomes_the_same_single() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            if half.is_finite() {
                assert_eq!(portable::to_single(bits).to_bits(), half.to_f32().to_bits());
            }
        }
    }

    proptest! {
        #[test]
        fn every_version_gives_the_product(
            q in 1_usize..=4, r in 0_usize..7, blocks in 1_usize..5, seed in any::<u64>()
        ) {
            let width = blocks * LANES;
            let mut state = seed | 1;
            let mut number = move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1 << 23) as f32 - 1.0
            };
            let queries: Vec<f32> = (0..q * width).map(|_| number()).collect();
            let rows: Vec<u16> = (0..r * width).map(|_| f16::from_f32(number()).to_bits()).collect();
            for kernel in Kernel::available() {
                let mut scores = vec![f32::NAN; q * r];
                kernel.score(&queries, &rows, width, &mut scores);
                for i in 0..q {
                    for j in 0..r {
                        let wanted: f64 = (0..width)
                            .map(|at| {
                                let row = f16::from_bits(rows[j * width + at]).to_f64();
                                f64::from(queries[i * width + at]) * row
                            })
                            .sum();
                        prop_assert!((f64::from(scores[i * r + j]) - wanted).abs() < 1e-4, "{kernel:?}");
                        let mut alone = [f32::NAN];
                        kernel.score(&queries[i * width..][..width], &rows[j * width..][..width], width, &mut alone);
                        prop_assert_eq!(alone[0].to_bits(), scores[i * r + j].to_bits());
                    }
                }
            }
        }
    }
}
