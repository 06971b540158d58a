//! What a seed decides: geometry, colours and lights of one eye.
//!
//! Coordinates (u, v): in radii of the limbus from the iris centre, turned with the eye's tilt; v points down.

use super::maths::{Dice, mix, noise, pow, sin_cos};
use crate::domain::report::Ellipse;

/// Visible iris / photo that is aimed at. The lids take a little, so results lie within 8 and 20 %.
const COVERAGE: (f32, f32) = (0.105, 0.175);
/// Lid curves are kept as tables over u in -LID_SPAN..LID_SPAN.
const LID_SPAN: f32 = 8.0;
const LID_STEPS: usize = 4096;
/// A clean lens.
const HALO: f32 = 0.05;

type Srgb = [u8; 3];

/// (name, outer zone, pupillary zone, fibres)
const COLOURS: [(&str, Srgb, Srgb, Srgb); 7] = [
    ("blue", [78, 106, 134], [120, 130, 128], [176, 196, 208]),
    ("grey", [98, 110, 118], [128, 126, 114], [186, 194, 198]),
    ("green", [86, 98, 72], [126, 104, 64], [168, 170, 128]),
    ("hazel", [92, 82, 52], [120, 78, 42], [160, 138, 92]),
    ("amber", [110, 76, 42], [116, 74, 38], [176, 132, 82]),
    ("brown", [80, 50, 31], [96, 60, 34], [136, 94, 60]),
    ("dark brown", [50, 31, 23], [60, 38, 25], [92, 62, 44]),
];

/// Amber and darker.
const BROWNS_FROM: usize = 4;

const SKINS: [Srgb; 7] = [[242, 208, 190], [234, 192, 168], [222, 174, 146], [204, 152, 120], [176, 124, 92], [136, 92, 66], [102, 68, 50]];
const DARK_SKINS_FROM: usize = 4;

pub struct Scene {
    pub seed: u32,
    /// px.
    pub radius: f32,
    pub centre: (f32, f32),
    /// Cosine and sine.
    pub tilt: (f32, f32),
    /// +1: the inner corner lies on the right.
    pub mirror: f32,
    /// Half width of the opening, and its middle.
    pub half: f32,
    pub middle: f32,
    top: Vec<f32>,
    bottom: Vec<f32>,
    /// Width / height of the limbus.
    pub squeeze: f32,
    pub pupil: f32,
    pub pupil_at: (f32, f32),
    pub colour: &'static str,
    pub outer: [f32; 3],
    pub inner: [f32; 3],
    pub fibre: [f32; 3],
    pub collarette: f32,
    pub crypts: f32,
    pub freckles: f32,
    pub limbus_width: f32,
    pub skin: [f32; 3],
    pub lash: [f32; 3],
    pub crease: f32,
    pub redness: f32,
    /// Where the light comes from, seen on the iris.
    pub light: (f32, f32),
    pub glints: Vec<Glint>,
}

#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A window with its bars: half width and height, lean.
    Window {
        half: (f32, f32),
        lean: f32,
    },
    /// A photographer's softbox.
    Softbox {
        half: (f32, f32),
        lean: f32,
    },
    /// A ring light: radius and half width of its band.
    Ring {
        radius: f32,
        band: f32,
    },
    Dot {
        radius: f32,
    },
}

/// A reflected lamp on the cornea, in (u, v).
#[derive(Debug, Clone, Copy)]
pub struct Glint {
    pub at: (f32, f32),
    pub shape: Shape,
    pub strength: f32,
    /// Light that the lens scatters around it, share of `strength`.
    pub halo: f32,
}

impl Scene {
    pub fn new(seed: u64, width: usize, height: usize) -> Self {
        let d = &mut Dice::new(seed ^ 0x1815_D5EE_D000);
        let (w, h) = (width as f32, height as f32);
        // The lids hide about an eighth of the disc.
        let wanted = (d.range(COVERAGE.0, COVERAGE.1) * w * h / (std::f32::consts::PI * 0.88)).sqrt();
        let radius = wanted.min(w.min(h) * 0.42);
        let centre = (w * (0.5 + d.normal() * 0.02), h * (0.515 + d.normal() * 0.015));
        let (sin, cos) = sin_cos(d.normal() * 0.035);
        let mirror = if d.chance(0.5) { 1.0 } else { -1.0 };
        let (half, middle) = (d.range(2.2, 2.5), d.normal() * 0.06 + mirror * 0.08);
        let (top, bottom) = lids(d, half, middle, mirror);

        let skin = d.below(SKINS.len());
        // Dark skin goes with brown eyes nearly always.
        let lightest = if skin >= DARK_SKINS_FROM { BROWNS_FROM } else { 0 };
        let (colour, outer, inner, fibre) = COLOURS[lightest + d.below(COLOURS.len() - lightest)];
        let tone = |d: &mut Dice, c: [u8; 3], spread: f32| {
            let all = 1.0 + d.normal() * spread;
            c.map(|v| (f32::from(v) / 255.0 * all * (1.0 + d.normal() * spread * 0.4)).clamp(0.01, 1.0))
        };
        let light_side = if d.chance(0.5) { 1.0 } else { -1.0 };
        let light = (light_side * d.range(0.25, 0.5), d.range(-0.55, -0.35));
        Self {
            seed: d.bits() as u32,
            radius,
            centre,
            tilt: (cos, sin),
            mirror,
            half,
            middle,
            top,
            bottom,
            squeeze: d.range(0.97, 1.0),
            pupil: d.range(0.27, 0.45),
            pupil_at: (d.normal() * 0.012 - mirror * -0.015, d.normal() * 0.012 - 0.01),
            colour,
            outer: tone(d, outer, 0.08),
            inner: tone(d, inner, 0.08),
            fibre: tone(d, fibre, 0.05),
            collarette: d.range(0.26, 0.38),
            crypts: d.range(0.25, 0.85),
            freckles: if d.chance(0.5) { d.range(0.04, 0.14) } else { 0.0 },
            limbus_width: d.range(0.045, 0.08),
            skin: tone(d, SKINS[skin], 0.03),
            lash: [[0.08, 0.055, 0.045], [0.12, 0.08, 0.06], [0.2, 0.14, 0.1]][d.below(3)],
            crease: d.range(0.32, 0.5),
            redness: d.range(0.3, 1.0),
            light,
            glints: glints(d, light),
        }
    }

