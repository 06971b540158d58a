//! Between segmentation and verdict: lamps of the first photo are replaced by what other photos of the same eye show there.
//!
//! ```text
//!   first photo, seen --+                       correlation >= SAME_EYE: pixels under its lamps
//!   another, seen ------+--register--> warp ----+
//!                                               below: merge_mismatch, for an eye made of two is worse than a lamp;
//!                                                      of a burst that photo is left out, with a warning
//! ```
//!
//! The gate judges the merged photo: glare that another photo took away is no reason to refuse it, and the reflection step finds only
//! what no photo showed.

use std::{collections::HashSet, path::PathBuf};

use super::{Halt, Input, Settings, Steps, load, segment};
use crate::{
    domain::{
        fault::{Code, Fault, FaultClass},
        ids::Sha256,
        job::Misfit,
        photo::Source,
        report::{MergeFacts, MergedPhoto},
    },
    imaging::{
        highlights,
        mask::Region,
        merge,
        raster::{Gray, Rgb},
        register::{self, SAME_EYE, Shot, Warp},
    },
    inference::Engine,
};

/// One more photo of the eye.
#[derive(Debug, Clone)]
pub struct Another {
    pub photo: PathBuf,
    pub sha256: Sha256,
}

/// The others, and what becomes of a run that one of them does not fit into.
#[derive(Clone, Copy)]
pub struct Others<'a> {
    pub photos: &'a [Another],
    pub misfit: Misfit,
}

impl Others<'_> {
    /// A photo by itself.
    pub const NONE: Others<'static> = Others { photos: &[], misfit: Misfit::Fails };
}

/// What came from where.
#[derive(Default)]
pub struct Laid {
    /// (hash, correlation), in the order given.
    others: Vec<(Sha256, f64)>,
    /// (x, y, which of the others).
    taken: Vec<(usize, usize, usize)>,
    /// A sentence for the person about each photo that did not fit.
    pub left_out: Vec<String>,
}

