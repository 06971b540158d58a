//! Segmentation by a network of the manifest: from the photo to a soft mask, two ellipses, and how sure it is.
//!
//! ```text
//!   whole photo, letterboxed --network--> limbus: centre, R --square of 3.4 R around it--> network, twice
//!                each look = the mean of the picture and its mirror image
//!   last look -> limbus: a circle, squeezed if the eye looks aside, through the contour between the lids, drawn to the photo's own edge (geometry::edge)
//!             -> mask: mean of what is visible and of the opening, both inside the limbus, drawn to the photo's edges (mask::guided) -> photo's size
//! ```
//!
//! The recipe was chosen on synthetic eyes and on photos (docs/imaging.md); zooming in is what makes a small iris's edge right.

mod look;
mod shape;

use self::look::{Levels, Look};
use crate::{
    domain::report::Ellipse,
    imaging::{
        geometry, mask,
        raster::{Gray, Rgb},
    },
    inference::{Engine, RunError, manifest::ModelRow},
};

/// Side of the zoomed square, limbus radii.
const ZOOM: f64 = 3.4;
/// Looks at the zoomed square: the second is centred by the first.
const ZOOMS: usize = 2;
/// From this share of clear answers on, doubt at the mask's edge is only the edge's.
const CLEAR: f64 = 0.3;

/// An iris, px of the photo.
pub struct Found {
    pub mask: Gray,
    pub limbus: Ellipse,
    pub pupil: Option<Ellipse>,
    /// 0..1.
    pub confidence: f64,
}

/// None: the network sees no iris. `checkpoint(done)`, 0..1, is called between looks; its error, or the network's, ends the search.
pub fn find<E: From<RunError>>(
    photo: &Rgb,
    row: &ModelRow,
    engine: &Engine,
    checkpoint: impl Fn(f32) -> Result<(), E>,
) -> Result<Option<Found>, E> {
    let (w, h) = (photo.width as f64, photo.height as f64);
    let mut levels = Levels::new(photo);
    let first = Look::at(&mut levels, row, engine, (w / 2.0, h / 2.0, w.max(h)))?;
    checkpoint(0.4)?;
    let mut last = None;
    for zoom in 0..ZOOMS {
        let Some((cx, cy, r)) = last.as_ref().unwrap_or(&first).disc() else { break };
        last = Some(Look::at(&mut levels, row, engine, (cx, cy, ZOOM * r))?);
        checkpoint(0.4 + 0.25 * (zoom + 1) as f32)?;
    }
    let Some(last) = last else { return Ok(None) };
    let Some(seen) = last.limbus(photo).or_else(|| last.disc().map(|(cx, cy, r)| geometry::circle(cx, cy, r))) else {
        return Ok(None);
    };
    let round = last.between_lids(photo, &seen);
    let limbus = geometry::edge::limbus(photo, &round, geometry::edge::DRAWN, |x, y| last.is_open(x, y)).unwrap_or(round);
    let mask = shape::mask(&mut levels, &last, &limbus);
    if mask.count_inside() == 0 {
        return Ok(None);
    }
    let pupil = last.pupil(photo);
    let confidence = confidence(&signs(&first, &last, &seen));
    Ok(Some(Found { mask, limbus, pupil, confidence }))
}

/// What can be measured of a look, each 0..1.
#[derive(Debug, Clone, Copy)]
struct Signs {
    /// Mean probability inside the mask.
    sure: f64,
    /// Overlap of the limbus disc with its ellipse, less where the ellipse is long.
    round: f64,
    /// Overlap of the first look's mask with the last one's.
    agree: f64,
    /// Highest pupil probability inside the limbus.
    pupil: f64,
    /// Share of clear answers: 1 less the doubtful pixels, in masks.
    clear: f64,
}

fn signs(first: &Look, last: &Look, limbus: &Ellipse) -> Signs {
    let n = last.size();
    let visible = look::component(last.visible(), 0.5);
    let disc = look::component(last.limbus_disc(), 0.5);
    let inside = visible.data.iter().filter(|v| **v > 0).count().max(1) as f64;
    let sum: f64 = visible.data.iter().zip(&last.visible().data).filter(|(v, _)| **v > 0).map(|(_, p)| f64::from(*p)).sum();
    let doubtful = last.visible().data.iter().filter(|p| (0.1..0.9).contains(*p)).count() as f64;
    let pupil = disc.data.iter().zip(&last.pupil_disc().data).filter(|(v, _)| **v > 0).map(|(_, p)| *p).fold(0.0, f32::max);
    // In the last look's square, so that both overlaps cost N x N whatever the photo's size.
    let scale = 1.0 / last.scale();
    let (dx, dy) = (-last.left() * scale, -last.top() * scale);
    let ellipse = mask::ellipse(n, n, &geometry::transform(limbus, scale, dx, dy));
    let (fx, fy) = (first.cx * scale + dx, first.cy * scale + dy);
    let mut before = mask::from_square(first.visible(), fx, fy, first.side * scale, n, n);
    mask::clean(&mut before);
    let long = limbus.rx.max(limbus.ry) / limbus.rx.min(limbus.ry).max(1e-6);
    Signs {
        sure: sum / inside,
        round: overlap(&disc, &ellipse) / long.sqrt(),
        agree: overlap(&before, &visible),
        pupil: f64::from(pupil),
        clear: (1.0 - doubtful / inside).max(0.0),
    }
}

/// Intersection over union.
fn overlap(a: &Gray, b: &Gray) -> f64 {
    let pairs = || a.data.iter().zip(&b.data).map(|(a, b)| (*a >= 128, *b >= 128));
    let both = pairs().filter(|(a, b)| *a && *b).count();
    let any = pairs().filter(|(a, b)| *a || *b).count();
    both as f64 / any.max(1) as f64
}

/// A product, so that one sign alone is enough for a no: each was close to 1 on every eye tried and far from it on what else was tried.
fn confidence(s: &Signs) -> f64 {
    s.sure * s.round * (0.3 + 0.7 * s.pupil) * (0.3 + 0.7 * s.agree) * (0.7 + 0.3 * (s.clear / CLEAR).min(1.0))
}
