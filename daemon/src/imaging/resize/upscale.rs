//! Enlarging by a whole factor 1..=4, as [`Rows`]: as many rows at a time as are asked for, over all cores, never held whole.
//!
//! ```text
//! source rows --along x--> wide rows (i16, 1/64 levels), the few that the asked rows touch
//!                              \--along y--> result rows, straight into the caller's buffer
//! ```
//!
//! A whole factor has only `factor` sets of weights, so a table of at most 4 x 8 numbers does for the whole picture. Along x each set of
//! weights makes one plane (result pixels 0, 4, 8 ... of the row, say), then the planes are laid into each other.

mod kernel;

use std::collections::VecDeque;

use self::kernel::{ONE, into_levels, into_row};
use super::super::{
    cores,
    raster::{Gray, Rgb, Rows},
    wide::wide,
};

/// Source levels are in 1/128 along x, so that wide rows come out in 1/64: Lanczos overshoots 0..255 by up to a third, which fits an i16.
const SOURCE_BITS: u32 = 7;
/// Lanczos looks this far, source px, to each side. Four is what OpenCV's INTER_LANCZOS4 takes.
const LOBES: usize = 4;
/// Numbers of a row that are made before the next row's: nine wide rows of them fit a cache of 32 KiB.
const PIECE: usize = 1024;
/// Numbers behind the end of a row that may be written over: pixels are laid four numbers at a time.
const SLACK: usize = 1;

/// sRGB, H x W x 3 to kH x kW x 3. Kernel: Lanczos, a = 4, edges clamped, results clamped to 0..=255 (Turkowski 1990).
/// Exact for a constant picture; factor 1 gives the picture itself. Within one level of the definition.
pub struct Lanczos<'a>(Upscale<'a, { 2 * LOBES }>);

impl<'a> Lanczos<'a> {
    /// `factor`: 1..=4. The picture has at least one pixel.
    pub fn new(source: &'a Rgb, factor: usize) -> Self {
        let picture = Picture { data: &source.data, width: source.width, height: source.height, channels: 3 };
        Self(Upscale::new(picture, factor, lanczos))
    }
}

/// A mask, H x W to kH x kW. Linear, edges clamped: Lanczos would ring, faint rims far from the edge of the mask.
pub struct LinearMask<'a>(Upscale<'a, 2>);

impl<'a> LinearMask<'a> {
    /// `factor`: 1..=4. The mask has at least one pixel.
    pub fn new(source: &'a Gray, factor: usize) -> Self {
        let picture = Picture { data: &source.data, width: source.width, height: source.height, channels: 1 };
        Self(Upscale::new(picture, factor, |t| (1.0 - t.abs()).max(0.0)))
    }
}

macro_rules! rows {
    ($name:ident) => {
        impl Rows for $name<'_> {
            fn width(&self) -> usize {
                self.0.picture.width * self.0.factor
            }
            fn height(&self) -> usize {
                self.0.picture.height * self.0.factor
            }
            fn channels(&self) -> usize {
                self.0.picture.channels
            }
            fn next_row(&mut self, out: &mut [u8]) {
                self.0.next_rows(out);
            }
            fn next_rows(&mut self, out: &mut [u8]) {
                self.0.next_rows(out);
            }
        }
    };
}
rows!(Lanczos);
rows!(LinearMask);

fn lanczos(t: f64) -> f64 {
    let lobes = LOBES as f64;
    if t.abs() < lobes { sinc(t) * sinc(t / lobes) } else { 0.0 }
}

fn sinc(t: f64) -> f64 {
    let t = t * std::f64::consts::PI;
    if t.abs() < 1e-9 { 1.0 } else { t.sin() / t }
}

#[derive(Clone, Copy)]
struct Picture<'a> {
    data: &'a [u8],
    width: usize,
    height: usize,
    channels: usize,
}

impl<'a> Picture<'a> {
    fn row(&self, y: usize) -> &'a [u8] {
        &self.data[y * self.width * self.channels..][..self.width * self.channels]
    }
}

/// Weights of one phase: result pixel `phase` of a source pixel takes T source pixels from `first` on, relative to it.
#[derive(Clone, Copy)]
struct Phase<const T: usize> {
    first: isize,
    weights: [i16; T],
}

struct Upscale<'a, const T: usize> {
    picture: Picture<'a>,
    factor: usize,
    phases: Vec<Phase<T>>,
    /// Wide rows of source rows `window_start`.., each kW x channels and [`SLACK`].
    window: VecDeque<Vec<i16>>,
    window_start: usize,
    /// Result rows given out.
    given: usize,
}

