//! The same eye under other lamps, and from a little elsewhere: truth for whoever finds glare, fills it in, or merges two shots.
//!
//! ```text
//! seed -> Scene ---- lamps away ----> clean          glare = visible iris or pupil where a lamp changes a pixel by more than
//!           |  pose                                          GLARE_LEVELS in any channel; what a lamp adds less than that
//!           +------- lamps hung ----> photo                  (the lens' halo) can be looked through
//! ```

use super::{
    Truth, draw, iris,
    maths::{Dice, sin_cos},
    scene::{Glint, Scene, Shape},
};
use crate::{
    domain::report::Ellipse,
    imaging::{
        geometry,
        raster::{Gray, Rgb},
    },
};

/// Levels of 255.
const GLARE_LEVELS: u8 = 20;
/// Lamps lie within this many limbus radii of the centre.
const REACH: f32 = 0.72;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Point,
    Ring,
    Window,
    Softbox,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Point, Self::Ring, Self::Window, Self::Softbox];

    pub fn name(self) -> &'static str {
        match self {
            Self::Point => "point",
            Self::Ring => "ring",
            Self::Window => "window",
            Self::Softbox => "softbox",
        }
    }
}

/// How the camera stood, against the scene's own place.
#[derive(Debug, Clone, Copy)]
pub struct Pose {
    /// Factor of the radius.
    pub scale: f32,
    pub turn_deg: f32,
    /// Limbus radii.
    pub shift: (f32, f32),
}

impl Pose {
    pub const STRAIGHT: Self = Self { scale: 1.0, turn_deg: 0.0, shift: (0.0, 0.0) };
}

/// A shot and what it would be without its lamps.
pub struct Lit {
    /// H x W x 3.
    pub photo: Rgb,
    /// The same moment with the lamps' reflections away; the grain of the sensor is the same.
    pub clean: Rgb,
    /// H x W: 255 = visible iris with its pupil.
    pub mask: Gray,
    /// H x W: 255 = glare inside the mask.
    pub glare: Gray,
    pub truth: Truth,
}

/// The eye of `seed` under one to three lamps that `lamps` decides, of one kind, with a weaker point beside them. `size`: half the
/// extent of the largest, limbus radii, 0.02 to 0.4.
pub fn lit(seed: u64, lamps: u64, kind: Kind, size: f32, pose: Pose, width: usize, height: usize) -> Lit {
    let (mut scene, grain) = posed(seed, lamps, pose, width, height);
    scene.glints.clear();
    let clean = draw(&scene, seed, grain, width, height);
    scene.glints = hung(lamps, kind, size);
    let shot = draw(&scene, seed, grain, width, height);
    let mut glare = Gray::new(width, height);
    for (i, g) in glare.data.iter_mut().enumerate().filter(|(i, _)| shot.mask.data[*i] >= 128) {
        let levels = (0..3).map(|c| shot.photo.data[i * 3 + c].abs_diff(clean.photo.data[i * 3 + c])).max();
        *g = if levels > Some(GLARE_LEVELS) { 255 } else { 0 };
    }
    Lit { photo: shot.photo, clean: clean.photo, mask: shot.mask, glare, truth: shot.truth }
}

/// The photo of [`lit`] alone, drawn once: for who needs no truth.
pub fn shot(seed: u64, lamps: u64, kind: Kind, size: f32, pose: Pose, width: usize, height: usize) -> Rgb {
    let (mut scene, grain) = posed(seed, lamps, pose, width, height);
    scene.glints = hung(lamps, kind, size);
    draw(&scene, seed, grain, width, height).photo
}

/// The scene as the camera stands to it, under its own lamps still, and the seed of the sensor's noise.
fn posed(seed: u64, lamps: u64, pose: Pose, width: usize, height: usize) -> (Scene, u32) {
    let mut scene = Scene::new(seed, width, height);
    scene.radius *= pose.scale;
    let (s, c) = sin_cos(pose.turn_deg / 360.0 * std::f32::consts::TAU);
    scene.tilt = (scene.tilt.0 * c - scene.tilt.1 * s, scene.tilt.1 * c + scene.tilt.0 * s);
    scene.centre = (scene.centre.0 + pose.shift.0 * scene.radius, scene.centre.1 + pose.shift.1 * scene.radius);
    let grain = scene.seed ^ lamps as u32;
    (scene, grain)
}

fn hung(lamps: u64, kind: Kind, size: f32) -> Vec<Glint> {
    let d = &mut Dice::new(lamps ^ 0x1A3B_5000);
    let count = if size > 0.15 { 1 } else { 1 + d.below(3) };
    let mut all = Vec::new();
    for i in 0..count {
        let size = if i == 0 { size } else { size * d.range(0.4, 0.9) };
        let shape = shape(d, kind, size);
        all.push(Glint { at: place(d), shape, strength: d.range(0.8, 1.0), halo: d.range(0.02, 0.09) });
    }
    if d.chance(0.5) {
        let shape = Shape::Dot { radius: d.range(0.02, 0.045) };
        all.push(Glint { at: place(d), shape, strength: d.range(0.65, 0.95), halo: 0.03 });
    }
    all
}

