//! The vectors that the row passes are written in: AVX-512, AVX2, and an array that any compiler can vectorise.
//!
//! All of them do the same single-precision operations, none fused, so the results are the same everywhere.

/// A vector of `WIDTH` single-precision lanes.
pub(crate) trait Vector: Copy {
    const WIDTH: usize;

    /// The same number in every lane.
    ///
    /// # Safety
    /// The processor has the features of the implementing type; so for every function below.
    unsafe fn splat(x: f32) -> Self;

    /// The first `lanes` (at most `WIDTH`) numbers at `from`, 0 in the other lanes.
    ///
    /// # Safety
    /// `lanes` numbers can be read at `from`.
    unsafe fn load(from: *const f32, lanes: usize) -> Self;

    /// As `load`, rounded from double precision.
    ///
    /// # Safety
    /// `lanes` numbers can be read at `from`.
    unsafe fn load_f64(from: *const f64, lanes: usize) -> Self;

    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    unsafe fn abs(self) -> Self;

    /// A bit for every lane that is less than or equal to the other's.
    unsafe fn le(self, other: Self) -> u32;

    /// A bit for every lane that equals the other's.
    unsafe fn eq(self, other: Self) -> u32;

    /// The least lane.
    unsafe fn least(self) -> f32;

    /// Replaces the lanes whose bit is set.
    unsafe fn put(self, lanes: u32, x: f32) -> Self;

    /// Says that `from` will be read soon. It need not be readable.
    #[inline(always)]
    unsafe fn prefetch<T>(_from: *const T) {}
}

/// Eight lanes in plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self.0;
        for l in 0..8 {
            out[l] = f(out[l], other.0[l]);
        }
        Self(out)
    }

    #[inline(always)]
    fn bits(self, other: Self, f: impl Fn(f32, f32) -> bool) -> u32 {
        (0..8).fold(0, |bits, l| bits | u32::from(f(self.0[l], other.0[l])) << l)
    }
}

