//! Rows of blocks to rows of pixels: inverse DCT, chroma spread over its pixels, colours.
//!
//! ```text
//! blocks of a row of MCUs --> planes --(4:2:0: the last two luma and chroma rows wait for what lies below)--> chroma rows, wide --> RGB
//! ```
//!
//! Chroma is spread by a triangle, as libjpeg's "fancy upsampling" does: a sample counts three quarters where it is nearest, its
//! neighbour the rest; downwards first, each step rounded to 8 bits. Colours: JFIF (ITU-R BT.601 at full range) in 14-bit steps. All of
//! it gives the same bits as zune-jpeg.

use super::{
    Layout, MAX_PARTS,
    codes::{Block, Kind},
    transform,
};
use crate::imaging::wide::wide;

/// The blocks of a row of MCUs, part by part, each row by row; of each row an even number.
#[derive(Default)]
pub struct Blocks {
    pub values: Vec<Block>,
    pub kinds: Vec<Kind>,
}

/// Rows that wait, where chroma is halved downwards.
const WAITING: usize = 2;

#[derive(Default)]
struct Plane {
    /// Waiting rows first.
    samples: Vec<u8>,
    stride: usize,
    /// Samples of a row that blocks of the picture fill.
    wide: usize,
}

impl Plane {
    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.stride..][..self.wide]
    }
}

/// Takes the rows of MCUs in order.
pub struct Painter {
    layout: Layout,
    planes: [Plane; MAX_PARTS],
    /// Rows of MCUs that are done.
    done: usize,
    /// A row of Cb and of Cr: between its neighbours above and below, then as wide as luma.
    between: [Vec<u8>; 2],
    spread: [Vec<u8>; 2],
}

impl Painter {
    pub fn new(layout: &Layout) -> Self {
        let mut planes: [Plane; MAX_PARTS] = Default::default();
        for (plane, part) in planes.iter_mut().zip(&layout.parts) {
            plane.wide = layout.across * part.h * 8;
            plane.stride = layout.blocks_across(part) * 8;
            plane.samples = vec![0; plane.stride * (waiting(layout) + part.v * 8)];
        }
        let chroma = |wide: usize| [vec![0; wide], vec![0; wide]];
        let (between, spread) = (chroma(planes[1].wide), chroma(planes[1].wide * 2));
        Self { layout: layout.clone(), planes, done: 0, between, spread }
    }

    /// The next row of MCUs. Writes the pixel rows that it finishes to the head of `out` (RGB) and says how many bytes they are; those
    /// that `out` has no room for lie below the picture.
    pub fn row(&mut self, blocks: &Blocks, out: &mut [u8]) -> usize {
        self.transform(blocks);
        let (first, last) = (self.done == 0, self.done + 1 == self.layout.down);
        self.done += 1;
        let (room, row_bytes) = (out.len(), self.layout.width * 3);
        let mut rows = out.chunks_exact_mut(row_bytes);
        let [luma, chroma @ ..] = &self.planes;
        let [cb, cr] = chroma;
        if self.layout.parts.len() == 1 {
            (0..8).zip(&mut rows).for_each(|(y, out)| grey(luma.row(y), out));
        } else if waiting(&self.layout) == 0 {
            for (y, out) in (0..8).zip(&mut rows) {
                colours(luma.row(y), [cb.row(y), cr.row(y)], &mut self.spread, out);
            }
        } else {
            // The chroma row that waited, and all but the last of these; the last, too, where nothing comes below it.
            let lowest = WAITING + 7;
            for y in if first { WAITING } else { WAITING - 1 }..if last { lowest + 1 } else { lowest } {
                let above = if first && y == WAITING { y } else { y - 1 };
                let below = if last && y == lowest { y } else { y + 1 };
                for (luma_y, near) in [(2 * y - WAITING, above), (2 * y - WAITING + 1, below)] {
                    let Some(out) = rows.next() else { break };
                    for (plane, between) in chroma.iter().zip(&mut self.between) {
                        nearer(plane.row(y), plane.row(near), between);
                    }
                    colours(luma.row(luma_y), self.between.each_ref().map(Vec::as_slice), &mut self.spread, out);
                }
            }
        }
        room - rows.len() * row_bytes
    }

