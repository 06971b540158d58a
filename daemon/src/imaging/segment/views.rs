//! The photo made small, and the two planes in which eyes are looked for.

use std::{f64::consts::TAU, ops::Range};

use crate::imaging::{
    mask,
    raster::{Gray, Rgb},
    wide::wide,
};

/// Long side of the fine view, px. An iris is 30 to 250 px wide in it; finer only finds lashes.
const LONG_SIDE: usize = 320;
/// Lamps up to this wide vanish, px of the fine view.
const OPENING: usize = 5;

/// H x W, stretched to 0..1 (0.2nd percentile, which a small pupil still reaches, to the 98th), with clamped reading.
#[derive(Debug, Clone)]
pub struct View {
    pub width: usize,
    pub height: usize,
    /// Of each px four levels above the darkest, a byte each from the lowest: its own, its right neighbour's, and those of the two below; at the
    /// edges the px is its own neighbour. So a bilinear reading is one access to memory.
    fours: Vec<u32>,
    /// A level.
    unit: f32,
}

/// Directions from a centre, evenly all round, y downwards.
#[derive(Debug, Clone)]
pub struct Around<const N: usize> {
    pub cos: [f32; N],
    pub sin: [f32; N],
}

impl<const N: usize> Around<N> {
    pub fn new() -> Self {
        let angles: [(f64, f64); N] = std::array::from_fn(|a| (TAU * (a as f64 + 0.5) / N as f64).sin_cos());
        Self { cos: angles.map(|(_, cos)| cos as f32), sin: angles.map(|(sin, _)| sin as f32) }
    }
}

pub struct Views {
    /// Mean of red and the darkest channel: iris of any colour is dark in it; sclera is bright (no channel of it is dark), skin is
    /// bright (red).
    pub iris: View,
    /// Red: the pupil is dark in it, brown irises are not.
    pub pupil: View,
    /// The small photo itself.
    pub small: Rgb,
}

impl Views {
    pub fn new(photo: &Rgb) -> Self {
        let long = photo.width.max(photo.height);
        let fit = |n: usize| if long <= LONG_SIDE { n } else { (n * LONG_SIDE).div_ceil(long).max(2) };
        let small = shrink(photo, fit(photo.width), fit(photo.height));
        let iris = plane(&small, |[r, g, b]| ((u16::from(r) + u16::from(r.min(g).min(b))) / 2) as u8);
        let pupil = plane(&small, |[r, _, _]| r);
        Self { iris, pupil, small }
    }

    /// px of the photo for each px of the views, along x and y.
    pub fn scale(&self, photo: &Rgb) -> (f64, f64) {
        (photo.width as f64 / self.small.width as f64, photo.height as f64 / self.small.height as f64)
    }
}

/// A number of each pixel, lamps opened away, stretched.
fn plane(small: &Rgb, of: impl Fn([u8; 3]) -> u8) -> View {
    let data = small.data.as_chunks().0.iter().map(|px| of(*px)).collect();
    let raw = Gray { width: small.width, height: small.height, data };
    let opened = mask::dilate(&mask::erode(&raw, OPENING / 2), OPENING / 2);
    View::stretched(&opened, &raw)
}

impl View {
    /// Stretched by the shades of `raw`, the same view before the opening: noise, whose shades the opening narrows, stays small then.
    fn stretched(gray: &Gray, raw: &Gray) -> Self {
        let mut histogram = [0usize; 256];
        raw.data.iter().for_each(|v| histogram[usize::from(*v)] += 1);
        let at = |share: f64| {
            let mut left = (gray.data.len() as f64 * share) as usize;
            histogram.iter().position(|n| {
                let found = left < *n;
                left = left.saturating_sub(*n);
                found
            })
        };
        let (low, high) = (at(0.002).unwrap_or(0), at(0.98).unwrap_or(255));
        // A photo of one shade stays one: contrast below 40 levels is not blown up to black and white.
        let span = (high - low).max(40);
        // No level is above 255, so neither are more of them.
        let (low, most) = (low as u8, span.min(255) as u8);
        let levels = gray.data.iter().map(|v| v.saturating_sub(low).min(most)).collect();
        let levels = Gray { width: gray.width, height: gray.height, data: levels };
        Self { width: gray.width, height: gray.height, fours: fours(&levels), unit: 1.0 / span as f32 }
    }

    /// Bilinear, the edge's value beyond the edge.
    pub fn at(&self, x: f64, y: f64) -> f32 {
        let mut value = [0.0];
        self.read(&[x as f32], &[y as f32], &mut value);
        value[0]
    }

