//! Option `enhance.detail`: what the lens blurred is brought up again, as far as the photo's own noise lets one tell it from nothing.
//!
//! ```text
//! luma --3 x 3 Laplacian, calm blocks--> noise                                  (Immerkaer 1996)
//! luma - blurred luma = detail --shrunk where noise explains it--> x GAIN       (unsharp; the shrinking is a Wiener filter's)
//! luma + that, never beyond the darkest and lightest of the 3 x 3 px around it  (no halo, no grain that was not there)
//! ```
//!
//! Nothing is made up that the nearest pixels do not show: an edge becomes steeper, not higher. Colour stays: the three channels move
//! together. What it gains over Lanczos alone: docs/imaging.md.

use rayon::prelude::*;

use super::{
    raster::{Plane, Rgb},
    wide::wide,
};

/// Deviation of the blur that is undone, px: a lens and a sensor's grid, together.
const BLUR: f32 = 1.0;
/// Px to each side that the blur takes.
const REACH: usize = 3;
const TAPS: usize = 2 * REACH + 1;
/// How much of the detail is added.
const GAIN: f32 = 1.2;
/// Detail of this many deviations of the noise is halved by the shrinking.
const DOUBT: f32 = 2.0;
/// Side of a block in which noise is looked for, px.
const BLOCK: usize = 16;
/// This share of the blocks is calmer than the one whose noise counts: texture is taken for noise elsewhere.
const CALM: f32 = 0.1;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sharpened {
    /// Deviation of the photo's noise, levels of luma.
    pub noise: f64,
    /// The largest change of a pixel, levels.
    pub most: u8,
}

/// Sharpens in place. Pictures below 3 px a side stay as they are.
pub fn sharpen(rgb: &mut Rgb) -> Sharpened {
    if rgb.width < 3 || rgb.height < 3 {
        return Sharpened { noise: 0.0, most: 0 };
    }
    let luma = luma(rgb);
    let noise = noise(&luma);
    let doubt = (DOUBT * noise * detail_of_noise()).powi(2);
    let rows = rgb.data.par_chunks_exact_mut(rgb.width * 3).enumerate();
    let most = rows.map_init(|| Bench::new(luma.width), |bench, (y, row)| bench.sharpen_row(&luma, y, doubt, row)).max();
    Sharpened { noise: f64::from(noise), most: most.unwrap_or(0) }
}

/// Of an sRGB picture (ITU-R BT.601), levels.
fn luma(rgb: &Rgb) -> Plane {
    let mut out = Plane::new(rgb.width, rgb.height);
    out.data.par_chunks_mut(rgb.width).zip(rgb.data.par_chunks(rgb.width * 3)).for_each(|(out, row)| {
        for (out, px) in out.iter_mut().zip(row.chunks_exact(3)) {
            *out = 0.299 * f32::from(px[0]) + 0.587 * f32::from(px[1]) + 0.114 * f32::from(px[2]);
        }
    });
    out
}

/// Deviation of the noise, levels: J. Immerkaer, "Fast Noise Variance Estimation", 1996, in blocks; the calm ones count.
/// At least the half level that rounding makes.
fn noise(luma: &Plane) -> f32 {
    let (across, down) = ((luma.width - 2).div_ceil(BLOCK), (luma.height - 2).div_ceil(BLOCK));
    let block = |i: usize| {
        let (x0, y0) = (1 + i % across * BLOCK, 1 + i / across * BLOCK);
        let (x1, y1) = ((x0 + BLOCK).min(luma.width - 1), (y0 + BLOCK).min(luma.height - 1));
        let mut sum = 0.0;
        for y in y0..y1 {
            for x in x0..x1 {
                let row = |y: usize| luma.px(x - 1, y) - 2.0 * luma.px(x, y) + luma.px(x + 1, y);
                sum += (row(y - 1) - 2.0 * row(y) + row(y + 1)).abs();
            }
        }
        // A normal value of deviation 1 is sqrt(2 / pi) from its mean, and the mask's weights have a norm of 6.
        sum / ((x1 - x0) * (y1 - y0)) as f32 * (std::f32::consts::FRAC_PI_2).sqrt() / 6.0
    };
    let mut blocks: Vec<f32> = (0..across * down).into_par_iter().map(block).collect();
    blocks.sort_unstable_by(f32::total_cmp);
    blocks[(blocks.len() as f32 * CALM) as usize].max(0.29)
}

