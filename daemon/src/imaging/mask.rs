//! Masks: which part of a photo is iris.
//!
//! A mask is a [`Gray`] of the photo's size: 255 inside, 0 outside, a soft edge of one or two px between; a pixel counts as inside from
//! 128 on. A [`Region`] is a small mask with the place where it lies: what is local (highlights, holes) never costs a whole 12 MP plane.

pub mod guided;
mod square;

pub use self::square::from_square;
use super::{
    raster::{Gray, Plane},
    wide::wide,
};
use crate::{domain::report::Ellipse, imaging::geometry};

/// A mask of a part of the photo: `gray`'s pixel (0, 0) is the photo's pixel (x, y).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    pub x: usize,
    pub y: usize,
    pub gray: Gray,
}

impl Region {
    /// The same as a mask of a photo of `width` x `height` px; what hangs over its edge is left out.
    pub fn expand(&self, width: usize, height: usize) -> Gray {
        let mut out = Gray::new(width, height);
        let across = self.gray.width.min(width.saturating_sub(self.x));
        for row in 0..self.gray.height.min(height.saturating_sub(self.y)) {
            let at = (self.y + row) * width + self.x;
            out.data[at..at + across].copy_from_slice(&self.gray.row(row)[..across]);
        }
        out
    }

    /// With `by` px around its inside (a square window); may hang over the photo's right and lower edge.
    pub fn widened(&self, by: usize) -> Self {
        let (left, top) = (by.min(self.x), by.min(self.y));
        let mut gray = Gray::new(self.gray.width + left + by, self.gray.height + top + by);
        for y in 0..self.gray.height {
            let at = (y + top) * gray.width + left;
            gray.data[at..at + self.gray.width].copy_from_slice(self.gray.row(y));
        }
        Self { x: self.x - left, y: self.y - top, gray: dilate(&gray, by) }
    }
}

/// Widths of soft edges, px of the photo.
const EDGE: f64 = 1.5;
/// How far from the kept component a soft value still belongs to its edge, px.
const SOFT_REACH: usize = 2;

/// H x W mask to H x W mask of 255 (at least `level`) and 0.
pub fn threshold(mask: &Gray, level: u8) -> Gray {
    Gray { width: mask.width, height: mask.height, data: mask.data.iter().map(|v| if *v >= level { 255 } else { 0 }).collect() }
}

/// Inside pixels / all pixels, 0..1.
pub fn coverage(mask: &Gray) -> f64 {
    mask.count_inside() as f64 / mask.data.len().max(1) as f64
}

/// A stretch of a row, `x0..x1`, and the component it belongs to.
struct Run {
    y: usize,
    x0: usize,
    x1: usize,
    parent: usize,
}

fn root(runs: &mut [Run], mut i: usize) -> usize {
    while runs[i].parent != i {
        runs[i].parent = runs[runs[i].parent].parent;
        i = runs[i].parent;
    }
    i
}

/// The components of what `inside` accepts, as runs that point at their component's first run. `reach` 0: 4-connected, 1: 8-connected.
fn components(width: usize, height: usize, reach: usize, inside: impl Fn(usize) -> bool) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut above = 0..0;
    for y in 0..height {
        let start = runs.len();
        let mut x = 0;
        while x < width {
            if !inside(y * width + x) {
                x += 1;
                continue;
            }
            let x0 = x;
            while x < width && inside(y * width + x) {
                x += 1;
            }
            runs.push(Run { y, x0, x1: x, parent: runs.len() });
        }
        let mut a = above.start;
        for i in start..runs.len() {
            while a < above.end && runs[a].x1 + reach <= runs[i].x0 {
                a += 1;
            }
            let mut b = a;
            while b < above.end && runs[b].x0 < runs[i].x1 + reach {
                let (p, q) = (root(&mut runs, b), root(&mut runs, i));
                let (first, later) = (p.min(q), p.max(q));
                runs[later].parent = first;
                b += 1;
            }
        }
        above = start..runs.len();
    }
    for i in 0..runs.len() {
        runs[i].parent = root(&mut runs, i);
    }
    runs
}

/// Pixels of each component, at the place of its first run.
fn sizes(runs: &[Run]) -> Vec<usize> {
    let mut size = vec![0; runs.len()];
    for r in runs {
        size[r.parent] += r.x1 - r.x0;
    }
    size
}

/// Calls `each(component number 0.., y, x0, x1)` for the runs of the 8-connected components of the inside; gives how many there are.
pub fn each_component(mask: &Gray, mut each: impl FnMut(usize, usize, usize, usize)) -> usize {
    let runs = components(mask.width, mask.height, 1, |i| mask.data[i] >= 128);
    let mut number = vec![usize::MAX; runs.len()];
    let mut count = 0;
    for r in &runs {
        if number[r.parent] == usize::MAX {
            number[r.parent] = count;
            count += 1;
        }
        each(number[r.parent], r.y, r.x0, r.x1);
    }
    count
}