/// A picture of an iris with one more lamp pasted on it: where it lies is by chance (`seed`), but only where `free` (the photo's size, inside
/// from 128 on) allows all of it. The second picture says which pixels changed. None: no place was found. `size` as for [`lit`].
pub fn pasted(clean: &Rgb, limbus: &Ellipse, kind: Kind, size: f32, seed: u64, free: &Gray) -> Option<(Rgb, Gray)> {
    const TRIES: usize = 80;
    let d = &mut Dice::new(seed ^ 0x9A57_ED00);
    let radius = geometry::radius(limbus);
    let glint = Glint { at: (0.0, 0.0), strength: d.range(0.9, 1.0), halo: 0.0, shape: shape(d, kind, size) };
    (0..TRIES).find_map(|_| {
        let (u, v) = place(d);
        let (cx, cy) = (limbus.cx + f64::from(u) * radius, limbus.cy + f64::from(v) * radius);
        let (mut photo, mut hole) = (clean.clone(), Gray::new(clean.width, clean.height));
        // The cornea's bow and the soft edge reach a little beyond.
        let reach = radius * f64::from(size) * 1.6 + 3.0;
        let span = |c: f64, n: usize| ((c - reach).max(0.0) as usize).min(n)..((c + reach).max(0.0) as usize + 1).min(n);
        for y in span(cy, clean.height) {
            for x in span(cx, clean.width) {
                let (gx, gy) = ((x as f64 + 0.5 - cx) / radius, (y as f64 + 0.5 - cy) / radius);
                let light = iris::lamp(&glint, gx as f32, gy as f32, 1.0 / radius as f32);
                let px = clean.px(x, y);
                let lit = px.map(|v| (f32::from(v) + (255.0 - f32::from(v)) * light + 0.5) as u8);
                if lit != px {
                    photo.set(x, y, lit);
                    hole.data[y * clean.width + x] = 255;
                }
            }
        }
        let fits = hole.count_inside() > 0 && hole.data.iter().zip(&free.data).all(|(h, f)| *h == 0 || *f >= 128);
        fits.then_some((photo, hole))
    })
}

fn shape(d: &mut Dice, kind: Kind, size: f32) -> Shape {
    match kind {
        Kind::Point => Shape::Dot { radius: size },
        Kind::Ring => Shape::Ring { radius: size * 0.85, band: (size * d.range(0.1, 0.2)).max(0.012) },
        Kind::Window => Shape::Window { half: (size * d.range(0.65, 0.9), size), lean: d.normal() * 0.15 },
        Kind::Softbox => Shape::Softbox { half: (size, size * d.range(0.5, 0.9)), lean: d.normal() * 0.2 },
    }
}

/// Evenly over the disc.
fn place(d: &mut Dice) -> (f32, f32) {
    let (s, c) = sin_cos(d.range(0.0, std::f32::consts::TAU));
    let r = REACH * d.range(0.0, 1.0).sqrt();
    (r * c, r * s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glare_lies_in_the_visible_iris_and_only_there_the_lamps_changed_much() {
        for (i, kind) in Kind::ALL.into_iter().enumerate() {
            let l = lit(4, i as u64, kind, 0.12, Pose::STRAIGHT, 320, 240);
            let changed = (0..l.glare.data.len()).filter(|i| l.photo.data[i * 3..i * 3 + 3] != l.clean.data[i * 3..i * 3 + 3]).count();
            let glare = l.glare.count_inside();
            assert!(glare > 30 && glare < changed, "{kind:?}: {glare} of {changed}");
            assert!((0..l.glare.data.len()).all(|i| l.glare.data[i] == 0 || l.mask.data[i] >= 128));
            assert_eq!(shot(4, i as u64, kind, 0.12, Pose::STRAIGHT, 320, 240), l.photo, "{kind:?}");
        }
    }

    #[test]
    fn a_pose_moves_the_eye_as_it_says() {
        let pose = Pose { scale: 1.03, turn_deg: 2.0, shift: (0.02, -0.01) };
        let (a, b) = (lit(4, 0, Kind::Point, 0.05, Pose::STRAIGHT, 320, 240).truth, lit(4, 1, Kind::Ring, 0.1, pose, 320, 240).truth);
        assert!((b.limbus.rx / a.limbus.rx - 1.03).abs() < 1e-4);
        assert!((b.limbus.cx - a.limbus.cx - 0.02 * b.limbus.ry).abs() < 0.01);
        assert!((b.limbus.angle_deg - a.limbus.angle_deg + 2.0).abs() < 0.01);
    }
}
