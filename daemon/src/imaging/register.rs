//! Two shots of the same eye laid on each other, and the proof that it is the same eye.
//!
//! ```text
//!   shot A --limbus--> view, R = 32 px --+-- every turn, shift, scale within reach --> best few
//!   shot B --limbus--> view, R = 32 px --+        |
//!                      R = 64, 128, 256 px -- Gauss-Newton (turn, scale, shift, gain, offset) --> Warp, correlation
//!                      photo's own px ------- shift alone, around one place ------------------> Warp for that place
//! ```
//!
//! A view is luma less its local mean, of the visible iris alone: without pupil, limbus, lids and lamps, which are alike in all eyes or
//! move between shots, only the texture is left, and that is a fingerprint (Daugman 1993). So the correlation says whose eye it is.
//! Enhanced correlation with gain and offset after Evangelidis and Psarakis 2008, forward-additive.

use super::{
    geometry,
    mask::Region,
    raster::{Gray, Rgb},
    resize,
};
use crate::domain::report::Ellipse;

mod solve;

/// A photo and what is known of it; `mask` has the photo's size.
#[derive(Clone, Copy)]
pub struct Shot<'a> {
    pub photo: &'a Rgb,
    pub mask: &'a Gray,
    pub limbus: &'a Ellipse,
    pub pupil: Option<&'a Ellipse>,
    pub glare: &'a Region,
}

/// From px of the first shot to px of the second: x' = a x - b y + tx, y' = b x + a y + ty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warp {
    pub a: f64,
    pub b: f64,
    pub tx: f64,
    pub ty: f64,
}

/// From this correlation on it is the same eye: shots of one eye reach more than 0.6, drawn eyes of two people at most 0.42.
pub const SAME_EYE: f64 = 0.5;

/// How well they lie on each other.
#[derive(Debug, Clone, Copy)]
pub struct Aligned {
    pub warp: Warp,
    /// Of the irises' texture, -1..1.
    pub correlation: f64,
}

/// Limbus radius of the views from coarse to fine, px; never finer than the photos are.
const RADII: [f64; 4] = [32.0, 64.0, 128.0, 256.0];
/// The correlation is taken here: finer, it would be the sensor's noise that decides.
const JUDGED_AT: f64 = 64.0;
/// Half side of a view, limbus radii.
const REACH: f64 = 1.05;
/// Window of the local mean, limbus radii (half).
const LOCAL: f64 = 0.12;
/// The texture lies between these: beyond the pupil's edge (in pupil radii), within the limbus (in its own).
const FROM_PUPIL: f64 = 1.12;
const TO_LIMBUS: f64 = 0.92;
/// Around a lamp, limbus radii: its edge is not believed.
const LAMP_EDGE: f64 = 0.03;
/// What is searched at the coarsest: turn in degrees, shift in limbus radii, scale.
const TURNS: (i32, f64) = (10, 2.0);
const SHIFTS: (i32, f64) = (3, 0.025);
const SCALES: [f64; 3] = [0.96, 1.0, 1.04];
/// How many of the coarsest places are followed down.
const FOLLOWED: usize = 4;
const ROUNDS: usize = 12;
/// A place's own shift is at most this, limbus radii; more is no refinement but another place.
const MAX_LOCAL: f64 = 0.03;

impl Warp {
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.a * x - self.b * y + self.tx, self.b * x + self.a * y + self.ty)
    }
}

/// The best similarity from `a` to `b` within 20 degrees, 4 % of scale and 8 % of shift around what their limbi say. None: too little
/// texture is seen in both. The caller judges the correlation.
pub fn align(a: &Shot<'_>, b: &Shot<'_>) -> Option<Aligned> {
    let finest = geometry::radius(a.limbus).min(geometry::radius(b.limbus));
    let pair = |r: f64| (View::new(a, r), View::new(b, r));
    let (va, vb) = pair(RADII[0]);
    let mut places = search(&va, &vb);
    places.truncate(FOLLOWED);
    let mut judged = places.first()?.1;
    for r in RADII.into_iter().filter(|r| *r <= finest.max(RADII[0])) {
        let (va, vb) = if r == RADII[0] { (va.clone(), vb.clone()) } else { pair(r) };
        for (place, score) in &mut places {
            solve::refine(&va, &vb, place, ROUNDS);
            *score = correlation(&va, &vb, place)?;
        }
        places.sort_by(|x, y| y.1.total_cmp(&x.1));
        // Who leads from here on is not overtaken: the others wander.
        places.truncate(1);
        if r <= JUDGED_AT {
            judged = places[0].1;
        }
    }
    Some(Aligned { warp: on_photos(&places[0].0, a, b), correlation: judged })
}

