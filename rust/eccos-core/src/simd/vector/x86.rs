//! AVX-512 and AVX2.

use super::{Rows, Vector};
use std::arch::x86_64::{
    __m128, __m256, __m512, __mmask16, _CMP_EQ_OQ, _CMP_LE_OQ, _CMP_LT_OQ, _MM_HINT_T0, _mm_loadu_ps, _mm_prefetch,
    _mm256_add_ps, _mm256_andnot_ps, _mm256_blendv_ps, _mm256_castpd_ps, _mm256_castps_pd, _mm256_cmp_ps,
    _mm256_cvtpd_ps, _mm256_loadu_pd, _mm256_loadu_ps, _mm256_movemask_ps, _mm256_mul_ps, _mm256_set_m128,
    _mm256_set1_ps, _mm256_storeu_ps, _mm256_sub_ps, _mm256_unpackhi_pd, _mm256_unpackhi_ps, _mm256_unpacklo_pd,
    _mm256_unpacklo_ps, _mm512_abs_ps, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd, _mm512_castps128_ps512,
    _mm512_cmp_ps_mask, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_blend_ps, _mm512_mask_broadcast_f32x4,
    _mm512_maskz_compress_epi32, _mm512_mul_ps, _mm512_set1_ps, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
    _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

/// Sixteen lanes; needs avx512f, avx512dq.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

impl Avx512 {
    /// Every fourth row, block by block.
    #[inline(always)]
    unsafe fn blocks(a: __m128, b: __m128, c: __m128, d: __m128) -> __m512 {
        // SAFETY: the caller of a `Vector` function promises the processor's features.
        unsafe {
            let row = _mm512_mask_broadcast_f32x4(_mm512_castps128_ps512(a), 0x00f0, b);
            let row = _mm512_mask_broadcast_f32x4(row, 0x0f00, c);
            _mm512_mask_broadcast_f32x4(row, 0xf000, d)
        }
    }

    /// Rows 4 b + k lie in block b of the vector k; turns each of the 4 x 4 blocks.
    #[inline(always)]
    unsafe fn turned(rows: [__m512; 4]) -> [Self; 4] {
        // SAFETY: the caller of a `Vector` function promises the processor's features.
        unsafe {
            let a = _mm512_castps_pd(_mm512_unpacklo_ps(rows[0], rows[1]));
            let b = _mm512_castps_pd(_mm512_unpacklo_ps(rows[2], rows[3]));
            let c = _mm512_castps_pd(_mm512_unpackhi_ps(rows[0], rows[1]));
            let d = _mm512_castps_pd(_mm512_unpackhi_ps(rows[2], rows[3]));
            [
                Self(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b))),
                Self(_mm512_castpd_ps(_mm512_unpackhi_pd(a, b))),
                Self(_mm512_castpd_ps(_mm512_unpacklo_pd(c, d))),
                Self(_mm512_castpd_ps(_mm512_unpackhi_pd(c, d))),
            ]
        }
    }
}

// SAFETY of every block below: the caller of a `Vector` function promises the processor's features, and for loads and
// stores that the numbers can be read or written.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Vector for Avx512 {
    const WIDTH: usize = 16;
    type Mask = __mmask16;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Self(_mm512_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(_mm512_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn columns<R: Rows>(from: *const f32, rows: R) -> [Self; 4] {
        unsafe {
            Self::turned([
                Self::blocks(
                    _mm_loadu_ps(from.add(rows.at(0))),
                    _mm_loadu_ps(from.add(rows.at(4))),
                    _mm_loadu_ps(from.add(rows.at(8))),
                    _mm_loadu_ps(from.add(rows.at(12))),
                ),
                Self::blocks(
                    _mm_loadu_ps(from.add(rows.at(1))),
                    _mm_loadu_ps(from.add(rows.at(5))),
                    _mm_loadu_ps(from.add(rows.at(9))),
                    _mm_loadu_ps(from.add(rows.at(13))),
                ),
                Self::blocks(
                    _mm_loadu_ps(from.add(rows.at(2))),
                    _mm_loadu_ps(from.add(rows.at(6))),
                    _mm_loadu_ps(from.add(rows.at(10))),
                    _mm_loadu_ps(from.add(rows.at(14))),
                ),
                Self::blocks(
                    _mm_loadu_ps(from.add(rows.at(3))),
                    _mm_loadu_ps(from.add(rows.at(7))),
                    _mm_loadu_ps(from.add(rows.at(11))),
                    _mm_loadu_ps(from.add(rows.at(15))),
                ),
            ])
        }
    }

    #[inline(always)]
    unsafe fn columns_f64<R: Rows>(from: *const f64, rows: R) -> [Self; 4] {
        unsafe {
            Self::turned([
                Self::blocks(
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(0)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(4)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(8)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(12)))),
                ),
                Self::blocks(
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(1)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(5)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(9)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(13)))),
                ),
                Self::blocks(
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(2)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(6)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(10)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(14)))),
                ),
                Self::blocks(
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(3)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(7)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(11)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(15)))),
                ),
            ])
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
    unsafe fn abs(self) -> Self {
        unsafe { Self(_mm512_abs_ps(self.0)) }
    }

    #[inline(always)]
    unsafe fn lt(self, other: Self) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0) }
    }

    #[inline(always)]
    unsafe fn le(self, other: Self) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, other.0) }
    }

    #[inline(always)]
    unsafe fn eq(self, other: Self) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, other.0) }
    }

    #[inline(always)]
    unsafe fn bits(mask: __mmask16) -> u32 {
        u32::from(mask)
    }

    #[inline(always)]
    unsafe fn select(mask: __mmask16, yes: Self, no: Self) -> Self {
        unsafe { Self(_mm512_mask_blend_ps(mask, no.0, yes.0)) }
    }

    #[inline(always)]
    unsafe fn pack(values: &mut [u32; 16], bits: u32) {
        unsafe {
            let all = _mm512_loadu_si512(values.as_ptr().cast());
            let packed = _mm512_maskz_compress_epi32(bits as __mmask16, all);
            _mm512_storeu_si512(values.as_mut_ptr().cast(), packed);
        }
    }

    #[inline(always)]
    unsafe fn prefetch<T>(from: *const T) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
}

