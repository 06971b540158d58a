//! Detail by scale and by direction: focus and motion.
//!
//! Luma of the patch in two bands, by differences of box means: fine (3 px less 9 px) and coarse (9 px less 27 px of that). The single px
//! is left out: it is the sensor's noise.

use super::patch::{Kind, Patch, luma};

/// Half windows of the bands' box means, px of the patch.
const FINE: usize = 1;
const MIDDLE: usize = 4;
const COARSE: usize = 12;
/// How much of the limbus' radius is looked at: beyond it lies the limbus itself.
const REACH: f64 = 0.95;
/// Camera's own rounding, half a level, squared: a flat patch has no detail to be sharp.
const ROUNDING: f64 = 0.25;
/// Around glare and lids nothing is said about motion, px of the patch: their edges are straight.
const AWAY: usize = 5;
/// Fewer px of the patch say nothing about directions.
const MIN_PX: f64 = 300.0;
/// Directions that are compared, over half a turn.
const DIRECTIONS: usize = 36;

/// Which direction lacks detail, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Motion {
    /// 0..1: 1 less the sharpness along the least sharp direction / across the sharpest.
    pub share: f64,
    /// The least sharp direction: degrees counter-clockwise from the horizontal as one sees it, -90..90.
    pub angle_deg: f64,
}

/// The patch in two bands.
pub struct Bands {
    fine: Vec<f32>,
    coarse: Vec<f32>,
}

impl Bands {
    pub fn of(patch: &Patch) -> Self {
        let luma: Vec<f32> = patch.rgb.iter().map(|c| luma(*c)).collect();
        let fine = blur(&luma, patch.side, FINE);
        let middle = blur(&fine, patch.side, MIDDLE);
        let coarse = blur(&middle, patch.side, COARSE);
        let less = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        Self { fine: less(&fine, &middle), coarse: less(&middle, &coarse) }
    }

    /// Fine detail against coarse detail inside the visible limbus, percent: 100 * RMS of one band / RMS of the other. Blur takes the fine
    /// before the coarse, whatever the contrast, so dark irises are not called blurred; pupil edge and glints count, they are as sharp as
    /// the photo. A band ratio in place of ISO/IEC 29794-6's band power, which is bound to one camera and scale.
    pub fn sharpness(&self, patch: &Patch) -> f64 {
        let (mut high, mut low) = (0.0f64, 0.0f64);
        for (i, _) in visible(patch) {
            high += f64::from(self.fine[i]).powi(2);
            low += f64::from(self.coarse[i]).powi(2);
        }
        100.0 * (high / (low + ROUNDING * patch.count(|k| k == Kind::Iris)).max(1e-9)).sqrt()
    }

    /// Sharpness by direction, from the structure tensors (Bigün and Granlund 1987) of both bands: gradients along a motion lose their fine
    /// part and keep their coarse one. An iris has directions of its own, fibres and the pupil's edge, but they turn with the polar angle
    /// and a motion does not; each tensor is split into the two, so that lids, which hide some polar angles, cannot make a motion out of
    /// fibres. None: too little iris is seen.
    pub fn motion(&self, patch: &Patch) -> Option<Motion> {
        let is_doubtful = |k: &Kind| matches!(k, Kind::Off | Kind::Covered | Kind::Glare | Kind::PupilGlare);
        let doubtful: Vec<f32> = patch.kind.iter().map(|k| f32::from(u8::from(is_doubtful(k)))).collect();
        let doubtful = blur(&doubtful, patch.side, AWAY);
        let (mut fine, mut coarse) = (Tensor::default(), Tensor::default());
        for (i, (dx, dy)) in visible(patch).filter(|(i, _)| doubtful[*i] < 1e-4) {
            fine.add(gradient(&self.fine, patch.side, i), (dx, dy));
            coarse.add(gradient(&self.coarse, patch.side, i), (dx, dy));
        }
        if fine.count < MIN_PX {
            return None;
        }
        let sharpness = |k: usize| {
            let angle = std::f64::consts::PI * k as f64 / DIRECTIONS as f64;
            (fine.along(angle) / coarse.along(angle).max(1e-9), angle.to_degrees())
        };
        let mut all: Vec<(f64, f64)> = (0..DIRECTIONS).map(sharpness).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ((least, angle), (most, _)) = (all[0], all[DIRECTIONS - 1]);
        // y points down in pictures.
        let angle_deg = if angle > 90.0 { 180.0 - angle } else { -angle };
        Some(Motion { share: 1.0 - (least.max(0.0) / most.max(1e-9)).sqrt(), angle_deg })
    }
}

