//! A strip's rows of pixels as planes of luma and chroma (JFIF: ITU-R BT.601 at full range), filled up to whole blocks.

#[cfg(target_arch = "x86_64")]
use super::super::super::wide::avx2;
use super::super::super::wide::wide;

/// What of the colour is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chroma {
    /// 4:4:4: for every pixel.
    Full,
    /// 4:2:0: for every 2 x 2 pixels their mean.
    Half,
}

/// How the planes of a picture are cut into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    Gray,
    Colour(Chroma),
}

impl Layout {
    /// Luma blocks along each side of an MCU (T.81 A.2).
    pub fn luma_blocks(self) -> usize {
        if self == Layout::Colour(Chroma::Half) { 2 } else { 1 }
    }

    /// Side of an MCU, px; a strip has that many rows.
    pub fn mcu(self) -> usize {
        8 * self.luma_blocks()
    }
}

/// `stride` samples a row, a multiple of 8.
#[derive(Default)]
pub struct Plane {
    pub samples: Vec<u8>,
    pub stride: usize,
}

impl Plane {
    fn sized(&mut self, stride: usize, rows: usize) {
        self.stride = stride;
        self.samples.resize(stride * rows, 0);
    }

    fn row(&mut self, y: usize, width: usize) -> &mut [u8] {
        &mut self.samples[y * self.stride..y * self.stride + width]
    }

    /// The last of `width` samples again, up to the end of its block.
    fn pad(&mut self, y: usize, width: usize) {
        let row = &mut self.samples[y * self.stride..(y + 1) * self.stride];
        let last = row[width - 1];
        row[width..].fill(last);
    }
}

/// The planes of one strip.
#[derive(Default)]
pub struct Planes {
    pub luma: Plane,
    /// Cb and Cr; empty for a grey picture.
    pub chroma: [Plane; 2],
}

impl Planes {
    /// `pixels`: 1 to [`Layout::mcu`] rows of `width` pixels, grey or RGB; missing rows are the last one again.
    pub fn fill(&mut self, pixels: &[u8], width: usize, layout: Layout) {
        let channels = if layout == Layout::Gray { 1 } else { 3 };
        let mcus = width.div_ceil(layout.mcu());
        let last = pixels.len() / (width * channels) - 1;
        let row = |y: usize| &pixels[y.min(last) * width * channels..][..width * channels];
        self.luma.sized(mcus * layout.mcu(), layout.mcu());
        for y in 0..layout.mcu() {
            let samples = self.luma.row(y, width);
            if channels == 1 {
                samples.copy_from_slice(row(y))
            } else {
                luma(row(y), samples)
            }
            self.luma.pad(y, width);
        }
        let Layout::Colour(chroma) = layout else { return };
        let [cb, cr] = &mut self.chroma;
        let wide = if chroma == Chroma::Half { width.div_ceil(2) } else { width };
        for plane in [&mut *cb, &mut *cr] {
            plane.sized(mcus * 8, 8);
        }
        for y in 0..8 {
            let (cb_row, cr_row) = (cb.row(y, wide), cr.row(y, wide));
            match chroma {
                Chroma::Full => chroma_of_each(row(y), cb_row, cr_row),
                Chroma::Half => {
                    let (upper, lower) = (row(2 * y), row(2 * y + 1));
                    chroma_of_four(upper, lower, cb_row, cr_row);
                    if width % 2 == 1 {
                        // The last column stands for the one that is not there.
                        let twice = |row: &[u8]| [&row[row.len() - 3..], &row[row.len() - 3..]].concat();
                        chroma_of_four(&twice(upper), &twice(lower), &mut cb_row[wide - 1..], &mut cr_row[wide - 1..]);
                    }
                }
            }
            cb.pad(y, wide);
            cr.pad(y, wide);
        }
    }
}

/// Shares of R, G and B in luma, of R and G in Cb, of G and B in Cr, times 65536; of B in Cb and R in Cr it is a half.
const R: u16 = 19595;
const G: u16 = 38470;
const B: u16 = 7471;
const CB_R: u16 = 11059;
const CB_G: u16 = 21709;
const CR_G: u16 = 27439;
const CR_B: u16 = 5329;
/// No colour at all, with a half for rounding that keeps the largest value within 255.
const MIDDLE: u16 = 32768 + 127;

/// Upper half of a product: `value` x `share` / 65536.
#[inline(always)]
fn part(value: u16, share: u16) -> u16 {
    ((u32::from(value) * u32::from(share)) >> 16) as u16
}

/// Cb and Cr of a colour in 1/256 levels, 0..=255.
#[inline(always)]
fn colour_difference(r: u16, g: u16, b: u16) -> (u8, u8) {
    let cb = (b >> 1).wrapping_sub(part(r, CB_R)).wrapping_sub(part(g, CB_G)).wrapping_add(MIDDLE);
    let cr = (r >> 1).wrapping_sub(part(g, CR_G)).wrapping_sub(part(b, CR_B)).wrapping_add(MIDDLE);
    ((cb >> 8) as u8, (cr >> 8) as u8)
}

