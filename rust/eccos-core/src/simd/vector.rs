//! The vectors that the row passes are written in: AVX-512, AVX2, and an array that any compiler can vectorise.
//!
//! All of them do the same single-precision operations, none fused and none across lanes, so the results are the same
//! everywhere.

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

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

/// A vector of `WIDTH` single-precision lanes, one per query.
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