impl<'a, const T: usize> Upscale<'a, T> {
    fn new(picture: Picture<'a>, factor: usize, kernel: impl Fn(f64) -> f64) -> Self {
        assert!((1..=4).contains(&factor), "factor {factor} is not 1..=4");
        assert!(picture.width > 0 && picture.height > 0, "an empty picture cannot be enlarged");
        let phases = (0..factor).map(|p| phase(p, factor, &kernel)).collect();
        Self { picture, factor, phases, window: VecDeque::new(), window_start: 0, given: 0 }
    }

    fn next_rows(&mut self, out: &mut [u8]) {
        let row = self.picture.width * self.factor * self.picture.channels;
        let (first, count) = (self.given, out.len() / row);
        if count == 0 {
            return;
        }
        self.given += count;
        // Source rows that these touch, edges clamped.
        let from = (first / self.factor).saturating_sub(T / 2);
        let to = ((first + count - 1) / self.factor + T / 2).min(self.picture.height - 1);
        self.slide_window(from, to);

        let (factor, phases, window) = (self.factor, &self.phases, &self.window);
        // The rows of one source row read the same wide rows: piece by piece, which then come from the nearest cache.
        cores::pieces(
            out,
            row * factor,
            || (),
            |(), i, rows| {
                for piece in (0..row).step_by(PIECE) {
                    let piece = piece..(piece + PIECE).min(row);
                    for (j, out) in rows.chunks_exact_mut(row).enumerate() {
                        let y = first + i * factor + j;
                        let phase = &phases[y % factor];
                        let taps: [&[i16]; T] = std::array::from_fn(|t| {
                            let at = ((y / factor) as isize + phase.first + t as isize).clamp(from as isize, to as isize);
                            &window[at as usize - from][piece.clone()]
                        });
                        into_levels(taps, &phase.weights, &mut out[piece.clone()]);
                    }
                }
            },
        );
    }

    /// Makes the window hold the wide rows from..=to; those it has already are kept.
    fn slide_window(&mut self, from: usize, to: usize) {
        let stale = (from - self.window_start).min(self.window.len());
        let mut spare: Vec<Vec<i16>> = self.window.drain(..stale).collect();
        self.window_start = from;
        let first_new = from + self.window.len();
        let mut fresh: Vec<Vec<i16>> = (first_new..=to).map(|_| spare.pop().unwrap_or_default()).collect();
        let (picture, phases) = (self.picture, &self.phases);
        cores::pieces(&mut fresh, 1, Bench::default, |bench, i, wide| {
            let source = picture.row(first_new + i);
            match picture.channels {
                3 => widen::<T, 3>(source, phases, bench, &mut wide[0]),
                _ => widen::<T, 1>(source, phases, bench, &mut wide[0]),
            }
        });
        self.window.extend(fresh);
    }
}

fn phase<const T: usize>(p: usize, factor: usize, kernel: &impl Fn(f64) -> f64) -> Phase<T> {
    // Centre of the result pixel, in source pixels from the centre of its own source pixel.
    let centre = (p as f64 + 0.5) / factor as f64 - 0.5;
    let reach = (T / 2) as isize;
    let first = if centre < 0.0 { -reach } else { 1 - reach };
    let raw: [f64; T] = std::array::from_fn(|t| kernel((first + t as isize) as f64 - centre));
    let sum: f64 = raw.iter().sum();
    let mut weights = raw.map(|w| (w / sum * f64::from(ONE)).round() as i32);
    // The weights sum to exactly one, or flat areas would shift; the largest takes the rest.
    let rest = ONE - weights.iter().sum::<i32>();
    let largest = (0..T).max_by_key(|t| weights[*t]).expect("there are taps");
    weights[largest] += rest;
    Phase { first, weights: weights.map(|w| w as i16) }
}

/// What widening a row needs, kept from row to row.
#[derive(Default)]
struct Bench {
    padded: Vec<i16>,
    planes: Vec<Vec<i16>>,
}

/// One source row of C channels, as many times wider as there are phases, in 1/64 levels.
fn widen<const T: usize, const C: usize>(source: &[u8], phases: &[Phase<T>], bench: &mut Bench, wide: &mut Vec<i16>) {
    let (width, factor) = (source.len() / C, phases.len());
    // A copy with its edges repeated needs no clamping in the loop.
    let padded = &mut bench.padded;
    padded.resize(source.len() + T * C, 0);
    let inner = T / 2 * C;
    spread_out(source, &mut padded[inner..inner + source.len()]);
    for i in 0..inner {
        padded[i] = padded[inner + i % C];
        padded[inner + source.len() + i] = padded[inner + source.len() - C + i % C];
    }
    bench.planes.resize(factor, Vec::new());
    for (phase, plane) in phases.iter().zip(&mut bench.planes) {
        plane.resize(source.len() + SLACK, 0);
        let from = (T / 2).wrapping_add_signed(phase.first) * C;
        into_row(std::array::from_fn(|t| &padded[from + t * C..]), &phase.weights, &mut plane[..source.len()]);
    }
    wide.resize(source.len() * factor + SLACK, 0);
    match C {
        3 => lay_pixels(&bench.planes, wide),
        _ => lay_numbers(&bench.planes, &mut wide[..width * factor]),
    }
}

