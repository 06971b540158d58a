//! sRGB to L*a*b* (CIE 1976, D65) and back with another lightness, a few hundred pixels at a time.
//!
//! A change of L alone adds one number to all of f(X), f(Y), f(Z): L* = 116 f(Y) - 16, and a, b are differences of f. So the picture
//! itself is never held as Lab. Roots and powers are arithmetic, not tables: such loops run on eight
//! pixels at once.

use std::sync::OnceLock;

use super::{BINS, Counts};
use crate::imaging::wide::wide;

/// Pixels at a time: five planes of f32 stay in the nearest cache.
pub const CHUNK: usize = 256;

/// sRGB (IEC 61966-2-1) to X/Xn, Y/Yn, Z/Zn under D65, rows scaled to sum to 1, and back.
const TO_XYZ: [[f32; 3]; 3] = [[0.433_953, 0.376_219, 0.189_828], [0.212_671, 0.715_16, 0.072_169], [0.017_758, 0.109_477, 0.872_766]];
const FROM_XYZ: [[f32; 3]; 3] =
    [[3.079_933, -1.537_15, -0.542_782], [-0.921_235, 1.875_991, 0.045_244], [0.052_891, -0.204_043, 1.151_152]];

type Plane = [f32; CHUNK];

/// Up to [`CHUNK`] pixels on their way.
pub struct Lab {
    /// f(X), f(Y), f(Z).
    f: [Plane; 3],
    /// L* / 100, 0..=1.
    lightness: Plane,
    /// What is added to f.
    shift: Plane,
}

impl Default for Lab {
    fn default() -> Self {
        Self { f: [[0.0; CHUNK]; 3], lightness: [0.0; CHUNK], shift: [0.0; CHUNK] }
    }
}

impl Lab {
    /// `pixels`: sRGB, at most [`CHUNK`].
    pub fn read(&mut self, pixels: &[u8]) {
        to_linear(pixels, linear(), &mut self.f);
        to_f(&mut self.f, &mut self.lightness);
    }

    /// `new(column, lightness)` gives the new lightness, both 0..=1.
    #[inline(always)]
    pub fn change_lightness<C>(&mut self, columns: &[C], new: impl Fn(&C, f32) -> f32) {
        for ((shift, lightness), column) in self.shift.iter_mut().zip(&self.lightness).zip(columns) {
            *shift = (new(column, *lightness) - lightness) * (100.0 / 116.0);
        }
    }

    /// The pixels that were read, with their new lightness.
    pub fn write(&mut self, pixels: &mut [u8]) {
        from_f(&mut self.f, &self.shift);
        let [r, g, b] = &self.f;
        to_pixels(r, g, b, pixels);
    }
}

/// Linear light of each sRGB level.
fn linear() -> &'static [f32; 256] {
    static TABLE: OnceLock<[f32; 256]> = OnceLock::new();
    TABLE.get_or_init(|| {
        std::array::from_fn(|i| {
            let v = i as f64 / 255.0;
            (if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }) as f32
        })
    })
}

wide! {
    fn to_linear(pixels: &[u8], linear: &[f32; 256], out: &mut [Plane; 3]) {
        let [r, g, b] = out;
        for (((px, r), g), b) in pixels.chunks_exact(3).zip(r).zip(g).zip(b) {
            (*r, *g, *b) = (linear[usize::from(px[0])], linear[usize::from(px[1])], linear[usize::from(px[2])]);
        }
    }
}

wide! {
    /// From linear r, g, b in place; and L* / 100.
    fn to_f(planes: &mut [Plane; 3], lightness: &mut Plane) {
        let [r, g, b] = planes;
        for i in 0..CHUNK {
            let rgb = [r[i], g[i], b[i]];
            let fy = f(dot(&TO_XYZ[1], rgb));
            lightness[i] = unit(1.16 * fy - 0.16);
            (r[i], g[i], b[i]) = (f(dot(&TO_XYZ[0], rgb)), fy, f(dot(&TO_XYZ[2], rgb)));
        }
    }
}

wide! {
    /// From f(X), f(Y), f(Z) in place to sRGB levels, 0..=255, not yet rounded.
    fn from_f(planes: &mut [Plane; 3], shift: &Plane) {
        let [x, y, z] = planes;
        for i in 0..CHUNK {
            let xyz = [f_inverse(x[i] + shift[i]), f_inverse(y[i] + shift[i]), f_inverse(z[i] + shift[i])];
            x[i] = encoded(dot(&FROM_XYZ[0], xyz));
            y[i] = encoded(dot(&FROM_XYZ[1], xyz));
            z[i] = encoded(dot(&FROM_XYZ[2], xyz));
        }
    }
}

wide! {
    fn to_pixels(r: &Plane, g: &Plane, b: &Plane, pixels: &mut [u8]) {
        for (((px, r), g), b) in pixels.chunks_exact_mut(3).zip(r).zip(g).zip(b) {
            for (px, v) in px.iter_mut().zip([r, g, b]) {
                // The nearest whole number lies in the low bits; 0..=255.5 stays below 256.
                *px = (v + ROUND).to_bits() as u8;
            }
        }
    }
}

/// 1.5 x 2^23: added to a small f32, its fraction is gone.
const ROUND: f32 = 12_582_912.0;

/// Ended at 0 and 1.
#[inline(always)]
fn unit(v: f32) -> f32 {
    let v = if v > 0.0 { v } else { 0.0 };
    if v < 1.0 { v } else { 1.0 }
}

