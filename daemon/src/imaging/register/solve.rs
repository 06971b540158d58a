//! Least squares for [`super`]: each round linearises the second shot around the present place and solves for what is left.

use super::{Near, Place, Shot, View, Warp};
use crate::imaging::{geometry, raster::Rgb};

/// Rounds of [`shift`].
const ROUNDS: usize = 10;
/// Fewer px than this fix nothing.
const MIN_PX: usize = 40;

/// Moves `place` to where `b`, times a gain plus an offset, fits `a` best. A round that makes it worse is taken back and ends it.
pub fn refine(a: &View, b: &View, place: &mut Place, rounds: usize) {
    let (mut gain, mut offset) = (1.0, 0.0);
    let mut before = f64::INFINITY;
    let mut last = *place;
    for _ in 0..rounds {
        let mut eq = Equations::<6>::default();
        for i in (0..a.value.len()).filter(|i| a.seen[*i]) {
            let (u, v) = a.unit(i);
            let (x, y) = place.at(u, v);
            let Some((q, qx, qy)) = b.sample(x, y) else { continue };
            let left = f64::from(a.value[i]) - gain * q - offset;
            eq.add(&[gain * (qx * u + qy * v), gain * (qy * u - qx * v), gain * qx, gain * qy, q, 1.0], left);
        }
        let error = eq.square / (eq.n.max(1)) as f64;
        if eq.n < MIN_PX || error > before {
            *place = last;
            return;
        }
        (before, last) = (error, *place);
        let Some([da, db, dx, dy, dg, d_o]) = eq.solve() else { return };
        *place = Place { a: place.a + da, b: place.b + db, tx: place.tx + dx, ty: place.ty + dy };
        (gain, offset) = (gain + dg, offset + d_o);
        if da.abs() + db.abs() + dx.abs() + dy.abs() < 1e-6 {
            return;
        }
    }
}

/// What must be added to `warp`, px of `b`, so that it fits around a window of `a`; None where it cannot be told.
pub fn shift(a: &Shot<'_>, b: &Shot<'_>, warp: &Warp, (x, y, width, height): (usize, usize, usize, usize)) -> Option<(f64, f64)> {
    let edge = ((super::LAMP_EDGE / 2.0 * geometry::radius(a.limbus)).ceil() as usize).max(2);
    let (glare_a, glare_b) = (Near::new(a.glare, edge), Near::new(b.glare, edge));
    let believed = |i: usize, j: usize| a.mask.px(i, j) >= 128 && !glare_a.holds(i, j);
    let places: Vec<(usize, usize)> = (y..(y + height).min(a.photo.height))
        .flat_map(|j| (x..(x + width).min(a.photo.width)).map(move |i| (i, j)))
        .filter(|(i, j)| believed(*i, *j))
        .collect();
    let (mut gain, mut offset, mut dx, mut dy) = (1.0, 0.0, 0.0, 0.0);
    let mut before = f64::INFINITY;
    let mut last = (0.0, 0.0);
    for _ in 0..ROUNDS {
        let mut eq = Equations::<4>::default();
        for (i, j) in &places {
            let (u, v) = warp.at(*i as f64 + 0.5, *j as f64 + 0.5);
            let (u, v) = (u + dx, v + dy);
            if u < 2.0 || v < 2.0 || u >= b.photo.width as f64 - 2.0 || v >= b.photo.height as f64 - 2.0 {
                continue;
            }
            if glare_b.holds(u as usize, v as usize) || b.mask.px(u as usize, v as usize) < 128 {
                continue;
            }
            let q = luma_at(b.photo, u, v);
            let qx = (luma_at(b.photo, u + 1.0, v) - luma_at(b.photo, u - 1.0, v)) / 2.0;
            let qy = (luma_at(b.photo, u, v + 1.0) - luma_at(b.photo, u, v - 1.0)) / 2.0;
            let left = luma(a.photo.px(*i, *j)) - gain * q - offset;
            eq.add(&[gain * qx, gain * qy, q, 1.0], left);
        }
        let error = eq.square / eq.n.max(1) as f64;
        if eq.n < MIN_PX {
            return None;
        }
        if error > before {
            return Some(last);
        }
        (before, last) = (error, (dx, dy));
        let [sx, sy, dg, d_o] = eq.solve()?;
        (dx, dy, gain, offset) = (dx + sx, dy + sy, gain + dg, offset + d_o);
        if sx.hypot(sy) < 1e-3 {
            break;
        }
    }
    Some((dx, dy))
}

fn luma([r, g, b]: [u8; 3]) -> f64 {
    0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b)
}

/// Bilinear.
fn luma_at(photo: &Rgb, x: f64, y: f64) -> f64 {
    let (x, y) = (x - 0.5, y - 0.5);
    let (i, j) = (x as usize, y as usize);
    let at = |i: usize, j: usize| luma(photo.px(i.min(photo.width - 1), j.min(photo.height - 1)));
    let upper = at(i, j) + (at(i + 1, j) - at(i, j)) * x.fract();
    let lower = at(i, j + 1) + (at(i + 1, j + 1) - at(i, j + 1)) * x.fract();
    upper + (lower - upper) * y.fract()
}

/// Normal equations of N unknowns.
struct Equations<const N: usize> {
    left: [[f64; N]; N],
    right: [f64; N],
    square: f64,
    n: usize,
}

impl<const N: usize> Default for Equations<N> {
    fn default() -> Self {
        Self { left: [[0.0; N]; N], right: [0.0; N], square: 0.0, n: 0 }
    }
}

impl<const N: usize> Equations<N> {
    fn add(&mut self, slope: &[f64; N], residual: f64) {
        for i in 0..N {
            for j in 0..N {
                self.left[i][j] += slope[i] * slope[j];
            }
            self.right[i] += slope[i] * residual;
        }
        self.square += residual * residual;
        self.n += 1;
    }

    /// Gauss with pivots; a grain of damping keeps a flat patch from flying off. None: nothing fixes it.
    fn solve(mut self) -> Option<[f64; N]> {
        for i in 0..N {
            self.left[i][i] *= 1.0 + 1e-6;
        }
        for c in 0..N {
            let p = (c..N).max_by(|a, b| self.left[*a][c].abs().total_cmp(&self.left[*b][c].abs()))?;
            self.left.swap(c, p);
            self.right.swap(c, p);
            let pivot = self.left[c][c];
            if pivot.abs() < 1e-12 {
                return None;
            }
            for r in (0..N).filter(|r| *r != c) {
                let f = self.left[r][c] / pivot;
                for k in c..N {
                    self.left[r][k] -= f * self.left[c][k];
                }
                self.right[r] -= f * self.right[c];
            }
        }
        let out: [f64; N] = std::array::from_fn(|i| self.right[i] / self.left[i][i]);
        out.iter().all(|v| v.is_finite()).then_some(out)
    }
}