fn luma(pixels: &[u8], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if avx2() {
        // SAFETY: the processor was asked on the line above.
        let done = unsafe { split::luma(pixels, out) };
        return luma_of_each(&pixels[done * 3..], &mut out[done..]);
    }
    luma_of_each(pixels, out);
}

fn chroma_of_four(upper: &[u8], lower: &[u8], cb: &mut [u8], cr: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if avx2() {
        // SAFETY: the processor was asked on the line above.
        let done = unsafe { split::chroma_of_four(upper, lower, cb, cr) };
        return chroma_of_means(&upper[done * 6..], &lower[done * 6..], &mut cb[done..], &mut cr[done..]);
    }
    chroma_of_means(upper, lower, cb, cr);
}

wide! {
    fn luma_of_each(pixels: &[u8], out: &mut [u8]) {
        for (px, y) in pixels.chunks_exact(3).zip(out) {
            let [r, g, b] = [px[0], px[1], px[2]].map(|v| u16::from(v) << 8);
            *y = ((part(r, R) + part(g, G) + part(b, B) + 129) >> 8) as u8;
        }
    }
}

wide! {
    fn chroma_of_each(pixels: &[u8], cb: &mut [u8], cr: &mut [u8]) {
        for ((px, cb), cr) in pixels.chunks_exact(3).zip(cb).zip(cr) {
            let [r, g, b] = [px[0], px[1], px[2]].map(|v| u16::from(v) << 8);
            (*cb, *cr) = colour_difference(r, g, b);
        }
    }
}