/// Lays the others' pixels over `photo`. Errors: MergeMismatch, NoIris for one of the others, and whatever a photo's load can end with;
/// the message says which photo.
pub fn run(
    photo: &mut Rgb,
    seen: &segment::Seen,
    others: &Others<'_>,
    settings: &Settings,
    engine: &Engine,
    steps: &Steps<'_>,
) -> Result<Laid, Halt> {
    let mut laid = Laid::default();
    // Without an iris in the first photo the verdict says so.
    let Some(found) = seen.found.as_ref().filter(|_| !others.photos.is_empty()) else { return Ok(laid) };
    let glare = highlights::find(photo, &found.limbus, found.pupil.as_ref(), &found.mask).map;
    let first = Shot { photo, mask: &found.mask, limbus: &found.limbus, pupil: found.pupil.as_ref(), glare: &glare };
    let mut shots = Vec::new();
    for (n, another) in others.photos.iter().enumerate() {
        let fitted = Seen::of(another, settings, engine, steps).and_then(|shot| shot.onto(&first));
        match fitted {
            Ok(Fitted { shot, warp, correlation }) => {
                laid.others.push((another.sha256, correlation));
                shots.push((shot, warp));
            }
            Err(Halt::Fault(fault)) if others.misfit == Misfit::LeftOut && is_its_own(&fault) => {
                tracing::info!(photo = n + 2, code = %fault.code.name(), detail = fault.detail, "a photo of a burst is left out");
                if fault.code == Code::OriginalMissing {
                    // It may be there the next time.
                    steps.stand_in();
                }
                laid.left_out.push(format!("Photo {} was left out: {}", n + 2, fault.message));
            }
            Err(halt) => return Err(named(halt, n + 2)),
        }
        steps.at(0.8)?;
    }
    let pairs: Vec<(Shot<'_>, Warp)> = shots.iter().map(|(shot, warp)| (shot.shot(), *warp)).collect();
    let taken = merge::under_the_lamps(&first, &pairs);
    for (x, y, from, px) in taken.pixels {
        photo.set(x, y, px);
        laid.taken.push((x, y, from));
    }
    Ok(laid)
}

/// Whether it says something of that photo, and not of the device or the moment.
fn is_its_own(fault: &Fault) -> bool {
    fault.class == FaultClass::QualityIssue || fault.code == Code::OriginalMissing
}

impl Laid {
    /// Pixels of the mask by photo, less those that were made up afterwards. None: nothing was laid over.
    pub fn facts(&self, first: Sha256, mask: &Gray, made_up: &Region) -> Option<MergeFacts> {
        if self.others.is_empty() {
            return None;
        }
        let made: HashSet<(usize, usize)> = (0..made_up.gray.data.len())
            .filter(|i| made_up.gray.data[*i] >= 128)
            .map(|i| (made_up.x + i % made_up.gray.width, made_up.y + i / made_up.gray.width))
            .collect();
        let mut from = vec![0u64; self.others.len()];
        for (x, y, k) in self.taken.iter().filter(|(x, y, _)| !made.contains(&(*x, *y))) {
            from[*k] += u64::from(mask.px(*x, *y) >= 128);
        }
        let made_inside = made.iter().filter(|(x, y)| *x < mask.width && *y < mask.height && mask.px(*x, *y) >= 128).count();
        let own = (mask.count_inside() - made_inside) as u64 - from.iter().sum::<u64>();
        let mut photos = vec![MergedPhoto { sha256: first, px: own, correlation: None }];
        photos.extend(self.others.iter().zip(from).map(|((sha256, correlation), px)| MergedPhoto {
            sha256: *sha256,
            px,
            correlation: Some(segment::round(*correlation, 1e3)),
        }));
        Some(MergeFacts { photos })
    }
}

/// Another photo that shows the same eye.
struct Fitted {
    shot: Seen,
    /// From the first photo to it.
    warp: Warp,
    correlation: f64,
}

/// Another photo, upright, and the eye in it.
struct Seen {
    photo: Rgb,
    found: segment::Found,
    glare: Region,
}

impl Seen {
    fn of(another: &Another, settings: &Settings, engine: &Engine, steps: &Steps<'_>) -> Result<Self, Halt> {
        let input = Input { photo: another.photo.clone(), sha256: another.sha256, source: Source::Upload, out: PathBuf::new() };
        let photo = load::run(&input, settings)?.photo;
        let found = segment::see(&photo, settings, engine, steps)?.found;
        let found = found.ok_or_else(|| Fault::new(Code::NoIris, "nothing like an iris in one of the photos to merge"))?;
        let glare = highlights::find(&photo, &found.limbus, found.pupil.as_ref(), &found.mask).map;
        Ok(Self { photo, found, glare })
    }

    /// Where it lies on the first photo. Errors: MergeMismatch.
    fn onto(self, first: &Shot<'_>) -> Result<Fitted, Halt> {
        let aligned = register::align(first, &self.shot());
        let correlation = aligned.as_ref().map_or(0.0, |a| a.correlation);
        let Some(aligned) = aligned.filter(|_| correlation >= SAME_EYE) else {
            let detail = format!("the irises correlate by {correlation:.2}, {SAME_EYE} is wanted");
            return Err(Fault::new(Code::MergeMismatch, detail).into());
        };
        Ok(Fitted { shot: self, warp: aligned.warp, correlation })
    }

    fn shot(&self) -> Shot<'_> {
        Shot {
            photo: &self.photo,
            mask: &self.found.mask,
            limbus: &self.found.limbus,
            pupil: self.found.pupil.as_ref(),
            glare: &self.glare,
        }
    }
}

/// Which photo it is about, for whoever named several.
fn named(halt: Halt, number: usize) -> Halt {
    match halt {
        Halt::Fault(mut fault) => {
            fault.message = format!("Photo {number}: {}", fault.message);
            Halt::Fault(fault)
        }
        stop => stop,
    }
}
