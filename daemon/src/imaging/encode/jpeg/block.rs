//! One 8 x 8 block: forward DCT (Arai, Agui and Nakajima 1988, in f32 as in libjpeg's jfdctflt) and quantisation.
//!
//! The AVX2 path holds a row of the block in a register; the portable one takes the same steps in the same order on arrays, without
//! fused multiply-add, so both give the same bits (a test holds them together).

/// Quantised values of a block, transposed: value (v, u) of T.81 lies at u * 8 + v. The second pass leaves them so.
pub type Block = [i16; 64];

/// Scale factors of the AAN butterflies, cos(k pi / 16) * sqrt(2) (1 for k = 0).
const AAN: [f64; 8] = [1.0, 1.387_039_845, 1.306_562_965, 1.175_875_602, 1.0, 0.785_694_958, 0.541_196_100, 0.275_899_379];
/// Largest value that a baseline code can say. Only the steepest blocks at quality 100 come near.
const LARGEST: i16 = 1023;

/// 1 / (quantiser x the butterflies' scale), transposed like a [`Block`].
pub fn reciprocals(quantiser: &[u8; 64]) -> [f32; 64] {
    std::array::from_fn(|i| {
        let (u, v) = (i / 8, i % 8);
        (1.0 / (f64::from(quantiser[v * 8 + u]) * AAN[u] * AAN[v] * 8.0)) as f32
    })
}

/// `plane`: the block's first sample is its first, rows `stride` apart. Samples 0..=255.
#[inline(always)]
pub fn portable(plane: &[u8], stride: usize, reciprocals: &[f32; 64], block: &mut Block) {
    let mut rows = [[0f32; 8]; 8];
    for (y, row) in rows.iter_mut().enumerate() {
        let samples = &plane[y * stride..y * stride + 8];
        *row = lanes(|x| f32::from(samples[x]) - 128.0);
    }
    let rows = butterflies(&transposed(&butterflies(&rows)));
    // Adding 1.5 x 2^23 leaves the nearest whole number, ties to even, in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    for (i, value) in block.iter_mut().enumerate() {
        let whole = (rows[i / 8][i % 8] * reciprocals[i] + MAGIC).to_bits() as i16;
        *value = whole.clamp(-LARGEST, LARGEST);
    }
}

type Rows = [[f32; 8]; 8];

#[inline(always)]
fn lanes(f: impl Fn(usize) -> f32) -> [f32; 8] {
    std::array::from_fn(f)
}

/// Eight DCTs of 8, one in each column.
#[inline(always)]
fn butterflies(d: &Rows) -> Rows {
    let add = |a: [f32; 8], b: [f32; 8]| lanes(|i| a[i] + b[i]);
    let sub = |a: [f32; 8], b: [f32; 8]| lanes(|i| a[i] - b[i]);
    let mul = |a: [f32; 8], k: f32| lanes(|i| a[i] * k);
    let (t0, t7, t1, t6) = (add(d[0], d[7]), sub(d[0], d[7]), add(d[1], d[6]), sub(d[1], d[6]));
    let (t2, t5, t3, t4) = (add(d[2], d[5]), sub(d[2], d[5]), add(d[3], d[4]), sub(d[3], d[4]));
    let (e0, e3, e1, e2) = (add(t0, t3), sub(t0, t3), add(t1, t2), sub(t1, t2));
    let z1 = mul(add(e2, e3), HALF_ROOT);
    let (o0, o1, o2) = (add(t4, t5), add(t5, t6), add(t6, t7));
    let z5 = mul(sub(o0, o2), SIN_EIGHTH);
    let (z2, z4, z3) = (add(mul(o0, LOW), z5), add(mul(o2, HIGH), z5), mul(o1, HALF_ROOT));
    let (z11, z13) = (add(t7, z3), sub(t7, z3));
    [add(e0, e1), add(z11, z4), add(e3, z1), sub(z13, z2), sub(e0, e1), add(z13, z2), sub(e3, z1), sub(z11, z4)]
}

/// cos(pi / 4), sin(pi / 8), cos(pi / 8) - sin(pi / 8), cos(pi / 8) + sin(pi / 8).
const HALF_ROOT: f32 = std::f32::consts::FRAC_1_SQRT_2;
const SIN_EIGHTH: f32 = 0.382_683_43;
const LOW: f32 = 0.541_196_1;
const HIGH: f32 = 1.306_563;

#[inline(always)]
fn transposed(d: &Rows) -> Rows {
    std::array::from_fn(|x| lanes(|y| d[y][x]))
}

