//! The photo made small, and the two planes in which eyes are looked for.

use std::ops::Range;

use crate::imaging::{
    mask,
    raster::{Gray, Rgb},
    wide::wide,
};

/// Long side of the fine view, px. An iris is 30 to 250 px wide in it; finer only finds lashes.
const LONG_SIDE: usize = 320;
/// Lamps up to this wide vanish, px of the fine view.
const OPENING: usize = 5;

/// H x W, f32, stretched to 0..1 (0.2nd percentile, which a small pupil still reaches, to the 98th), with clamped reading. At least 2 px a side.
#[derive(Debug, Clone)]
pub struct View {
    pub width: usize,
    pub height: usize,
    pub data: Vec<f32>,
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
    let data = small.data.chunks_exact(3).map(|p| of([p[0], p[1], p[2]])).collect();
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
        let (low, high) = (at(0.002).unwrap_or(0) as f32, at(0.98).unwrap_or(255) as f32);
        // A photo of one shade stays one: contrast below 40 levels is not blown up to black and white.
        let span = (high - low).max(40.0);
        let data = gray.data.iter().map(|v| ((f32::from(*v) - low) / span).clamp(0.0, 1.0)).collect();
        Self { width: gray.width, height: gray.height, data }
    }

    /// Bilinear, the edge's value beyond the edge.
    pub fn at(&self, x: f64, y: f64) -> f32 {
        let (x, y) = ((x - 0.5).clamp(0.0, (self.width - 1) as f64), (y - 0.5).clamp(0.0, (self.height - 1) as f64));
        // By way of u32: processors convert no 64 bits without a sign. The last px is its neighbour's, all the way.
        let (i, j) = ((x as u32).min(self.width as u32 - 2), (y as u32).min(self.height as u32 - 2));
        let (fx, fy) = ((x - f64::from(i)) as f32, (y - f64::from(j)) as f32);
        let top = j as usize * self.width + i as usize;
        let ([a, b], [c, d]) = (self.pair(top), self.pair(top + self.width));
        let (upper, lower) = (a + (b - a) * fx, c + (d - c) * fx);
        upper + (lower - upper) * fy
    }

    #[inline(always)]
    fn pair(&self, at: usize) -> [f32; 2] {
        *self.data[at..].first_chunk().expect("a view has two px a side, and more")
    }

    /// Half the size, means of 2 x 2.
    pub fn half(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut data = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let i = 2 * y * self.width + 2 * x;
                data.push((self.data[i] + self.data[i + 1] + self.data[i + self.width] + self.data[i + self.width + 1]) / 4.0);
            }
        }
        Self { width, height, data }
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
            let n = (rows.len() * columns.len()) as u32;
            out.set(x, y, sum.map(|s| (s / n) as u8));
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
}
