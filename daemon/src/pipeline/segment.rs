//! Step 2: where the iris is, by the network or the classical segmenter, and whether the photo is good enough.

use super::{Halt, Settings, Steps, Stop, eyenet, save::THUMB_PX};
use crate::{
    domain::{
        fault::{Code, Fault},
        quality::{self, Metric, Quality},
        report::{Ellipse, IrisFacts},
    },
    imaging::{
        annotate::{self, Refusal},
        geometry,
        highlights::{self, Highlights},
        mask::{self, Region},
        quality as gate,
        raster::{Gray, Rgb},
        segment,
    },
    inference::{
        Engine,
        manifest::{ModelRow, Role},
    },
    ports::ModelError,
};

/// What is known of the eye in the photo.
pub struct Eye {
    /// The photo's size: visible iris with the pupil, soft edge.
    pub mask: Gray,
    pub iris: IrisFacts,
    pub highlights: Highlights,
    pub quality: Quality,
    /// Sentences for the person.
    pub warnings: Vec<String>,
}

/// An iris, px of the photo.
pub struct Found {
    pub mask: Gray,
    pub limbus: Ellipse,
    pub pupil: Option<Ellipse>,
    confidence: f64,
}

/// Looks for the iris. Errors: those of a network that the configuration names.
pub fn see(photo: &Rgb, settings: &Settings, engine: &Engine, steps: &Steps<'_>) -> Result<Seen, Halt> {
    let seen = match choose(settings, engine)? {
        Network::None => Seen::by_eye(photo),
        // That is what `auto` means on a device that nobody brought a network onto: told, and no reason to warn.
        Network::Absent(why) if why.code == Code::WeightsMissing => Seen::by_eye(photo).instead(why.detail),
        Network::Absent(why) => Seen::by_eye(photo).instead(why.detail).warned(),
        Network::Named(row) => Seen::by_network(photo, row, engine, steps)?,
        Network::Auto(row) => match Seen::by_network(photo, row, engine, steps) {
            Err(Halt::Fault(fault)) => {
                tracing::warn!(model = row.name, code = %fault.code.name(), detail = fault.detail, "the classical segmenter takes over");
                steps.stand_in();
                Seen::by_eye(photo).instead(format!("{}: {}", row.name, fault.detail)).warned()
            }
            seen => seen?,
        },
    };
    steps.at(0.75)?;
    Ok(seen)
}

/// Whether what was seen is good enough.
pub enum Verdict {
    Good(Box<Eye>),
    /// Only where the gate is on: NoIris or a code of the quality gate.
    Refused {
        fault: Fault,
        /// None: there was nothing to measure.
        quality: Option<Quality>,
        /// The photo, small, with marks; longest side [`THUMB_PX`].
        picture: Rgb,
    },
}

pub fn verdict(photo: &Rgb, seen: Seen, settings: &Settings, steps: &Steps<'_>) -> Result<Verdict, Stop> {
    let warnings = seen.warnings;
    match seen.found {
        Some(found) => judge(photo, found, seen.by, settings, warnings, steps),
        None if settings.gate => {
            let fault = Fault::new(Code::NoIris, format!("nothing like an iris, looked for by {}", seen.by.method));
            let picture = annotate::draw(photo, None, &refusal(fault.code, None, settings), THUMB_PX);
            Ok(Verdict::Refused { fault, quality: None, picture })
        }
        None => Ok(Verdict::Good(Box::new(nothing(photo, seen.by, settings, warnings)))),
    }
}

fn refusal(code: Code, motion_deg: Option<f64>, settings: &Settings) -> Refusal<'_> {
    Refusal { code, motion_deg, min_coverage: settings.min_coverage, thresholds: &settings.thresholds }
}