/// Eight lanes; needs avx2.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256);

impl Avx2 {
    /// As for `Avx512`, with two blocks.
    #[inline(always)]
    unsafe fn turned(rows: [__m256; 4]) -> [Self; 4] {
        // SAFETY: the caller of a `Vector` function promises the processor's features.
        unsafe {
            let a = _mm256_castps_pd(_mm256_unpacklo_ps(rows[0], rows[1]));
            let b = _mm256_castps_pd(_mm256_unpacklo_ps(rows[2], rows[3]));
            let c = _mm256_castps_pd(_mm256_unpackhi_ps(rows[0], rows[1]));
            let d = _mm256_castps_pd(_mm256_unpackhi_ps(rows[2], rows[3]));
            [
                Self(_mm256_castpd_ps(_mm256_unpacklo_pd(a, b))),
                Self(_mm256_castpd_ps(_mm256_unpackhi_pd(a, b))),
                Self(_mm256_castpd_ps(_mm256_unpacklo_pd(c, d))),
                Self(_mm256_castpd_ps(_mm256_unpackhi_pd(c, d))),
            ]
        }
    }
}

// SAFETY of every block below: as for `Avx512`.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Vector for Avx2 {
    const WIDTH: usize = 8;
    type Mask = __m256;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Self(_mm256_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(_mm256_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn columns<R: Rows>(from: *const f32, rows: R) -> [Self; 4] {
        unsafe {
            Self::turned([
                _mm256_set_m128(_mm_loadu_ps(from.add(rows.at(4))), _mm_loadu_ps(from.add(rows.at(0)))),
                _mm256_set_m128(_mm_loadu_ps(from.add(rows.at(5))), _mm_loadu_ps(from.add(rows.at(1)))),
                _mm256_set_m128(_mm_loadu_ps(from.add(rows.at(6))), _mm_loadu_ps(from.add(rows.at(2)))),
                _mm256_set_m128(_mm_loadu_ps(from.add(rows.at(7))), _mm_loadu_ps(from.add(rows.at(3)))),
            ])
        }
    }

    #[inline(always)]
    unsafe fn columns_f64<R: Rows>(from: *const f64, rows: R) -> [Self; 4] {
        unsafe {
            Self::turned([
                _mm256_set_m128(
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(4)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(0)))),
                ),
                _mm256_set_m128(
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(5)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(1)))),
                ),
                _mm256_set_m128(
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(6)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(2)))),
                ),
                _mm256_set_m128(
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(7)))),
                    _mm256_cvtpd_ps(_mm256_loadu_pd(from.add(rows.at(3)))),
                ),
            ])
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
    unsafe fn abs(self) -> Self {
        unsafe { Self(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)) }
    }

    #[inline(always)]
    unsafe fn lt(self, other: Self) -> __m256 {
        unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0) }
    }

    #[inline(always)]
    unsafe fn le(self, other: Self) -> __m256 {
        unsafe { _mm256_cmp_ps::<_CMP_LE_OQ>(self.0, other.0) }
    }

    #[inline(always)]
    unsafe fn eq(self, other: Self) -> __m256 {
        unsafe { _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, other.0) }
    }

    #[inline(always)]
    unsafe fn bits(mask: __m256) -> u32 {
        unsafe { _mm256_movemask_ps(mask) as u32 }
    }

    #[inline(always)]
    unsafe fn select(mask: __m256, yes: Self, no: Self) -> Self {
        unsafe { Self(_mm256_blendv_ps(no.0, yes.0, mask)) }
    }

    #[inline(always)]
    unsafe fn prefetch<T>(from: *const T) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
}
