//! Loops over pixels, compiled twice: for every processor of the target, and for one with AVX2 that is asked for at run time.
//!
//! ```text
//!   wide! { fn name(...) { body } }  ->  body for the target's baseline (x86-64: SSE2; aarch64: NEON, which all of them have)
//!                                    \-> body for AVX2, taken where the processor has it
//! ```
//!
//! Both come from one source and use whole numbers, or f32 without fused steps: they give the same bits.

/// Whether the AVX2 twins may run on this processor.
#[cfg(target_arch = "x86_64")]
pub fn avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
}

/// A function whose body is compiled twice. What it calls should be `#[inline(always)]`, or is not part of it.
macro_rules! wide {
    ($(#[$doc:meta])* $vis:vis fn $name:ident $(<const $n:ident: usize>)? ($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$doc])*
        $vis fn $name $(<const $n: usize>)? ($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            fn plain $(<const $n: usize>)? ($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
                fn twin $(<const $n: usize>)? ($($arg: $type),*) $(-> $result)? {
                    plain($($arg),*)
                }
                if crate::imaging::wide::avx2() {
                    // SAFETY: the processor has what the twin was compiled for; it was asked on the line above.
                    return unsafe { twin($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}
pub(in crate::imaging) use wide;
