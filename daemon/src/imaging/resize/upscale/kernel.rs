//! Weighted sums of rows, the inner loop of enlarging: fixed point, 16 numbers at a time with AVX2, 8 with NEON.
//!
//! A product is `(a * w + 2^14) >> 15`: what `pmulhrsw` and `sqrdmulh` do in one step. The plain loop does the same, so all three give the
//! same bits (a test holds them together). A weight of one is [`ONE`]; no sum of ours leaves an i16, because the weights' absolute values
//! sum to less than 1.6.

/// 1.0 as a weight: a sum comes out at half the scale of what goes in.
pub const ONE: i32 = 1 << 14;

/// Into rows: `out[i] = sum of rows[t][i] * weights[t]`, half the scale of the rows. Each row has at least `out`'s length.
pub fn into_row<const T: usize>(rows: [&[i16]; T], weights: &[i16; T], out: &mut [i16]) {
    let rows = rows.map(|row| &row[..out.len()]);
    #[cfg(target_arch = "x86_64")]
    if crate::imaging::wide::avx2() {
        // SAFETY: the processor was asked on the line above.
        return unsafe { avx2::into_row(rows, weights, out) };
    }
    #[cfg(target_arch = "aarch64")]
    return neon::into_row(rows, weights, out);
    #[allow(unreachable_code)] // aarch64 always has NEON
    plain::into_row(rows, weights, out, 0);
}

/// Into levels: the same sum, from 1/64 levels to whole ones, rounded, ended at 0 and 255.
pub fn into_levels<const T: usize>(rows: [&[i16]; T], weights: &[i16; T], out: &mut [u8]) {
    let rows = rows.map(|row| &row[..out.len()]);
    #[cfg(target_arch = "x86_64")]
    if crate::imaging::wide::avx2() {
        // SAFETY: the processor was asked on the line above.
        return unsafe { avx2::into_levels(rows, weights, out) };
    }
    #[cfg(target_arch = "aarch64")]
    return neon::into_levels(rows, weights, out);
    #[allow(unreachable_code)] // aarch64 always has NEON
    plain::into_levels(rows, weights, out, 0);
}

/// Bits between 1/64 levels at half the scale and whole levels.
const LEVEL_BITS: i32 = 5;

mod plain {
    //! One number at a time, from `from` on.

    fn sum<const T: usize>(rows: &[&[i16]; T], weights: &[i16; T], i: usize) -> i16 {
        let product = |t: usize| ((i32::from(rows[t][i]) * i32::from(weights[t]) + (1 << 14)) >> 15) as i16;
        (0..T).fold(0, |sum: i16, t| sum.wrapping_add(product(t)))
    }

    pub fn into_row<const T: usize>(rows: [&[i16]; T], weights: &[i16; T], out: &mut [i16], from: usize) {
        for (i, out) in out.iter_mut().enumerate().skip(from) {
            *out = sum(&rows, weights, i);
        }
    }