/// Which network the configuration asks for.
enum Network<'a> {
    None,
    /// Must run.
    Named(&'a ModelRow),
    /// May run; the classical segmenter stands in.
    Auto(&'a ModelRow),
    /// One would run if there were one, and this is why there is none.
    Absent(ModelError),
}

fn choose<'a>(settings: &Settings, engine: &'a Engine) -> Result<Network<'a>, ModelError> {
    match settings.segment_model.as_str() {
        "classical" => Ok(Network::None),
        "auto" => Ok(engine.one_of(Role::Segmentation).map_or_else(Network::Absent, Network::Auto)),
        name => {
            let row = engine.spec(name)?;
            if row.role != Role::Segmentation {
                let detail = format!("segment.model names {name}, whose role is {}", row.role.name());
                return Err(ModelError { code: Code::ModelMismatch, detail });
            }
            Ok(Network::Named(row))
        }
    }
}

/// Method, model and hash, as the report names them.
struct By {
    method: &'static str,
    row: Option<ModelRow>,
    provider: Option<String>,
    /// Why it is not the network that the configuration asks for.
    fallback_reason: Option<String>,
}

/// What a segmenter made of a photo.
pub struct Seen {
    pub found: Option<Found>,
    by: By,
    warnings: Vec<String>,
}

impl Seen {
    fn by_eye(photo: &Rgb) -> Self {
        let found = segment::classical(photo).map(|f| Found { mask: f.mask, limbus: f.limbus, pupil: f.pupil, confidence: f.confidence });
        Self { found, by: By { method: "classical", row: None, provider: None, fallback_reason: None }, warnings: Vec::new() }
    }

    fn by_network(photo: &Rgb, row: &ModelRow, engine: &Engine, steps: &Steps<'_>) -> Result<Self, Halt> {
        let found = eyenet::find(photo, row, engine, |done| Ok::<_, Halt>(steps.at(0.75 * done)?))?;
        let found = found.map(|f| Found { mask: f.mask, limbus: f.limbus, pupil: f.pupil, confidence: f.confidence });
        let provider = Some(engine.runs_on(&row.name)?.provider);
        Ok(Self { found, by: By { method: "onnx", row: Some(row.clone()), provider, fallback_reason: None }, warnings: Vec::new() })
    }

    /// In the place of a network, which could not run because of this.
    fn instead(mut self, reason: String) -> Self {
        self.by.fallback_reason = Some(reason);
        self
    }

    /// The person is told of it, too: a network is here, and something is wrong with it or with the device.
    fn warned(mut self) -> Self {
        let reason = self.by.fallback_reason.as_deref().unwrap_or_default().trim_end_matches(['.', '\n']);
        self.warnings.push(format!(
            "The network that finds the iris could not run; the classical segmenter was used. Why: {reason}. \
             If it stays so, contact support."
        ));
        self
    }
}

impl By {
    fn facts(self, limbus: Ellipse, pupil: Option<Ellipse>, coverage: f64, confidence: f64) -> IrisFacts {
        let (model, model_sha256) = self.row.map(|r| (r.name, r.sha256)).unzip();
        // Thousandths: what is beyond them is arithmetic, not eye.
        let (limbus, pupil) = (rounded(&limbus), pupil.as_ref().map(rounded));
        let (coverage, confidence) = (round(coverage, 1e6), round(confidence, 1e3));
        let (method, provider, fallback_reason) = (self.method.to_owned(), self.provider, self.fallback_reason);
        IrisFacts { limbus, pupil, coverage, confidence, method, model, model_sha256, provider, fallback_reason }
    }
}

/// To a whole number of parts of 1.
pub fn round(v: f64, parts: f64) -> f64 {
    (v * parts).round() / parts
}

fn rounded(e: &Ellipse) -> Ellipse {
    let r = |v| round(v, 1e3);
    Ellipse { cx: r(e.cx), cy: r(e.cy), rx: r(e.rx), ry: r(e.ry), angle_deg: r(e.angle_deg) }
}

