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
/// Half window and percentile of a band's local mean squares that stand for the camera's noise.
const QUIET: (usize, f64) = (7, 0.1);
/// Noise has at most this share of its single px' mean square in the fine band (white noise 0.11, read between px 0.57). Fine detail that is
/// everywhere has more: it is no noise.
const SPREADS: f32 = 0.6;
/// Camera's own rounding, half a level, squared: a flat patch has no detail to be sharp.
const ROUNDING: f64 = 0.25;
/// Around glare and lids nothing is said about motion, px of the patch: their edges are straight.
const AWAY: usize = 5;
/// Fewer px of the patch say nothing about directions.
const MIN_PX: f64 = 300.0;
/// Where the polar angles that are seen lie so much to one side (length of the mean of u; good eyes: at most 0.36), fibres and a motion
/// cannot be told apart.
const ONE_SIDED: f64 = 0.5;
/// Added to the local mean square, levels²: less is the camera's noise.
const NOISE: f32 = 1.0;

/// Which direction lacks fine detail, and how much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Motion {
    /// 0..1: 1 - RMS of the derivative along the motion / RMS across it.
    pub share: f64,
    /// Degrees counter-clockwise from the horizontal as one sees it, -90..90.
    pub angle_deg: f64,
}

/// The patch in two bands.
pub struct Bands {
    fine: Vec<f32>,
    coarse: Vec<f32>,
    /// Mean square of what the camera's noise adds to `fine`, levels².
    noise: f32,
}

impl Bands {
    pub fn of(patch: &Patch) -> Self {
        let luma: Vec<f32> = patch.rgb.iter().map(|c| luma(*c)).collect();
        let smooth = blur(&luma, patch.side, FINE);
        let middle = blur(&smooth, patch.side, MIDDLE);
        let coarse = blur(&middle, patch.side, COARSE);
        let less = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        let (fine, coarse): (Vec<f32>, _) = (less(&smooth, &middle), less(&middle, &coarse));
        let single = luma.iter().zip(&smooth).map(|(luma, smooth)| luma - smooth);
        let noise = quiet(patch, fine.iter().copied()).min(SPREADS * quiet(patch, single));
        Self { fine, coarse, noise }
    }

    /// Fine detail against coarse detail inside the visible limbus, percent: 100 * RMS of one band / RMS of the other. Blur takes the fine
    /// before the coarse, whatever the contrast, so dark irises are not called blurred; pupil edge and glints count, they are as sharp as
    /// the photo. What the camera's noise adds to the fine band is taken away: it would make any photo look sharp. A band ratio in place of
    /// ISO/IEC 29794-6's band power, which is bound to one camera and scale.
    pub fn sharpness(&self, patch: &Patch) -> f64 {
        let (mut high, mut low) = (0.0f64, 0.0f64);
        for (i, _) in visible(patch) {
            high += f64::from(self.fine[i].powi(2) - self.noise);
            low += f64::from(self.coarse[i]).powi(2);
        }
        100.0 * (high.max(0.0) / (low + ROUNDING * patch.count(&[Kind::Iris])).max(1e-9)).sqrt()
    }

    /// How much less fine detail there is along one direction than across another: structure tensor (Bigün and Granlund 1987) of the fine
    /// band, divided by its own RMS around each px so that a shadow or a bright edge does not speak for all. A motion takes what lies along
    /// it. An iris has directions of its own, fibres and the pupil's edge, but they turn with the polar angle and a motion does not; the
    /// tensor is split into the two, so that lids, which hide some polar angles, cannot make a motion out of fibres. None: too little iris
    /// is seen, or too little of the way round.
    pub fn motion(&self, patch: &Patch) -> Option<Motion> {
        let is_doubtful = |k: &Kind| matches!(k, Kind::Off | Kind::Covered | Kind::Glare | Kind::PupilGlare);
        let doubtful: Vec<f32> = patch.kind.iter().map(|k| f32::from(u8::from(is_doubtful(k)))).collect();
        let doubtful = blur(&doubtful, patch.side, AWAY);
        let squares: Vec<f32> = self.fine.iter().map(|v| v * v).collect();
        let around = blur(&squares, patch.side, COARSE);
        let even: Vec<f32> = self.fine.iter().zip(&around).map(|(v, square)| v / (square + NOISE).sqrt()).collect();
        let mut tensor = Tensor::default();
        for (i, place) in visible(patch).filter(|(i, _)| doubtful[*i] < 1e-4) {
            tensor.add(gradient(&even, patch.side, i), place);
        }
        tensor.motion()
    }
}

