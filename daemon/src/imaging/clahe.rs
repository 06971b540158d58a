//! Contrast-limited adaptive histogram equalisation of the lightness (K. Zuiderveld, "Contrast Limited Adaptive Histogram
//! Equalization", Graphics Gems IV, 1994; clip limit as OpenCV defines it).
//!
//! ```text
//! picture --tiles--> histograms --clip, running sum--> a curve a tile
//! each pixel: its lightness through the curves of the four nearest tiles, blended linearly
//! ```
//!
//! Two of the four blends are the same for a whole row: they are made once a row, on curves instead of pixels. Colour ([`clahe_lab`])
//! works on L of L*a*b*, see `lab`; grey pictures and planes ([`clahe_gray`]) on their levels. Memory: a curve (1 KiB) a tile.

mod lab;

use rayon::prelude::*;

use self::lab::{CHUNK, Lab, LightnessBins};
use super::{
    cores,
    raster::{Gray, Rgb},
    wide::wide,
};

/// Levels of a histogram; colour reads curves between them, so results are not limited to 256 steps.
const BINS: usize = 256;
/// A tile has at least this side, px: fewer pixels make a curve out of noise. Small pictures get a coarser grid.
const MIN_TILE: usize = 8;

/// New lightness of each bin, 0..=1.
type Curve = [f32; BINS];

/// In place, colours keep their a and b. `clip`: OpenCV's clipLimit, a bin holds at most `clip` x the mean bin (2.0 is usual; 0 and
/// below: no limit). `grid`: tiles along each side (8 is usual). A constant picture stays constant; any size works.
pub fn clahe_lab(rgb: &mut Rgb, clip: f32, grid: usize) {
    if rgb.data.is_empty() {
        return;
    }
    let tiles = Grid::new(rgb.width, rgb.height, grid);
    let bins = LightnessBins::get();
    let curves = tiles.curves(clip, |y, xs, counts| bins.count(&rgb.row(y)[xs.start * 3..xs.end * 3], counts));
    let columns = tiles.columns.all_between();
    let width = rgb.width;
    cores::pieces(
        &mut rgb.data,
        width * 3,
        || (vec![[0.0; BINS]; tiles.columns.tiles], Box::<Lab>::default()),
        |(row_curves, lab), y, row| {
            tiles.blend_down(&curves, y, row_curves);
            for (chunk, columns) in row.chunks_mut(CHUNK * 3).zip(columns.chunks(CHUNK)) {
                lab.read(chunk);
                lab.change_lightness(columns, |(left, right, share), lightness| {
                    mix(between_bins(&row_curves[*left], lightness), between_bins(&row_curves[*right], lightness), *share)
                });
                lab.write(chunk);
            }
        },
    );
}

/// On the levels themselves: a grey picture, or any plane. Otherwise as [`clahe_lab`]; within one level of OpenCV's CLAHE wherever the sides are
/// multiples of the grid (a test of `make bench-pixels`).
pub fn clahe_gray(gray: &Gray, clip: f32, grid: usize) -> Gray {
    let mut out = Gray::new(gray.width, gray.height);
    if gray.data.is_empty() {
        return out;
    }
    let tiles = Grid::new(gray.width, gray.height, grid);
    let curves = tiles.curves(clip, |y, xs, counts| count_levels(&gray.row(y)[xs], counts));
    let curves: Vec<Levels> = curves.iter().map(|curve| curve.map(|lightness| (lightness * 255.0 * 64.0 + 0.5) as i16)).collect();
    let gaps = tiles.columns.gaps();
    let across = tiles.columns.tiles;
    cores::pieces(
        &mut out.data,
        gray.width,
        || (vec![[0; BINS]; across], vec![[Step::default(); BINS]; across]),
        |(row_curves, steps), y, row| {
            let (top, bottom, share) = tiles.rows.between(y);
            blend_levels(&curves[top * across..][..across], &curves[bottom * across..][..across], share, row_curves);
            into_steps(row_curves, steps);
            for gap in &gaps {
                map_levels(&gray.row(y)[gap.pixels.clone()], &mut row[gap.pixels.clone()], &steps[gap.left], gap.share, gap.growth);
            }
        },
    );
    out
}

fn mix(a: f32, b: f32, share: f32) -> f32 {
    a + (b - a) * share
}

/// `lightness`: 0..=1.
#[inline(always)]
fn between_bins(curve: &Curve, lightness: f32) -> f32 {
    let place = lightness * (BINS - 1) as f32;
    let bin = (place as usize).min(BINS - 2);
    mix(curve[bin], curve[bin + 1], place - bin as f32)
}

struct Grid {
    columns: Axis,
    rows: Axis,
}

impl Grid {
    fn new(width: usize, height: usize, grid: usize) -> Self {
        Self { columns: Axis::new(width, grid), rows: Axis::new(height, grid) }
    }