fn weights() -> [f32; TAPS] {
    let raw: [f32; TAPS] = std::array::from_fn(|i| (-0.5 * ((i as f32 - REACH as f32) / BLUR).powi(2)).exp());
    let sum: f32 = raw.iter().sum();
    raw.map(|w| w / sum)
}

/// Deviation of the detail of a noise of deviation 1.
fn detail_of_noise() -> f32 {
    let weights = weights();
    let square: f32 = weights.iter().map(|w| w * w).sum();
    // |delta - g|^2 of a separable g.
    (1.0 - 2.0 * weights[REACH].powi(2) + square.powi(2)).sqrt()
}

/// What a row needs, kept from row to row.
struct Bench {
    weights: [f32; TAPS],
    /// Blurred along y, with its ends repeated.
    down: Vec<f32>,
    blurred: Vec<f32>,
    /// Darkest and lightest of the three rows, with ends; then of the 3 x 3 px.
    low: Vec<f32>,
    high: Vec<f32>,
    change: Vec<f32>,
}

impl Bench {
    fn new(width: usize) -> Self {
        Self {
            weights: weights(),
            down: vec![0.0; width + 2 * REACH],
            blurred: vec![0.0; width],
            low: vec![0.0; width + 2],
            high: vec![0.0; width + 2],
            change: vec![0.0; width],
        }
    }

    /// Gives the largest change.
    fn sharpen_row(&mut self, luma: &Plane, y: usize, doubt: f32, row: &mut [u8]) -> u8 {
        let width = luma.width;
        let at = |step: isize| {
            let y = y.saturating_add_signed(step).min(luma.height - 1);
            &luma.data[y * width..(y + 1) * width]
        };
        let rows: [&[f32]; TAPS] = std::array::from_fn(|i| at(i as isize - REACH as isize));
        weigh(&rows, &self.weights, &mut self.down[REACH..REACH + width]);
        let (first, last) = (self.down[REACH], self.down[REACH + width - 1]);
        self.down[..REACH].fill(first);
        self.down[REACH + width..].fill(last);
        let shifted: [&[f32]; TAPS] = std::array::from_fn(|i| &self.down[i..i + width]);
        weigh(&shifted, &self.weights, &mut self.blurred);
        span(&[at(-1), at(0), at(1)], &mut self.low[1..=width], &mut self.high[1..=width]);
        for side in [&mut self.low, &mut self.high] {
            (side[0], side[width + 1]) = (side[1], side[width]);
        }
        changes(at(0), &self.blurred, &self.low, &self.high, doubt, &mut self.change);
        let mut most = 0;
        for (px, change) in row.chunks_exact_mut(3).zip(&self.change) {
            for v in px {
                let new = (f32::from(*v) + change + 0.5).clamp(0.0, 255.0) as u8;
                most = most.max(new.abs_diff(*v));
                *v = new;
            }
        }
        most
    }
}

wide! {
    fn weigh(rows: &[&[f32]; TAPS], weights: &[f32; TAPS], out: &mut [f32]) {
        let n = out.len();
        let rows = rows.map(|row| &row[..n]);
        for (x, out) in out.iter_mut().enumerate() {
            let mut sum = 0.0;
            for t in 0..TAPS {
                sum += weights[t] * rows[t][x];
            }
            *out = sum;
        }
    }
}

wide! {
    fn span(rows: &[&[f32]; 3], low: &mut [f32], high: &mut [f32]) {
        for ((((low, high), a), b), c) in low.iter_mut().zip(high).zip(rows[0]).zip(rows[1]).zip(rows[2]) {
            *low = a.min(*b).min(*c);
            *high = a.max(*b).max(*c);
        }
    }
}

