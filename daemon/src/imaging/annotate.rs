//! A refused photo as a small picture that shows why: what was found, and the one thing that is wrong.
//!
//! ```text
//!   light blue   limbus and pupil as they were found
//!   red          what is wrong: an edge, a tint over burnt or mirrored px, hatching over what lids hide, an arrow along a motion
//!   white dashes how it should be: size of the iris, size of the pupil, place of the eye
//! ```
//!
//! Every line lies on a dark seam, so that it is seen on skin, white and pupil alike; what is wrong is also the thicker one, for those who
//! see no red.

use std::f64::consts::{PI, TAU};

use super::{
    geometry::{self, Point, circle},
    mask,
    quality::{Seen, Thresholds, is_burnt},
    raster::{Gray, Rgb},
    resize,
};
use crate::domain::{fault::Code, report::Ellipse};

const FOUND: Pen = Pen { colour: [90, 215, 255], width: 1.2, dashed: false };
const WRONG: Pen = Pen { colour: [255, 52, 40], width: 2.4, dashed: false };
const UNSURE: Pen = Pen { dashed: true, ..WRONG };
const WANTED: Pen = Pen { colour: [255, 255, 255], width: 1.2, dashed: true };
/// Dark beside a line, px and opacity.
const SEAM: (f64, f32) = (1.0, 0.55);
/// A dash and the gap after it, px.
const DASH: (f64, f64) = (6.0, 4.0);
/// Opacity of a tint over the part that is meant, and over the px that are to blame.
const LIGHT: f32 = 0.25;
const STRONG: f32 = 0.7;
/// Hatching: every so many px, so many wide.
const HATCH: (usize, usize) = (7, 2);
/// Corners of an ellipse.
const CORNERS: usize = 96;
/// The iris should fill this part of the photo's height.
const TARGET: f64 = 1.0 / 3.0;

/// What the gate said, as far as it can be drawn.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    pub code: Code,
    /// Degrees, as `quality::Judgement` has it.
    pub motion_deg: Option<f64>,
    /// Iris mask / photo that is wanted, 0..1.
    pub min_coverage: f64,
    pub thresholds: &'a Thresholds,
}

/// The photo, its longest side at most `longest` px, with marks. `seen`: None where nothing like an iris was found.
pub fn draw(photo: &Rgb, seen: Option<&Seen<'_>>, refusal: &Refusal<'_>, longest: usize) -> Rgb {
    let scale = (longest as f64 / photo.width.max(photo.height).max(1) as f64).min(1.0);
    let side = |px: usize| ((px as f64 * scale).round() as usize).max(1);
    let mut sheet = Sheet { picture: resize::shrink(photo, side(photo.width), side(photo.height)) };
    match seen {
        Some(seen) => found(&mut sheet, seen, refusal, scale),
        None => {
            let (w, h) = (sheet.picture.width as f64, sheet.picture.height as f64);
            sheet.closed(&[(1.0, 1.0), (w - 1.0, 1.0), (w - 1.0, h - 1.0), (1.0, h - 1.0)], WRONG);
            sheet.ellipse(&circle(w / 2.0, h / 2.0, h * TARGET / 2.0), WANTED);
        }
    }
    sheet.picture
}

fn found(sheet: &mut Sheet, seen: &Seen<'_>, refusal: &Refusal<'_>, scale: f64) {
    let small = |e: &Ellipse| geometry::transform(e, scale, 0.0, 0.0);
    let (limbus, pupil) = (small(seen.limbus), seen.pupil.map(small));
    let (w, h) = (sheet.picture.width, sheet.picture.height);
    let mask = resize::shrink_gray(seen.mask, w, h);
    let radius = geometry::radius(&limbus);
    let around = |r: f64| circle(limbus.cx, limbus.cy, r);
    let t = refusal.thresholds;

    let mut rim = FOUND;
    let mut pupil_rim = FOUND;
    match refusal.code {
        Code::NoIris | Code::IrisTooSmall => {
            rim = if refusal.code == Code::NoIris { UNSURE } else { WRONG };
            // As large as it would have to be with as much of it in sight as now.
            let by_share = radius / scale * (refusal.min_coverage / mask::coverage(seen.mask).max(1e-6)).sqrt();
            sheet.ellipse(&around(by_share.max(t.min_iris_diameter / 2.0) * scale), WANTED);
        }
        Code::LowConfidence => (rim, pupil_rim) = (UNSURE, UNSURE),
        Code::IrisCovered => sheet.tint(|x, y| {
            let hidden = mask.px(x, y) < 128 && geometry::contains(&limbus, x as f64 + 0.5, y as f64 + 0.5);
            if hidden && (x + y) % HATCH.0 < HATCH.1 { 1.0 } else { 0.0 }
        }),
        Code::TooDark => sheet.tint(|x, y| if mask.px(x, y) >= 128 { LIGHT } else { 0.0 }),
        Code::TooBright => sheet.tint(|x, y| match mask.px(x, y) >= 128 {
            true if is_burnt(at(seen.photo, x, y, scale)) => STRONG,
            true => LIGHT,
            false => 0.0,
        }),
        Code::TooMuchGlare => {
            let glare: Gray = resize::shrink_gray(seen.glare, w, h);
            sheet.tint(|x, y| STRONG * f32::from(glare.px(x, y)) / 255.0);
        }
        Code::GazeOff => {
            rim = WRONG;
            sheet.ellipse(&around(limbus.rx.max(limbus.ry)), WANTED);
        }
        Code::PupilOutOfRange => {
            pupil_rim = WRONG;
            let is_small = pupil.is_some_and(|p| geometry::radius(&p) < t.min_pupil_ratio * radius);
            sheet.ellipse(&around(radius * if is_small { t.min_pupil_ratio } else { t.max_pupil_ratio }), WANTED);
        }
        _ => {}
    }
    sheet.ellipse(&limbus, rim);
    pupil.iter().for_each(|p| sheet.ellipse(p, pupil_rim));
    match refusal.code {
        Code::IrisCutOff => sheet.border_within(&limbus),
        Code::TooBlurred => sheet.brackets(&limbus),
        Code::MotionBlurred => sheet.arrow((limbus.cx, limbus.cy), radius, refusal.motion_deg.unwrap_or(0.0)),
        _ => {}
    }
}