    /// Pixel (centre at .5) to (u, v).
    pub fn place(&self, x: f32, y: f32) -> (f32, f32) {
        let (dx, dy) = ((x - self.centre.0) / self.radius, (y - self.centre.1) / self.radius);
        (self.tilt.0 * dx + self.tilt.1 * dy, self.tilt.0 * dy - self.tilt.1 * dx)
    }

    /// (u, v) to px.
    pub fn pixel(&self, u: f32, v: f32) -> (f32, f32) {
        let (dx, dy) = (self.tilt.0 * u - self.tilt.1 * v, self.tilt.1 * u + self.tilt.0 * v);
        (self.centre.0 + dx * self.radius, self.centre.1 + dy * self.radius)
    }

    /// v of the upper and of the lower lid's edge at u.
    pub fn lids_at(&self, u: f32) -> (f32, f32) {
        let place = ((u + LID_SPAN) / (2.0 * LID_SPAN)).clamp(0.0, 0.9999) * (LID_STEPS - 1) as f32;
        let (i, t) = (place as usize, place - place.floor());
        (mix(self.top[i], self.top[i + 1], t), mix(self.bottom[i], self.bottom[i + 1], t))
    }

    /// An upright-in-(u, v) ellipse as the report says it, px.
    pub fn ellipse(&self, at: (f32, f32), ru: f32, rv: f32) -> Ellipse {
        let (cx, cy) = self.pixel(at.0, at.1);
        // Counter-clockwise as one sees it: y points down in pictures.
        let angle_deg = -f64::from(self.tilt.1).asin().to_degrees();
        let px = |v: f32| f64::from(v * self.radius);
        Ellipse { cx: f64::from(cx), cy: f64::from(cy), rx: px(ru), ry: px(rv), angle_deg }
    }
}

/// Edges of the lids: v = line of the corners -+ height x (1 - |t|^p)^q, with a skew that puts the upper lid's apex towards the nose.
fn lids(d: &mut Dice, half: f32, middle: f32, mirror: f32) -> (Vec<f32>, Vec<f32>) {
    let line = d.range(0.12, 0.28);
    // The outer corner lies higher.
    let slope = mirror * d.range(0.02, 0.06);
    let (up, down) = (line + d.range(0.72, 0.95), d.range(0.88, 1.1) - line);
    let (p_up, q_up, skew_up) = (d.range(2.0, 2.4), d.range(0.8, 0.95), mirror * d.range(0.02, 0.14));
    let (p_down, q_down, skew_down) = (d.range(2.2, 2.8), d.range(0.85, 1.0), -mirror * d.range(0.02, 0.16));
    let seed = d.bits() as u32;
    let edge = |u: f32, height: f32, p: f32, q: f32, skew: f32| {
        let t = ((u - middle) / half).clamp(-1.0, 1.0);
        let t = (t - skew * (1.0 - t * t)).clamp(-1.0, 1.0);
        let bow = pow((1.0 - pow(t.abs(), p)).max(0.0), q);
        line + slope * (u - middle) + height * bow + 0.012 * noise(u * 2.3, height, seed) * bow
    };
    let at = |i: usize| i as f32 / (LID_STEPS - 1) as f32 * 2.0 * LID_SPAN - LID_SPAN;
    let top = (0..LID_STEPS).map(|i| edge(at(i), -up, p_up, q_up, skew_up)).collect();
    let bottom = (0..LID_STEPS).map(|i| edge(at(i), down, p_down, q_down, skew_down)).collect();
    (top, bottom)
}

fn glints(d: &mut Dice, light: (f32, f32)) -> Vec<Glint> {
    let strength = d.range(0.85, 1.0);
    let main = match d.below(3) {
        0 => Glint {
            at: light,
            shape: Shape::Window { half: (d.range(0.1, 0.16), d.range(0.13, 0.2)), lean: d.normal() * 0.12 },
            strength,
            halo: HALO,
        },
        1 => Glint {
            at: light,
            shape: Shape::Softbox { half: (d.range(0.09, 0.17), d.range(0.08, 0.14)), lean: d.normal() * 0.15 },
            strength,
            halo: HALO,
        },
        _ => {
            let at = (d.normal() * 0.05, d.normal() * 0.05);
            Glint { at, shape: Shape::Ring { radius: d.range(0.3, 0.45), band: d.range(0.03, 0.05) }, strength, halo: HALO }
        }
    };
    let mut all = vec![main];
    for _ in 0..1 + d.below(2) {
        let at = (-light.0 * d.range(0.6, 1.1) + d.normal() * 0.06, d.range(0.2, 0.5));
        all.push(Glint { at, shape: Shape::Dot { radius: d.range(0.02, 0.045) }, strength: d.range(0.6, 0.95), halo: HALO });
    }
    all
}
