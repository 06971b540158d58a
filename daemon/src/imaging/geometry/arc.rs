//! A circle from the arcs of it that are seen: lids hide the rest, and lashes bend what is left.
//!
//! Gauss-Newton on the distances of the points from the circle, reweighted (Geman-McClure) so that a bent stretch loses its say. Three unknowns,
//! not an ellipse's five: two short arcs at the sides do not tell a squeezed circle from one that a lid has cut.

use super::{Point, circle, invert};
use crate::domain::report::Ellipse;

const ROUNDS: usize = 12;
/// Share of the points that stands for the start, against each unknown: two short arcs leave the height open, and it stays where it was then.
const DOUBT: f64 = 0.05;
/// Fewer points say nothing.
const MIN_POINTS: usize = 20;
/// A contour is never better than this share of the radius.
const LEAST_SPREAD: f64 = 0.004;

/// Circle through `points`, near `start` (its centre and rx); `start` itself where too few points are there. Same px as the points.
pub fn fit(points: &[Point], start: &Ellipse) -> Ellipse {
    let first = [start.cx, start.cy, start.rx];
    let stay = DOUBT * points.len() as f64;
    let mut c = first;
    let mut weights = vec![1.0; points.len()];
    for _ in 0..if points.len() < MIN_POINTS { 0 } else { ROUNDS } {
        let (mut m, mut v) = ([[0.0; 3]; 3], [0.0; 3]);
        let mut off = Vec::with_capacity(points.len());
        for ((x, y), w) in points.iter().zip(&weights) {
            let (dx, dy) = (x - c[0], y - c[1]);
            let d = dx.hypot(dy).max(1e-9);
            let slope = [dx / d, dy / d, 1.0];
            off.push(d - c[2]);
            for i in 0..3 {
                v[i] += w * slope[i] * (d - c[2]);
                (0..3).for_each(|j| m[i][j] += w * slope[i] * slope[j]);
            }
        }
        for i in 0..3 {
            m[i][i] += stay;
            v[i] -= stay * (c[i] - first[i]);
        }
        let Some(inverse) = invert(&m) else { break };
        c = std::array::from_fn(|i| c[i] + (0..3).map(|j| inverse[i][j] * v[j]).sum::<f64>());
        let mut sorted: Vec<f64> = off.iter().map(|o| o.abs()).collect();
        let middle = sorted.len() / 2;
        let spread = (1.48 * *sorted.select_nth_unstable_by(middle, f64::total_cmp).1).max(LEAST_SPREAD * c[2].abs()).max(1e-9);
        weights = off.iter().map(|o| 1.0 / (1.0 + (o / (2.5 * spread)).powi(2)).powi(2)).collect();
    }
    if c.iter().all(|v| v.is_finite()) && c[2] > 0.0 { circle(c[0], c[1], c[2]) } else { *start }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;
    use crate::imaging::geometry::point;

    #[test]
    fn arcs_between_lids_bring_a_circle_most_of_the_way_to_the_one_that_the_lids_hide() {
        let truth = circle(61.0, 58.0, 37.0);
        // y points down: sines above .6 lie behind the upper lid, below -.9 behind the lower.
        let mut points: Vec<Point> =
            (0..160).map(|k| TAU * f64::from(k) / 160.0).filter(|t| (-0.9..0.6).contains(&t.sin())).map(|t| point(&truth, t)).collect();
        points.extend((0..12).map(|k| (40.0 + f64::from(k), 33.0)));
        let found = fit(&points, &circle(60.0, 62.0, 36.0));
        assert!((found.cx - 61.0).hypot(found.cy - 58.0) < 1.3 && (found.rx - 37.0).abs() < 0.5, "{found:?}");
    }

    #[test]
    fn what_no_point_speaks_about_stays_where_it_was() {
        let start = circle(60.0, 62.0, 36.0);
        assert_eq!(fit(&[], &start), start);
        assert_eq!(fit(&[(96.0, 62.0); 19], &start), start);
        // One place only: no circle follows from it, and none is made up.
        let found = fit(&[(97.0, 62.0); 40], &start);
        assert!((found.cx - 60.0).hypot(found.cy - 62.0) < 1.0 && (found.rx - 36.0).abs() < 1.0, "{found:?}");
    }
}
