//! Masks: which part of a photo is iris.
//!
//! A mask is a [`Gray`] of the photo's size: 255 inside, 0 outside, a soft edge of one or two px between; a pixel counts as inside from
//! 128 on. A [`Region`] is a small mask with the place where it lies: what is local (highlights, holes) never costs a whole 12 MP plane.

pub mod guided;
mod parts;
mod square;

pub use self::{
    parts::{clean, each_component},
    square::from_square,
};
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
/// H x W mask to H x W mask of 255 (at least `level`) and 0.
pub fn threshold(mask: &Gray, level: u8) -> Gray {
    Gray { width: mask.width, height: mask.height, data: mask.data.iter().map(|v| if *v >= level { 255 } else { 0 }).collect() }
}

/// Inside pixels / all pixels, 0..1.
pub fn coverage(mask: &Gray) -> f64 {
    mask.count_inside() as f64 / mask.data.len().max(1) as f64
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

    pub fn picture(rows: &[&str]) -> Gray {
        let data = rows.iter().flat_map(|r| r.bytes().map(|b| if b == b'#' { 255 } else { (b - b'0') * 20 })).collect();
        Gray { width: rows[0].len(), height: rows.len(), data }
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