    fn transform(&mut self, blocks: &Blocks) {
        let waiting = waiting(&self.layout);
        let mut at = 0;
        for (plane, part) in self.planes.iter_mut().zip(&self.layout.parts) {
            plane.samples.copy_within(part.v * 8 * plane.stride.., 0);
            for v in 0..part.v {
                let these = at..at + self.layout.blocks_across(part);
                let samples = &mut plane.samples[(waiting + v * 8) * plane.stride..];
                at = these.end;
                transform::row(&blocks.values[these.clone()], &blocks.kinds[these], samples, plane.stride);
            }
        }
    }
}

fn waiting(layout: &Layout) -> usize {
    if layout.parts[0].v == 2 { WAITING } else { 0 }
}

/// A row of pixels, as many as `out` holds. Chroma of half as many samples is spread first.
fn colours(luma: &[u8], chroma: [&[u8]; 2], spread: &mut [Vec<u8>; 2], out: &mut [u8]) {
    let [cb, cr] = if chroma[0].len() == luma.len() {
        chroma
    } else {
        chroma.iter().zip(&mut *spread).for_each(|(row, spread)| along(row, spread));
        spread.each_ref().map(Vec::as_slice)
    };
    let px = out.len() / 3;
    let (luma, cb, cr) = (&luma[..px], &cb[..px], &cr[..px]);
    #[cfg(target_arch = "x86_64")]
    if crate::imaging::wide::avx2() {
        // SAFETY: the processor was asked on the line above.
        let done = unsafe { avx2::rgb(luma, cb, cr, out) };
        return portable(&luma[done..], &cb[done..], &cr[done..], &mut out[done * 3..]);
    }
    portable(luma, cb, cr, out);
}

wide! {
    fn grey(luma: &[u8], out: &mut [u8]) {
        for (px, y) in out.as_chunks_mut::<3>().0.iter_mut().zip(luma) {
            *px = [*y; 3];
        }
    }
}

#[inline(always)]
fn three_to_one(near: u8, far: u8) -> u8 {
    ((3 * u16::from(near) + u16::from(far) + 2) >> 2) as u8
}

wide! {
    /// Half way from `row` to the edge of the row beside it.
    fn nearer(row: &[u8], beside: &[u8], out: &mut [u8]) {
        for ((near, far), out) in row.iter().zip(beside).zip(out) {
            *out = three_to_one(*near, *far);
        }
    }
}

wide! {
    /// The same along a row, of at least two samples: two for each.
    fn along(row: &[u8], out: &mut [u8]) {
        let last = row.len() - 1;
        for (((before, near), after), two) in row.iter().zip(&row[1..]).zip(&row[2..]).zip(&mut out.as_chunks_mut::<2>().0[1..]) {
            *two = [three_to_one(*near, *before), three_to_one(*near, *after)];
        }
        (out[0], out[1]) = (row[0], three_to_one(row[0], row[1]));
        (out[2 * last], out[2 * last + 1]) = (three_to_one(row[last], row[last - 1]), row[last]);
    }
}

/// R of Cr, G of Cr and Cb, B of Cb, times 16384.
const R_CR: i32 = 22_970;
const G_CR: i32 = -11_700;
const G_CB: i32 = -5_638;
const B_CB: i32 = 29_032;
const SHIFT: i32 = 14;
/// A half is rounded down.
const ROUND: i32 = (1 << (SHIFT - 1)) - 1;

