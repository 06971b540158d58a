//! `irisd sample`: a synthetic close-up of an eye with its exact truth, for people without a camera, for tests, and for the README.
//!
//! ```text
//! seed -> Scene (geometry, colours, lamps) -> each pixel: skin | ball: white, iris, shadow, lamps -> lashes -> lens -> sensor
//! ```
//!
//! No photo and no texture file goes in. The same seed and size give the same bytes on every machine (see `maths`). Sizes scale the
//! same scene: a seed at 1600x1200 and at 4000x3000 shows the same eye. Memory: photo, its copy in the lens, mask and two layers.

mod camera;
mod face;
mod iris;
pub mod lamps;
mod maths;
mod scene;
mod strokes;

use rayon::prelude::*;
use serde::Serialize;

use self::{
    maths::{mix, mix3},
    scene::{Scene, Shape},
};
use super::raster::{Gray, Rgb};
use crate::domain::report::Ellipse;

/// A picture and what it really shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// H x W x 3.
    pub photo: Rgb,
    /// H x W: 255 = visible iris with its pupil, soft edge of a pixel. Lashes in front are not cut out.
    pub mask: Gray,
    pub truth: Truth,
}

/// What was drawn, px of the photo.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Truth {
    pub seed: u64,
    pub width: usize,
    pub height: usize,
    /// The whole edge of the iris, lids ignored.
    pub limbus: Ellipse,
    pub pupil: Ellipse,
    /// Each lamp's reflection, by the ellipse around it.
    pub glints: Vec<Ellipse>,
    pub iris_colour: String,
    /// Visible iris / photo, 0..1.
    pub coverage: f64,
}

/// Draws the eye of `seed`. `width`, `height`: at least 16 px each; a close-up is about 4:3.
pub fn eye(seed: u64, width: usize, height: usize) -> Sample {
    let (width, height) = (width.max(16), height.max(16));
    let scene = Scene::new(seed, width, height);
    draw(&scene, seed, scene.seed, width, height)
}

/// `grain`: seed of the sensor's noise.
fn draw(scene: &Scene, seed: u64, grain: u32, width: usize, height: usize) -> Sample {
    let (lashes, vessels) = rayon::join(|| strokes::lashes(scene, width, height, seed), || strokes::vessels(scene, width, height, seed));
    let (mut photo, mut mask) = (Rgb::new(width, height), Gray::new(width, height));
    photo.data.par_chunks_exact_mut(width * 3).zip(mask.data.par_chunks_exact_mut(width)).enumerate().for_each(|(y, (row, mask))| {
        for (x, (px, inside)) in row.chunks_exact_mut(3).zip(mask).enumerate() {
            let at = y * width + x;
            let layer = |layer: &Gray| f32::from(layer.data[at]) / 255.0;
            let (colour, visible) = point(scene, x as f32 + 0.5, y as f32 + 0.5, layer(&lashes), layer(&vessels));
            px.copy_from_slice(&colour.map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8));
            *inside = (visible * 255.0 + 0.5) as u8;
        }
    });
    let photo = camera::expose(photo, grain);
    let truth = truth(seed, scene, &mask);
    Sample { photo, mask, truth }
}

/// Colour, and the share of the pixel that shows iris or pupil.
fn point(s: &Scene, x: f32, y: f32, lash: f32, vessel: f32) -> ([f32; 3], f32) {
    let (u, v) = s.place(x, y);
    let (top, bottom) = s.lids_at(u);
    let inside = (v - top).min(bottom - v);
    // Beyond the corners the lids meet: no hairline of white between them.
    let open = (inside * s.radius + 0.5).clamp(0.0, 1.0) * ((bottom - top) * s.radius - 0.5).clamp(0.0, 1.0);
    let rho = iris::limbus_distance(s, u, v);
    let in_iris = ((1.0 - rho) * s.radius + 0.5).clamp(0.0, 1.0);

    let mut c = if open < 1.0 { face::skin(s, u, v, top, bottom) } else { [0.0; 3] };
    if open > 0.0 {
        // The eye's own limbus is a soft passage, wider than a pixel.
        let passage = maths::step(1.0 + s.limbus_width * 0.5, 1.0 - s.limbus_width * 0.7, rho);
        let mut ball = if passage < 1.0 { face::sclera(s, u, v, rho, vessel) } else { [0.0; 3] };
        if passage < 1.0 {
            let (share, pink) = face::caruncle(s, u, v, (top + bottom) * 0.5);
            ball = mix3(ball, pink, share * (1.0 - passage));
        }
        if passage > 0.0 {
            ball = mix3(ball, iris::colour(s, u, v, rho.min(0.999)), passage);
        }
        let shadow = face::lid_shadow(v, top, bottom);
        ball = ball.map(|c| c * shadow);
        let light = if rho < 1.3 { iris::lamps(s, u, v) } else { 0.0 };
        ball = mix3(ball, [1.0, 1.0, 1.0], light);
        let tear = face::tear_line(s, u, v, bottom);
        ball = ball.map(|c| c + tear);
        c = mix3(c, ball, open);
    }
    let lash = lash * 0.96;
    (std::array::from_fn(|i| mix(c[i], s.lash[i], lash)), open * in_iris)
}