/// Index, and place against the limbus' centre, of each visible px of iris and pupil, glare too.
fn visible(patch: &Patch) -> impl Iterator<Item = (usize, (f64, f64))> {
    let (side, reach) = (patch.side, patch.radius * REACH);
    let place = move |i: usize| ((i % side) as f64 + 0.5 - side as f64 / 2.0, (i / side) as f64 + 0.5 - side as f64 / 2.0);
    let shows = |k: &Kind| !matches!(k, Kind::Off | Kind::Around | Kind::Covered);
    let places = patch.kind.iter().enumerate().filter(move |(_, k)| shows(k)).map(move |(i, _)| (i, place(i)));
    places.filter(move |(_, (dx, dy))| dx.hypot(*dy) < reach)
}

fn gradient(band: &[f32], side: usize, i: usize) -> (f64, f64) {
    let (x, y) = (i % side, i / side);
    let at = |x: usize, y: usize| f64::from(band[y.min(side - 1) * side + x.min(side - 1)]);
    ((at(x + 1, y) - at(x.saturating_sub(1), y)) / 2.0, (at(x, y + 1) - at(x, y.saturating_sub(1))) / 2.0)
}

/// Sums over gradients in double-angle form: v = (gx² - gy², 2 gx gy), u = the same of the place's own direction, so |u| = 1.
#[derive(Default)]
struct Tensor {
    count: f64,
    energy: f64,
    v: (f64, f64),
    u: (f64, f64),
    vu: f64,
}

impl Tensor {
    fn add(&mut self, (gx, gy): (f64, f64), (dx, dy): (f64, f64)) {
        let v = (gx * gx - gy * gy, 2.0 * gx * gy);
        let r2 = (dx * dx + dy * dy).max(1e-9);
        let u = ((dx * dx - dy * dy) / r2, 2.0 * dx * dy / r2);
        self.count += 1.0;
        self.energy += gx * gx + gy * gy;
        self.v = (self.v.0 + v.0, self.v.1 + v.1);
        self.u = (self.u.0 + u.0, self.u.1 + u.1);
        self.vu += v.0 * u.0 + v.1 * u.1;
    }

    /// Mean squared derivative along a direction, radians, of what does not turn with the polar angle: least squares of v = m + f u.
    fn along(&self, angle: f64) -> f64 {
        let n = self.count.max(1.0);
        let turning = (self.vu - (self.u.0 * self.v.0 + self.u.1 * self.v.1) / n) / (n - (self.u.0.powi(2) + self.u.1.powi(2)) / n).max(1e-9);
        let m = ((self.v.0 - turning * self.u.0) / n, (self.v.1 - turning * self.u.1) / n);
        let (sin, cos) = (2.0 * angle).sin_cos();
        (self.energy / n + m.0 * cos + m.1 * sin) / 2.0
    }
}

/// Box means over (2 radius + 1)², the edge's values beyond the edge.
fn blur(data: &[f32], side: usize, radius: usize) -> Vec<f32> {
    let window = (2 * radius + 1) as f32;
    let pass = |from: &[f32], step: usize, line: usize| {
        let mut out = vec![0.0; from.len()];
        for l in 0..side {
            let at = |k: isize| from[l * line + k.clamp(0, side as isize - 1) as usize * step];
            let mut sum: f32 = (-(radius as isize)..=radius as isize).map(at).sum();
            for k in 0..side as isize {
                out[l * line + k as usize * step] = sum / window;
                sum += at(k + radius as isize + 1) - at(k - radius as isize);
            }
        }
        out
    };
    pass(&pass(data, 1, side), side, 1)
}
