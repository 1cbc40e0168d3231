//! The largest bit pattern of a block: one unsigned comparison tells whether every number lies in `[0, high]`.
//!
//! Bit patterns of numbers >= 0 are ordered as the numbers are; those of negative numbers, of infinity and of NaN are all
//! above those of finite numbers >= 0.

use crate::simd::dispatch;

dispatch! {
    /// The largest bit pattern of single-precision numbers.
    highest_f32 => highest_f32_body(values: &[f32]) -> u32
}

dispatch! {
    /// The largest bit pattern of double-precision numbers.
    highest_f64 => highest_f64_body(values: &[f64]) -> u64
}

#[inline(always)]
fn highest_f32_body(values: &[f32]) -> u32 {
    values.iter().fold(0, |highest, x| highest.max(x.to_bits()))
}

#[inline(always)]
fn highest_f64_body(values: &[f64]) -> u64 {
    values.iter().fold(0, |highest, x| highest.max(x.to_bits()))
}