fn truth(seed: u64, s: &Scene, mask: &Gray) -> Truth {
    let around = |shape: &Shape| match *shape {
        // The ellipse through the corners of a box.
        Shape::Window { half, .. } | Shape::Softbox { half, .. } => (half.0 * std::f32::consts::SQRT_2, half.1 * std::f32::consts::SQRT_2),
        Shape::Ring { radius, band } => (radius + band, radius + band),
        Shape::Dot { radius } => (radius, radius),
    };
    let glint = |g: &scene::Glint| {
        let (ru, rv) = around(&g.shape);
        s.ellipse(g.at, ru, rv)
    };
    Truth {
        seed,
        width: mask.width,
        height: mask.height,
        limbus: s.ellipse((0.0, 0.0), s.squeeze, 1.0),
        pupil: s.ellipse((s.pupil_at.0 * s.squeeze, s.pupil_at.1), s.pupil * s.squeeze, s.pupil),
        glints: s.glints.iter().map(glint).collect(),
        iris_colour: s.colour.to_owned(),
        coverage: mask.data.iter().map(|v| f64::from(*v)).sum::<f64>() / 255.0 / mask.data.len() as f64,
    }
}

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_eye_for_ever() {
        let sample = eye(7, 160, 120);
        assert_eq!(sample, eye(7, 160, 120));
        assert_ne!(sample.photo, eye(8, 160, 120).photo);
        // On every machine too. Where the drawing is changed on purpose, this changes with it.
        assert_eq!(
            hex::encode(sha2::Sha256::digest(&sample.photo.data)),
            "7bee1d1b61a978db0199fbb790c4bf660f97be408a3fa92a4af46ff2970a019e"
        );
    }

    #[test]
    fn the_iris_takes_8_to_20_percent_of_the_photo_and_lies_inside_it() {
        for seed in 0..60 {
            let Sample { mask, truth, .. } = eye(seed, 160, 120);
            assert!((0.08..=0.20).contains(&truth.coverage), "seed {seed}: {}", truth.coverage);
            let Ellipse { cx, cy, rx, ry, .. } = truth.limbus;
            assert!(cx - rx > 0.0 && cy - ry > 0.0 && cx + rx < 160.0 && cy + ry < 120.0, "seed {seed}");
            assert_eq!(mask.px(truth.pupil.cx as usize, truth.pupil.cy as usize), 255, "seed {seed}");
        }
    }

    #[test]
    fn sizes_show_the_same_eye() {
        let (small, large) = (eye(3, 160, 120).truth, eye(3, 320, 240).truth);
        assert!((small.limbus.rx * 2.0 - large.limbus.rx).abs() < 0.01 && small.iris_colour == large.iris_colour);
        assert!((small.coverage - large.coverage).abs() < 0.003);
        eye(1, 1, 1);
    }

    #[test]
    fn the_mask_lies_on_the_dark_disc() {
        for seed in 0..10 {
            let Sample { photo, truth, .. } = eye(seed, 320, 240);
            let level = |f: f64| {
                let at = photo.px((truth.limbus.cx + f * truth.limbus.rx) as usize, (truth.limbus.cy + 0.2 * truth.limbus.ry) as usize);
                at.iter().map(|v| u32::from(*v)).sum::<u32>()
            };
            assert!(level(0.9) + 40 < level(1.25) && level(-0.9) + 40 < level(-1.25), "seed {seed}");
        }
    }
}