/// The mean square of a band where there is least of it: in a pupil, or anywhere in a photo that is out of focus, that is the camera's noise.
fn quiet(patch: &Patch, band: impl Iterator<Item = f32>) -> f32 {
    let squares: Vec<f32> = band.map(|v| v * v).collect();
    let around = blur(&squares, patch.side, QUIET.0);
    let mut around: Vec<f32> = visible(patch).map(|(i, _)| around[i]).collect();
    let least = (around.len() as f64 * QUIET.1) as usize;
    if around.is_empty() { 0.0 } else { around.select_nth_unstable_by(least, f32::total_cmp).1.max(0.0) }
}

/// Index, and place against the limbus' centre, of each visible px of iris and pupil, glare too.
fn visible(patch: &Patch) -> impl Iterator<Item = (usize, (f64, f64))> {
    let (side, reach2) = (patch.side, (patch.radius * REACH).powi(2));
    let place = move |i: usize| i as f64 + 0.5 - side as f64 / 2.0;
    let shows = |k: &Kind| !matches!(k, Kind::Off | Kind::Around | Kind::Covered);
    let rows = patch.kind.chunks_exact(side.max(1)).enumerate();
    let places = rows.flat_map(move |(y, row)| row.iter().enumerate().filter(move |(_, k)| shows(k)).map(move |(x, _)| (x, y)));
    places.map(move |(x, y)| (y * side + x, (place(x), place(y)))).filter(move |(_, (dx, dy))| dx * dx + dy * dy < reach2)
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

    fn motion(&self) -> Option<Motion> {
        if self.count < MIN_PX || self.u.0.hypot(self.u.1) > ONE_SIDED * self.count {
            return None;
        }
        // Least squares of v = m + f u; what turns with the polar angle, f, is the eye's own.
        let n = self.count;
        let turning =
            (self.vu - (self.u.0 * self.v.0 + self.u.1 * self.v.1) / n) / (n - (self.u.0.powi(2) + self.u.1.powi(2)) / n).max(1e-9);
        let m = ((self.v.0 - turning * self.u.0) / n, (self.v.1 - turning * self.u.1) / n);
        // The mean squared derivative along an angle a is (energy + m . (cos 2a, sin 2a)) / 2.
        let (energy, strength) = (self.energy / n, m.0.hypot(m.1));
        let share = 1.0 - ((energy - strength).max(0.0) / (energy + strength).max(1e-12)).sqrt();
        // The motion lies across the strongest gradients; y points down in pictures, angles count upwards.
        let across = (-m.1).atan2(-m.0).to_degrees() / 2.0;
        Some(Motion { share, angle_deg: -across })
    }
}

