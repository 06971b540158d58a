//! Lens and sensor: a little softness, a little vignette, a little noise.

use rayon::prelude::*;

use super::maths::{hash, unit};
use crate::imaging::raster::Rgb;

/// Noise of the sensor in levels: floor, and share of the square root of the signal.
const NOISE: (f32, f32) = (1.0, 0.13);

/// The lens blurs by [1 4 6 4 1] / 16 along both sides, the sensor adds its grain.
pub fn expose(mut photo: Rgb, seed: u32) -> Rgb {
    let (width, height) = (photo.width, photo.height);
    let row = width * 3;
    // Along x in place, row by row.
    photo.data.par_chunks_exact_mut(row).for_each_init(Vec::new, |copy, line| {
        copy.clear();
        copy.extend_from_slice(line);
        for x in 0..width {
            for c in 0..3 {
                let at = |dx: isize| copy[x.saturating_add_signed(dx).min(width - 1) * 3 + c];
                line[x * 3 + c] = blur([at(-2), at(-1), at(0), at(1), at(2)]);
            }
        }
    });
    let mut out = Rgb::new(width, height);
    out.data.par_chunks_exact_mut(row).enumerate().for_each(|(y, line)| {
        let rows: [&[u8]; 5] = std::array::from_fn(|i| photo.row((y + i).saturating_sub(2).min(height - 1)));
        let down = y as f32 / height as f32 - 0.5;
        for x in 0..width {
            let across = x as f32 / width as f32 - 0.5;
            let corner = 1.0 - 0.34 * (across * across + down * down);
            // One grain for all colours, and a weaker one of their own.
            let grain = bell_like(hash(x as i32, y as i32, seed ^ 0x6EA1));
            for c in 0..3 {
                let i = x * 3 + c;
                let level = f32::from(blur(rows.map(|r| r[i]))) * corner;
                let own = bell_like(hash(x as i32, y as i32, seed ^ (0xC0 + c as u32)));
                let noise = (NOISE.0 + NOISE.1 * level.sqrt()) * (0.8 * grain + 0.5 * own);
                line[i] = (level + noise + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
    });
    out
}

fn blur([a, b, c, d, e]: [u8; 5]) -> u8 {
    let [a, b, c, d, e] = [a, b, c, d, e].map(u32::from);
    ((a + 4 * b + 6 * c + 4 * d + e + 8) / 16) as u8
}

/// Around 0, deviation about 1: the sum of the four bytes of a hash.
fn bell_like(h: u32) -> f32 {
    let sum: u32 = h.to_le_bytes().iter().map(|b| u32::from(*b)).sum();
    (sum as f32 - 510.0) / 148.0 + unit(h) * 1e-6
}
