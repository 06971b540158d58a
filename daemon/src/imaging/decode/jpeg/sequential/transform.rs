//! Inverse DCT of blocks side by side: 12-bit whole numbers, columns first, the same steps as in zune-jpeg (which has them from stb_image,
//! and they from libjpeg's jidctint: Loeffler, Ligtenberg and Moschytz 1989), so the same bits.
//!
//! The AVX2 path takes two blocks at once, each in its half of a register, and 16-bit numbers between the two passes.

use super::codes::{Block, Kind};

/// Blocks are transformed by the pair.
pub const PAIR: usize = 2;

/// Shares of the values times 4096. Values 0 and 4: the sum for the outermost and the innermost samples, the difference for the others.
const SUM: [i32; 2] = [4096, 4096];
const DIFFERENCE: [i32; 2] = [4096, -4096];
/// Values 2 and 6: added for the outermost samples and those next to them, taken away for the innermost and those next to them.
const OUTER: [i32; 2] = [5352, 2217];
const INNER: [i32; 2] = [2217, -5350];
/// Values 1, 3, 5 and 7, from the outermost samples inwards: added to the first of two, taken away from the second.
const ODD: [[i32; 4]; 4] = [[5683, 4816, 3219, 1131], [4816, -1129, -5681, -3218], [3219, -5681, 1132, 4816], [1131, -3218, 4816, -5680]];

/// Rounding of the first pass, which leaves two bits, and of the second, with the 128 that samples lie above 0.
const FIRST: (i32, u32) = (512, 10);
const SECOND: (i32, u32) = (512 + 65_536 + (128 << 17), 17);

/// `blocks`, an even number, next to each other into `samples`: 8 rows of `stride`, as wide as they are.
pub fn row(blocks: &[Block], kinds: &[Kind], samples: &mut [u8], stride: usize) {
    #[cfg(target_arch = "x86_64")]
    if crate::imaging::wide::avx2() {
        // SAFETY: the processor was asked on the line above.
        return unsafe { avx2::row(blocks, kinds, samples, stride) };
    }
    row_with(blocks, kinds, samples, stride, |pair, samples, stride| {
        for (i, block) in pair.iter().enumerate() {
            portable(block, &mut samples[i * 8..], stride);
        }
    });
}

#[inline(always)]
fn row_with(blocks: &[Block], kinds: &[Kind], samples: &mut [u8], stride: usize, usual: impl Fn(&[Block; PAIR], &mut [u8], usize)) {
    let pairs = blocks.as_chunks::<PAIR>().0.iter().zip(kinds.as_chunks::<PAIR>().0);
    for (i, (pair, kinds)) in pairs.enumerate() {
        let samples = &mut samples[i * PAIR * 8..];
        match kinds {
            [Kind::Flat, Kind::Flat] => {
                let means = [mean(&pair[0]), mean(&pair[1])];
                for y in 0..8 {
                    let (left, right) = samples[y * stride..][..PAIR * 8].split_at_mut(8);
                    left.fill(means[0]);
                    right.fill(means[1]);
                }
            }
            [Kind::Steep, _] | [_, Kind::Steep] => {
                for (i, block) in pair.iter().enumerate() {
                    portable(block, &mut samples[i * 8..], stride);
                }
            }
            _ => usual(pair, samples, stride),
        }
    }
}

/// A block of one level.
#[inline(always)]
fn mean(block: &Block) -> u8 {
    ((i32::from(block[0]) + 4 + (128 << 3)) >> 3).clamp(0, 255) as u8
}

/// Any block whose values fit 16 bits. Wraps around as the library does where a damaged file asks for more than 32 bits.
#[inline(always)]
fn portable(block: &Block, samples: &mut [u8], stride: usize) {
    let columns: [[i32; 8]; 8] = std::array::from_fn(|y| std::array::from_fn(|x| i32::from(block[y * 8 + x])));
    let columns = pass(&columns, FIRST);
    let rows = pass(&std::array::from_fn(|x| std::array::from_fn(|y| columns[y][x])), SECOND);
    for y in 0..8 {
        let out = &mut samples[y * stride..][..8];
        for x in 0..8 {
            out[x] = rows[x][y].clamp(0, 255) as u8;
        }
    }
}

