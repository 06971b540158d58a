//! The classical segmenter: limbus, pupil and lids from edges alone, for devices without weights or runtime.
//!
//! ```text
//!   photo -> small views (320 px)   lamps opened away, iris dark, sclera and skin bright
//!         -> search::candidates     circles by gradient voting over centre and radius, the twelve best, apart from each other
//!         -> refine::best           integro-differential (Daugman 1993), lateral arcs first: lids cover the others
//!         -> lids::find             two parabolas, by what does not look like iris inside the limbus
//!         -> geometry::edge         the limbus between the lids, on the photo itself
//!         -> Found                  ellipses and soft mask at the photo's size
//! ```
//!
//! It never answers with a guess: where no circle is darker inside than outside on both sides there is nothing found, and the
//! confidence says how much of a limbus, a pupil and a white was seen.

mod lids;
mod refine;
mod search;
mod views;

use self::{
    refine::{Eye, Outline},
    views::Views,
};
use super::{
    geometry, mask,
    raster::{Gray, Rgb},
};
use crate::domain::report::Ellipse;

/// An iris, px of the photo.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub limbus: Ellipse,
    pub pupil: Option<Ellipse>,
    /// The photo's size: visible iris with the pupil, soft edge.
    pub mask: Gray,
    /// 0..1; below 0.5 it may well be something else.
    pub confidence: f64,
}

/// Smallest photo that is looked at, px a side.
const MIN_SIDE: usize = 48;

/// The iris of a photo of one eye, upright, sRGB. None: nothing in it looks like one.
pub fn classical(photo: &Rgb) -> Option<Found> {
    if photo.width.min(photo.height) < MIN_SIDE {
        return None;
    }
    let views = Views::new(photo);
    let outlines = search::candidates(&views).into_iter().filter_map(|c| Outline::of(&views, c)).collect();
    let best = refine::best(&views, outlines)?;
    let lids = lids::find(&views, &best);
    let (sx, sy) = views.scale(photo);
    let coarse = scaled(&best.limbus, sx, sy);
    let limbus = geometry::edge::limbus(photo, &coarse, geometry::edge::STEEPEST, |x, y| lids.is_open(x / sx, y / sy)).unwrap_or(coarse);
    let mut mask = mask::ellipse(photo.width, photo.height, &limbus);
    lids.cut(&mut mask, sx, sy);
    mask::clean(&mut mask);
    let pupil = best.pupil.as_ref().map(|p| scaled(p, sx, sy));
    let confidence = confidence(&best, &limbus, &mask);
    (mask.count_inside() > 0).then_some(Found { limbus, pupil, mask, confidence })
}

/// The two scales differ by less than a px over the photo's side, so an ellipse stays what it is.
fn scaled(e: &Ellipse, sx: f64, sy: f64) -> Ellipse {
    let s = (sx * sy).sqrt();
    Ellipse { cx: e.cx * sx, cy: e.cy * sy, rx: e.rx * s, ry: e.ry * s, angle_deg: e.angle_deg }
}