    /// A curve for each tile, row by row. `count(y, columns, counts)` counts the pixels of a piece of a row.
    fn curves(&self, clip: f32, count: impl Fn(usize, std::ops::Range<usize>, &mut Counts) + Sync) -> Vec<Curve> {
        let tiles = self.rows.tiles * self.columns.tiles;
        let curve = |i: usize| {
            let mut counts = Counts::default();
            for y in self.rows.span(i / self.columns.tiles) {
                count(y, self.columns.span(i % self.columns.tiles), &mut counts);
            }
            equalise(counts.sum(), clip)
        };
        (0..tiles).into_par_iter().map(curve).collect()
    }

    /// The curves of row `y` of the picture, one for each column of tiles.
    fn blend_down(&self, curves: &[Curve], y: usize, out: &mut [Curve]) {
        let (top, bottom, share) = self.rows.between(y);
        let row = |row: usize| &curves[row * self.columns.tiles..(row + 1) * self.columns.tiles];
        for ((out, a), b) in out.iter_mut().zip(row(top)).zip(row(bottom)) {
            for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                *out = mix(*a, *b, share);
            }
        }
    }
}

/// One side of the grid.
struct Axis {
    px: usize,
    tiles: usize,
}

impl Axis {
    fn new(px: usize, grid: usize) -> Self {
        Self { px, tiles: grid.min(px / MIN_TILE).max(1) }
    }

    fn span(&self, tile: usize) -> std::ops::Range<usize> {
        tile * self.px / self.tiles..(tile + 1) * self.px / self.tiles
    }

    /// The two tiles whose centres lie around pixel `at`, and the share of the second.
    fn between(&self, at: usize) -> (usize, usize, f32) {
        let place = ((at as f32 + 0.5) * self.tiles as f32 / self.px as f32 - 0.5).clamp(0.0, (self.tiles - 1) as f32);
        let first = place as usize;
        (first, (first + 1).min(self.tiles - 1), place - first as f32)
    }

    /// [`Axis::between`] of every pixel.
    fn all_between(&self) -> Vec<(usize, usize, f32)> {
        (0..self.px).map(|at| self.between(at)).collect()
    }

    /// The stretches between tile centres, and those before the first and behind the last, in order.
    fn gaps(&self) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        for (at, (left, _, share)) in self.all_between().into_iter().enumerate() {
            match gaps.last_mut() {
                Some(gap) if gap.left == left && (gap.share > 0.0) == (share > 0.0) => gap.pixels.end = at + 1,
                _ => {
                    let growth = if share > 0.0 { self.tiles as f32 / self.px as f32 } else { 0.0 };
                    gaps.push(Gap { left, pixels: at..at + 1, share, growth });
                }
            }
        }
        gaps
    }
}

/// Pixels that lie between the centres of the same two tiles.
struct Gap {
    left: usize,
    pixels: std::ops::Range<usize>,
    /// Of the right tile, at the first pixel, and what it grows by a pixel.
    share: f32,
    growth: f32,
}

/// Pixels of each bin, in four counters: neighbours are alike, and one counter would have to wait for itself.
struct Counts([[u32; BINS]; 4]);

impl Default for Counts {
    fn default() -> Self {
        Self([[0; BINS]; 4])
    }
}

impl Counts {
    #[inline(always)]
    fn add(&mut self, bins: [u8; 4]) {
        for (counter, bin) in self.0.iter_mut().zip(bins) {
            counter[usize::from(bin)] += 1;
        }
    }

    #[inline(always)]
    fn add_one(&mut self, bin: u8) {
        self.0[0][usize::from(bin)] += 1;
    }

    fn sum(&self) -> [f32; BINS] {
        std::array::from_fn(|bin| self.0.iter().map(|counter| counter[bin]).sum::<u32>() as f32)
    }
}

fn count_levels(levels: &[u8], counts: &mut Counts) {
    let (fours, rest) = levels.as_chunks::<4>();
    fours.iter().for_each(|four| counts.add(*four));
    rest.iter().for_each(|level| counts.add_one(*level));
}

/// The clipped histogram's running sum; what was clipped is spread evenly over all bins.
fn equalise(mut bins: [f32; BINS], clip: f32) -> Curve {
    let total: f32 = bins.iter().sum();
    if clip > 0.0 {
        // Not rounded up to a whole pixel as OpenCV does: tiles that differ by a row of pixels would differ in brightness.
        let limit = clip * total / BINS as f32;
        let excess: f32 = bins.iter().map(|n| (n - limit).max(0.0)).sum();
        bins.iter_mut().for_each(|n| *n = n.min(limit) + excess / BINS as f32);
    }
    let mut sum = 0.0;
    bins.map(|n| {
        sum += n;
        (sum / total).min(1.0)
    })
}

/// [`Curve`] in 1/64 levels.
type Levels = [i16; BINS];

/// A level's new value by the tile on the left, and how far the tile on the right is from it; both in 1/64 levels.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    left: i16,
    more: i16,
}

