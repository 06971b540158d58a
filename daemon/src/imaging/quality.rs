//! Whether a photo is good enough: named figures against thresholds, after ISO/IEC 29794-6 (iris image quality), in spirit: that standard
//! speaks of near-infrared at a fixed scale, these are colour photos of any size, so the formulas are stated here.
//!
//! All but the geometry is measured on a patch around the iris, shrunk until the limbus is at most 200 px wide: 12 MP cost no more than
//! 1 MP, and a threshold means the same for each camera. A smaller iris is taken as it is: enlarging would make it look blurred.

mod contrast;
mod detail;
mod patch;

use self::{
    detail::{Bands, Motion},
    patch::Patch,
};
use super::{
    geometry,
    raster::{Gray, Rgb},
};
use crate::domain::{
    fault::{Code, Fault},
    quality::{Metric, Quality, Verdict},
    report::Ellipse,
};

/// Limits of the gate; what each figure is stands at [`measure`].
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    /// 0..1, and the next three.
    pub min_confidence: f64,
    pub min_limbus_edge: f64,
    pub min_pupil_inside: f64,
    pub min_concentricity: f64,
    /// px of the photo.
    pub min_iris_diameter: f64,
    /// %.
    pub min_sharpness: f64,
    /// 0..1.
    pub max_motion: f64,
    /// L*, 0..100.
    pub min_lightness: f64,
    pub max_lightness: f64,
    /// 0..1, and the next four.
    pub max_clipped: f64,
    pub max_glare: f64,
    pub max_pupil_glare: f64,
    pub min_usable_area: f64,
    pub min_inside: f64,
    pub min_pupil_ratio: f64,
    pub max_pupil_ratio: f64,
    /// Degrees.
    pub max_gaze: f64,
    /// 0..1; below these two it is a warning alone, for nobody can change the colour of an eye.
    pub min_iris_sclera_contrast: f64,
    pub min_iris_pupil_contrast: f64,
}

/// A photo and what was found in it.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub photo: &'a Rgb,
    /// The photo's size, inside from 128 on, and `glare`.
    pub mask: &'a Gray,
    pub limbus: &'a Ellipse,
    pub pupil: Option<&'a Ellipse>,
    pub glare: &'a Gray,
    /// 0..1, the segmentation's own.
    pub confidence: f64,
}

/// What the gate says.
pub struct Judgement {
    pub quality: Quality,
    /// One for each code that fails, the most important first.
    pub faults: Vec<Fault>,
    /// Where the camera or the eye moved, degrees counter-clockwise from the horizontal, -90..90; None: too little iris to tell.
    pub motion_deg: Option<f64>,
}

