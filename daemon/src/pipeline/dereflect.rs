//! Step 3: the lamp's reflections inside the visible iris and pupil are filled from their surroundings; which pixels were made up is kept.

use super::{
    Halt, Settings, Steps,
    segment::{Eye, round},
};
use crate::{
    domain::report::ReflectionFacts,
    imaging::{geometry, inpaint::fibres, mask::Region, raster::Gray, raster::Rgb},
};

/// Around a highlight, limbus radii: seen but not believed.
const EDGE: f64 = 0.01;

pub struct Cleaned {
    pub facts: ReflectionFacts,
    /// 255 = made up, with its place on the photo; 0 x 0 where nothing was.
    pub made_up: Region,
}

/// Method "radial" (zones and fibres of the iris carried on, what has none beside it by Telea's fast marching), or "off": then highlights are counted
/// and left as they are.
pub fn run(photo: &mut Rgb, eye: &Eye, settings: &Settings, steps: &Steps<'_>) -> Result<Cleaned, Halt> {
    let found = &eye.highlights;
    let nothing = || Region { x: 0, y: 0, gray: Gray::new(0, 0) };
    let off = settings.reflections == "off";
    let made = if off || found.area_px == 0 {
        0
    } else {
        // The lens spreads a lamp's edge over a px or more, and sharpening rings around it.
        let guard = (geometry::radius(&eye.iris.limbus) * EDGE).round().max(1.0) as usize;
        fibres::fill(photo, &found.map, &eye.mask, &eye.iris.limbus, eye.iris.pupil.as_ref(), guard)
    };
    steps.at(0.9)?;
    let mask_px = eye.mask.count_inside().max(1);
    let facts = ReflectionFacts {
        count: found.count,
        area_px: found.area_px,
        synthetic_share: round((made as f64 / mask_px as f64).min(1.0), 1e6),
        method: if off { "off" } else { "radial" }.to_owned(),
    };
    Ok(Cleaned { facts, made_up: if made > 0 { found.map.clone() } else { nothing() } })
}
