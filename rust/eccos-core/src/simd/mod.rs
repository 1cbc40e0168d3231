//! The hot loops, compiled for what the processor can do and chosen at run time.
//!
//! Every version does the same operations on the same numbers in the same order (no fused multiply-add), so the
//! result does not depend on the machine.

mod bits;
pub(crate) mod vector;

pub(crate) use bits::{highest_f32, highest_f64};

/// Defines a function that runs one body compiled for AVX-512, AVX2 or the baseline.
macro_rules! dispatch {
    ($(#[$meta:meta])* $name:ident => $body:ident ( $($arg:ident : $type:ty),* $(,)? ) -> $out:ty) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn $name($($arg: $type),*) -> $out {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2")]
                fn widest($($arg: $type),*) -> $out { $body($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn wide($($arg: $type),*) -> $out { $body($($arg),*) }
                if $crate::simd::avx512() {
                    // SAFETY: the processor has every feature that `widest` is compiled for.
                    return unsafe { widest($($arg),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2.
                    return unsafe { wide($($arg),*) };
                }
            }
            $body($($arg),*)
        }
    };
}
pub(crate) use dispatch;

/// True when the processor has the AVX-512 subsets of every server since 2017, and the older features that the code
/// for them is compiled with.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("popcnt")
}