wide! {
    /// [`Grid::blend_down`], in whole numbers.
    fn blend_levels(top: &[Levels], bottom: &[Levels], share: f32, out: &mut [Levels]) {
        let share = (share * 16384.0) as i32;
        for ((out, a), b) in out.as_flattened_mut().iter_mut().zip(top.as_flattened()).zip(bottom.as_flattened()) {
            *out = (i32::from(*a) + (((i32::from(*b) - i32::from(*a)) * share) >> 14)) as i16;
        }
    }
}

wide! {
    /// From each tile to the one on its right.
    fn into_steps(row: &[Levels], steps: &mut [[Step; BINS]]) {
        for (i, steps) in steps.iter_mut().enumerate() {
            for ((step, left), right) in steps.iter_mut().zip(&row[i]).zip(&row[(i + 1).min(row.len() - 1)]) {
                *step = Step { left: *left, more: *right - *left };
            }
        }
    }
}

wide! {
    /// `share`: of the right tile at the first pixel; `growth`: what it grows by a pixel.
    fn map_levels(levels: &[u8], out: &mut [u8], steps: &[Step; BINS], share: f32, growth: f32) {
        // In 2^-30: even the widest stretch ends where it should.
        let one = (1u32 << 30) as f32;
        let (mut at, growth) = ((share * one) as i32, (growth * one) as i32);
        for (level, out) in levels.iter().zip(out) {
            let step = steps[usize::from(*level)];
            let value = i32::from(step.left) + ((i32::from(step.more) * (at >> 16)) >> 14);
            *out = ((value + 32) >> 6) as u8;
            at += growth;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: usize, height: usize, level: impl Fn(usize, usize) -> u8) -> Rgb {
        let mut rgb = Rgb::new(width, height);
        for y in 0..height {
            for x in 0..width {
                rgb.set(x, y, [level(x, y); 3]);
            }
        }
        rgb
    }

    #[test]
    fn a_constant_picture_stays_constant() {
        for level in [0, 40, 128, 255] {
            let mut rgb = grey(100, 60, |_, _| level);
            clahe_lab(&mut rgb, 2.0, 8);
            assert!(rgb.data.iter().all(|v| *v == rgb.data[0]), "{level}");
            assert!(rgb.data[0].abs_diff(level) <= 6, "{level} became {}", rgb.data[0]);
        }
    }

    #[test]
    fn contrast_rises_on_a_faint_ramp() {
        let mut rgb = grey(256, 256, |x, y| (110 + (x % 32 + y % 32) / 4) as u8);
        clahe_lab(&mut rgb, 2.0, 8);
        let (low, high) = (rgb.data.iter().min().unwrap(), rgb.data.iter().max().unwrap());
        assert!(high - low > 25, "16 levels became {}", high - low);
    }

    #[test]
    fn a_colour_keeps_its_hue() {
        let mut rgb = Rgb::new(64, 64);
        for y in 0..64 {
            for x in 0..64 {
                let v = (x + y) as u8 / 4;
                rgb.set(x, y, [90 + v, 110 + v, 150 + v]);
            }
        }
        clahe_lab(&mut rgb, 3.0, 8);
        assert!(rgb.data.chunks_exact(3).all(|p| p[0] < p[1] && p[1] < p[2]));
    }

    #[test]
    fn the_smallest_pictures_work() {
        for (w, h) in [(1, 1), (3, 2), (1, 40), (17, 9)] {
            let mut rgb = grey(w, h, |x, y| (x * 40 + y * 10) as u8);
            clahe_lab(&mut rgb, 2.0, 8);
            assert_eq!(rgb.data.len(), w * h * 3);
        }
        clahe_lab(&mut Rgb::new(0, 0), 2.0, 8);
    }

    #[test]
    fn a_plane_of_levels_is_within_a_level_of_the_same_thing_done_slowly() {
        for (w, h) in [(64, 64), (67, 41), (8, 200), (5, 5)] {
            let before = Gray { width: w, height: h, data: (0..w * h).map(|i| (i * 37 % 101 + i / w) as u8).collect() };
            let gray = clahe_gray(&before, 2.0, 8);
            let tiles = Grid::new(w, h, 8);
            let curves = tiles.curves(2.0, |y, xs, counts| count_levels(&before.row(y)[xs], counts));
            for y in 0..h {
                for x in 0..w {
                    let ((left, right, along), (top, bottom, down)) = (tiles.columns.between(x), tiles.rows.between(y));
                    let at = |row: usize, column: usize| curves[row * tiles.columns.tiles + column][usize::from(before.px(x, y))];
                    let want = mix(mix(at(top, left), at(top, right), along), mix(at(bottom, left), at(bottom, right), along), down);
                    assert!((f32::from(gray.px(x, y)) - want * 255.0).abs() < 0.6, "{w}x{h} ({x}, {y})");
                }
            }
        }
    }
}