    pub fn into_levels<const T: usize>(rows: [&[i16]; T], weights: &[i16; T], out: &mut [u8], from: usize) {
        for (i, out) in out.iter_mut().enumerate().skip(from) {
            let level = (i32::from(sum(&rows, weights, i)) + (1 << (super::LEVEL_BITS - 1))) >> super::LEVEL_BITS;
            *out = level.clamp(0, 255) as u8;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! Sixteen numbers a register. Called with rows of exactly `out`'s length.

    use std::arch::x86_64::*;

    use super::{LEVEL_BITS, plain};

    /// Numbers in a register.
    const LANES: usize = 16;

    #[target_feature(enable = "avx2")]
    #[inline]
    fn sum<const T: usize>(rows: &[&[i16]; T], weights: &[__m256i; T], at: usize) -> __m256i {
        let mut sum = _mm256_setzero_si256();
        for t in 0..T {
            debug_assert!(at + LANES <= rows[t].len());
            // SAFETY: the callers' loops end LANES numbers before the rows do; the load asks for no alignment.
            let numbers = unsafe { _mm256_loadu_si256(rows[t].as_ptr().add(at).cast()) };
            sum = _mm256_add_epi16(sum, _mm256_mulhrs_epi16(numbers, weights[t]));
        }
        sum
    }

    #[target_feature(enable = "avx2")]
    pub fn into_row<const T: usize>(rows: [&[i16]; T], weights: &[i16; T], out: &mut [i16]) {
        let each = weights.map(|w| _mm256_set1_epi16(w));
        let (chunks, _) = out.as_chunks_mut::<LANES>();
        let done = chunks.len() * LANES;
        for (i, chunk) in chunks.iter_mut().enumerate() {
            let sum = sum(&rows, &each, i * LANES);
            // SAFETY: a chunk is a register's size; the store asks for no alignment.
            unsafe { _mm256_storeu_si256(chunk.as_mut_ptr().cast(), sum) };
        }
        plain::into_row(rows, weights, out, done);
    }

    #[target_feature(enable = "avx2")]
    pub fn into_levels<const T: usize>(rows: [&[i16]; T], weights: &[i16; T], out: &mut [u8]) {
        let each = weights.map(|w| _mm256_set1_epi16(w));
        let half = _mm256_set1_epi16(1 << (LEVEL_BITS - 1));
        let (chunks, _) = out.as_chunks_mut::<{ 2 * LANES }>();
        let done = chunks.len() * 2 * LANES;
        for (i, chunk) in chunks.iter_mut().enumerate() {
            let levels = |at| _mm256_srai_epi16::<LEVEL_BITS>(_mm256_add_epi16(sum(&rows, &each, at), half));
            let at = i * 2 * LANES;
            // Packing ends at 0 and 255, and leaves the quarters in the order 0 2 1 3.
            let packed = _mm256_packus_epi16(levels(at), levels(at + LANES));
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
            // SAFETY: a chunk is a register's size; the store asks for no alignment.
            unsafe { _mm256_storeu_si256(chunk.as_mut_ptr().cast(), packed) };
        }
        plain::into_levels(rows, weights, out, done);
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    //! Eight numbers a register. Called with rows of exactly `out`'s length.

    use std::arch::aarch64::*;

    use super::{LEVEL_BITS, plain};

    /// Numbers in a register.
    const LANES: usize = 8;

    #[inline(always)]
    fn sum<const T: usize>(rows: &[&[i16]; T], weights: &[i16; T], at: usize) -> int16x8_t {
        // SAFETY: NEON is part of aarch64.
        let mut sum = unsafe { vdupq_n_s16(0) };
        for t in 0..T {
            debug_assert!(at + LANES <= rows[t].len());
            // SAFETY: NEON is part of aarch64; the callers' loops end LANES numbers before the rows do.
            sum = unsafe { vaddq_s16(sum, vqrdmulhq_n_s16(vld1q_s16(rows[t].as_ptr().add(at)), weights[t])) };
        }
        sum
    }

    pub fn into_row<const T: usize>(rows: [&[i16]; T], weights: &[i16; T], out: &mut [i16]) {
        let (chunks, _) = out.as_chunks_mut::<LANES>();
        let done = chunks.len() * LANES;
        for (i, chunk) in chunks.iter_mut().enumerate() {
            let sum = sum(&rows, weights, i * LANES);
            // SAFETY: NEON is part of aarch64; a chunk is a register's size.
            unsafe { vst1q_s16(chunk.as_mut_ptr(), sum) };
        }
        plain::into_row(rows, weights, out, done);
    }

    pub fn into_levels<const T: usize>(rows: [&[i16]; T], weights: &[i16; T], out: &mut [u8]) {
        let (chunks, _) = out.as_chunks_mut::<LANES>();
        let done = chunks.len() * LANES;
        for (i, chunk) in chunks.iter_mut().enumerate() {
            let sum = sum(&rows, weights, i * LANES);
            // SAFETY: NEON is part of aarch64; a chunk is half a register's size, which the narrow store writes.
            unsafe { vst1_u8(chunk.as_mut_ptr(), vqrshrun_n_s16::<LEVEL_BITS>(sum)) };
        }
        plain::into_levels(rows, weights, out, done);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_wide_paths_give_the_same_bits_as_the_plain_loop(
            rows in proptest::collection::vec(proptest::collection::vec(-4300i16..=20700, 200), 8),
            weights in proptest::array::uniform8(-2500i16..=2500),
            length in 0usize..=200,
        ) {
            let rows: [&[i16]; 8] = std::array::from_fn(|t| &rows[t][..length]);
            let mut weights = weights;
            weights[3] = ONE as i16;
            let (mut fast, mut slow) = (vec![7; length], vec![9; length]);
            into_row(rows, &weights, &mut fast);
            plain::into_row(rows, &weights, &mut slow, 0);
            prop_assert_eq!(&fast, &slow);
            let (mut fast, mut slow) = (vec![7; length], vec![9; length]);
            into_levels(rows, &weights, &mut fast);
            plain::into_levels(rows, &weights, &mut slow, 0);
            prop_assert_eq!(&fast, &slow);
        }
    }
}