#[inline(always)]
fn dot(m: &[f32; 3], v: [f32; 3]) -> f32 {
    m[0] * v[0] + m[1] * v[1] + m[2] * v[2]
}

/// CIE's f(t), t in 0..=1.
#[inline(always)]
fn f(t: f32) -> f32 {
    let low = t * (841.0 / 108.0) + 4.0 / 29.0;
    // A third of the exponent is a cube root within 4 %; one step of Halley's iteration leaves 3e-5.
    let guess = f32::from_bits(t.to_bits() / 3 + 0x2A51_37A0);
    let cube = guess * guess * guess;
    let root = guess * (cube + 2.0 * t) / (2.0 * cube + t);
    if t > 216.0 / 24389.0 { root } else { low }
}

#[inline(always)]
fn f_inverse(v: f32) -> f32 {
    if v > 6.0 / 29.0 { v * v * v } else { (v - 4.0 / 29.0) * (108.0 / 841.0) }
}

/// 255 x (1.055 t^(1/2.4) - 0.055) for t above 0.0031308, by powers of sqrt(t): the polynomial of least largest error, 0.04.
const ENCODED: [f32; 7] = [-10.769_181, 401.694_76, -484.371_58, 994.119_8, -1_275.837_6, 871.790_2, -241.664_4];

/// Linear light to an sRGB level, 0..=255; what lies outside of 0..=1 ends there.
#[inline(always)]
fn encoded(t: f32) -> f32 {
    let t = unit(t);
    let root = t.sqrt();
    let mut high = ENCODED[6];
    for k in (0..6).rev() {
        high = high * root + ENCODED[k];
    }
    if t > 0.003_130_8 { high } else { t * (12.92 * 255.0) }
}

/// The histogram bin of a pixel's lightness, by adding what r, g and b give to Y.
pub struct LightnessBins {
    /// In 1/256 of a step of `bins`.
    parts: [[u32; 256]; 3],
    bins: [u8; STEPS],
}

/// Steps of Y: fine enough for black, where lightness rises nine times as fast as Y.
const STEPS: usize = 1 << 14;

impl LightnessBins {
    pub fn get() -> &'static Self {
        static BINS_OF_Y: OnceLock<Box<LightnessBins>> = OnceLock::new();
        BINS_OF_Y.get_or_init(|| {
            let one = (STEPS - 1) as f64 * 256.0;
            let part = |c: usize, i: usize| (f64::from(TO_XYZ[1][c]) * f64::from(linear()[i]) * one) as u32;
            let bin = |step: usize| (unit(1.16 * f(step as f32 / (STEPS - 1) as f32) - 0.16) * (BINS - 1) as f32 + 0.5) as u8;
            Box::new(Self { parts: std::array::from_fn(|c| std::array::from_fn(|i| part(c, i))), bins: std::array::from_fn(bin) })
        })
    }

    /// Counts the bins of `pixels`, sRGB.
    pub fn count(&self, pixels: &[u8], counts: &mut Counts) {
        let bin = |px: &[u8]| {
            let sum: u32 = self.parts.iter().zip(px).map(|(part, v)| part[usize::from(*v)]).sum();
            self.bins[(sum >> 8) as usize % STEPS]
        };
        let (fours, rest) = pixels.as_chunks::<12>();
        for four in fours {
            counts.add([bin(&four[..3]), bin(&four[3..6]), bin(&four[6..9]), bin(&four[9..])]);
        }
        rest.chunks_exact(3).for_each(|px| counts.add_one(bin(px)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_nothing_gives_every_colour_back() {
        let mut lab = Lab::default();
        for r in 0..=255u8 {
            for g in (0..=255u8).step_by(5) {
                let before: Vec<u8> = (0..=255u8).flat_map(|b| [r, g, b]).collect();
                let mut after = before.clone();
                lab.read(&before);
                lab.change_lightness(&[(); CHUNK], |(), lightness| lightness);
                lab.write(&mut after);
                assert_eq!(after, before);
            }
        }
    }

    #[test]
    fn roots_and_powers_are_right_to_a_fraction_of_a_level() {
        for i in 0..=100_000 {
            let t = i as f32 / 100_000.0;
            let exact = f64::from(t);
            let root = if exact > 216.0 / 24389.0 { exact.cbrt() } else { exact * 841.0 / 108.0 + 4.0 / 29.0 };
            assert!((f64::from(f(t)) - root).abs() < 5e-5, "f({t}) = {}, {root}", f(t));
            let level = 255.0 * if exact <= 0.003_130_8 { exact * 12.92 } else { 1.055 * exact.powf(1.0 / 2.4) - 0.055 };
            assert!((f64::from(encoded(t)) - level).abs() < 0.06, "encoded({t}) = {}, {level}", encoded(t));
        }
    }

    #[test]
    fn a_pixel_falls_into_the_bin_of_its_lightness() {
        let (bins, mut lab) = (LightnessBins::get(), Lab::default());
        for px in [[0, 0, 0], [255, 255, 255], [1, 2, 3], [30, 7, 90], [200, 10, 10], [12, 240, 99]] {
            lab.read(&px);
            let mut counts = Counts::default();
            bins.count(&px, &mut counts);
            let bin = counts.sum().iter().position(|n| *n == 1.0).unwrap() as f32;
            assert!((bin - lab.lightness[0] * 255.0).abs() < 0.6, "{px:?}: {bin} {}", lab.lightness[0] * 255.0);
        }
    }
}