/// The figures of one photo, each against its limit.
///
/// | name | is |
/// |---|---|
/// | `confidence` | the segmentation's own, 0..1: the network's is a product of how sure, round and clear its answer is and how well two looks agree |
/// | `limbus_edge` | brighter outside than inside, left and right: see `Patch::limbus_edge`; absent where one of them is hidden |
/// | `pupil_inside` | part of the pupil's edge that lies within the limbus; absent, as the next and `pupil_ratio`, where no pupil was seen |
/// | `concentricity` | 1 - distance of the two centres / limbus radius (ISO/IEC 29794-6, "iris pupil concentricity") |
/// | `inside` | part of the limbus' area that lies on the photo ("margin adequacy") |
/// | `iris_diameter` | of the circle of the limbus' area, px of the photo |
/// | `lightness`, `overexposed` | mean L* of the iris without pupil and glare, against the lower and the upper limit |
/// | `clipped` | share of these pixels with two channels at 250 or above: their texture is lost |
/// | `motion` | how much one direction lacks fine detail: see `Bands::motion`; absent where too little iris is seen |
/// | `sharpness` | fine detail / coarse detail of the visible limbus, percent: see `Bands::sharpness` |
/// | `usable_area` | visible iris without glare / whole iris (limbus less pupil): lids, lashes, glare ("usable iris area") |
/// | `glare_share` | glare / visible iris with pupil |
/// | `pupil_glare` | glare in the pupil / visible pupil: of one that nothing but a lamp shows not even its colour can be told; absent where no pupil was seen |
/// | `pupil_ratio` | pupil radius / limbus radius ("pupil iris ratio") |
/// | `gaze` | angle off the camera's axis of a circle that looks like this limbus: acos(ry / rx), degrees |
/// | `iris_sclera_contrast` | see `Patch::sclera_contrast`; warns only; absent where no sclera was seen |
/// | `iris_pupil_contrast` | see `Patch::pupil_contrast`; warns only; absent where no pupil was seen |
pub fn measure(seen: &Seen<'_>, t: &Thresholds) -> Judgement {
    let Seen { photo, limbus, pupil, confidence, .. } = *seen;
    let patch = Patch::new(seen);
    let mut sheet = Sheet::default();
    sheet.at_least("confidence", "ratio", confidence, t.min_confidence, Code::LowConfidence);
    if let Some(edge) = patch.limbus_edge() {
        sheet.at_least("limbus_edge", "ratio", edge, t.min_limbus_edge, Code::LowConfidence);
    }
    let radius = geometry::radius(limbus).max(1e-9);
    if let Some(pupil) = pupil {
        let edge = geometry::polygon(pupil, 64);
        let within = edge.iter().filter(|(x, y)| geometry::contains(limbus, *x, *y)).count();
        sheet.at_least("pupil_inside", "ratio", within as f64 / edge.len() as f64, t.min_pupil_inside, Code::LowConfidence);
        let apart = (pupil.cx - limbus.cx).hypot(pupil.cy - limbus.cy) / radius;
        sheet.at_least("concentricity", "ratio", 1.0 - apart.min(1.0), t.min_concentricity, Code::LowConfidence);
    }
    sheet.at_least("inside", "ratio", geometry::share_inside(limbus, photo.width, photo.height), t.min_inside, Code::IrisCutOff);
    sheet.at_least("iris_diameter", "px", 2.0 * geometry::radius(limbus), t.min_iris_diameter, Code::IrisTooSmall);
    let lightness = patch.lightness();
    sheet.at_least("lightness", "L*", lightness, t.min_lightness, Code::TooDark);
    sheet.at_most("overexposed", "L*", lightness, t.max_lightness, Code::TooBright);
    sheet.at_most("clipped", "ratio", patch.clipped(), t.max_clipped, Code::TooBright);
    let bands = Bands::of(&patch);
    let motion = bands.motion(&patch);
    if let Some(Motion { share, .. }) = motion {
        sheet.at_most("motion", "ratio", share, t.max_motion, Code::MotionBlurred);
    }
    sheet.at_least("sharpness", "%", bands.sharpness(&patch), t.min_sharpness, Code::TooBlurred);
    sheet.at_least("usable_area", "ratio", patch.usable_area(), t.min_usable_area, Code::IrisCovered);
    sheet.at_most("glare_share", "ratio", patch.glare_share(), t.max_glare, Code::TooMuchGlare);
    if let Some(glare) = patch.pupil_glare() {
        sheet.at_most("pupil_glare", "ratio", glare, t.max_pupil_glare, Code::TooMuchGlare);
    }
    if let Some(pupil) = pupil {
        let ratio = geometry::radius(pupil) / radius;
        let nearest = if ratio < t.min_pupil_ratio { t.min_pupil_ratio } else { t.max_pupil_ratio };
        let pass = (t.min_pupil_ratio..=t.max_pupil_ratio).contains(&ratio);
        sheet.add("pupil_ratio", "ratio", ratio, nearest, pass, Some(Code::PupilOutOfRange));
    }
    let (long, short) = (limbus.rx.max(limbus.ry), limbus.rx.min(limbus.ry));
    sheet.at_most("gaze", "deg", (short / long.max(1e-9)).clamp(0.0, 1.0).acos().to_degrees(), t.max_gaze, Code::GazeOff);
    if let Some(contrast) = patch.sclera_contrast() {
        sheet.warn_below("iris_sclera_contrast", contrast, t.min_iris_sclera_contrast);
    }
    if let Some(contrast) = patch.pupil_contrast() {
        sheet.warn_below("iris_pupil_contrast", contrast, t.min_iris_pupil_contrast);
    }
    let (quality, faults) = sheet.verdict();
    Judgement { quality, faults, motion_deg: motion.map(|m| m.angle_deg) }
}

