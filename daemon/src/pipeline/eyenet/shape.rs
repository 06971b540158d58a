//! The mask of a last look at the photo's own size.
//!
//! ```text
//!   planes 128 -> 256: mean(visible, opening), each at most the limbus' ellipse -> guided by the photo -> up to 512 -> one component -> photo
//! ```
//!
//! The network's edge is 1 to 2 of its px soft, which is up to 30 px of a large photo. The ellipse knows the limbus to sub-pixel, the photo
//! knows its lids: together they give the edge its place; the last step makes it a px and a half wide (`mask::from_square`).

use super::look::{Levels, Look, component};
use crate::{
    domain::report::Ellipse,
    imaging::{
        geometry,
        mask::{self, guided},
        raster::{Gray, Plane},
    },
};

/// Side of the grid on which the photo guides, px: two for one of the network.
const COARSE: usize = 256;
/// Finest grid of the guided mask: the limbus is about 150 px in radius there.
const FINE: usize = 512;
/// Half the guide's window, px of the coarse grid; variance of a colour (0..1) that counts as an edge. Of 3 to 10 px and 0.001 to 0.01 the
/// best on synthetic eyes, and on photos.
const RADIUS: usize = 5;
const EPS: f32 = 3e-3;
/// Width of the ellipse's own soft edge, px of the network: about the network's.
const SOFT: f64 = 0.8;

/// H x W of the photo: visible iris with the pupil, soft edge.
pub fn mask(levels: &mut Levels<'_>, look: &Look, limbus: &Ellipse) -> Gray {
    let photo = levels.photo();
    let square = (look.cx, look.cy, look.side);
    let coarse = guided::coefficients(&composed(look, limbus), &levels.square(square, COARSE, 127), RADIUS, EPS);
    // A small photo has no finer edges to show.
    let size = (look.side.ceil() as usize).clamp(COARSE, FINE);
    let mut plane = coarse.apply(&levels.square(square, size, 127));
    let kept = component(&plane, 0.5);
    for (p, k) in plane.data.iter_mut().zip(&kept.data) {
        *p = match (*p > 0.5, *k > 0) {
            (true, false) => 0.0,
            (false, true) => 1.0,
            _ => p.clamp(0.0, 1.0),
        };
    }
    mask::from_square(&plane, look.cx, look.cy, look.side, photo.width, photo.height)
}

/// Mean of what the network calls visible and of its opening, neither beyond the ellipse, which knows the limbus better; on the coarse grid.
fn composed(look: &Look, limbus: &Ellipse) -> Plane {
    let step = look.size() as f64 / COARSE as f64;
    let e = geometry::transform(limbus, 1.0 / look.scale(), -look.left() / look.scale(), -look.top() / look.scale());
    let mut out = Plane::new(COARSE, COARSE);
    for y in 0..COARSE {
        for x in 0..COARSE {
            let (u, v) = ((x as f64 + 0.5) * step, (y as f64 + 0.5) * step);
            let disc = (1.0 / (1.0 + (geometry::signed_distance(&e, u, v) / SOFT).exp())) as f32;
            let inside = |plane: &Plane| bilinear(plane, u, v).min(disc);
            out.data[y * COARSE + x] = 0.5 * (inside(look.visible()) + inside(look.opening()));
        }
    }
    out
}

/// Pixel centres at .5, the border's value beyond the border.
fn bilinear(p: &Plane, x: f64, y: f64) -> f32 {
    let place = |v: f64, n: usize| (v - 0.5).clamp(0.0, (n - 1) as f64);
    let (x, y) = (place(x, p.width), place(y, p.height));
    let (i, j) = (x as usize, y as usize);
    let (i1, j1) = ((i + 1).min(p.width - 1), (j + 1).min(p.height - 1));
    let (fx, fy) = ((x - i as f64) as f32, (y - j as f64) as f32);
    let upper = p.px(i, j) + (p.px(i1, j) - p.px(i, j)) * fx;
    let lower = p.px(i, j1) + (p.px(i1, j1) - p.px(i, j1)) * fx;
    upper + (lower - upper) * fy
}