wide! {
    fn chroma_of_means(upper: &[u8], lower: &[u8], cb: &mut [u8], cr: &mut [u8]) {
        for (((a, b), cb), cr) in upper.chunks_exact(6).zip(lower.chunks_exact(6)).zip(cb).zip(cr) {
            let sum = |c: usize| (u16::from(a[c]) + u16::from(a[c + 3]) + u16::from(b[c]) + u16::from(b[c + 3])) << 6;
            (*cb, *cr) = colour_difference(sum(0), sum(1), sum(2));
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod split {
    //! 16 pixels at a time with AVX2, which a loop over every third byte is not turned into. Safe functions, for callers that are compiled
    //! for it; `unsafe` are only the loads and stores, each of which goes through a slice of exactly its size.

    use std::arch::x86_64::*;

    use super::{B, CB_G, CB_R, CR_B, CR_G, G, MIDDLE, R};

    /// R, G and B of 16 pixels.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    #[inline]
    fn channels(pixels: &[u8; 48]) -> [__m128i; 3] {
        // SAFETY: 16 bytes each, and the loads ask for no alignment.
        let load = |sixteen: &[u8; 16]| unsafe { _mm_loadu_si128(sixteen.as_ptr().cast()) };
        let thirds = pixels.as_chunks::<16>().0;
        let [a, b, c] = [load(&thirds[0]), load(&thirds[1]), load(&thirds[2])];
        // Of every three bytes a channel has one in each third, and never the same of the three: laid over each other, then sorted.
        let second = _mm_setr_epi8(0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0);
        let third = _mm_setr_epi8(0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0);
        let mixed = |x, y, z| _mm_blendv_epi8(_mm_blendv_epi8(x, y, second), z, third);
        [
            _mm_shuffle_epi8(mixed(a, c, b), _mm_setr_epi8(0, 3, 6, 9, 12, 15, 2, 5, 8, 11, 14, 1, 4, 7, 10, 13)),
            _mm_shuffle_epi8(mixed(b, a, c), _mm_setr_epi8(1, 4, 7, 10, 13, 0, 3, 6, 9, 12, 15, 2, 5, 8, 11, 14)),
            _mm_shuffle_epi8(mixed(c, b, a), _mm_setr_epi8(2, 5, 8, 11, 14, 1, 4, 7, 10, 13, 0, 3, 6, 9, 12, 15)),
        ]
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    #[inline]
    fn part(value: __m256i, share: u16) -> __m256i {
        _mm256_mulhi_epu16(value, _mm256_set1_epi16(share as i16))
    }

    /// The upper bytes of 16 numbers.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    #[inline]
    fn store(values: __m256i, out: &mut [u8; 16]) {
        let upper = _mm256_srli_epi16::<8>(values);
        let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(upper, upper));
        // SAFETY: 16 bytes, and the store asks for no alignment.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), _mm256_castsi256_si128(packed)) };
    }

    /// See [`super::luma_of_each`]. Gives how many samples are done, as the others do: all but fewer than 16.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    pub fn luma(pixels: &[u8], out: &mut [u8]) -> usize {
        let out = out.as_chunks_mut::<16>().0;
        for (pixels, out) in pixels.as_chunks::<48>().0.iter().zip(&mut *out) {
            let [r, g, b] = channels(pixels).map(|channel| _mm256_slli_epi16::<8>(_mm256_cvtepu8_epi16(channel)));
            let sum = _mm256_add_epi16(_mm256_add_epi16(part(r, R), part(g, G)), part(b, B));
            store(_mm256_add_epi16(sum, _mm256_set1_epi16(129)), out);
        }
        out.len() * 16
    }

    /// See [`super::chroma_of_means`].
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    pub fn chroma_of_four(upper: &[u8], lower: &[u8], cb: &mut [u8], cr: &mut [u8]) -> usize {
        let (cb, cr) = (cb.as_chunks_mut::<16>().0, cr.as_chunks_mut::<16>().0);
        // A last pixel without a neighbour has its sample in the planes, but is not among these pairs.
        let done = (upper.len() / 96).min(cb.len()) * 16;
        let rows = upper.as_chunks::<96>().0.iter().zip(lower.as_chunks::<96>().0);
        for (((upper, lower), cb), cr) in rows.zip(cb).zip(cr) {
            let pairs = |row: &[u8; 96]| {
                let [left, right] = [0, 1].map(|i| channels(&row.as_chunks::<48>().0[i]));
                [0, 1, 2].map(|c| _mm256_maddubs_epi16(_mm256_set_m128i(right[c], left[c]), _mm256_set1_epi8(1)))
            };
            let (upper, lower) = (pairs(upper), pairs(lower));
            let [r, g, b] = [0, 1, 2].map(|c| _mm256_slli_epi16::<6>(_mm256_add_epi16(upper[c], lower[c])));
            let difference = |most, x, y| {
                let half = _mm256_add_epi16(_mm256_srli_epi16::<1>(most), _mm256_set1_epi16(MIDDLE as i16));
                _mm256_sub_epi16(_mm256_sub_epi16(half, x), y)
            };
            store(difference(b, part(r, CB_R), part(g, CB_G)), cb);
            store(difference(r, part(g, CR_G), part(b, CR_B)), cr);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BT.601, in f64.
    fn by_definition([r, g, b]: [f64; 3]) -> [f64; 3] {
        let y = 0.299 * r + 0.587 * g + 0.114 * b;
        [y, (b - y) / 1.772 + 128.0, (r - y) / 1.402 + 128.0]
    }

    #[test]
    fn every_colour_is_within_half_a_level_of_the_definition() {
        let mut planes = Planes::default();
        for r in (0..=255).step_by(15) {
            let pixels: Vec<u8> = (0..18 * 18).flat_map(|i| [r, (i % 18 * 15) as u8, (i / 18 * 15) as u8]).collect();
            planes.fill(&pixels, 18 * 18, Layout::Colour(Chroma::Full));
            for (i, px) in pixels.chunks_exact(3).enumerate() {
                let want = by_definition([px[0], px[1], px[2]].map(f64::from));
                let got = [planes.luma.samples[i], planes.chroma[0].samples[i], planes.chroma[1].samples[i]];
                for (got, want) in got.into_iter().zip(want) {
                    assert!((f64::from(got) - want.clamp(0.0, 255.0)).abs() < 0.52, "{px:?}: {got} {want}");
                }
            }
        }
    }

    #[test]
    fn sixteen_pixels_at_a_time_give_the_bits_of_each_alone_at_every_width() {
        for width in 1..=140 {
            let pixels: Vec<u8> = (0..2 * width * 3).map(|i| (((i * 7919 + width) * (i + 3)) >> 4) as u8).collect();
            let mut planes = Planes::default();
            planes.fill(&pixels, width, Layout::Colour(Chroma::Half));
            let even = |row: &[u8]| [row, &row[row.len() - width % 2 * 3..]].concat();
            let (upper, lower) = pixels.split_at(width * 3);
            let mut luma = vec![0; width];
            luma_of_each(upper, &mut luma);
            assert_eq!(planes.luma.samples[..width], luma);
            let wide = width.div_ceil(2);
            let (mut cb, mut cr) = (vec![0; wide], vec![0; wide]);
            chroma_of_means(&even(upper), &even(lower), &mut cb, &mut cr);
            assert_eq!([&planes.chroma[0].samples[..wide], &planes.chroma[1].samples[..wide]], [&cb, &cr], "{width} px");
        }
    }

    #[test]
    fn odd_sides_are_filled_with_their_last_row_and_column() {
        let pixels: Vec<u8> = (0..5 * 3).flat_map(|i| [i * 16, 0, 255 - i * 16]).collect();
        let mut planes = Planes::default();
        planes.fill(&pixels, 5, Layout::Colour(Chroma::Half));
        let luma = &planes.luma;
        assert_eq!((luma.stride, luma.samples.len()), (16, 256));
        assert!(luma.samples[4..16].iter().all(|v| *v == luma.samples[4]) && luma.samples[32..48] == luma.samples[240..]);
        let [cb, cr] = &planes.chroma;
        assert_eq!((cb.stride, cr.samples.len()), (8, 64));
        let alone = by_definition([14.0 * 16.0, 0.0, 255.0 - 14.0 * 16.0]);
        assert!((f64::from(cb.samples[63]) - alone[1]).abs() < 1.0 && (f64::from(cr.samples[63]) - alone[2]).abs() < 1.0);
    }
}
