//! Contrast-limited adaptive histogram equalisation of the lightness (K. Zuiderveld, "Contrast Limited Adaptive Histogram
//! Equalization", Graphics Gems IV, 1994; clip limit as OpenCV defines it).
//!
//! sRGB -> L*a*b* (D65); L goes through the equalising curve of its four nearest tiles, blended linearly; a and b stay, so colours keep
//! their hue. In Lab a change of L alone adds one number to all of f(X), f(Y), f(Z): no Lab picture is ever made, memory is one curve
//! (1 KiB) a tile.

use std::sync::OnceLock;

use rayon::prelude::*;

use super::raster::Rgb;

/// Levels of a histogram; curves are read between them, so results are not limited to 256 steps.
const BINS: usize = 256;
/// A tile has at least this side, px: fewer pixels make a curve out of noise. Small pictures get a coarser grid.
const MIN_TILE: usize = 8;
/// Steps of the tables for the cube root and the sRGB curve, read linearly between them: error below 1/20 of a level.
const STEPS: usize = 4096;

/// In place. `clip`: OpenCV's clipLimit, a bin holds at most `clip` x the mean bin (2.0 is usual; 0 and below: no limit).
/// `grid`: tiles along each side (8 is usual). A constant picture stays constant; any size works.
pub fn clahe_lab(rgb: &mut Rgb, clip: f32, grid: usize) {
    if rgb.data.is_empty() {
        return;
    }
    let tables = Tables::get();
    let columns = Axis::new(rgb.width, grid);
    let rows = Axis::new(rgb.height, grid);
    let curves: Vec<Curve> = (0..rows.tiles * columns.tiles)
        .into_par_iter()
        .map(|i| {
            let (ys, xs) = (rows.span(i / columns.tiles), columns.span(i % columns.tiles));
            let mut bins = [0f32; BINS];
            for y in ys {
                for px in rgb.row(y)[xs.start * 3..xs.end * 3].chunks_exact(3) {
                    let lightness = tables.lightness(tables.f(tables.linear(px)[1]));
                    bins[(lightness * (BINS - 1) as f32 + 0.5) as usize] += 1.0;
                }
            }
            equalise(bins, clip)
        })
        .collect();

    let width = rgb.width;
    rgb.data.par_chunks_exact_mut(width * 3).enumerate().for_each(|(y, row)| {
        let (top, bottom, down) = rows.between(y);
        for (x, px) in row.chunks_exact_mut(3).enumerate() {
            let (left, right, along) = columns.between(x);
            let xyz = tables.linear(px);
            let f = xyz.map(|v| tables.f(v));
            let lightness = tables.lightness(f[1]);
            let at = |row: usize, column: usize| curves[row * columns.tiles + column].at(lightness);
            let (upper, lower) = (mix(at(top, left), at(top, right), along), mix(at(bottom, left), at(bottom, right), along));
            // L* = 116 f(Y) - 16, and a, b are differences of f: all three move together.
            let shift = (mix(upper, lower, down) - lightness) * 100.0 / 116.0;
            px.copy_from_slice(&tables.srgb(f.map(|v| v + shift)));
        }
    });
}

fn mix(a: f32, b: f32, share: f32) -> f32 {
    a + (b - a) * share
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
}

/// New lightness for each bin, 0..1.
struct Curve([f32; BINS]);

impl Curve {
    /// `lightness`: 0..=1.
    fn at(&self, lightness: f32) -> f32 {
        let place = lightness * (BINS - 1) as f32;
        let bin = (place as usize).min(BINS - 2);
        mix(self.0[bin], self.0[bin + 1], place - bin as f32)
    }
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
    Curve(bins.map(|n| {
        sum += n;
        (sum / total).min(1.0)
    }))
}

/// sRGB (IEC 61966-2-1) to X/Xn, Y/Yn, Z/Zn under D65, rows scaled to sum to 1, and back.
const TO_XYZ: [[f32; 3]; 3] = [[0.433_953, 0.376_219, 0.189_828], [0.212_671, 0.715_160, 0.072_169], [0.017_758, 0.109_477, 0.872_766]];
const FROM_XYZ: [[f32; 3]; 3] =
    [[3.079_933, -1.537_150, -0.542_782], [-0.921_235, 1.875_991, 0.045_244], [0.052_891, -0.204_043, 1.151_152]];

struct Tables {
    linear: [f32; 256],
    f: Vec<f32>,
    encoded: Vec<f32>,
}

impl Tables {
    fn get() -> &'static Self {
        static TABLES: OnceLock<Tables> = OnceLock::new();
        TABLES.get_or_init(|| {
            let steps = |curve: fn(f64) -> f64| (0..=STEPS + 1).map(|i| curve(i as f64 / STEPS as f64) as f32).collect();
            Tables {
                linear: std::array::from_fn(|i| {
                    let v = i as f64 / 255.0;
                    (if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }) as f32
                }),
                f: steps(|t| if t > 216.0 / 24389.0 { t.cbrt() } else { t * 841.0 / 108.0 + 4.0 / 29.0 }),
                encoded: steps(|t| 255.0 * if t <= 0.003_130_8 { t * 12.92 } else { 1.055 * t.powf(1.0 / 2.4) - 0.055 }),
            }
        })
    }

    fn linear(&self, px: &[u8]) -> [f32; 3] {
        let [r, g, b] = [px[0], px[1], px[2]].map(|v| self.linear[usize::from(v)]);
        TO_XYZ.map(|m| m[0] * r + m[1] * g + m[2] * b)
    }

    /// CIE's f(t), t in 0..=1.
    fn f(&self, t: f32) -> f32 {
        read(&self.f, t)
    }

    /// L* / 100, 0..=1.
    fn lightness(&self, fy: f32) -> f32 {
        (1.16 * fy - 0.16).clamp(0.0, 1.0)
    }

    fn srgb(&self, f: [f32; 3]) -> [u8; 3] {
        let xyz = f.map(|v| if v > 6.0 / 29.0 { v * v * v } else { (v - 4.0 / 29.0) * 108.0 / 841.0 });
        FROM_XYZ.map(|m| (read(&self.encoded, m[0] * xyz[0] + m[1] * xyz[1] + m[2] * xyz[2]) + 0.5) as u8)
    }
}

/// A table over 0..=1, read linearly; outside it ends.
fn read(table: &[f32], t: f32) -> f32 {
    let place = t.clamp(0.0, 1.0) * STEPS as f32;
    let step = place as usize;
    mix(table[step], table[step + 1], place - step as f32)
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
    fn a_change_of_nothing_gives_every_colour_back() {
        let tables = Tables::get();
        for r in (0..=255).step_by(15) {
            for g in (0..=255).step_by(15) {
                for b in (0..=255).step_by(15) {
                    let px = [r as u8, g as u8, b as u8];
                    assert_eq!(tables.srgb(tables.linear(&px).map(|v| tables.f(v))), px);
                }
            }
        }
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
}
