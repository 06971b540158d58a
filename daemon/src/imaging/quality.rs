//! Whether a photo is good enough: named figures against thresholds, after ISO/IEC 29794-6 (iris image quality), in spirit: that standard
//! speaks of near-infrared at a fixed scale, these are colour photos of any size, so the formulas are stated here.
//!
//! All but the geometry is measured on a patch around the iris, shrunk until the limbus is at most 200 px wide: 12 MP cost no more than
//! 1 MP, and a threshold means the same for each camera. A smaller iris is taken as it is: enlarging would make it look blurred.

mod patch;

use self::patch::Patch;
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
    /// 0..1.
    pub min_confidence: f64,
    /// px of the photo.
    pub min_iris_diameter: f64,
    /// %.
    pub min_sharpness: f64,
    /// L*, 0..100.
    pub min_lightness: f64,
    pub max_lightness: f64,
    /// 0..1, and the next three.
    pub max_clipped: f64,
    pub max_glare: f64,
    pub min_usable_area: f64,
    pub min_inside: f64,
    pub min_pupil_ratio: f64,
    pub max_pupil_ratio: f64,
    /// Degrees.
    pub max_gaze: f64,
}

/// Below it iris and sclera can hardly be told apart; a warning alone, for there is nothing that the person could do (ISO/IEC 29794-6
/// recommends 5 %).
const MIN_CONTRAST: f64 = 0.05;

/// The figures of one photo, and a fault for each gating figure that fails, the most important first.
///
/// | name | is |
/// |---|---|
/// | `confidence` | the segmentation's own, 0..1 |
/// | `inside` | part of the limbus' area that lies on the photo ("margin adequacy") |
/// | `iris_diameter` | of the circle of the limbus' area, px of the photo |
/// | `lightness`, `overexposed` | mean L* of the iris without pupil and glare, against the lower and the upper limit |
/// | `clipped` | share of these pixels with two channels at 250 or above: their texture is lost |
/// | `sharpness` | fine detail / coarse detail of the visible limbus, percent: see `Patch::sharpness` |
/// | `usable_area` | visible iris without glare / whole iris (limbus less pupil): lids, lashes, glare ("usable iris area") |
/// | `glare_share` | glare / visible iris with pupil |
/// | `pupil_ratio` | pupil radius / limbus radius ("pupil iris ratio"); absent where no pupil was seen |
/// | `gaze` | angle off the camera's axis of a circle that looks like this limbus: acos(ry / rx), degrees |
/// | `iris_sclera_contrast` | (sclera - iris) / (sclera + iris - 2 pupil), luma; warns only; absent where no sclera was seen |
///
/// `mask` and `glare`: the photo's size, inside from 128 on. `confidence`: 0..1.
pub fn measure(
    photo: &Rgb,
    mask: &Gray,
    limbus: &Ellipse,
    pupil: Option<&Ellipse>,
    glare: &Gray,
    confidence: f64,
    t: &Thresholds,
) -> (Quality, Vec<Fault>) {
    let patch = Patch::new(photo, mask, limbus, pupil, glare);
    let mut sheet = Sheet::default();
    sheet.at_least("confidence", "ratio", confidence, t.min_confidence, Code::LowConfidence);
    sheet.at_least("inside", "ratio", geometry::share_inside(limbus, photo.width, photo.height), t.min_inside, Code::IrisCutOff);
    sheet.at_least("iris_diameter", "px", 2.0 * geometry::radius(limbus), t.min_iris_diameter, Code::IrisTooSmall);
    let lightness = patch.lightness();
    sheet.at_least("lightness", "L*", lightness, t.min_lightness, Code::TooDark);
    sheet.at_most("overexposed", "L*", lightness, t.max_lightness, Code::TooBright);
    sheet.at_most("clipped", "ratio", patch.clipped(), t.max_clipped, Code::TooBright);
    sheet.at_least("sharpness", "%", patch.sharpness(), t.min_sharpness, Code::TooBlurred);
    sheet.at_least("usable_area", "ratio", patch.usable_area(), t.min_usable_area, Code::IrisCovered);
    sheet.at_most("glare_share", "ratio", patch.glare_share(), t.max_glare, Code::TooMuchGlare);
    if let Some(pupil) = pupil {
        let ratio = geometry::radius(pupil) / geometry::radius(limbus).max(1e-9);
        let nearest = if ratio < t.min_pupil_ratio { t.min_pupil_ratio } else { t.max_pupil_ratio };
        sheet.add(
            "pupil_ratio",
            "ratio",
            ratio,
            nearest,
            (t.min_pupil_ratio..=t.max_pupil_ratio).contains(&ratio),
            Some(Code::PupilOutOfRange),
        );
    }
    let (long, short) = (limbus.rx.max(limbus.ry), limbus.rx.min(limbus.ry));
    sheet.at_most("gaze", "deg", (short / long.max(1e-9)).clamp(0.0, 1.0).acos().to_degrees(), t.max_gaze, Code::GazeOff);
    if let Some(contrast) = patch.sclera_contrast() {
        sheet.add("iris_sclera_contrast", "ratio", contrast, MIN_CONTRAST, contrast >= MIN_CONTRAST, None);
    }
    sheet.verdict()
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
mod tests {
    use super::*;
    use crate::imaging::{geometry::circle, mask};

    const T: Thresholds = Thresholds {
        min_confidence: 0.5,
        min_iris_diameter: 60.0,
        min_sharpness: 20.0,
        min_lightness: 2.0,
        max_lightness: 75.0,
        max_clipped: 0.15,
        max_glare: 0.35,
        min_usable_area: 0.47,
        min_inside: 0.75,
        min_pupil_ratio: 0.1,
        max_pupil_ratio: 0.8,
        max_gaze: 55.0,
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
        measure(photo, mask, limbus, pupil, glare, 0.9, &T).1.iter().map(|f| f.code).collect()
    }

    #[test]
    fn plain_eyes_pass_from_nearly_black_to_pale() {
        for iris in [24.0, 60.0, 150.0] {
            let (photo, limbus, pupil, mask) = eye(200.0, iris, 1.0);
            let (quality, faults) = measure(&photo, &mask, &limbus, Some(&pupil), &Gray::new(400, 300), 0.9, &T);
            assert_eq!((faults, quality.verdict), (vec![], Verdict::Pass), "{iris}: {:?}", quality.metrics);
            assert_eq!(quality.metrics.len(), 12);
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
        assert_eq!(codes(&photo, &limbus, Some(&circle(200.0, 150.0, 5.0)), &mask, &none), [Code::PupilOutOfRange]);
        let aside = Ellipse { ry: 50.0, ..limbus };
        assert_eq!(codes(&photo, &aside, Some(&pupil), &mask, &none), [Code::GazeOff]);
        mask.data[..165 * 400].fill(0);
        assert_eq!(codes(&photo, &limbus, Some(&pupil), &mask, &none), [Code::IrisCovered]);
    }

    #[test]
    fn a_limbus_off_the_photo_or_of_no_size_gives_figures_and_no_panic() {
        let (photo, _, _, mask) = eye(200.0, 60.0, 1.0);
        for e in [circle(-900.0, 20.0, 40.0), circle(200.0, 150.0, 0.0), circle(200.0, 150.0, 5000.0)] {
            let (quality, faults) = measure(&photo, &mask, &e, None, &Gray::new(400, 300), 0.2, &T);
            assert!(quality.metrics.values().all(|m| m.value.is_finite()) && faults[0].code == Code::LowConfidence);
        }
    }
}