/// `warp` with the shift that fits best around the window (x, y, width, height) of the first photo, where glare of neither lies.
pub fn refined(a: &Shot<'_>, b: &Shot<'_>, warp: &Warp, window: (usize, usize, usize, usize)) -> Warp {
    let limit = MAX_LOCAL * geometry::radius(a.limbus);
    match solve::shift(a, b, warp, window) {
        Some((dx, dy)) if dx.hypot(dy) <= limit => Warp { tx: warp.tx + dx, ty: warp.ty + dy, ..*warp },
        _ => *warp,
    }
}

/// In limbus radii around each one's centre.
type Place = Warp;

fn on_photos(p: &Place, a: &Shot<'_>, b: &Shot<'_>) -> Warp {
    let k = geometry::radius(b.limbus) / geometry::radius(a.limbus);
    let rb = geometry::radius(b.limbus);
    let (ka, kb) = (p.a * k, p.b * k);
    let (cx, cy) = (a.limbus.cx, a.limbus.cy);
    Warp { a: ka, b: kb, tx: b.limbus.cx + rb * p.tx - (ka * cx - kb * cy), ty: b.limbus.cy + rb * p.ty - (kb * cx + ka * cy) }
}

/// The iris' texture at a fixed scale; the limbus' centre is the middle.
#[derive(Clone)]
struct View {
    side: usize,
    /// px a limbus radius.
    radius: f64,
    value: Vec<f32>,
    /// Whether a px shows texture.
    seen: Vec<bool>,
}

impl View {
    fn new(shot: &Shot<'_>, radius: f64) -> Self {
        let r = geometry::radius(shot.limbus).max(1.0);
        let side = (2.0 * REACH * radius).ceil() as usize;
        let across = side as f64 * r / radius;
        let rgb = resize::square(shot.photo, shot.limbus.cx, shot.limbus.cy, across, side, 0);
        let limbus = geometry::Frame::new(shot.limbus);
        let pupil = shot.pupil.map(geometry::Frame::new);
        let glare = Near::new(shot.glare, (LAMP_EDGE * r).ceil() as usize);
        let (left, top) = (shot.limbus.cx - across / 2.0, shot.limbus.cy - across / 2.0);
        let seen: Vec<bool> = (0..side * side)
            .map(|i| {
                let (x, y) =
                    (left + (i % side) as f64 * r / radius + 0.5 * r / radius, top + (i / side) as f64 * r / radius + 0.5 * r / radius);
                x >= 0.0
                    && y >= 0.0
                    && x < shot.photo.width as f64
                    && y < shot.photo.height as f64
                    && limbus.rho2(x, y) < TO_LIMBUS * TO_LIMBUS
                    && pupil.is_none_or(|p| p.rho2(x, y) > FROM_PUPIL * FROM_PUPIL)
                    && shot.mask.px(x as usize, y as usize) >= 128
                    && !glare.holds(x as usize, y as usize)
            })
            .collect();
        let luma: Vec<f32> =
            rgb.data.chunks_exact(3).map(|p| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2])).collect();
        let means = local_means(&luma, &seen, side, (LOCAL * radius).ceil() as usize);
        let value = luma.iter().zip(means).map(|(l, m)| l - m).collect();
        let mut view = Self { side, radius, value, seen };
        let middle = shot.pupil.map_or((0.0, 0.0), |p| ((p.cx - shot.limbus.cx) / r, (p.cy - shot.limbus.cy) / r));
        view.without_rings(middle);
        view
    }

    /// Takes the mean of each ring around the pupil away: collarette and dark rim lie alike in eyes that are not the same.
    fn without_rings(&mut self, (cx, cy): (f64, f64)) {
        const RINGS: f64 = 40.0;
        let rings: Vec<usize> = (0..self.value.len())
            .map(|i| {
                let (u, v) = self.unit(i);
                ((u - cx).hypot(v - cy) * RINGS) as usize
            })
            .collect();
        let mut means = vec![(0.0f32, 0.0f32); rings.iter().max().map_or(0, |r| r + 1)];
        for i in (0..rings.len()).filter(|i| self.seen[*i]) {
            let (sum, n) = &mut means[rings[i]];
            (*sum, *n) = (*sum + self.value[i], *n + 1.0);
        }
        for (value, ring) in self.value.iter_mut().zip(rings) {
            *value -= means[ring].0 / means[ring].1.max(1.0);
        }
    }

    /// Limbus radii of a px's centre.
    fn unit(&self, i: usize) -> (f64, f64) {
        let half = self.side as f64 / 2.0;
        (((i % self.side) as f64 + 0.5 - half) / self.radius, ((i / self.side) as f64 + 0.5 - half) / self.radius)
    }

    /// Value and slope (per limbus radius) at a place in limbus radii; None where any of the four px around it is unseen.
    fn sample(&self, u: f64, v: f64) -> Option<(f64, f64, f64)> {
        let half = self.side as f64 / 2.0;
        let (x, y) = (u * self.radius + half - 0.5, v * self.radius + half - 0.5);
        if !(x >= 0.0 && y >= 0.0 && x < (self.side - 1) as f64 && y < (self.side - 1) as f64) {
            return None;
        }
        let at = y as usize * self.side + x as usize;
        let four = [at, at + 1, at + self.side, at + self.side + 1];
        if !four.iter().all(|i| self.seen[*i]) {
            return None;
        }
        let [p, q, s, t] = four.map(|i| f64::from(self.value[i]));
        let (fx, fy) = (x.fract(), y.fract());
        let (upper, lower) = (p + (q - p) * fx, s + (t - s) * fx);
        let across = (q - p) + ((t - s) - (q - p)) * fy;
        Some((upper + (lower - upper) * fy, across * self.radius, (lower - upper) * self.radius))
    }
}