impl Vector for Portable {
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32, lanes: usize) -> Self {
        let mut out = [0.0; 8];
        for (l, slot) in out.iter_mut().enumerate().take(lanes) {
            // SAFETY: l < lanes, and the caller says that `lanes` numbers can be read.
            *slot = unsafe { *from.add(l) };
        }
        Self(out)
    }

    #[inline(always)]
    unsafe fn load_f64(from: *const f64, lanes: usize) -> Self {
        let mut out = [0.0; 8];
        for (l, slot) in out.iter_mut().enumerate().take(lanes) {
            // SAFETY: l < lanes, and the caller says that `lanes` numbers can be read.
            *slot = unsafe { *from.add(l) } as f32;
        }
        Self(out)
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        self.zip(self, |a, _| a.abs())
    }

    #[inline(always)]
    unsafe fn le(self, other: Self) -> u32 {
        self.bits(other, |a, b| a <= b)
    }

    #[inline(always)]
    unsafe fn eq(self, other: Self) -> u32 {
        self.bits(other, |a, b| a == b)
    }

    #[inline(always)]
    unsafe fn least(self) -> f32 {
        self.0.iter().fold(f32::INFINITY, |a, &b| if b < a { b } else { a })
    }

    #[inline(always)]
    unsafe fn put(self, lanes: u32, x: f32) -> Self {
        let mut out = self.0;
        for (l, slot) in out.iter_mut().enumerate() {
            *slot = if lanes >> l & 1 == 1 { x } else { *slot };
        }
        Self(out)
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::{
        __m256, __m512, __mmask8, __mmask16, _CMP_EQ_OQ, _CMP_LE_OQ, _MM_HINT_T0, _mm_cvtss_f32, _mm_loadu_si128,
        _mm_min_ps, _mm_min_ss, _mm_movehl_ps, _mm_prefetch, _mm_shuffle_ps, _mm256_add_ps, _mm256_and_si256,
        _mm256_andnot_ps, _mm256_blendv_ps, _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_cmp_ps,
        _mm256_cmpeq_epi32, _mm256_cvtepi32_epi64, _mm256_cvtpd_ps, _mm256_extractf128_ps, _mm256_loadu_si256,
        _mm256_maskload_pd, _mm256_maskload_ps, _mm256_min_ps, _mm256_movemask_ps, _mm256_mul_ps, _mm256_set_m128,
        _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_sub_ps, _mm512_abs_ps, _mm512_add_ps,
        _mm512_castps256_ps512, _mm512_cmp_ps_mask, _mm512_cvtpd_ps, _mm512_insertf32x8, _mm512_mask_mov_ps,
        _mm512_maskz_loadu_pd, _mm512_maskz_loadu_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_reduce_min_ps,
        _mm512_set1_ps, _mm512_sub_ps,
    };

    /// Sixteen lanes; needs avx512f, avx512dq.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    /// The lowest `lanes` bits.
    #[inline(always)]
    fn low(lanes: usize) -> u32 {
        (1u32 << lanes) - 1
    }

    // SAFETY of every block below: the caller of a `Vector` function promises the processor's features, and for loads that
    // `lanes` numbers can be read; masked loads touch no other memory.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Vector for Avx512 {
        const WIDTH: usize = 16;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            unsafe { Self(_mm512_set1_ps(x)) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32, lanes: usize) -> Self {
            unsafe { Self(_mm512_maskz_loadu_ps(low(lanes) as __mmask16, from)) }
        }

        #[inline(always)]
        unsafe fn load_f64(from: *const f64, lanes: usize) -> Self {
            unsafe {
                let (first, second) = (lanes.min(8), lanes.saturating_sub(8));
                let a = _mm512_cvtpd_ps(_mm512_maskz_loadu_pd(low(first) as __mmask8, from));
                let b = _mm512_cvtpd_ps(_mm512_maskz_loadu_pd(low(second) as __mmask8, from.wrapping_add(8)));
                Self(_mm512_insertf32x8::<1>(_mm512_castps256_ps512(a), b))
            }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm512_add_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            unsafe { Self(_mm512_min_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn abs(self) -> Self {
            unsafe { Self(_mm512_abs_ps(self.0)) }
        }

        #[inline(always)]
        unsafe fn le(self, other: Self) -> u32 {
            unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn eq(self, other: Self) -> u32 {
            unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn least(self) -> f32 {
            unsafe { _mm512_reduce_min_ps(self.0) }
        }

        #[inline(always)]
        unsafe fn put(self, lanes: u32, x: f32) -> Self {
            unsafe { Self(_mm512_mask_mov_ps(self.0, lanes as __mmask16, _mm512_set1_ps(x))) }
        }

        #[inline(always)]
        unsafe fn prefetch<T>(from: *const T) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
        }
    }

    /// Eight lanes; needs avx2.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256);

    /// Sign bits for the first lanes, at offset `8 - lanes`.
    static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

    // SAFETY of every block below: as for `Avx512`; `MASKS` holds 16 numbers and at most 8 are read from offset 0 to 8.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Vector for Avx2 {
        const WIDTH: usize = 8;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            unsafe { Self(_mm256_set1_ps(x)) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32, lanes: usize) -> Self {
            unsafe {
                let mask = _mm256_loadu_si256(MASKS.as_ptr().add(8 - lanes).cast());
                Self(_mm256_maskload_ps(from, mask))
            }
        }

        #[inline(always)]
        unsafe fn load_f64(from: *const f64, lanes: usize) -> Self {
            unsafe {
                let half = |from: *const f64, lanes: usize| {
                    let mask = _mm_loadu_si128(MASKS.as_ptr().add(8 - lanes).cast());
                    _mm256_cvtpd_ps(_mm256_maskload_pd(from, _mm256_cvtepi32_epi64(mask)))
                };
                let (first, second) = (lanes.min(4), lanes.saturating_sub(4));
                Self(_mm256_set_m128(half(from.wrapping_add(4), second), half(from, first)))
            }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm256_add_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm256_sub_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm256_mul_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            unsafe { Self(_mm256_min_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn abs(self) -> Self {
            unsafe { Self(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)) }
        }

        #[inline(always)]
        unsafe fn le(self, other: Self) -> u32 {
            unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(self.0, other.0)) as u32 }
        }

        #[inline(always)]
        unsafe fn eq(self, other: Self) -> u32 {
            unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, other.0)) as u32 }
        }

        #[inline(always)]
        unsafe fn least(self) -> f32 {
            unsafe {
                let a = _mm_min_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
                let b = _mm_min_ps(a, _mm_movehl_ps(a, a));
                _mm_cvtss_f32(_mm_min_ss(b, _mm_shuffle_ps::<1>(b, b)))
            }
        }

        #[inline(always)]
        unsafe fn put(self, lanes: u32, x: f32) -> Self {
            unsafe {
                let bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
                let chosen = _mm256_and_si256(_mm256_set1_epi32(lanes as i32), bit);
                let mask = _mm256_castsi256_ps(_mm256_cmpeq_epi32(chosen, bit));
                Self(_mm256_blendv_ps(self.0, _mm256_set1_ps(x), mask))
            }
        }

        #[inline(always)]
        unsafe fn prefetch<T>(from: *const T) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
        }
    }
}