/// The photo's px under the middle of one of the small picture.
fn at(photo: &Rgb, x: usize, y: usize, scale: f64) -> [u8; 3] {
    let place = |v: usize, n: usize| (((v as f64 + 0.5) / scale) as usize).min(n - 1);
    photo.px(place(x, photo.width), place(y, photo.height))
}

#[derive(Clone, Copy)]
struct Pen {
    colour: [u8; 3],
    /// px
    width: f64,
    dashed: bool,
}

struct Sheet {
    picture: Rgb,
}

impl Sheet {
    fn ellipse(&mut self, e: &Ellipse, pen: Pen) {
        self.closed(&geometry::polygon(e, CORNERS), pen);
    }

    fn closed(&mut self, corners: &[Point], pen: Pen) {
        let mut all = corners.to_vec();
        all.extend(corners.first());
        self.line(&all, pen);
    }

    /// From corner to corner, on its seam.
    fn line(&mut self, corners: &[Point], pen: Pen) {
        let (mut ink, mut seam) = (vec![0f32; self.picture.width * self.picture.height], Vec::new());
        seam.clone_from(&ink);
        let mut run = 0.0;
        for pair in corners.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            self.stroke(a, b, pen.width / 2.0, pen.dashed.then_some(run), &mut ink);
            self.stroke(a, b, pen.width / 2.0 + SEAM.0, pen.dashed.then_some(run), &mut seam);
            run += (b.0 - a.0).hypot(b.1 - a.1);
        }
        let width = self.picture.width;
        self.blend([0; 3], |x, y| SEAM.1 * seam[y * width + x]);
        self.blend(pen.colour, |x, y| ink[y * width + x]);
    }

    /// How much of each px lies under a stroke of half width `half`; `run`: px of the line before it, for its dashes.
    fn stroke(&self, a: Point, b: Point, half: f64, run: Option<f64>, ink: &mut [f32]) {
        let (w, h) = (self.picture.width, self.picture.height);
        let span = |p: f64, q: f64, n: usize| {
            ((p.min(q) - half - 1.0).max(0.0) as usize).min(n)..((p.max(q) + half + 2.0).max(0.0) as usize).min(n)
        };
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length = dx.hypot(dy).max(1e-9);
        for y in span(a.1, b.1, h) {
            for x in span(a.0, b.0, w) {
                let (px, py) = (x as f64 + 0.5 - a.0, y as f64 + 0.5 - a.1);
                let along = ((px * dx + py * dy) / length).clamp(0.0, length);
                let off = (px - dx * along / length).hypot(py - dy * along / length);
                if run.is_none_or(|run| (run + along) % (DASH.0 + DASH.1) < DASH.0) {
                    let ink = &mut ink[y * w + x];
                    *ink = ink.max((half + 0.5 - off).clamp(0.0, 1.0) as f32);
                }
            }
        }
    }

    fn tint(&mut self, share: impl Fn(usize, usize) -> f32) {
        self.blend(WRONG.colour, share);
    }

    fn blend(&mut self, colour: [u8; 3], share: impl Fn(usize, usize) -> f32) {
        for y in 0..self.picture.height {
            for x in 0..self.picture.width {
                let share = share(x, y);
                if share > 0.0 {
                    let px = self.picture.px(x, y);
                    let mixed = std::array::from_fn(|c| f32::from(px[c]) + (f32::from(colour[c]) - f32::from(px[c])) * share);
                    self.picture.set(x, y, mixed.map(|v: f32| (v + 0.5) as u8));
                }
            }
        }
    }

    /// The photo's edge where the iris goes on beyond it.
    fn border_within(&mut self, limbus: &Ellipse) {
        let (w, h) = (self.picture.width, self.picture.height);
        let band = (WRONG.width * 2.0) as usize;
        self.tint(|x, y| {
            let near = x.min(y).min(w - 1 - x).min(h - 1 - y) < band;
            if near && geometry::contains(limbus, x as f64 + 0.5, y as f64 + 0.5) { 1.0 } else { 0.0 }
        });
    }

    /// The corners of a viewfinder that found no focus.
    fn brackets(&mut self, limbus: &Ellipse) {
        let (left, top, right, bottom) = geometry::bounds(limbus);
        let arm = (right - left).min(bottom - top) / 4.0;
        for (x, sx) in [(left, 1.0), (right, -1.0)] {
            for (y, sy) in [(top, 1.0), (bottom, -1.0)] {
                self.line(&[(x + sx * arm, y), (x, y), (x, y + sy * arm)], WRONG);
            }
        }
    }

    /// An arrow with two heads across the iris.
    fn arrow(&mut self, (cx, cy): Point, radius: f64, degrees: f64) {
        let head = (radius / 4.0).max(4.0);
        let to = |turn: f64, from: Point, length: f64| {
            let (s, c) = (degrees.to_radians() + turn).sin_cos();
            (from.0 + length * c, from.1 - length * s)
        };
        let ends = [to(0.0, (cx, cy), 0.8 * radius), to(PI, (cx, cy), 0.8 * radius)];
        self.line(&ends, WRONG);
        for (end, back) in ends.into_iter().zip([PI, 0.0]) {
            self.line(&[to(back + TAU / 10.0, end, head), end, to(back - TAU / 10.0, end, head)], WRONG);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::{mask, quality::tests::T, synth};

    fn marked(code: Code, cut: bool) -> (Rgb, Rgb) {
        let sample = synth::eye(5, 640, 480);
        let mut limbus = sample.truth.limbus;
        if cut {
            limbus.cx = 20.0;
        }
        let mut mask = sample.mask.clone();
        mask.data[..200 * 640].fill(0);
        let glare = mask::ellipse(640, 480, &sample.truth.pupil);
        let seen =
            Seen { photo: &sample.photo, mask: &mask, limbus: &limbus, pupil: Some(&sample.truth.pupil), glare: &glare, confidence: 0.9 };
        let refusal = Refusal { code, motion_deg: Some(30.0), min_coverage: 0.05, thresholds: &T };
        let plain = resize::shrink(&sample.photo, 320, 240);
        (draw(&sample.photo, Some(&seen), &refusal, 320), plain)
    }

    fn reddish(picture: &Rgb) -> usize {
        picture.data.chunks_exact(3).filter(|p| p[0] > 150 && p[1] < 100 && p[2] < 100).count()
    }

    #[test]
    fn every_code_of_the_gate_has_a_mark_of_its_own() {
        let codes = [
            Code::NoIris,
            Code::LowConfidence,
            Code::IrisTooSmall,
            Code::IrisCovered,
            Code::TooBlurred,
            Code::MotionBlurred,
            Code::TooDark,
            Code::TooMuchGlare,
            Code::PupilOutOfRange,
            Code::GazeOff,
        ];
        let pictures: Vec<Rgb> = codes.iter().map(|code| marked(*code, false).0).collect();
        for (i, picture) in pictures.iter().enumerate() {
            assert_eq!((picture.width, picture.height), (320, 240));
            assert!(pictures.iter().skip(i + 1).all(|other| other != picture), "{:?} looks like another", codes[i]);
        }
        for (code, picture) in codes.iter().zip(&pictures).filter(|(c, _)| !matches!(c, Code::TooDark)) {
            assert!(reddish(picture) > 40, "{code:?}: {} px", reddish(picture));
        }
    }

    #[test]
    fn a_cut_off_iris_marks_the_edge_that_cuts_it_and_no_other() {
        let (picture, _) = marked(Code::IrisCutOff, true);
        let red = |x: usize| (0..240).filter(|y| picture.px(x, *y)[0] > 200 && picture.px(x, *y)[1] < 80).count();
        assert!(red(1) > 40 && red(318) == 0, "{} {}", red(1), red(318));
    }

    #[test]
    fn px_beside_the_marks_are_the_photos_own() {
        let (picture, plain) = marked(Code::TooBlurred, false);
        let changed = picture.data.chunks_exact(3).zip(plain.data.chunks_exact(3)).filter(|(a, b)| a != b).count();
        assert!((200..320 * 240 / 8).contains(&changed), "{changed}");
    }

    #[test]
    fn a_photo_with_nothing_in_it_or_of_one_px_is_drawn_without_a_panic() {
        let refusal = Refusal { code: Code::NoIris, motion_deg: None, min_coverage: 0.05, thresholds: &T };
        for (w, h) in [(1, 1), (900, 2), (640, 480)] {
            let picture = draw(&Rgb::new(w, h), None, &refusal, 320);
            assert!(picture.width.max(picture.height) <= 320 && picture.data.iter().any(|v| *v > 0));
        }
    }
}