/// Eight inverse DCTs of 8, one in each column.
#[inline(always)]
fn pass(d: &[[i32; 8]; 8], (round, shift): (i32, u32)) -> [[i32; 8]; 8] {
    let mut out = [[0; 8]; 8];
    for x in 0..8 {
        let two = |v: usize, w: usize, [a, b]: [i32; 2]| d[v][x].wrapping_mul(a).wrapping_add(d[w][x].wrapping_mul(b));
        let middle = [two(0, 4, SUM).wrapping_add(round), two(0, 4, DIFFERENCE).wrapping_add(round)];
        let side = [two(2, 6, OUTER), two(2, 6, INNER)];
        let even = [
            middle[0].wrapping_add(side[0]),
            middle[1].wrapping_add(side[1]),
            middle[1].wrapping_sub(side[1]),
            middle[0].wrapping_sub(side[0]),
        ];
        for (i, [a, b, e, f]) in ODD.into_iter().enumerate() {
            let odd = two(1, 3, [a, b]).wrapping_add(two(5, 7, [e, f]));
            out[i][x] = even[i].wrapping_add(odd) >> shift;
            out[7 - i][x] = even[i].wrapping_sub(odd) >> shift;
        }
    }
    out
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! The same with AVX2. Safe functions, for callers that are compiled for it; `unsafe` are only the loads and stores, each of which
    //! goes through a slice of exactly its size.

    use std::arch::x86_64::*;

    use super::{Block, DIFFERENCE, FIRST, INNER, Kind, ODD, OUTER, PAIR, SECOND, SUM};

    /// Rows (or columns) of two blocks, one in each half.
    type Rows = [__m256i; 8];

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    pub fn row(blocks: &[Block], kinds: &[Kind], samples: &mut [u8], stride: usize) {
        super::row_with(blocks, kinds, samples, stride, |pair, samples, stride| two(pair, samples, stride));
    }

    /// Two blocks of [`Kind::Usual`].
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    #[inline]
    fn two(pair: &[Block; PAIR], samples: &mut [u8], stride: usize) {
        let eight = |block: &Block, y: usize| {
            let row: &[i16; 8] = block[y * 8..].first_chunk().expect("eight rows of eight");
            // SAFETY: 8 i16 are 16 bytes, and the load asks for no alignment.
            unsafe { _mm_loadu_si128(row.as_ptr().cast()) }
        };
        let both = |y: usize| _mm256_set_m128i(eight(&pair[1], y), eight(&pair[0], y));
        let rows = [both(0), both(1), both(2), both(3), both(4), both(5), both(6), both(7)];
        let columns = transposed(pass::<{ FIRST.0 }, { FIRST.1 as i32 }>(rows));
        let rows = transposed(pass::<{ SECOND.0 }, { SECOND.1 as i32 }>(columns));
        for y in [0, 2, 4, 6] {
            // Two rows of the left block and two of the right one become two rows of both.
            let four = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(rows[y], rows[y + 1]));
            let upper: &mut [u8; 16] = samples[y * stride..].first_chunk_mut().expect("two blocks are 16 wide");
            // SAFETY: 16 bytes, and the store asks for no alignment.
            unsafe { _mm_storeu_si128(upper.as_mut_ptr().cast(), _mm256_castsi256_si128(four)) };
            let lower: &mut [u8; 16] = samples[(y + 1) * stride..].first_chunk_mut().expect("two blocks are 16 wide");
            // SAFETY: as above.
            unsafe { _mm_storeu_si128(lower.as_mut_ptr().cast(), _mm256_extracti128_si256::<1>(four)) };
        }
    }

    /// Eight inverse DCTs of 8 in each half, one in each column.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    #[inline]
    fn pass<const ROUND: i32, const SHIFT: i32>(d: Rows) -> Rows {
        // Columns 0..4, then 4..8, each with the two values that a multiplication takes beside each other.
        let pairs = |a: usize, b: usize| [_mm256_unpacklo_epi16(d[a], d[b]), _mm256_unpackhi_epi16(d[a], d[b])];
        let (p04, p26, p13, p57) = (pairs(0, 4), pairs(2, 6), pairs(1, 3), pairs(5, 7));
        let share = |values, [a, b]: [i32; 2]| _mm256_madd_epi16(values, _mm256_set1_epi32(b << 16 | a & 0xFFFF));
        let add = |a, b| _mm256_add_epi32(a, b);
        let sub = |a, b| _mm256_sub_epi32(a, b);
        let done = |sum| _mm256_srai_epi32::<SHIFT>(sum);
        let half = |half: usize| {
            let round = _mm256_set1_epi32(ROUND);
            let middle = [add(share(p04[half], SUM), round), add(share(p04[half], DIFFERENCE), round)];
            let side = [share(p26[half], OUTER), share(p26[half], INNER)];
            let even = [add(middle[0], side[0]), add(middle[1], side[1]), sub(middle[1], side[1]), sub(middle[0], side[0])];
            let odd = ODD.map(|[a, b, c, d]| add(share(p13[half], [a, b]), share(p57[half], [c, d])));
            (even, odd)
        };
        let ((even_low, odd_low), (even_high, odd_high)) = (half(0), half(1));
        let rows = |i: usize| {
            let upper = _mm256_packs_epi32(done(add(even_low[i], odd_low[i])), done(add(even_high[i], odd_high[i])));
            let lower = _mm256_packs_epi32(done(sub(even_low[i], odd_low[i])), done(sub(even_high[i], odd_high[i])));
            (upper, lower)
        };
        let ((r0, r7), (r1, r6), (r2, r5), (r3, r4)) = (rows(0), rows(1), rows(2), rows(3));
        [r0, r1, r2, r3, r4, r5, r6, r7]
    }

    /// Each half on its own.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    #[inline]
    fn transposed(d: Rows) -> Rows {
        let ones = |a, b| (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b));
        let twos = |a, b| (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let fours = |a, b| (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
        let ((a0, a1), (a2, a3)) = (ones(d[0], d[1]), ones(d[2], d[3]));
        let ((a4, a5), (a6, a7)) = (ones(d[4], d[5]), ones(d[6], d[7]));
        let ((b0, b1), (b2, b3)) = (twos(a0, a2), twos(a1, a3));
        let ((b4, b5), (b6, b7)) = (twos(a4, a6), twos(a5, a7));
        let ((c0, c1), (c2, c3)) = (fours(b0, b4), fours(b1, b5));
        let ((c4, c5), (c6, c7)) = (fours(b2, b6), fours(b3, b7));
        [c0, c1, c2, c3, c4, c5, c6, c7]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::codes::USUAL, *};

    /// T.81 A.3.3, in f64.
    fn by_definition(block: &Block) -> Vec<f64> {
        let c = |k: usize| if k == 0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
        let wave = |x: usize, u: usize| ((2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0).cos();
        let at =
            |x: usize, y: usize| (0..64).map(|i| c(i % 8) * c(i / 8) * f64::from(block[i]) * wave(x, i % 8) * wave(y, i / 8)).sum::<f64>();
        (0..64).map(|i| at(i % 8, i / 8) / 4.0 + 128.0).collect()
    }

    /// As many values as chance likes, largest first in zigzag or not, with magnitudes that sum up to at most `most`.
    fn block(most: u32) -> impl Strategy<Value = Block> {
        let values = proptest::collection::vec((0usize..64, prop_oneof![-60i16..60, -1200i16..1200, any::<i16>()]), 1..40);
        values.prop_map(move |values| {
            let mut block = [0i16; 64];
            let mut left = most;
            for (place, value) in values {
                let value = if u32::from(value.unsigned_abs()) < left { value } else { (left / 2) as i16 };
                left += u32::from(block[place].unsigned_abs());
                left -= u32::from(value.unsigned_abs()).min(left);
                block[place] = value;
            }
            block
        })
    }

    fn portable_alone(block: &Block) -> [u8; 64] {
        let mut samples = [0; 64];
        portable(block, &mut samples, 8);
        samples
    }

    proptest! {
        #[test]
        fn a_block_is_its_inverse_dct_within_a_level(block in block(3000)) {
            for (got, want) in portable_alone(&block).iter().zip(by_definition(&block)) {
                prop_assert!((f64::from(*got) - want.clamp(0.0, 255.0)).abs() < 1.0, "{} {}", got, want);
            }
        }

        #[test]
        fn two_blocks_at_once_give_the_bits_of_each_alone(left in block(USUAL), right in block(USUAL), steep in block(i16::MAX as u32), mean in -5900i16..5900) {
            let mut flat = [0; 64];
            flat[0] = mean;
            let kinds = [(left, Kind::Usual), (right, Kind::Usual), (flat, Kind::Flat), (flat, Kind::Flat), (flat, Kind::Flat), (left, Kind::Usual), (steep, Kind::Steep), (flat, Kind::Flat)];
            let (blocks, kinds): (Vec<Block>, Vec<Kind>) = kinds.into_iter().unzip();
            let mut samples = vec![0; 64 * blocks.len()];
            row(&blocks, &kinds, &mut samples, 8 * blocks.len());
            for (i, block) in blocks.iter().enumerate() {
                let alone = portable_alone(block);
                for y in 0..8 {
                    prop_assert_eq!(&samples[y * 8 * blocks.len() + i * 8..][..8], &alone[y * 8..][..8], "block {}, row {}", i, y);
                }
            }
        }
    }
}
