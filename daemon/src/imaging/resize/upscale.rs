//! Enlarging by a whole factor 1..=4, as [`Rows`]: made in strips of [`STRIP`] rows over all cores, never held whole.
//!
//! ```text
//! source rows --along x--> wide rows (i16, 1/64 steps), a window of STRIP / factor + taps of them
//!                              \--along y--> STRIP result rows --> next_row
//! ```
//!
//! A whole factor has only `factor` sets of weights, so a table of at most 4 x 6 numbers does for the whole picture.

use rayon::prelude::*;

use super::super::raster::{Gray, Rgb, Rows};

/// Result rows made at a time: enough work for every core, and 16 source rows at 4x.
const STRIP: usize = 64;
/// Weights are in 1/16384.
const WEIGHT_BITS: u32 = 14;
/// Wide rows are in 1/64 levels: Lanczos overshoots 0..255 by up to a third, which still fits an i16.
const WIDE_BITS: u32 = 6;
const TAPS: usize = 6;

/// sRGB, H x W x 3 to kH x kW x 3. Kernel: Lanczos, a = 3, edges clamped, results clamped to 0..=255 (Turkowski 1990).
/// Exact for a constant picture; factor 1 gives the picture itself.
pub struct Lanczos<'a>(Upscale<'a>);

impl<'a> Lanczos<'a> {
    /// `factor`: 1..=4. The picture has at least one pixel.
    pub fn new(source: &'a Rgb, factor: usize) -> Self {
        let picture = Picture { data: &source.data, width: source.width, height: source.height, channels: 3 };
        Self(Upscale::new(picture, factor, |t| if t.abs() < 3.0 { sinc(t) * sinc(t / 3.0) } else { 0.0 }))
    }
}

/// A mask, H x W to kH x kW. Linear, edges clamped: Lanczos would ring, faint rims far from the edge of the mask.
pub struct LinearMask<'a>(Upscale<'a>);

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
                self.0.next_row(out);
            }
        }
    };
}
rows!(Lanczos);
rows!(LinearMask);

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

/// Weights of one phase: result pixel `phase` of a source pixel takes source pixels `first`.. relative to it.
#[derive(Clone, Copy, Default)]
struct Phase {
    first: isize,
    weights: [i32; TAPS],
}

struct Upscale<'a> {
    picture: Picture<'a>,
    factor: usize,
    phases: Vec<Phase>,
    /// Wide rows of source rows `window_start`.., each kW x channels.
    window: Vec<Vec<i16>>,
    window_start: usize,
    strip: Vec<u8>,
    /// Result rows given out.
    given: usize,
}

impl<'a> Upscale<'a> {
    fn new(picture: Picture<'a>, factor: usize, kernel: impl Fn(f64) -> f64) -> Self {
        assert!((1..=4).contains(&factor), "factor {factor} is not 1..=4");
        assert!(picture.width > 0 && picture.height > 0, "an empty picture cannot be enlarged");
        let phases = (0..factor).map(|p| phase(p, factor, &kernel)).collect();
        Self { picture, factor, phases, window: Vec::new(), window_start: 0, strip: Vec::new(), given: 0 }
    }

    fn next_row(&mut self, out: &mut [u8]) {
        let row = self.picture.width * self.factor * self.picture.channels;
        let in_strip = self.given % STRIP;
        if in_strip == 0 {
            self.make_strip(self.given, row);
        }
        out.copy_from_slice(&self.strip[in_strip * row..(in_strip + 1) * row]);
        self.given += 1;
    }

    fn make_strip(&mut self, first: usize, row: usize) {
        let count = STRIP.min(self.picture.height * self.factor - first);
        let last_source = self.picture.height - 1;
        // Source rows that the strip touches, edges clamped.
        let from = (first / self.factor).saturating_sub(TAPS / 2);
        let to = ((first + count - 1) / self.factor + TAPS / 2).min(last_source);
        self.slide_window(from, to, row);

        self.strip.resize(STRIP * row, 0);
        let (factor, phases, window) = (self.factor, &self.phases, &self.window);
        self.strip[..count * row].par_chunks_exact_mut(row).enumerate().for_each(|(i, out)| {
            let y = first + i;
            let phase = &phases[y % factor];
            let taps: [&[i16]; TAPS] = std::array::from_fn(|t| {
                let at = ((y / factor) as isize + phase.first + t as isize).clamp(from as isize, to as isize);
                window[at as usize - from].as_slice()
            });
            blend(taps, &phase.weights, out);
        });
    }