/// Box means over (2 radius + 1)², the edge's values beyond the edge.
fn blur(data: &[f32], side: usize, radius: usize) -> Vec<f32> {
    if side == 0 {
        return Vec::new();
    }
    let window = (2 * radius + 1) as f32;
    let mut across = Vec::with_capacity(data.len());
    let mut line = vec![0.0; side + 2 * radius + 1];
    for row in data.chunks_exact(side) {
        line[..radius].fill(row[0]);
        line[radius..radius + side].copy_from_slice(row);
        line[radius + side..].fill(row[side - 1]);
        let mut sum: f32 = line[..2 * radius + 1].iter().sum();
        across.extend(line[2 * radius + 1..].iter().zip(&line).map(|(next, last)| {
            let mean = sum / window;
            sum += next - last;
            mean
        }));
    }
    // Down: a sum a column, so that the loop runs along memory.
    let row = |k: usize| &across[k.saturating_sub(radius).min(side - 1) * side..][..side];
    let mut sums = vec![0.0; side];
    for k in 0..2 * radius + 1 {
        sums.iter_mut().zip(row(k)).for_each(|(sum, v)| *sum += v);
    }
    let mut out = Vec::with_capacity(data.len());
    for k in 0..side {
        out.extend(sums.iter().map(|sum| sum / window));
        sums.iter_mut().zip(row(k + 2 * radius + 1)).zip(row(k)).for_each(|((sum, next), last)| *sum += next - last);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::{
        highlights,
        quality::Seen,
        raster::{Gray, Rgb},
        synth,
    };

    /// A drawn eye, moved by `length` px along `degrees`, of which lids leave `open` limbus radii above and below the centre.
    fn motion(seed: u64, length: i32, degrees: f64, open: f64) -> Option<Motion> {
        let sample = synth::eye(seed, 640, 480);
        let (s, c) = degrees.to_radians().sin_cos();
        let mut photo = Rgb::new(640, 480);
        for y in 0..480 {
            for x in 0..640 {
                let mut sum = [0u32; 3];
                for t in 0..length.max(1) {
                    let t = f64::from(t) - f64::from(length) / 2.0;
                    let at = |v: usize, d: f64, n: usize| (v as f64 + d).round().clamp(0.0, n as f64 - 1.0) as usize;
                    let px = sample.photo.px(at(x, t * c, 640), at(y, -t * s, 480));
                    sum.iter_mut().zip(px).for_each(|(sum, v)| *sum += u32::from(v));
                }
                photo.set(x, y, sum.map(|v| (v / length.max(1) as u32) as u8));
            }
        }
        let limbus = &sample.truth.limbus;
        let mut mask = sample.mask.clone();
        for y in (0..480).filter(|y| (*y as f64 - limbus.cy).abs() > open * limbus.ry) {
            mask.data[y * 640..(y + 1) * 640].fill(0);
        }
        let glare = highlights::find(&photo, limbus, Some(&sample.truth.pupil), &mask).map.expand(640, 480);
        let seen = Seen { photo: &photo, mask: &mask, limbus, pupil: Some(&sample.truth.pupil), glare: &glare, confidence: 1.0 };
        let patch = Patch::new(&seen);
        Bands::of(&patch).motion(&patch)
    }

    #[test]
    fn fibres_and_the_pupils_edge_are_no_motion_also_where_lids_hide_a_part_of_them() {
        for seed in 0..5 {
            for open in [1.0, 0.75] {
                let found = motion(seed, 0, 0.0, open).expect("enough iris");
                assert!(found.share < 0.25, "seed {seed}, {open} open: {found:?}");
            }
            assert_eq!(motion(seed, 14, 90.0, 0.3), None, "between such lids fibres and a motion look alike");
        }
    }

    #[test]
    fn a_motion_is_seen_and_its_direction_told() {
        for (seed, degrees) in [(1000, 0.0), (1001, 45.0), (1002, 90.0), (1003, -30.0)] {
            let found = motion(seed, 20, degrees, 1.0).expect("enough iris");
            let off = (found.angle_deg - degrees).rem_euclid(180.0);
            assert!(found.share > 0.38 && off.min(180.0 - off) < 15.0, "{degrees} degrees: {found:?}");
        }
    }

    #[test]
    fn where_nothing_is_seen_nothing_is_said() {
        let sample = synth::eye(1, 160, 120);
        let none = Gray::new(160, 120);
        let seen = Seen { photo: &sample.photo, mask: &none, limbus: &sample.truth.limbus, pupil: None, glare: &none, confidence: 1.0 };
        let patch = Patch::new(&seen);
        assert_eq!(Bands::of(&patch).motion(&patch), None);
    }
}
