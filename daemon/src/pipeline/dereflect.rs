//! Step 3: the lamp's reflections inside the visible iris and pupil are filled from their surroundings; which pixels were made up is kept.

use super::{
    Halt, Settings, Steps, filler,
    network::{Loaded, Unmade},
    segment::{Eye, round},
};
use crate::{
    domain::{fault::Code, report::ReflectionFacts},
    imaging::{geometry, inpaint::fibres, mask::Region, raster::Gray, raster::Rgb},
    inference::{
        Engine,
        manifest::{ModelRow, Role},
    },
    ports::ModelError,
};

/// Around a highlight, limbus radii: seen but not believed.
const EDGE: f64 = 0.01;

pub struct Cleaned {
    pub facts: ReflectionFacts,
    /// 255 = made up, with its place on the photo; 0 x 0 where nothing was.
    pub made_up: Region,
}

/// Method "radial" (zones and fibres of the iris carried on, what has none beside it by Telea's fast marching), "network" ([`filler`]), or "off": then
/// highlights are counted and left as they are. Errors: those of a network that the configuration names and the device lacks, or a stop.
pub fn run(photo: &mut Rgb, eye: &Eye, settings: &Settings, engine: &Engine, steps: &Steps<'_>) -> Result<Cleaned, Halt> {
    let found = &eye.highlights;
    let method = choose(settings, engine)?;
    let (mut made, mut facts) = (0, facts("off"));
    if !matches!(method, Method::Off) {
        facts.method = "radial".into();
    }
    if found.area_px > 0 && !matches!(method, Method::Off) {
        // The network, if there is one, sees the photo as it came.
        let network = if let Method::Network(row) = method { Some((row, filler::part(photo, &found.map))) } else { None };
        // The lens spreads a lamp's edge over a px or more, and sharpening rings around it.
        let guard = (geometry::radius(&eye.iris.limbus) * EDGE).round().max(1.0) as usize;
        made = fibres::fill(photo, &found.map, &eye.mask, &eye.iris.limbus, eye.iris.pupil.as_ref(), guard);
        if let Some((row, before)) = network {
            steps.at(0.3)?;
            match by_network(photo, &before, row, eye, engine, steps) {
                Ok((filled, by)) => (made, facts) = (filled, by),
                Err(Unmade::Halt(halt)) => return Err(halt),
                Err(Unmade::NoPicture(why)) => {
                    tracing::warn!(model = row.name, why, "the classical filling takes over");
                    steps.stand_in();
                    facts.fallback_reason = Some(format!("{}: {why}", row.name));
                }
            }
        }
    }
    steps.at(0.9)?;
    (facts.count, facts.area_px) = (found.count, found.area_px);
    facts.synthetic_share = round((made as f64 / eye.mask.count_inside().max(1) as f64).min(1.0), 1e6);
    let nothing = || Region { x: 0, y: 0, gray: Gray::new(0, 0) };
    Ok(Cleaned { facts, made_up: if made > 0 { found.map.clone() } else { nothing() } })
}

enum Method<'a> {
    Off,
    Classical,
    /// With the classical filling behind it.
    Network(&'a ModelRow),
}

/// A named network must be there; `auto` takes one that somebody brought onto the device.
fn choose<'a>(settings: &Settings, engine: &'a Engine) -> Result<Method<'a>, Halt> {
    match settings.reflections.as_str() {
        "off" => Ok(Method::Off),
        "classical" => Ok(Method::Classical),
        "auto" => Ok(engine.installed(Role::Reflections).first().map_or(Method::Classical, |row| Method::Network(row))),
        name => {
            let row = engine.spec(name)?;
            if row.role != Role::Reflections {
                let detail = format!("reflections.method names {name}, whose role is {}", row.role.name());
                return Err(ModelError { code: Code::ModelMismatch, detail }.into());
            }
            // Missing weights or a missing runtime are the device's fault, not a reason for another picture.
            match engine.runs_on(name) {
                Err(e) if e.is_the_devices() => Err(e.into()),
                _ => Ok(Method::Network(row)),
            }
        }
    }
}

/// `photo`: filled classically, and then by the network where its answer is a picture; `before`: the map's part of it as it came.
fn by_network(
    photo: &mut Rgb,
    before: &Rgb,
    row: &ModelRow,
    eye: &Eye,
    engine: &Engine,
    steps: &Steps<'_>,
) -> Result<(usize, ReflectionFacts), Unmade> {
    let runs_on = engine.runs_on(&row.name)?;
    let runs = Loaded { engine, name: &row.name };
    let (made, again) = filler::fill(photo, before, &eye.highlights.map, &eye.iris.limbus, (row, &runs, &runs_on), steps)?;
    let (model, model_sha256, provider) = (Some(row.name.clone()), Some(row.sha256), Some(runs_on.provider));
    Ok((made, ReflectionFacts { model, model_sha256, provider, fallback_reason: again, ..facts("network") }))
}

fn facts(method: &str) -> ReflectionFacts {
    ReflectionFacts {
        count: 0,
        area_px: 0,
        synthetic_share: 0.0,
        method: method.to_owned(),
        model: None,
        model_sha256: None,
        provider: None,
        fallback_reason: None,
    }
}