/// Two channels at the end of their scale, as `clipped` counts them.
pub fn is_burnt(rgb: [u8; 3]) -> bool {
    patch::is_burnt(rgb.map(f32::from))
}

/// Figures as they come in, in order of importance.
#[derive(Default)]
struct Sheet {
    metrics: std::collections::BTreeMap<String, Metric>,
    faults: Vec<Fault>,
}

impl Sheet {
    fn at_least(&mut self, name: &str, unit: &str, value: f64, threshold: f64, code: Code) {
        self.add(name, unit, value, threshold, value >= threshold, Some(code));
    }

    fn at_most(&mut self, name: &str, unit: &str, value: f64, threshold: f64, code: Code) {
        self.add(name, unit, value, threshold, value <= threshold, Some(code));
    }

    fn warn_below(&mut self, name: &str, value: f64, threshold: f64) {
        self.add(name, "ratio", value, threshold, value >= threshold, None);
    }

    /// Without a code a figure only warns. One fault a code: a photo that is too bright twice is too bright.
    fn add(&mut self, name: &str, unit: &str, value: f64, threshold: f64, pass: bool, code: Option<Code>) {
        // JSON has no NaN, and four digits are more than a photo can tell.
        let value = if value.is_finite() { (value * 1e4).round() / 1e4 } else { 0.0 };
        self.metrics.insert(name.to_owned(), Metric { value, unit: unit.to_owned(), threshold, pass });
        if let Some(code) = code.filter(|c| !pass && self.faults.iter().all(|f| f.code != *c)) {
            self.faults.push(Fault::new(code, format!("{name} is {value} {unit}, the limit is {threshold}")));
        }
    }