    /// [`View::at`] in each direction, at distance `r` from a centre.
    pub fn ring<const N: usize>(&self, cx: f64, cy: f64, r: f64, around: &Around<N>) -> [f32; N] {
        let mut values = [0.0; N];
        read_ring(self, [cx, cy, r].map(|v| v as f32), around, &mut values);
        values
    }

    /// In three loops, of which only the middle one takes a step a value.
    #[inline(always)]
    fn read<const N: usize>(&self, x: &[f32; N], y: &[f32; N], values: &mut [f32; N]) {
        // Adding 1.5 x 2^23 leaves the nearest whole number in the low bits.
        const MAGIC: f32 = 12_582_912.0;
        let (right, bottom, width) = ((self.width - 1) as f32, (self.height - 1) as f32, self.width as f32);
        let (mut at, mut fx, mut fy) = ([0; N], [0.0; N], [0.0; N]);
        for i in 0..N {
            let (x, y) = ((x[i] - 0.5).clamp(0.0, right), (y[i] - 0.5).clamp(0.0, bottom));
            // The px before; a place right on a px may count as the end of the one before it.
            let (column, row) = (x - 0.5 + MAGIC - MAGIC, y - 0.5 + MAGIC - MAGIC);
            (fx[i], fy[i]) = (x - column, y - row);
            at[i] = (row * width + column + MAGIC).to_bits() & 0x3F_FFFF;
        }
        let mut fours = [0; N];
        for i in 0..N {
            fours[i] = self.fours[at[i] as usize];
        }
        for i in 0..N {
            let [a, b, c, d] = [0, 8, 16, 24].map(|bits| (fours[i] >> bits & 255) as i32 as f32);
            let (upper, lower) = (a + (b - a) * fx[i], c + (d - c) * fx[i]);
            values[i] = (upper + (lower - upper) * fy[i]) * self.unit;
        }
    }

    /// Half the size.
    pub fn half(&self) -> Half {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut sums = vec![0; width * height];
        for (y, sums) in sums.chunks_exact_mut(width.max(1)).enumerate() {
            for (sum, two) in sums.iter_mut().zip(self.fours[2 * y * self.width..].chunks_exact(2)) {
                *sum = two[0].to_le_bytes().map(i16::from).into_iter().sum();
            }
        }
        Half { width, height, sums, span: 4.0 / self.unit }
    }
}

/// A view at half its size: sums of 2 x 2 levels, 0 to `span`.
pub struct Half {
    pub width: usize,
    pub height: usize,
    pub sums: Vec<i16>,
    pub span: f32,
}

wide! {
    fn read_ring<const N: usize>(view: &View, circle: [f32; 3], around: &Around<N>, values: &mut [f32; N]) {
        let ([cx, cy, r], mut x, mut y) = (circle, [0.0; N], [0.0; N]);
        for i in 0..N {
            (x[i], y[i]) = (cx + r * around.cos[i], cy + r * around.sin[i]);
        }
        view.read(&x, &y, values);
    }
}

/// Each px with its right neighbour and the two below, see [`View::fours`].
fn fours(levels: &Gray) -> Vec<u32> {
    let (width, height) = (levels.width, levels.height);
    let mut fours = vec![0; width * height];
    for (y, fours) in fours.chunks_exact_mut(width).enumerate() {
        join(levels.row(y), levels.row((y + 1).min(height - 1)), fours);
    }
    fours
}

wide! {
    fn join(upper: &[u8], lower: &[u8], fours: &mut [u32]) {
        for ((four, a), c) in fours.iter_mut().zip(upper).zip(lower) {
            *four = (u32::from(*a) * 0x0101) | (u32::from(*c) * 0x0101_0000);
        }
        // All but the last px have a neighbour.
        for ((four, b), d) in fours.iter_mut().zip(&upper[1..]).zip(&lower[1..]) {
            *four = (*four & 0x00FF_00FF) | (u32::from(*b) << 8) | (u32::from(*d) << 24);
        }
    }
}