/// Keeps the largest component of the inside with its soft edge, fills its holes, clears the rest. Doing it twice changes nothing more.
/// Work: that of the rectangle around what is not 0.
pub fn clean(mask: &mut Gray) {
    let Some((left, top, right, bottom)) = mask.bounds(1) else { return };
    // With a rim of nothing, where there is room for one: a hole of the rectangle is then a hole of the picture.
    let (x, y) = (left.saturating_sub(1), top.saturating_sub(1));
    let mut part = mask.crop(x, y, (right + 1).min(mask.width) - x, (bottom + 1).min(mask.height) - y);
    clean_all(&mut part);
    mask.paste(&part, x, y);
}

fn clean_all(mask: &mut Gray) {
    let (width, height) = (mask.width, mask.height);
    let runs = components(width, height, 0, |i| mask.data[i] >= 128);
    let size = sizes(&runs);
    let Some(kept) = (0..runs.len()).rev().max_by_key(|i| size[*i]) else {
        mask.data.fill(0);
        return;
    };
    let mut keep = Gray::new(width, height);
    for r in runs.iter().filter(|r| r.parent == kept) {
        keep.data[r.y * width + r.x0..r.y * width + r.x1].fill(255);
    }
    // What is not kept and does not reach the picture's border is a hole.
    let outside = components(width, height, 1, |i| keep.data[i] == 0);
    let mut open = vec![false; outside.len()];
    for r in &outside {
        open[r.parent] |= r.y == 0 || r.y + 1 == height || r.x0 == 0 || r.x1 == width;
    }
    for r in outside.iter().filter(|r| !open[r.parent]) {
        let hole = r.y * width + r.x0..r.y * width + r.x1;
        keep.data[hole.clone()].fill(255);
        mask.data[hole].fill(255);
    }
    let near = dilate(&keep, SOFT_REACH);
    for ((v, k), n) in mask.data.iter_mut().zip(&keep.data).zip(&near.data) {
        if *n == 0 || (*k == 0 && *v >= 128) {
            *v = 0;
        }
    }
}

/// The largest value within `radius` px along rows and columns (a square window). Work: that of the rectangle around what is not 0.
pub fn dilate(gray: &Gray, radius: usize) -> Gray {
    let mut out = Gray::new(gray.width, gray.height);
    let Some((left, top, right, bottom)) = gray.bounds(1) else { return out };
    let (x, y) = (left.saturating_sub(radius), top.saturating_sub(radius));
    let part = gray.crop(x, y, (right + radius).min(gray.width) - x, (bottom + radius).min(gray.height) - y);
    out.paste(&slide(&part, radius, largest), x, y);
    out
}

/// The smallest value within `radius` px along rows and columns (a square window).
pub fn erode(gray: &Gray, radius: usize) -> Gray {
    slide(gray, radius, smallest)
}

/// Separable running extremum by doubling: spans of 1, 2, 4, ... px merged with themselves, so the work grows with the logarithm of the
/// radius (a flare's reach on a 12 MP iris is 120 px). The edge's value beyond the edge, which is in every window that hangs over.
fn slide(gray: &Gray, radius: usize, merge: fn(&mut [u8], &[u8])) -> Gray {
    let (width, height) = (gray.width, gray.height);
    if width == 0 || height == 0 || radius == 0 {
        return gray.clone();
    }
    let window = 2 * radius + 1;
    let mut shifts = Vec::new();
    let mut span = 1;
    while span < window {
        shifts.push(span.min(window - span));
        span += shifts[shifts.len() - 1];
    }
    let mut tall = Vec::with_capacity(width * (height + 2 * radius));
    let (mut line, mut shifted) = (Vec::new(), Vec::new());
    for y in 0..height + 2 * radius {
        if y > 0 && (y <= radius || y >= height + radius) {
            tall.extend_from_within(tall.len() - width..);
            continue;
        }
        let row = gray.row(y.saturating_sub(radius));
        line.clear();
        line.resize(radius, row[0]);
        line.extend_from_slice(row);
        line.resize(width + 2 * radius, row[width - 1]);
        for s in &shifts {
            shifted.clear();
            shifted.extend_from_slice(&line[*s..]);
            merge(&mut line, &shifted);
        }
        tall.extend_from_slice(&line[..width]);
    }
    for s in &shifts {
        for y in 0..height + 2 * radius - s {
            let (into, from) = tall.split_at_mut((y + s) * width);
            merge(&mut into[y * width..(y + 1) * width], &from[..width]);
        }
    }
    tall.truncate(width * height);
    Gray { width, height, data: tall }
}

wide! {
    fn largest(into: &mut [u8], from: &[u8]) {
        for (a, b) in into.iter_mut().zip(from) {
            *a = (*a).max(*b);
        }
    }
}

wide! {
    fn smallest(into: &mut [u8], from: &[u8]) {
        for (a, b) in into.iter_mut().zip(from) {
            *a = (*a).min(*b);
        }
    }
}