wide! {
    fn spread_out(source: &[u8], out: &mut [i16]) {
        for (v, out) in source.iter().zip(out) {
            *out = i16::from(*v) << SOURCE_BITS;
        }
    }
}

/// Pixels of three numbers from each plane in turn. Four are copied at a time: the fourth is written over by the next pixel.
fn lay_pixels(planes: &[Vec<i16>], wide: &mut [i16]) {
    let factor = planes.len();
    let pixels = (planes[0].len() - SLACK) / 3;
    for x in 0..pixels {
        for (p, plane) in planes.iter().enumerate() {
            let at = (x * factor + p) * 3;
            wide[at..at + 4].copy_from_slice(&plane[x * 3..x * 3 + 4]);
        }
    }
}

/// Numbers from each plane in turn.
fn lay_numbers(planes: &[Vec<i16>], wide: &mut [i16]) {
    let factor = planes.len();
    for (p, plane) in planes.iter().enumerate() {
        for (out, v) in wide.iter_mut().skip(p).step_by(factor).zip(plane) {
            *out = *v;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(rows: &mut dyn Rows) -> Vec<u8> {
        let row = rows.width() * rows.channels();
        let mut out = vec![0; rows.height() * row];
        // One, then many: rows do not depend on how many are asked for.
        rows.next_row(&mut out[..row]);
        out[row..].chunks_mut(7 * row).for_each(|some| rows.next_rows(some));
        out
    }

    /// Straight from the definition, in f64, both axes at once.
    fn slow(data: &[u8], w: usize, h: usize, ch: usize, k: usize, kernel: fn(f64) -> f64) -> Vec<u8> {
        let mut out = Vec::new();
        for y in 0..h * k {
            for x in 0..w * k {
                let (sx, sy) = ((x as f64 + 0.5) / k as f64 - 0.5, (y as f64 + 0.5) / k as f64 - 0.5);
                for c in 0..ch {
                    let (mut sum, mut norm) = (0.0, 0.0);
                    for j in sy.floor() as isize - 4..=sy.floor() as isize + 5 {
                        for i in sx.floor() as isize - 4..=sx.floor() as isize + 5 {
                            let weight = kernel(i as f64 - sx) * kernel(j as f64 - sy);
                            let (i, j) = (i.clamp(0, w as isize - 1) as usize, j.clamp(0, h as isize - 1) as usize);
                            sum += weight * f64::from(data[(j * w + i) * ch + c]);
                            norm += weight;
                        }
                    }
                    out.push((sum / norm).round().clamp(0.0, 255.0) as u8);
                }
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn lanczos_is_within_one_level_of_the_definition(w in 1usize..20, h in 1usize..40, k in 1usize..=4, seed in any::<u64>()) {
            let mut s = seed;
            let data: Vec<u8> = (0..w * h * 3).map(|_| { s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); (s >> 56) as u8 }).collect();
            let rgb = Rgb { width: w, height: h, data };
            let fast = all(&mut Lanczos::new(&rgb, k));
            let want = slow(&rgb.data, w, h, 3, k, lanczos);
            let worst = fast.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            prop_assert!(worst <= 1, "worst {}", worst);
        }

        #[test]
        fn a_mask_is_within_one_level_of_linear(w in 1usize..20, h in 1usize..40, k in 1usize..=4, seed in any::<u64>()) {
            let data: Vec<u8> = (0..w * h).map(|i| if (seed >> (i % 64)) & 1 == 1 { 255 } else { 0 }).collect();
            let mask = Gray { width: w, height: h, data };
            let fast = all(&mut LinearMask::new(&mask, k));
            let want = slow(&mask.data, w, h, 1, k, |t| (1.0 - t.abs()).max(0.0));
            prop_assert!(fast.iter().zip(&want).all(|(a, b)| a.abs_diff(*b) <= 1));
        }
    }

    #[test]
    fn a_constant_picture_stays_exactly_constant_and_factor_one_changes_nothing() {
        for v in [0, 1, 127, 254, 255] {
            let rgb = Rgb { width: 50, height: 70, data: vec![v; 50 * 70 * 3] };
            assert!(all(&mut Lanczos::new(&rgb, 4)).iter().all(|o| *o == v));
        }
        let rgb = Rgb { width: 9, height: 100, data: (0..2700u32).map(|i| ((i * 7919) >> 3) as u8).collect() };
        assert_eq!(all(&mut Lanczos::new(&rgb, 1)), rgb.data);
    }
}