/// Bit i is set where value i of the block is not 0.
#[inline(always)]
pub fn nonzero(block: &Block) -> u64 {
    // In groups of 8: short loops become a few vector steps.
    let mut mask = 0;
    for (i, eight) in block.chunks_exact(8).enumerate() {
        let mut bits = 0u32;
        for (j, value) in eight.iter().enumerate() {
            bits |= u32::from(*value != 0) << j;
        }
        mask |= u64::from(bits) << (8 * i);
    }
    mask
}

#[cfg(target_arch = "x86_64")]
pub mod avx2 {
    //! The same with AVX2. Safe functions, for callers that are compiled for it; `unsafe` are only the loads and stores, each of which
    //! goes through a slice of exactly its size.

    use std::arch::x86_64::*;

    use super::{Block, HALF_ROOT, HIGH, LARGEST, LOW, SIN_EIGHTH};

    type Rows = [__m256; 8];

    /// See [`super::portable`].
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    #[inline]
    pub fn block(plane: &[u8], stride: usize, reciprocals: &[f32; 64], block: &mut Block) {
        let row = |y: usize| {
            let eight: &[u8; 8] = plane[y * stride..].first_chunk().expect("a block has 8 samples a row");
            _mm_cvtepu8_epi16(_mm_cvtsi64_si128(i64::from_le_bytes(*eight)))
        };
        let rows = [row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)];
        let rows = butterflies(transposed(first_butterflies(rows)));
        let (low, high) = (_mm256_set1_epi16(-LARGEST), _mm256_set1_epi16(LARGEST));
        for (i, pair) in block.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let whole = |row: usize| {
                let eight: &[f32; 8] = reciprocals[row * 8..].first_chunk().expect("eight rows of eight");
                // SAFETY: 8 f32 are 32 bytes, and the load asks for no alignment.
                _mm256_cvtps_epi32(_mm256_mul_ps(rows[row], unsafe { _mm256_loadu_ps(eight.as_ptr()) }))
            };
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(whole(2 * i), whole(2 * i + 1)));
            let packed = _mm256_min_epi16(_mm256_max_epi16(packed, low), high);
            // SAFETY: 16 i16 are 32 bytes, and the store asks for no alignment.
            unsafe { _mm256_storeu_si256(pair.as_mut_ptr().cast(), packed) };
        }
    }

    /// [`butterflies`] of samples: what is added before the first multiplication is added as whole numbers, which is exact either way
    /// and leaves the units for f32 to the rest.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    #[inline]
    fn first_butterflies(d: [__m128i; 8]) -> Rows {
        let sum = |a, b| _mm_add_epi16(a, b);
        let difference = |a, b| _mm_sub_epi16(a, b);
        let (t0, t7, t1, t6) = (sum(d[0], d[7]), difference(d[0], d[7]), sum(d[1], d[6]), difference(d[1], d[6]));
        let (t2, t5, t3, t4) = (sum(d[2], d[5]), difference(d[2], d[5]), sum(d[3], d[4]), difference(d[3], d[4]));
        let (e0, e3, e1, e2) = (sum(t0, t3), difference(t0, t3), sum(t1, t2), difference(t1, t2));
        let (o0, o1, o2) = (sum(t4, t5), sum(t5, t6), sum(t6, t7));

        let float = |v| _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(v));
        let add = |a, b| _mm256_add_ps(a, b);
        let sub = |a, b| _mm256_sub_ps(a, b);
        let mul = |a, k| _mm256_mul_ps(float(a), _mm256_set1_ps(k));
        let z1 = mul(sum(e2, e3), HALF_ROOT);
        let z5 = mul(difference(o0, o2), SIN_EIGHTH);
        let (z2, z4, z3) = (add(mul(o0, LOW), z5), add(mul(o2, HIGH), z5), mul(o1, HALF_ROOT));
        let (e3, t7) = (float(e3), float(t7));
        let (z11, z13) = (add(t7, z3), sub(t7, z3));
        // Samples lie 128 above 0, which the sum of all eight alone keeps.
        let mean = float(difference(sum(e0, e1), _mm_set1_epi16(8 * 128)));
        [mean, add(z11, z4), add(e3, z1), sub(z13, z2), float(difference(e0, e1)), add(z13, z2), sub(e3, z1), sub(z11, z4)]
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    #[inline]
    fn butterflies(d: Rows) -> Rows {
        let add = |a, b| _mm256_add_ps(a, b);
        let sub = |a, b| _mm256_sub_ps(a, b);
        let mul = |a, k| _mm256_mul_ps(a, _mm256_set1_ps(k));
        let (t0, t7, t1, t6) = (add(d[0], d[7]), sub(d[0], d[7]), add(d[1], d[6]), sub(d[1], d[6]));
        let (t2, t5, t3, t4) = (add(d[2], d[5]), sub(d[2], d[5]), add(d[3], d[4]), sub(d[3], d[4]));
        let (e0, e3, e1, e2) = (add(t0, t3), sub(t0, t3), add(t1, t2), sub(t1, t2));
        let z1 = mul(add(e2, e3), HALF_ROOT);
        let (o0, o1, o2) = (add(t4, t5), add(t5, t6), add(t6, t7));
        let z5 = mul(sub(o0, o2), SIN_EIGHTH);
        let (z2, z4, z3) = (add(mul(o0, LOW), z5), add(mul(o2, HIGH), z5), mul(o1, HALF_ROOT));
        let (z11, z13) = (add(t7, z3), sub(t7, z3));
        [add(e0, e1), add(z11, z4), add(e3, z1), sub(z13, z2), sub(e0, e1), add(z13, z2), sub(e3, z1), sub(z11, z4)]
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    #[inline]
    fn transposed(d: Rows) -> Rows {
        let pairs = |a, b| (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let fours = |a, b| (_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xEE>(a, b));
        let low = |a, b| _mm256_permute2f128_ps::<0x20>(a, b);
        let high = |a, b| _mm256_permute2f128_ps::<0x31>(a, b);
        let ((a0, a1), (a2, a3)) = (pairs(d[0], d[1]), pairs(d[2], d[3]));
        let ((a4, a5), (a6, a7)) = (pairs(d[4], d[5]), pairs(d[6], d[7]));
        let ((b0, b1), (b2, b3)) = (fours(a0, a2), fours(a1, a3));
        let ((b4, b5), (b6, b7)) = (fours(a4, a6), fours(a5, a7));
        [low(b0, b4), low(b1, b5), low(b2, b6), low(b3, b7), high(b0, b4), high(b1, b5), high(b2, b6), high(b3, b7)]
    }

    /// See [`super::nonzero`].
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    #[inline]
    pub fn nonzero(block: &Block) -> u64 {
        let halves = |at: usize| {
            let sixteen: &[i16; 16] = block[at..].first_chunk().expect("four times sixteen");
            // SAFETY: 16 i16 are 32 bytes, and the load asks for no alignment.
            unsafe { _mm256_loadu_si256(sixteen.as_ptr().cast()) }
        };
        let zeros = |at: usize| {
            // Packing saturates, so what is not 0 stays so.
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi16(halves(at), halves(at + 16)));
            _mm256_movemask_epi8(_mm256_cmpeq_epi8(packed, _mm256_setzero_si256())) as u32
        };
        !(u64::from(zeros(0)) | u64::from(zeros(32)) << 32)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::imaging::encode::jpeg::tables;

    /// T.81 A.3.3, in f64.
    fn by_definition(samples: &[u8], quantiser: &[u8; 64]) -> Vec<f64> {
        let c = |k: usize| if k == 0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
        let wave = |x: usize, u: usize| ((2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0).cos();
        let at = |u: usize, v: usize| {
            let sum: f64 = (0..64).map(|i| (f64::from(samples[i]) - 128.0) * wave(i % 8, u) * wave(i / 8, v)).sum();
            sum * c(u) * c(v) / 4.0 / f64::from(quantiser[v * 8 + u])
        };
        (0..64).map(|i| at(i / 8, i % 8)).collect()
    }

    proptest! {
        #[test]
        fn a_block_is_its_dct_rounded_and_both_paths_give_the_same_bits(samples in proptest::collection::vec(any::<u8>(), 64), quality in 1u8..=100) {
            let quantiser = tables::quantisers(quality)[0];
            let reciprocals = reciprocals(&quantiser);
            let mut plain = [0; 64];
            portable(&samples, 8, &reciprocals, &mut plain);
            for (got, want) in plain.iter().zip(by_definition(&samples, &quantiser)) {
                prop_assert!((f64::from(*got) - want.clamp(-1023.0, 1023.0)).abs() < 0.502, "{} {}", got, want);
            }
            let mask = nonzero(&plain);
            prop_assert!((0..64).all(|i| (mask >> i & 1 == 1) == (plain[i] != 0)));
            #[cfg(target_arch = "x86_64")]
            if crate::imaging::wide::avx2() {
                let mut wide = [0; 64];
                // SAFETY: the processor was asked.
                let wide_mask = unsafe {
                    avx2::block(&samples, 8, &reciprocals, &mut wide);
                    avx2::nonzero(&wide)
                };
                prop_assert_eq!(wide, plain);
                prop_assert_eq!(wide_mask, mask);
            }
        }
    }
}