fn portable(luma: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
    for (px, ((y, cb), cr)) in out.as_chunks_mut::<3>().0.iter_mut().zip(luma.iter().zip(cb).zip(cr)) {
        let (y, cb, cr) = (i32::from(*y), i32::from(*cb) - 128, i32::from(*cr) - 128);
        let level = |off: i32| (y + ((off + ROUND) >> SHIFT)).clamp(0, 255) as u8;
        *px = [level(R_CR * cr), level(G_CR * cr + G_CB * cb), level(B_CB * cb)];
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! Colours of 16 pixels at a time. A safe function, for callers that are compiled for it; `unsafe` are only the loads and stores, each
    //! of which goes through a slice of exactly its size.

    use std::arch::x86_64::*;

    use super::{B_CB, G_CB, G_CR, R_CR, ROUND, SHIFT};

    /// See [`super::portable`]. Gives how many pixels are done: all but fewer than 16.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    pub fn rgb(luma: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) -> usize {
        let (out, _) = out.as_chunks_mut::<48>();
        let samples = luma.as_chunks::<16>().0.iter().zip(cb.as_chunks::<16>().0).zip(cr.as_chunks::<16>().0);
        let wide = |samples: &[u8; 16]| {
            // SAFETY: 16 bytes, and the load asks for no alignment.
            _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(samples.as_ptr().cast()) })
        };
        let shares = |low: i32, high: i32| _mm256_set1_epi32(high << 16 | low & 0xFFFF);
        let (middle, ones) = (_mm256_set1_epi16(128), _mm256_set1_epi16(1));
        // What a channel lies above luma, from pairs of 16-bit numbers.
        let off = |a, b, shares, round| {
            let four = |pairs| _mm256_srai_epi32::<SHIFT>(_mm256_add_epi32(_mm256_madd_epi16(pairs, shares), round));
            _mm256_packs_epi32(four(_mm256_unpacklo_epi16(a, b)), four(_mm256_unpackhi_epi16(a, b)))
        };
        let none = _mm256_setzero_si256();
        for (((y, cb), cr), out) in samples.zip(&mut *out) {
            let (y, cb, cr) = (wide(y), _mm256_sub_epi16(wide(cb), middle), _mm256_sub_epi16(wide(cr), middle));
            let r = _mm256_add_epi16(y, off(cr, ones, shares(R_CR, ROUND), none));
            let g = _mm256_add_epi16(y, off(cr, cb, shares(G_CR, G_CB), _mm256_set1_epi32(ROUND)));
            let b = _mm256_add_epi16(y, off(cb, ones, shares(B_CB, ROUND), none));
            let level = |channel| {
                let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(channel, channel));
                _mm256_castsi256_si128(packed)
            };
            store(level(r), level(g), level(b), out);
        }
        out.len() * 16
    }

    /// r0..15, g0..15, b0..15 to r0 g0 b0 r1 ...
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    #[inline]
    fn store(r: __m128i, g: __m128i, b: __m128i, out: &mut [u8; 48]) {
        // Each channel in the order in which its bytes of the three sixteenths come, every third of them in its place in each; then each
        // sixteenth takes its places from the three.
        let r = _mm_shuffle_epi8(r, _mm_setr_epi8(0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10, 5));
        let g = _mm_shuffle_epi8(g, _mm_setr_epi8(5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10));
        let b = _mm_shuffle_epi8(b, _mm_setr_epi8(10, 5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15));
        let second = _mm_setr_epi8(0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0);
        let third = _mm_setr_epi8(0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0);
        let mixed = |a, b, c| _mm_blendv_epi8(_mm_blendv_epi8(a, b, second), c, third);
        for (sixteen, bytes) in out.as_chunks_mut::<16>().0.iter_mut().zip([mixed(r, g, b), mixed(g, b, r), mixed(b, r, g)]) {
            // SAFETY: 16 bytes, and the store asks for no alignment.
            unsafe { _mm_storeu_si128(sixteen.as_mut_ptr().cast(), bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BT.601, in f64.
    fn by_definition(y: u8, cb: u8, cr: u8) -> [f64; 3] {
        let (y, cb, cr) = (f64::from(y), f64::from(cb) - 128.0, f64::from(cr) - 128.0);
        [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|v| v.clamp(0.0, 255.0))
    }

    #[test]
    fn every_colour_is_the_nearest_to_the_definition_and_both_paths_give_the_same() {
        let all: Vec<u8> = (0..=255).collect();
        for y in (0..=255).step_by(5) {
            for cb in 0..=255 {
                let (luma, cb) = ([y; 256], [cb; 256]);
                let (mut got, mut plain) = ([0; 768], [0; 768]);
                colours(&luma, [&cb, &all], &mut [vec![], vec![]], &mut got);
                portable(&luma, &cb, &all, &mut plain);
                assert_eq!(got, plain);
                for (px, cr) in got.as_chunks::<3>().0.iter().zip(&all) {
                    let want = by_definition(y, cb[0], *cr);
                    assert!(px.iter().zip(want).all(|(got, want)| (f64::from(*got) - want).abs() < 0.51), "{px:?} {want:?}");
                }
            }
        }
    }

    #[test]
    fn a_row_is_spread_by_a_triangle_and_keeps_its_ends() {
        let mut wide = [0; 8];
        along(&[0, 100, 100, 40], &mut wide);
        assert_eq!(wide, [0, 25, 75, 100, 100, 85, 55, 40]);
        let mut between = [0; 3];
        nearer(&[0, 100, 7], &[100, 0, 7], &mut between);
        assert_eq!(between, [25, 75, 7]);
    }
}