/// Coverage, then the quality gate: the first fault ends the job, or all become warnings.
fn judge(photo: &Rgb, found: Found, by: By, settings: &Settings, mut warnings: Vec<String>, steps: &Steps<'_>) -> Result<Verdict, Stop> {
    let Found { mask, limbus, pupil, confidence } = found;
    let coverage = mask::coverage(&mask);
    let highlights = highlights::find(photo, &limbus, pupil.as_ref(), &mask);
    steps.at(0.85)?;
    let glare = highlights.map.expand(photo.width, photo.height);
    let seen = gate::Seen { photo, mask: &mask, limbus: &limbus, pupil: pupil.as_ref(), glare: &glare, confidence };
    let gate::Judgement { mut quality, mut faults, motion_deg } = gate::measure(&seen, &settings.thresholds);
    let covered = coverage_metric(coverage, settings);
    if !covered.pass {
        let detail =
            format!("the iris mask covers {:.1} % of the photo, {:.1} % are wanted", 100.0 * coverage, 100.0 * settings.min_coverage);
        // Something that is hardly an eye is not asked to come closer.
        let certain = faults.iter().all(|f| f.code != Code::LowConfidence);
        faults.insert(0, Fault::new(if certain { Code::IrisTooSmall } else { Code::NoIris }, detail));
        quality.verdict = quality::Verdict::Fail;
    }
    quality.metrics.insert("coverage".into(), covered);
    if settings.gate && !faults.is_empty() {
        let fault = faults.swap_remove(0);
        let picture = annotate::draw(photo, Some(&seen), &refusal(fault.code, motion_deg, settings), THUMB_PX);
        return Ok(Verdict::Refused { fault, quality: Some(quality), picture });
    }
    warnings.extend(faults.into_iter().map(|f| format!("{} {}", f.message, f.suggestion)));
    warnings.extend(hints(&quality));
    steps.at(0.95)?;
    let iris = by.facts(limbus, pupil, coverage, confidence);
    Ok(Verdict::Good(Box::new(Eye { mask, iris, highlights, quality, warnings })))
}

/// Figures that refuse no photo: what it means for the person that one is low, and what to do.
const HINTS: [(&str, &str); 2] = [
    (
        "iris_sclera_contrast",
        "The iris hardly stands out from the white of the eye, so its outer edge is less certain. \
         Check the edge in the mask; for another photo, light the whole eye evenly.",
    ),
    (
        "iris_pupil_contrast",
        "The pupil hardly stands out from the iris, as in dark eyes, so its edge is less certain. \
         Check the pupil before you measure it; for another photo, use more light from the side.",
    ),
];

fn hints(quality: &Quality) -> impl Iterator<Item = String> {
    HINTS.iter().filter(|(name, _)| quality.metrics.get(*name).is_some_and(|m| !m.pass)).map(|(_, hint)| (*hint).to_owned())
}

/// A photo without an iris, where the gate is off: a mask of nothing, around the middle, of no confidence; the picture is still made.
fn nothing(photo: &Rgb, by: By, settings: &Settings, mut warnings: Vec<String>) -> Eye {
    let (w, h) = (photo.width as f64, photo.height as f64);
    let entry = Code::NoIris.entry();
    warnings.push(format!("{} {} The whole photo is shown.", entry.message, entry.suggestion));
    let metrics = [("coverage".to_owned(), coverage_metric(0.0, settings))].into();
    Eye {
        mask: Gray::new(photo.width, photo.height),
        iris: by.facts(geometry::circle(w / 2.0, h / 2.0, w.min(h) / 4.0), None, 0.0, 0.0),
        highlights: Highlights { map: Region { x: 0, y: 0, gray: Gray::new(0, 0) }, count: 0, area_px: 0 },
        quality: Quality { verdict: quality::Verdict::Fail, metrics },
        warnings,
    }
}

fn coverage_metric(coverage: f64, settings: &Settings) -> Metric {
    // An empty mask passes no threshold, not even one of 0: there is nothing to show.
    let pass = coverage > 0.0 && coverage >= settings.min_coverage;
    Metric { value: round(coverage, 1e4), unit: "ratio".into(), threshold: settings.min_coverage, pass }
}
