//! From a network's small plane to a mask of the photo's size.

use std::ops::Range;

use super::{EDGE, Gray, Plane, soft};

/// A network's plane (N x N, probabilities 0..1) over the square of `side` px around (cx, cy) of the photo, as a soft mask of
/// `width` x `height` px. Bilinear; outside the square it is 0. The p = 0.5 level becomes an edge about 1.5 px wide whatever the
/// scale (distance to the level = (p - 0.5) / |grad p|): a plane blown up twenty times gives neither stairs nor a veil.
pub fn from_square(prob: &Plane, cx: f64, cy: f64, side: f64, width: usize, height: usize) -> Gray {
    let mut out = Gray::new(width, height);
    if prob.data.is_empty() || !(side.is_finite() && side > 0.0 && cx.is_finite() && cy.is_finite()) {
        return out;
    }
    let per_px = prob.width as f64 / side;
    let (left, top) = (cx - side / 2.0, cy - side / 2.0);
    let span = |lo: f64, n: usize| (lo.floor().max(0.0) as usize).min(n)..((lo + side).ceil().max(0.0) as usize).min(n);
    let place = |at: usize, lo: f64| {
        let u = (at as f64 + 0.5 - lo) * per_px - 0.5;
        (u.floor() as isize, (u - u.floor()) as f32)
    };
    let columns = span(left, width);
    let beyond: Vec<f32> = columns.clone().map(|x| place(x, left).1).collect();
    let cells = cells(columns.clone(), |x| place(x, left).0);
    let (n, m) = (prob.width as isize, prob.height as isize);
    let at = |i: isize, j: isize| if i < 0 || j < 0 || i >= n || j >= m { 0.0 } else { prob.data[(j * n + i) as usize] };
    let cell = |i: isize, j: isize| Cell([at(i, j), at(i + 1, j), at(i, j + 1), at(i + 1, j + 1)]);
    let mut runs: (Option<isize>, Vec<Run>) = (None, Vec::new());
    for y in span(top, height) {
        let (j, fv) = place(y, top);
        if runs.0 != Some(j) {
            runs = (Some(j), runs_of(cells.iter().map(|(i, pixels)| (cell(*i, j), pixels.clone())), per_px as f32));
        }
        let row = &mut out.data[y * width + columns.start..y * width + columns.end];
        for Run { pixels, fill } in &runs.1 {
            let row = &mut row[pixels.clone()];
            match fill {
                Fill::Level(0) => {}
                Fill::Level(level) => row.fill(*level),
                Fill::Edge(cell) => {
                    row.iter_mut().zip(&beyond[pixels.clone()]).for_each(|(out, fu)| *out = cell.level(*fu, fv, per_px as f32));
                }
            }
        }
    }
    out
}

/// Pixels of a row that are filled alike.
struct Run {
    pixels: Range<usize>,
    fill: Fill,
}

enum Fill {
    Level(u8),
    /// Near the edge: each px by its place in the cell.
    Edge(Cell),
}

/// A row of cells, as it lies over several rows of pixels: cells of the same level together.
fn runs_of(cells: impl Iterator<Item = (Cell, Range<usize>)>, per_px: f32) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (cell, pixels) in cells {
        match (cell.plain(per_px), runs.last_mut()) {
            (Some(level), Some(Run { pixels: before, fill: Fill::Level(same) })) if level == *same => before.end = pixels.end,
            (Some(level), _) => runs.push(Run { pixels, fill: Fill::Level(level) }),
            (None, _) => runs.push(Run { pixels, fill: Fill::Edge(cell) }),
        }
    }
    runs
}

/// Runs of `columns` (counted from their start) that lie in the same cell of the plane, each with the cell's column.
fn cells(columns: Range<usize>, cell: impl Fn(usize) -> isize) -> Vec<(isize, Range<usize>)> {
    let mut runs: Vec<(isize, Range<usize>)> = Vec::new();
    for (at, x) in columns.enumerate() {
        match runs.last_mut() {
            Some((i, run)) if *i == cell(x) => run.end = at + 1,
            _ => runs.push((cell(x), at..at + 1)),
        }
    }
    runs
}

/// Between four samples of the plane: left and right above, left and right below.
struct Cell([f32; 4]);

impl Cell {
    /// The level of all its pixels, where they have one: nowhere near the edge, as most cells are.
    fn plain(&self, per_px: f32) -> Option<u8> {
        let [a, b, c, d] = self.0;
        let (low, high) = (a.min(b).min(c).min(d), a.max(b).max(c).max(d));
        let (du, dv) = ((b - a).abs().max((d - c).abs()), (c - a).abs().max((d - b).abs()));
        // No slope within is steeper, and no p beyond the corners', but for rounding.
        let far = 1.001 * slope(du, dv, per_px) * (EDGE / 2.0) as f32 + 1e-6;
        match () {
            () if high < 0.01 || 0.5 - high > far => Some(0),
            () if low - 0.5 > far => Some(255),
            () => None,
        }
    }

    /// `fu`, `fv`: how far beyond its left upper sample a pixel lies, 0..1.
    fn level(&self, fu: f32, fv: f32, per_px: f32) -> u8 {
        let [a, b, c, d] = self.0;
        let (upper, lower) = (a + (b - a) * fu, c + (d - c) * fu);
        let p = upper + (lower - upper) * fv;
        let du = (b - a) + ((d - c) - (b - a)) * fv;
        soft(f64::from((p - 0.5) / slope(du, lower - upper, per_px)))
    }
}

/// p a px of the photo.
fn slope(du: f32, dv: f32, per_px: f32) -> f32 {
    ((du * du + dv * dv).sqrt() * per_px).max(1e-4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{domain::report::Ellipse, imaging::mask::ellipse};

    #[test]
    fn a_small_plane_becomes_a_large_mask_with_a_narrow_edge_at_the_right_place() {
        let mut plane = Plane::new(64, 64);
        for y in 0..64 {
            for x in 0..64 {
                let d = 16.0 - ((x as f32 + 0.5 - 32.0).powi(2) + (y as f32 + 0.5 - 32.0).powi(2)).sqrt();
                plane.data[y * 64 + x] = 1.0 / (1.0 + (-d).exp());
            }
        }
        let m = from_square(&plane, 300.0, 200.0, 640.0, 700, 380);
        let want = ellipse(700, 380, &Ellipse { cx: 300.0, cy: 200.0, rx: 160.0, ry: 160.0, angle_deg: 0.0 });
        let wrong = m.data.iter().zip(&want.data).filter(|(a, b)| (**a >= 128) != (**b >= 128)).count();
        assert!(wrong < 1200, "{wrong} of a contour of 1005 px differ by more than a px");
        let soft = m.data.iter().filter(|v| (1..255).contains(*v)).count();
        assert!((500..4000).contains(&soft), "{soft}");
        assert_eq!(m.px(699, 379), 0);
    }

    proptest! {
        #[test]
        fn a_cell_that_is_plain_has_that_level_everywhere(
            corners in prop::array::uniform4(prop_oneof![0f32..=1.0, 0.9f32..=1.0, 0f32..0.1, 0.45f32..0.55]),
            per_px in 0.005f32..2.0, steps in 1usize..9
        ) {
            let cell = Cell(corners);
            if let Some(level) = cell.plain(per_px) {
                for k in 0..=steps * steps {
                    let (fu, fv) = ((k / steps) as f32 / steps as f32, (k % steps) as f32 / steps as f32);
                    let dark = corners.iter().all(|p| *p < 0.01);
                    prop_assert!(dark || cell.level(fu.min(1.0), fv, per_px) == level);
                }
            }
        }
    }
}