/// A filled ellipse on a picture of `width` x `height` px, with an anti-aliased edge.
pub fn ellipse(width: usize, height: usize, e: &Ellipse) -> Gray {
    let mut out = Gray::new(width, height);
    let (_, y0, _, y1) = geometry::bounds(e);
    let frame = geometry::Frame::new(e);
    // Only a band around the edge needs the distance: two edges' width within it all is inside for sure, and beyond it nothing is.
    let band = 2.0 * EDGE / e.rx.min(e.ry).max(1e-9);
    for y in ((y0 - EDGE).max(0.0) as usize).min(height)..((y1 + EDGE).ceil().max(0.0) as usize).min(height) {
        let (all, sure) = (frame.span(y, 1.0 + band, width), if band < 1.0 { frame.span(y, 1.0 - band, width) } else { 0..0 });
        let row = &mut out.data[y * width..][..width];
        row[sure.clone()].fill(255);
        let (before, behind) = if sure.is_empty() { (all, 0..0) } else { (all.start..sure.start, sure.end..all.end) };
        for x in before.chain(behind) {
            row[x] = soft(-geometry::signed_distance(e, x as f64 + 0.5, y as f64 + 0.5));
        }
    }
    out
}

/// Value of a pixel whose centre lies `depth` px inside an edge (negative: outside).
fn soft(depth: f64) -> u8 {
    (255.0 * (0.5 + depth / EDGE).clamp(0.0, 1.0)).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(rows: &[&str]) -> Gray {
        let data = rows.iter().flat_map(|r| r.bytes().map(|b| if b == b'#' { 255 } else { (b - b'0') * 20 })).collect();
        Gray { width: rows[0].len(), height: rows.len(), data }
    }

    #[test]
    fn clean_keeps_the_largest_part_with_its_soft_edge_and_fills_its_holes() {
        let mut m = picture(&["##0000000", "000055500", "00005###5", "00005#0#5", "00005###5", "000000000"]);
        clean(&mut m);
        assert_eq!(m, picture(&["000000000", "000055500", "00005###5", "00005###5", "00005###5", "000000000"]));
    }

    #[test]
    fn cleaning_twice_is_cleaning_once_and_an_empty_mask_stays_empty() {
        let mut seed = 7u32;
        let mut m = Gray::new(61, 47);
        for v in &mut m.data {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *v = (seed >> 24) as u8;
        }
        clean(&mut m);
        let once = m.clone();
        clean(&mut m);
        assert_eq!(m, once);
        let mut empty = picture(&["0010", "0200"]);
        clean(&mut empty);
        assert_eq!(empty.count_inside() + usize::from(empty.data.iter().any(|v| *v > 0)), 0);
    }

    #[test]
    fn two_diagonal_spots_are_one_component_for_counting() {
        let mut spans = Vec::new();
        let n = each_component(&picture(&["#00#", "0#00", "0000"]), |c, y, x0, x1| spans.push((c, y, x0, x1)));
        assert_eq!(n, 2);
        assert_eq!(spans, [(0, 0, 0, 1), (1, 0, 3, 4), (0, 1, 1, 2)]);
    }

    #[test]
    fn dilating_and_eroding_take_the_extremum_of_the_square_window() {
        let mut g = Gray::new(23, 17);
        g.data.iter_mut().enumerate().for_each(|(i, v)| *v = (i * 7919 % 251) as u8);
        for radius in [0, 1, 2, 5, 30] {
            let (big, small) = (dilate(&g, radius), erode(&g, radius));
            for y in 0..17usize {
                for x in 0..23usize {
                    let rows = y.saturating_sub(radius)..(y + radius + 1).min(17);
                    let seen: Vec<u8> = rows.flat_map(|j| g.row(j)[x.saturating_sub(radius)..(x + radius + 1).min(23)].to_vec()).collect();
                    assert_eq!((Some(&big.px(x, y)), Some(&small.px(x, y))), (seen.iter().max(), seen.iter().min()));
                }
            }
        }
    }

    #[test]
    fn a_region_finds_its_place_on_the_photo_and_loses_what_hangs_over() {
        let r = Region { x: 2, y: 1, gray: picture(&["##", "#0", "##"]) };
        assert_eq!(r.expand(4, 4), picture(&["0000", "00##", "00#0", "00##"]));
        assert_eq!(r.expand(3, 3), picture(&["000", "00#", "00#"]));
        assert_eq!(r.expand(1, 1).count_inside(), 0);
    }

    #[test]
    fn an_ellipse_covers_its_area_even_when_it_hangs_over_the_edge() {
        let e = Ellipse { cx: 50.3, cy: 40.7, rx: 30.0, ry: 18.0, angle_deg: 25.0 };
        let sum = |g: &Gray| g.data.iter().map(|v| f64::from(*v)).sum::<f64>() / 255.0;
        let full = sum(&ellipse(100, 90, &e));
        assert!((full - geometry::area(&e)).abs() < 12.0, "{full}");
        let cut = sum(&ellipse(50, 90, &e));
        assert!((cut / full - 0.5).abs() < 0.03, "{cut}");
        assert_eq!(sum(&ellipse(20, 20, &Ellipse { cx: -500.0, ..e })), 0.0);
    }
}