wide! {
    fn changes(luma: &[f32], blurred: &[f32], low: &[f32], high: &[f32], doubt: f32, out: &mut [f32]) {
        let n = out.len();
        let (luma, blurred) = (&luma[..n], &blurred[..n]);
        let (low, high) = ([&low[..n], &low[1..n + 1], &low[2..n + 2]], [&high[..n], &high[1..n + 1], &high[2..n + 2]]);
        for (x, out) in out.iter_mut().enumerate() {
            let detail = luma[x] - blurred[x];
            let square = detail * detail;
            let wanted = luma[x] + GAIN * detail * square / (square + doubt);
            let (low, high) = (low[0][x].min(low[1][x]).min(low[2][x]), high[0][x].max(high[1][x]).max(high[2][x]));
            *out = wanted.max(low).min(high) - luma[x];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grey(width: usize, height: usize, level: impl Fn(usize, usize) -> f32) -> Rgb {
        let data = (0..width * height).flat_map(|i| [level(i % width, i / width).round().clamp(0.0, 255.0) as u8; 3]).collect();
        Rgb { width, height, data }
    }

    /// Normal values, of a seed.
    fn grain(seed: u64) -> impl FnMut() -> f32 {
        let mut s = seed;
        move || {
            let mut sum = 0.0;
            for _ in 0..12 {
                s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                sum += (s >> 40) as f32 / (1u64 << 24) as f32;
            }
            sum - 6.0
        }
    }

    fn noisy(deviation: f32) -> Rgb {
        let mut next = grain(7);
        let values: Vec<f32> = (0..200 * 150).map(|_| 120.0 + deviation * next()).collect();
        grey(200, 150, |x, y| values[y * 200 + x])
    }

    #[test]
    fn the_noise_of_a_flat_picture_is_measured_to_a_fifth() {
        for deviation in [1.0, 2.0, 5.0, 12.0] {
            let found = noise(&luma(&noisy(deviation)));
            assert!((found / deviation - 1.0).abs() < 0.2, "{deviation}: {found}");
        }
    }

    #[test]
    fn noise_alone_grows_by_less_than_a_quarter() {
        let spread = |rgb: &Rgb| {
            let mean = rgb.data.iter().map(|v| f32::from(*v)).sum::<f32>() / rgb.data.len() as f32;
            (rgb.data.iter().map(|v| (f32::from(*v) - mean).powi(2)).sum::<f32>() / rgb.data.len() as f32).sqrt()
        };
        let before = noisy(4.0);
        let mut after = before.clone();
        sharpen(&mut after);
        assert!(spread(&after) < 1.25 * spread(&before), "{} became {}", spread(&before), spread(&after));
    }

    #[test]
    fn a_blurred_edge_becomes_steeper_and_no_higher() {
        let edge = |x: usize| 60.0 + 120.0 / (1.0 + (-(x as f32 - 40.0) / 0.9).exp());
        let before = grey(80, 40, |x, _| edge(x));
        let mut after = before.clone();
        let done = sharpen(&mut after);
        let steepest = |rgb: &Rgb| (1..80).map(|x| rgb.px(x, 20)[0] - rgb.px(x - 1, 20)[0].min(rgb.px(x, 20)[0])).max();
        assert!(steepest(&after) > steepest(&before), "{done:?}");
        assert!(after.data.iter().all(|v| (60..=180).contains(v)));
    }

    proptest! {
        #[test]
        fn no_pixel_leaves_what_its_neighbours_show(width in 1usize..24, height in 1usize..24, seed in any::<u64>()) {
            let mut next = grain(seed);
            let values: Vec<f32> = (0..width * height).map(|_| 128.0 + 40.0 * next()).collect();
            let before = grey(width, height, |x, y| values[y * width + x]);
            let mut after = before.clone();
            sharpen(&mut after);
            for y in 0..height {
                for x in 0..width {
                    let around = (y.saturating_sub(1)..(y + 2).min(height))
                        .flat_map(|y| (x.saturating_sub(1)..(x + 2).min(width)).map(move |x| (x, y)))
                        .map(|(x, y)| before.px(x, y)[0]);
                    let (low, high) = around.fold((255, 0), |(l, h): (u8, u8), v| (l.min(v), h.max(v)));
                    prop_assert!((low..=high).contains(&after.px(x, y)[0]), "({}, {})", x, y);
                }
            }
        }
    }
}
