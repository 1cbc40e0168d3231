//! The vectors that the row passes are written in: AVX-512, AVX2, and an array that any compiler can vectorise.
//!
//! All of them do the same single-precision operations, none fused and none across lanes, so the results are the same
//! everywhere.

/// Where the rows of some queries begin in an array.
pub(crate) trait Rows: Copy {
    fn at(self, l: usize) -> usize;
}

/// Rows of consecutive queries: the first, and the entries of each.
#[derive(Clone, Copy)]
pub(crate) struct Even(pub usize, pub usize);

impl Rows for Even {
    #[inline(always)]
    fn at(self, l: usize) -> usize {
        self.0 + l * self.1
    }
}

/// Rows of any queries.
impl Rows for &[usize; 16] {
    #[inline(always)]
    fn at(self, l: usize) -> usize {
        self[l]
    }
}

/// A vector of `WIDTH` single-precision lanes, one a query.
pub(crate) trait Vector: Copy {
    const WIDTH: usize;
    /// What a comparison finds, lane by lane.
    type Mask: Copy;

    /// The same number in every lane.
    ///
    /// # Safety
    /// The processor has the features of the implementing type; so for every function below.
    unsafe fn splat(x: f32) -> Self;
    /// # Safety
    /// `WIDTH` numbers can be read at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `WIDTH` numbers can be written at `to`.
    unsafe fn store(self, to: *mut f32);
    /// Four columns of `WIDTH` rows: lane l of column c is the number `from[rows.at(l) + c]`.
    ///
    /// # Safety
    /// Four numbers can be read at each of `WIDTH` rows.
    unsafe fn columns<R: Rows>(from: *const f32, rows: R) -> [Self; 4];
    /// As `columns`, rounded from double precision.
    ///
    /// # Safety
    /// As `columns`.
    unsafe fn columns_f64<R: Rows>(from: *const f64, rows: R) -> [Self; 4];
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn abs(self) -> Self;
    unsafe fn lt(self, other: Self) -> Self::Mask;
    unsafe fn le(self, other: Self) -> Self::Mask;
    unsafe fn eq(self, other: Self) -> Self::Mask;
    /// A bit for every lane.
    unsafe fn bits(mask: Self::Mask) -> u32;
    /// `yes` where the mask is set, `no` elsewhere.
    unsafe fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
    /// Moves the numbers whose bit is set to the front, in their order; the rest is of no use.
    #[inline(always)]
    unsafe fn pack(values: &mut [u32; 16], bits: u32) {
        let mut found = 0;
        for l in 0..16 {
            values[found & 15] = values[l];
            found += (bits >> l & 1) as usize;
        }
    }
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
        Self(std::array::from_fn(|l| f(self.0[l], other.0[l])))
    }

    #[inline(always)]
    fn compare(self, other: Self, f: impl Fn(f32, f32) -> bool) -> [bool; 8] {
        std::array::from_fn(|l| f(self.0[l], other.0[l]))
    }

    /// # Safety
    /// As `Vector::columns`.
    #[inline(always)]
    unsafe fn turned<T: Copy, R: Rows>(from: *const T, rows: R, round: impl Fn(T) -> f32) -> [Self; 4] {
        // SAFETY: the caller says that four numbers can be read at each of eight rows.
        std::array::from_fn(|c| Self(std::array::from_fn(|l| round(unsafe { *from.add(rows.at(l) + c) }))))
    }
}

impl Vector for Portable {
    const WIDTH: usize = 8;
    type Mask = [bool; 8];

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller says that eight numbers can be read.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller says that eight numbers can be written.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn columns<R: Rows>(from: *const f32, rows: R) -> [Self; 4] {
        // SAFETY: passed on.
        unsafe { Self::turned(from, rows, |x| x) }
    }

    #[inline(always)]
    unsafe fn columns_f64<R: Rows>(from: *const f64, rows: R) -> [Self; 4] {
        // SAFETY: passed on.
        unsafe { Self::turned(from, rows, |x| x as f32) }
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
    unsafe fn abs(self) -> Self {
        self.zip(self, |a, _| a.abs())
    }

    #[inline(always)]
    unsafe fn lt(self, other: Self) -> [bool; 8] {
        self.compare(other, |a, b| a < b)
    }

    #[inline(always)]
    unsafe fn le(self, other: Self) -> [bool; 8] {
        self.compare(other, |a, b| a <= b)
    }

    #[inline(always)]
    unsafe fn eq(self, other: Self) -> [bool; 8] {
        self.compare(other, |a, b| a == b)
    }

    #[inline(always)]
    unsafe fn bits(mask: [bool; 8]) -> u32 {
        (0..8).fold(0, |bits, l| bits | u32::from(mask[l]) << l)
    }

    #[inline(always)]
    unsafe fn select(mask: [bool; 8], yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|l| if mask[l] { yes.0[l] } else { no.0[l] }))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Rows, Vector};
    use std::arch::x86_64::{
        __m128, __m256, __m512, __mmask16, _CMP_EQ_OQ, _CMP_LE_OQ, _CMP_LT_OQ, _MM_HINT_T0, _mm_loadu_ps,
        _mm_prefetch, _mm256_add_ps, _mm256_andnot_ps, _mm256_blendv_ps, _mm256_castpd_ps, _mm256_castps_pd,
        _mm256_cmp_ps, _mm256_cvtpd_ps, _mm256_loadu_pd, _mm256_loadu_ps, _mm256_movemask_ps, _mm256_mul_ps,
        _mm256_set_m128, _mm256_set1_ps, _mm256_storeu_ps, _mm256_sub_ps, _mm256_unpackhi_pd, _mm256_unpackhi_ps,
        _mm256_unpacklo_pd, _mm256_unpacklo_ps, _mm512_abs_ps, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd,
        _mm512_castps128_ps512, _mm512_cmp_ps_mask, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_blend_ps,
        _mm512_mask_broadcast_f32x4, _mm512_maskz_compress_epi32, _mm512_mul_ps, _mm512_set1_ps, _mm512_storeu_ps,
        _mm512_storeu_si512, _mm512_sub_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd,
        _mm512_unpacklo_ps,
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
}