/// 0..1: an edge on both sides, a pupil, an inside darker than what is around, open lids; each in the range between what pictures without an
/// eye reach and what plain eyes have. A product, because a moon has an edge and a cup a dark spot, but only eyes have all of it.
fn confidence(eye: &Eye, limbus: &Ellipse, mask: &Gray) -> f64 {
    let rise = |v: f64, low: f64, high: f64| ((v - low) / (high - low)).clamp(0.0, 1.0);
    let visible = mask.count_inside() as f64 / geometry::area(limbus).max(1.0);
    let edge = 0.5 * rise(eye.sides, 0.2, 0.7) + 0.5 * rise(eye.limbus_score, 0.35, 0.85);
    let pupil = 0.3 + 0.7 * rise(eye.pupil_score, 0.05, 0.4);
    let dark = rise(eye.dark, 0.45, 0.75);
    let open = 0.5 + 0.5 * rise(visible, 0.3, 0.6);
    edge * pupil * dark * open
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMBUS: Ellipse = Ellipse { cx: 262.0, cy: 196.0, rx: 78.0, ry: 78.0, angle_deg: 0.0 };
    const PUPIL: Ellipse = Ellipse { cx: 264.0, cy: 194.0, rx: 28.0, ry: 28.0, angle_deg: 0.0 };

    /// Skin, an almond of sclera, iris with rays and pupil, a lamp on it; the upper lid covers the iris down to y = 140.
    fn eye(iris: [i32; 3], skin: [u8; 3]) -> (Rgb, Gray) {
        let (mut photo, mut truth) = (Rgb::new(520, 390), Gray::new(520, 390));
        for y in 0..390 {
            for x in 0..520 {
                let (fx, fy) = (x as f64 + 0.5, y as f64 + 0.5);
                let across = (fx - 260.0) / 190.0;
                let open = across.abs() < 1.0 && fy > 230.0 - 90.0 * (1.0 - across * across) && fy < 200.0 + 70.0 * (1.0 - across * across);
                let seen = open && geometry::contains(&LIMBUS, fx, fy);
                truth.data[y * 520 + x] = if seen { 255 } else { 0 };
                let ray = (((fy - LIMBUS.cy).atan2(fx - LIMBUS.cx) * 24.0).sin() * 14.0) as i32;
                let px = match () {
                    () if seen && (fx - 240.0).hypot(fy - 180.0) < 7.0 => [250; 3],
                    () if seen && geometry::contains(&PUPIL, fx, fy) => [14, 12, 12],
                    () if seen => iris.map(|c| (c + ray).clamp(0, 255) as u8),
                    () if open => [214, 204, 200],
                    () => skin,
                };
                photo.set(x, y, px);
            }
        }
        (photo, truth)
    }

    fn iou(a: &Gray, b: &Gray) -> f64 {
        let both = |f: fn(bool, bool) -> bool| a.data.iter().zip(&b.data).filter(|(a, b)| f(**a >= 128, **b >= 128)).count() as f64;
        both(|a, b| a && b) / both(|a, b| a || b)
    }

    #[test]
    fn brown_blue_and_nearly_black_eyes_are_found_under_light_and_dark_skin() {
        for (iris, skin) in [([88, 54, 34], [205, 160, 140]), ([110, 140, 170], [225, 185, 165]), ([46, 32, 26], [120, 80, 60])] {
            let (photo, truth) = eye(iris, skin);
            let found = classical(&photo).expect("an eye");
            assert!(iou(&found.mask, &truth) > 0.85, "{iris:?}: {}", iou(&found.mask, &truth));
            assert!((found.limbus.cx - LIMBUS.cx).hypot(found.limbus.cy - LIMBUS.cy) < 6.0, "{:?}", found.limbus);
            let pupil = found.pupil.expect("a pupil");
            assert!(
                (pupil.cx - PUPIL.cx).hypot(pupil.cy - PUPIL.cy) < 6.0 && (pupil.rx - PUPIL.rx).abs() < 6.0,
                "{iris:?} {pupil:?} {:?}",
                found.limbus
            );
            assert!(found.confidence > 0.6, "{}", found.confidence);
        }
    }

    #[test]
    fn a_plain_wall_a_ramp_and_noise_are_no_eyes() {
        let mut seed = 1u32;
        let mut noise = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        let make = |f: &mut dyn FnMut(usize, usize) -> u8| {
            let mut p = Rgb::new(300, 220);
            for y in 0..220 {
                for x in 0..300 {
                    p.set(x, y, [f(x, y); 3]);
                }
            }
            p
        };
        for photo in [make(&mut |_, _| 120), make(&mut |x, y| (x / 2 + y / 4) as u8), make(&mut |_, _| noise())] {
            let found = classical(&photo);
            assert!(found.as_ref().is_none_or(|f| f.confidence < 0.3), "{:?}", found.map(|f| (f.limbus, f.confidence)));
        }
    }

    #[test]
    fn pictures_too_small_or_very_long_are_answered_without_a_panic() {
        for (w, h) in [(1, 1), (47, 400), (48, 48), (4000, 50), (50, 4000), (0, 0)] {
            let found = classical(&Rgb::new(w, h));
            assert!(found.is_none_or(|f| f.mask.width == w && f.confidence < 0.5));
        }
    }
}
