//! A strip's rows of pixels as planes of luma and chroma (JFIF: ITU-R BT.601 at full range), filled up to whole blocks.

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

/// Upper half of a product: `value` x `share` / 65536.
#[inline(always)]
fn part(value: u16, share: u16) -> u16 {
    ((u32::from(value) * u32::from(share)) >> 16) as u16
}

/// Cb and Cr of a colour in 1/256 levels, 0..=255.
#[inline(always)]
fn colour_difference(r: u16, g: u16, b: u16) -> (u8, u8) {
    const MIDDLE: u16 = 32768 + 127;
    let cb = (b >> 1).wrapping_sub(part(r, 11059)).wrapping_sub(part(g, 21709)).wrapping_add(MIDDLE);
    let cr = (r >> 1).wrapping_sub(part(g, 27439)).wrapping_sub(part(b, 5329)).wrapping_add(MIDDLE);
    ((cb >> 8) as u8, (cr >> 8) as u8)
}

wide! {
    fn luma(pixels: &[u8], out: &mut [u8]) {
        for (px, y) in pixels.chunks_exact(3).zip(out) {
            let [r, g, b] = [px[0], px[1], px[2]].map(|v| u16::from(v) << 8);
            *y = ((part(r, 19595) + part(g, 38470) + part(b, 7471) + 129) >> 8) as u8;
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
    fn chroma_of_four(upper: &[u8], lower: &[u8], cb: &mut [u8], cr: &mut [u8]) {
        for (((a, b), cb), cr) in upper.chunks_exact(6).zip(lower.chunks_exact(6)).zip(cb).zip(cr) {
            let sum = |c: usize| (u16::from(a[c]) + u16::from(a[c + 3]) + u16::from(b[c]) + u16::from(b[c + 3])) << 6;
            (*cb, *cr) = colour_difference(sum(0), sum(1), sum(2));
        }
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