    fn verdict(self) -> (Quality, Vec<Fault>) {
        let verdict = match () {
            () if !self.faults.is_empty() => Verdict::Fail,
            () if self.metrics.values().any(|m| !m.pass) => Verdict::Warn,
            () => Verdict::Pass,
        };
        (Quality { verdict, metrics: self.metrics }, self.faults)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::imaging::{geometry::circle, mask};

    pub const T: Thresholds = Thresholds {
        min_confidence: 0.5,
        min_limbus_edge: 0.05,
        min_pupil_inside: 0.9,
        min_concentricity: 0.75,
        min_iris_diameter: 60.0,
        min_sharpness: 20.0,
        max_motion: 0.38,
        min_lightness: 2.0,
        max_lightness: 75.0,
        max_clipped: 0.15,
        max_glare: 0.35,
        max_pupil_glare: 0.85,
        min_usable_area: 0.47,
        min_inside: 0.75,
        min_pupil_ratio: 0.1,
        max_pupil_ratio: 0.8,
        max_gaze: 55.0,
        min_iris_sclera_contrast: 0.05,
        min_iris_pupil_contrast: 0.3,
    };

    /// An eye at (cx, 150) with a limbus of 100 px radius on 400 x 300 px, rays of a few px, edges `soft` px wide.
    fn eye(cx: f64, iris: f64, soft: f64) -> (Rgb, Ellipse, Ellipse, Gray) {
        let (limbus, pupil) = (circle(cx, 150.0, 100.0), circle(cx, 150.0, 35.0));
        let mut photo = Rgb::new(400, 300);
        for y in 0..300 {
            for x in 0..400 {
                let (fx, fy) = (x as f64 + 0.5, y as f64 + 0.5);
                let step = |e: &Ellipse| 1.0 / (1.0 + (-4.0 * geometry::signed_distance(e, fx, fy) / soft).exp());
                let texture = ((fy - 150.0).atan2(fx - cx) * 40.0).sin() * iris * 0.3 / (soft * soft).max(1.0);
                let ring = (iris + texture) * step(&pupil) + 6.0 * (1.0 - step(&pupil));
                let v = (ring * (1.0 - step(&limbus)) + 210.0 * step(&limbus)).clamp(0.0, 255.0);
                photo.set(x, y, [v as u8, (v * 0.9) as u8, (v * 0.8) as u8]);
            }
        }
        (photo, limbus, pupil, mask::ellipse(400, 300, &limbus))
    }

    fn codes(photo: &Rgb, limbus: &Ellipse, pupil: Option<&Ellipse>, mask: &Gray, glare: &Gray) -> Vec<Code> {
        let seen = Seen { photo, mask, limbus, pupil, glare, confidence: 0.9 };
        measure(&seen, &T).faults.iter().map(|f| f.code).collect()
    }

    #[test]
    fn plain_eyes_pass_from_nearly_black_to_pale() {
        for iris in [24.0, 60.0, 150.0] {
            let (photo, limbus, pupil, mask) = eye(200.0, iris, 1.0);
            let glare = Gray::new(400, 300);
            let seen = Seen { photo: &photo, mask: &mask, limbus: &limbus, pupil: Some(&pupil), glare: &glare, confidence: 0.9 };
            let Judgement { quality, faults, .. } = measure(&seen, &T);
            assert_eq!(faults, [], "{iris}: {:?}", quality.metrics);
            assert_eq!(quality.metrics.len(), 18);
        }
    }

    #[test]
    fn each_way_to_be_bad_has_its_code() {
        let none = Gray::new(400, 300);
        let (photo, limbus, pupil, mask) = eye(200.0, 60.0, 30.0);
        assert_eq!(codes(&photo, &limbus, Some(&pupil), &mask, &none), [Code::TooBlurred]);
        let (photo, limbus, pupil, mask) = eye(200.0, 1.0, 1.0);
        assert!(codes(&photo, &limbus, Some(&pupil), &mask, &none).contains(&Code::TooDark));
        let (photo, limbus, pupil, mask) = eye(200.0, 300.0, 1.0);
        assert!(codes(&photo, &limbus, Some(&pupil), &mask, &none).contains(&Code::TooBright));
        let (photo, limbus, pupil, mask) = eye(30.0, 60.0, 1.0);
        assert_eq!(codes(&photo, &limbus, Some(&pupil), &mask, &none)[0], Code::IrisCutOff);
        let (photo, limbus, pupil, mut mask) = eye(200.0, 60.0, 1.0);
        let glare = mask::ellipse(400, 300, &circle(160.0, 150.0, 62.0));
        assert_eq!(codes(&photo, &limbus, Some(&pupil), &mask, &glare), [Code::TooMuchGlare]);
        let glare = mask::ellipse(400, 300, &pupil);
        assert_eq!(codes(&photo, &limbus, Some(&pupil), &mask, &glare), [Code::TooMuchGlare]);
        assert_eq!(codes(&photo, &limbus, Some(&circle(200.0, 150.0, 5.0)), &mask, &none), [Code::PupilOutOfRange]);
        let aside = Ellipse { ry: 50.0, ..limbus };
        assert_eq!(codes(&photo, &aside, Some(&pupil), &mask, &none), [Code::GazeOff]);
        mask.data[..165 * 400].fill(0);
        assert_eq!(codes(&photo, &limbus, Some(&pupil), &mask, &none), [Code::IrisCovered]);
    }

    #[test]
    fn a_cameras_noise_makes_no_blurred_photo_sharp() {
        let (mut photo, limbus, pupil, mask) = eye(200.0, 60.0, 30.0);
        let mut dice = 1u32;
        for v in &mut photo.data {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *v = v.saturating_add_signed((dice >> 24) as i8 / 16);
        }
        assert_eq!(codes(&photo, &limbus, Some(&pupil), &mask, &Gray::new(400, 300)), [Code::TooBlurred]);
    }

    #[test]
    fn a_limbus_off_the_photo_or_of_no_size_gives_figures_and_no_panic() {
        let (photo, _, _, mask) = eye(200.0, 60.0, 1.0);
        for e in [circle(-900.0, 20.0, 40.0), circle(200.0, 150.0, 0.0), circle(200.0, 150.0, 5000.0)] {
            let glare = Gray::new(400, 300);
            let seen = Seen { photo: &photo, mask: &mask, limbus: &e, pupil: None, glare: &glare, confidence: 0.2 };
            let Judgement { quality, faults, .. } = measure(&seen, &T);
            assert!(quality.metrics.values().all(|m| m.value.is_finite()) && faults[0].code == Code::LowConfidence);
        }
    }
}