/// A region and what lies near it.
pub struct Near(Region);

impl Near {
    pub fn new(region: &Region, by: usize) -> Self {
        Self(region.widened(by))
    }

    pub fn holds(&self, x: usize, y: usize) -> bool {
        let (i, j, g) = (x.wrapping_sub(self.0.x), y.wrapping_sub(self.0.y), &self.0.gray);
        i < g.width && j < g.height && g.px(i, j) >= 128
    }
}

/// Means of what is seen within `radius` px along both sides.
fn local_means(luma: &[f32], seen: &[bool], side: usize, radius: usize) -> Vec<f32> {
    // Summed-area tables of value and count.
    let mut sums = vec![(0.0f64, 0u32); (side + 1) * (side + 1)];
    for y in 0..side {
        let mut row = (0.0, 0);
        for x in 0..side {
            if seen[y * side + x] {
                row = (row.0 + f64::from(luma[y * side + x]), row.1 + 1);
            }
            let above = sums[y * (side + 1) + x + 1];
            sums[(y + 1) * (side + 1) + x + 1] = (above.0 + row.0, above.1 + row.1);
        }
    }
    (0..side * side)
        .map(|i| {
            let (x, y) = (i % side, i / side);
            let (x0, y0) = (x.saturating_sub(radius), y.saturating_sub(radius));
            let (x1, y1) = ((x + radius + 1).min(side), (y + radius + 1).min(side));
            let at = |x: usize, y: usize| sums[y * (side + 1) + x];
            let (a, b, c, d) = (at(x0, y0), at(x1, y0), at(x0, y1), at(x1, y1));
            let n = d.1 + a.1 - b.1 - c.1;
            if n == 0 { luma[i] } else { ((d.0 + a.0 - b.0 - c.0) / f64::from(n)) as f32 }
        })
        .collect()
}

/// Every place within reach, the best first, each a step apart from the better ones.
fn search(a: &View, b: &View) -> Vec<(Place, f64)> {
    let mut found: Vec<(Place, f64)> = Vec::new();
    for turn in -TURNS.0..=TURNS.0 {
        let (sin, cos) = (f64::from(turn) * TURNS.1).to_radians().sin_cos();
        for scale in SCALES {
            for ty in -SHIFTS.0..=SHIFTS.0 {
                for tx in -SHIFTS.0..=SHIFTS.0 {
                    let place = Place { a: scale * cos, b: scale * sin, tx: f64::from(tx) * SHIFTS.1, ty: f64::from(ty) * SHIFTS.1 };
                    found.extend(correlation(a, b, &place).map(|c| (place, c)));
                }
            }
        }
    }
    found.sort_by(|x, y| y.1.total_cmp(&x.1));
    found
}

/// Of what both see; None where that is less than a sixth of what one sees.
fn correlation(a: &View, b: &View, place: &Place) -> Option<f64> {
    let (mut n, mut all) = (0usize, 0usize);
    let (mut sa, mut sb, mut saa, mut sbb, mut sab) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for i in (0..a.value.len()).filter(|i| a.seen[*i]) {
        all += 1;
        let (u, v) = a.unit(i);
        let (u, v) = place.at(u, v);
        let Some((q, _, _)) = b.sample(u, v) else { continue };
        let p = f64::from(a.value[i]);
        (n, sa, sb, saa, sbb, sab) = (n + 1, sa + p, sb + q, saa + p * p, sbb + q * q, sab + p * q);
    }
    let k = n as f64;
    let spread = (saa - sa * sa / k.max(1.0)) * (sbb - sb * sb / k.max(1.0));
    (n * 6 >= all && n >= 64 && spread > 0.0).then(|| (sab - sa * sb / k) / spread.sqrt())
}

#[cfg(test)]
mod tests;