    /// Makes the window hold the wide rows from..=to; those it has already are kept.
    fn slide_window(&mut self, from: usize, to: usize, row: usize) {
        let stale = (from - self.window_start).min(self.window.len());
        let mut spare: Vec<Vec<i16>> = self.window.drain(..stale).collect();
        self.window_start = from;
        let first_new = from + self.window.len();
        let mut fresh: Vec<Vec<i16>> = (first_new..=to).map(|_| spare.pop().unwrap_or_default()).collect();
        let (picture, factor, phases) = (self.picture, self.factor, &self.phases);
        fresh.par_iter_mut().enumerate().for_each(|(i, wide)| {
            let at = (first_new + i) * picture.width * picture.channels;
            let source = &picture.data[at..at + picture.width * picture.channels];
            wide.resize(row, 0);
            match picture.channels {
                3 => widen::<3>(source, factor, phases, wide),
                _ => widen::<1>(source, factor, phases, wide),
            }
        });
        self.window.append(&mut fresh);
    }
}

fn phase(p: usize, factor: usize, kernel: &impl Fn(f64) -> f64) -> Phase {
    // Centre of the result pixel, in source pixels from the centre of its own source pixel.
    let centre = (p as f64 + 0.5) / factor as f64 - 0.5;
    let first = if centre < 0.0 { -3 } else { -2 };
    let raw: [f64; TAPS] = std::array::from_fn(|t| kernel((first + t as isize) as f64 - centre));
    let sum: f64 = raw.iter().sum();
    let one = f64::from(1 << WEIGHT_BITS);
    let mut weights = raw.map(|w| (w / sum * one).round() as i32);
    // The weights sum to exactly one, or flat areas would shift; the largest takes the rest.
    let rest = (1 << WEIGHT_BITS) - weights.iter().sum::<i32>();
    let largest = (0..TAPS).max_by_key(|t| weights[*t]).expect("there are taps");
    weights[largest] += rest;
    Phase { first, weights }
}

/// One source row, `factor` times as wide, in 1/64 levels.
fn widen<const C: usize>(source: &[u8], factor: usize, phases: &[Phase], wide: &mut [i16]) {
    let width = source.len() / C;
    // A copy with its edges repeated needs no clamping in the loop.
    const PAD: usize = 3;
    let mut padded = Vec::with_capacity((width + 2 * PAD) * C);
    for _ in 0..PAD {
        padded.extend_from_slice(&source[..C]);
    }
    padded.extend_from_slice(source);
    for _ in 0..PAD {
        padded.extend_from_slice(&source[(width - 1) * C..]);
    }
    for (x, out) in wide.chunks_exact_mut(C * factor).enumerate() {
        for (phase, px) in phases.iter().zip(out.chunks_exact_mut(C)) {
            let from = (x + PAD).wrapping_add_signed(phase.first) * C;
            let taps = &padded[from..from + TAPS * C];
            for c in 0..C {
                let mut sum = 1 << (WEIGHT_BITS - WIDE_BITS - 1);
                for t in 0..TAPS {
                    sum += i32::from(taps[t * C + c]) * phase.weights[t];
                }
                px[c] = (sum >> (WEIGHT_BITS - WIDE_BITS)) as i16;
            }
        }
    }
}

/// Six wide rows into one result row.
fn blend(taps: [&[i16]; TAPS], weights: &[i32; TAPS], out: &mut [u8]) {
    let [a, b, c, d, e, f] = taps.map(|t| &t[..out.len()]);
    for i in 0..out.len() {
        let sum = i32::from(a[i]) * weights[0]
            + i32::from(b[i]) * weights[1]
            + i32::from(c[i]) * weights[2]
            + i32::from(d[i]) * weights[3]
            + i32::from(e[i]) * weights[4]
            + i32::from(f[i]) * weights[5];
        out[i] = ((sum + (1 << (WEIGHT_BITS + WIDE_BITS - 1))) >> (WEIGHT_BITS + WIDE_BITS)).clamp(0, 255) as u8;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(rows: &mut dyn Rows) -> Vec<u8> {
        let mut out = vec![0; rows.width() * rows.height() * rows.channels()];
        let row = rows.width() * rows.channels();
        out.chunks_exact_mut(row).for_each(|r| rows.next_row(r));
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
                    for j in sy.floor() as isize - 3..=sy.floor() as isize + 4 {
                        for i in sx.floor() as isize - 3..=sx.floor() as isize + 4 {
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

    fn lanczos3(t: f64) -> f64 {
        if t.abs() < 3.0 { sinc(t) * sinc(t / 3.0) } else { 0.0 }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn lanczos_is_within_one_level_of_the_definition(w in 1usize..20, h in 1usize..40, k in 1usize..=4, seed in any::<u64>()) {
            let mut s = seed;
            let data: Vec<u8> = (0..w * h * 3).map(|_| { s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); (s >> 56) as u8 }).collect();
            let rgb = Rgb { width: w, height: h, data };
            let fast = all(&mut Lanczos::new(&rgb, k));
            let want = slow(&rgb.data, w, h, 3, k, lanczos3);
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
        let rgb = Rgb { width: 9, height: 100, data: (0..2700u32).map(|i| (i * 7919 >> 3) as u8).collect() };
        assert_eq!(all(&mut Lanczos::new(&rgb, 1)), rgb.data);
    }
}