/// Means over boxes; to a smaller or the same size.
fn shrink(photo: &Rgb, width: usize, height: usize) -> Rgb {
    if (width, height) == (photo.width, photo.height) {
        return photo.clone();
    }
    let boxes = |result: usize, source: usize| -> Vec<Range<usize>> {
        (0..result).map(|i| (i * source).div_ceil(result)..((i + 1) * source).div_ceil(result)).collect()
    };
    let (columns, rows) = (boxes(width, photo.width), boxes(height, photo.height));
    let mut out = Rgb::new(width, height);
    let mut sums = vec![0u32; photo.width * 3];
    for (y, rows) in rows.iter().enumerate() {
        // Down the rows first: the long loop then runs along memory.
        sums.fill(0);
        rows.clone().for_each(|row| add_row(&mut sums, photo.row(row)));
        for (x, columns) in columns.iter().enumerate() {
            let mut sum = [0u32; 3];
            for px in sums[columns.start * 3..columns.end * 3].chunks_exact(3) {
                sum = [sum[0] + px[0], sum[1] + px[1], sum[2] + px[2]];
            }
            let n = (rows.len() * columns.len()) as u64;
            // A division by multiplying, exact for sums up to 255 n of boxes up to 256 px wide.
            let part = (1 << 40) / n + 1;
            out.set(x, y, sum.map(|s| ((u64::from(s) * part) >> 40) as u8));
        }
    }
    out
}

wide! {
    fn add_row(sums: &mut [u32], row: &[u8]) {
        for (sum, v) in sums.iter_mut().zip(row) {
            *sum += u32::from(*v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shrunk_photo_keeps_its_mean_and_its_places() {
        let mut photo = Rgb::new(1000, 701);
        for y in 0..701 {
            for x in 500..1000 {
                photo.set(x, y, [200, 100, 50]);
            }
        }
        let views = Views::new(&photo);
        assert_eq!((views.small.width, views.small.height), (320, 225));
        assert_eq!((views.small.px(159, 100), views.small.px(160, 224)), ([0, 0, 0], [200, 100, 50]));
    }

    #[test]
    fn a_view_is_read_between_its_pixels_and_beyond_its_edges_as_by_definition() {
        let mut photo = Rgb::new(37, 29);
        photo.data.iter_mut().enumerate().for_each(|(i, v)| *v = (i * 7919 % 251) as u8);
        let view = Views::new(&photo).iris;
        let px = |x: f64, y: f64| {
            let (x, y) = (x.clamp(0.0, 36.0) as usize, y.clamp(0.0, 28.0) as usize);
            (view.fours[y * 37 + x] & 255) as f32 * view.unit
        };
        let slow = |x: f64, y: f64| {
            let (x, y) = ((x - 0.5).clamp(0.0, 36.0), (y - 0.5).clamp(0.0, 28.0));
            let (left, top, fx, fy) = (x.floor(), y.floor(), x.fract() as f32, y.fract() as f32);
            let across = |y: f64| px(left, y) * (1.0 - fx) + px(left + 1.0, y) * fx;
            across(top) * (1.0 - fy) + across(top + 1.0) * fy
        };
        let around = Around::<24>::new();
        for (cx, cy, r) in [(18.0, 14.0, 9.3), (18.5, 14.5, 0.0), (1.0, 2.0, 6.0), (36.0, 28.0, 5.5), (-90.0, 400.0, 20.0)] {
            let ring = view.ring(cx, cy, r, &around);
            for (i, v) in ring.into_iter().enumerate() {
                let (x, y) = (cx + r * f64::from(around.cos[i]), cy + r * f64::from(around.sin[i]));
                assert!((v - slow(x, y)).abs() < 1e-4, "({x}, {y}): {v} {}", slow(x, y));
                assert!((view.at(x, y) - v).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn a_box_of_any_size_is_its_mean_without_what_is_left_over() {
        for (w, h) in [(641, 479), (3217, 40), (2000, 1499)] {
            let mut photo = Rgb::new(w, h);
            photo.data.iter_mut().enumerate().for_each(|(i, v)| *v = if i * 7919 % 13 > 2 { 255 } else { (i % 253) as u8 });
            let (width, height) = (320, (h * 320).div_ceil(w));
            let small = shrink(&photo, width, height);
            for (x, y) in [(0, 0), (width - 1, height - 1), (width / 3, height / 2)] {
                let columns = (x * w).div_ceil(width)..((x + 1) * w).div_ceil(width);
                let rows = (y * h).div_ceil(height)..((y + 1) * h).div_ceil(height);
                let mut sum = [0u32; 3];
                for px in rows.clone().flat_map(|y| columns.clone().map(move |x| (x, y))).map(|(x, y)| photo.px(x, y)) {
                    sum = [0, 1, 2].map(|c: usize| sum[c] + u32::from(px[c]));
                }
                assert_eq!(small.px(x, y), sum.map(|s| (s / (rows.len() * columns.len()) as u32) as u8), "{w}x{h} ({x}, {y})");
            }
        }
    }
}
