//! Step 3: the lamp's reflections inside the visible iris and pupil are filled from their surroundings; which pixels were made up is kept.

use super::{
    Halt, Settings, Steps,
    segment::{Eye, round},
};
use crate::{
    domain::report::ReflectionFacts,
    imaging::{geometry, inpaint::radial, mask::Region, raster::Gray, raster::Rgb},
};

pub struct Cleaned {
    pub facts: ReflectionFacts,
    /// 255 = made up, with its place on the photo; 0 x 0 where nothing was.
    pub made_up: Region,
}

/// Method "radial" (along fibres and circles of the iris, what is left by Telea's fast marching), or "off": then highlights are counted
/// and left as they are.
pub fn run(photo: &mut Rgb, eye: &Eye, settings: &Settings, steps: &Steps<'_>) -> Result<Cleaned, Halt> {
    let found = &eye.highlights;
    let nothing = || Region { x: 0, y: 0, gray: Gray::new(0, 0) };
    let off = settings.reflections == "off";
    let made = if off || found.area_px == 0 {
        0
    } else {
        // The neighbourhood grows with the eye: 3 px are too few to carry a fibre's colour across a highlight of a 12 MP photo.
        let radius = (geometry::radius(&eye.iris.limbus) / 40.0).clamp(3.0, 10.0) as usize;
        radial::fill(photo, &found.map, &eye.iris.limbus, eye.iris.pupil.as_ref(), radius)
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
