//! Specular highlights on the cornea: the lamp's mirror image inside iris and pupil.
//!
//! A highlight is white (the lamp's colour, not the iris'), far brighter than what lies around it, and has a steep edge. So the measure
//! is min(R, G, B) above its local median: pale blue or hazel texture is bright in one channel, never in all three, and sclera is left
//! out because only the mask's inside counts. Two thresholds (hysteresis): a core that nothing but a lamp makes, grown into its flare.
//! Both follow the eye: in a pale grey iris the fibres themselves rise far above their median, so what counts is the rise in terms of the
//! texture's own spread, and that is taken from its dark half, which no lamp touches. Flare must also be brighter than its zone, all around the
//! pupil: a pale collarette beside a darker ring rises above its surroundings, too, and would be taken for the flare of any lamp on it.

use std::ops::Range;

use super::{
    geometry,
    mask::{self, Region},
    raster::{Gray, Rgb},
};
use crate::domain::report::Ellipse;

/// What was found; nothing of it lies outside the mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Highlights {
    /// 255 = highlight with its flare, on the limbus' bounding box; empty (0 x 0) where the limbus lies off the photo.
    pub map: Region,
    /// Separate highlights.
    pub count: u32,
    /// px of the photo.
    pub area_px: u64,
}

/// Above the local median, levels of 255: nothing but a lamp.
const CORE_RISE: f32 = 70.0;
/// The same in spreads of the texture (median less 10th percentile).
const CORE_SPREADS: f32 = 3.0;
/// The core's own level in the darkest channel, on the iris and on the pupil, where nothing but a lamp is bright.
const CORE_LEVEL: [u8; 2] = [135, 90];
/// As good as burnt out: a core whatever the texture, if it rises at all.
const BURNT: (u8, f32) = (215, 40.0);
/// Flare around a core, levels and spreads.
const FLARE_RISE: f32 = 26.0;
const FLARE_SPREADS: f32 = 1.0;
/// How far flare reaches from its core, in limbus radii.
const FLARE_REACH: f64 = 0.10;
/// Zones of the iris: rings of the same area around the limbus' centre.
const ZONES: usize = 24;
/// Flare above its zone's median, levels.
const ZONE_RISE: f32 = 22.0;
/// Smaller than this, in limbus areas, is noise or texture: 4 px on an iris of 200 px.
const MIN_AREA: f64 = 1.0 / 8000.0;
/// Beyond this radius (of the limbus') bright means sclera more often than lamp.
const RIM: f64 = 0.92;

/// Highlights inside the limbus and inside `mask` (the photo's size, >= 128).
pub fn find(photo: &Rgb, limbus: &Ellipse, pupil: Option<&Ellipse>, mask: &Gray) -> Highlights {
    let Some(window) = Window::new(photo, limbus, pupil, mask) else {
        return Highlights { map: Region { x: 0, y: 0, gray: Gray::new(0, 0) }, count: 0, area_px: 0 };
    };
    let radius = geometry::radius(limbus);
    let rise = window.rise(radius);
    let spread = window.spread(&rise);
    let frame = geometry::Frame::new(limbus);
    let zones = window.zones(&frame, radius);
    let (w, h) = (window.width, window.height);
    let mut flare = Gray::new(w, h);
    let mut core = Gray::new(w, h);
    // What rises less is neither, and that is nearly all.
    let least = FLARE_RISE.min(BURNT.1) as i16;
    for (i, rise) in rise.iter().enumerate().filter(|(i, rise)| **rise >= least && window.inside[*i]) {
        let part = usize::from(window.in_pupil[i]);
        let (rise, spread, white) = (f32::from(*rise), spread[part], window.white[i]);
        let stands_out = white >= CORE_LEVEL[part] && rise >= CORE_RISE.max(CORE_SPREADS * spread);
        if stands_out || (white >= BURNT.0 && rise >= BURNT.1) {
            (core.data[i], flare.data[i]) = (255, 255);
        } else if rise >= FLARE_RISE.max(FLARE_SPREADS * spread)
            && (window.in_pupil[i] || f32::from(white) >= zones[window.zone(&frame, i)] + ZONE_RISE)
        {
            flare.data[i] = 255;
        }
    }
    let reach = mask::dilate(&core, (radius * FLARE_REACH).ceil() as usize);
    for (f, r) in flare.data.iter_mut().zip(&reach.data) {
        *f &= *r;
    }
    let (map, count) = window.judge(&flare, &core, limbus, radius);
    let area_px = map.count_inside() as u64;
    Highlights { map: Region { x: window.x, y: window.y, gray: map }, count, area_px }
}

/// The photo inside the limbus' bounding box.
struct Window {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    /// min(R, G, B).
    white: Vec<u8>,
    /// In the mask and in the limbus.
    inside: Vec<bool>,
    in_pupil: Vec<bool>,
}

impl Window {
    fn new(photo: &Rgb, limbus: &Ellipse, pupil: Option<&Ellipse>, mask: &Gray) -> Option<Self> {
        let (left, top, right, bottom) = geometry::bounds(limbus);
        let clamp = |v: f64, n: usize| (v.max(0.0) as usize).min(n);
        let (x, y) = (clamp(left.floor(), photo.width), clamp(top.floor(), photo.height));
        let (x1, y1) = (clamp(right.ceil(), photo.width), clamp(bottom.ceil(), photo.height));
        if x >= x1 || y >= y1 || (mask.width, mask.height) != (photo.width, photo.height) {
            return None;
        }
        let (width, height) = (x1 - x, y1 - y);
        let (limbus, pupil) = (geometry::Frame::new(limbus), pupil.map(geometry::Frame::new));
        let size = width * height;
        let mut w = Self { x, y, width, height, white: Vec::with_capacity(size), inside: vec![false; size], in_pupil: vec![false; size] };
        for py in y..y1 {
            w.white.extend(photo.row(py)[x * 3..x1 * 3].chunks_exact(3).map(|px| px[0].min(px[1]).min(px[2])));
            let at = (py - y) * width;
            let within = |frame: &geometry::Frame| {
                let span = frame.span(py, 1.0, x1);
                span.start.max(x) - x..span.end.max(x) - x
            };
            let (iris, seen) = (within(&limbus), &mask.row(py)[x..x1]);
            let inside = &mut w.inside[at..at + width];
            inside[iris.clone()].iter_mut().zip(&seen[iris]).for_each(|(inside, seen)| *inside = *seen >= 128);
            if let Some(pupil) = &pupil {
                w.in_pupil[at..at + width][within(pupil)].fill(true);
            }
        }
        Some(w)
    }

    /// How far each pixel's darkest channel lies above the median of its surroundings, levels; iris and pupil each on their own (a lamp
    /// across the pupil's edge must not make the iris beside it look bright). Medians on a grid of cells a third of the radius wide, each
    /// over its 3 x 3 cells.
    fn rise(&self, radius: f64) -> Vec<i16> {
        let cell = ((radius / 3.0).round() as usize).max(4);
        let (cols, rows) = (self.width.div_ceil(cell), self.height.div_ceil(cell));
        let mut histograms = vec![[[0u32; 64]; 2]; cols * rows];
        for (c, stretch) in self.stretches(cell) {
            for i in stretch.filter(|i| self.inside[*i]) {
                histograms[c][usize::from(self.in_pupil[i])][usize::from(self.white[i] / 4)] += 1;
            }
        }
        let median = |cx: usize, cy: usize, part: usize| {
            let mut sum = [0u32; 64];
            for y in cy.saturating_sub(1)..(cy + 2).min(rows) {
                for x in cx.saturating_sub(1)..(cx + 2).min(cols) {
                    sum.iter_mut().zip(&histograms[y * cols + x][part]).for_each(|(a, b)| *a += b);
                }
            }
            let half = sum.iter().sum::<u32>() / 2;
            let mut seen = 0;
            sum.iter().position(|n| {
                seen += n;
                seen > half
            })
        };
        let medians: Vec<[i16; 2]> =
            (0..cols * rows).map(|c| [0, 1].map(|part| median(c % cols, c / cols, part).map_or(0, |bin| bin as i16 * 4 + 2))).collect();
        let mut rise = Vec::with_capacity(self.white.len());
        for (c, stretch) in self.stretches(cell) {
            let [iris, pupil] = medians[c];
            let places = self.white[stretch.clone()].iter().zip(&self.in_pupil[stretch]);
            rise.extend(places.map(|(white, in_pupil)| i16::from(*white) - if *in_pupil { pupil } else { iris }));
        }
        rise
    }

    /// All pixels in order, cut at the edges of cells of `cell` px: the cell's number, and which pixels.
    fn stretches(&self, cell: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (width, cols) = (self.width, self.width.div_ceil(cell));
        (0..self.height)
            .flat_map(move |y| (0..cols).map(move |c| (y / cell * cols + c, y * width + c * cell..y * width + ((c + 1) * cell).min(width))))
    }

    /// Which zone a pixel lies in.
    fn zone(&self, limbus: &geometry::Frame, i: usize) -> usize {
        let rho2 = limbus.rho2((self.x + i % self.width) as f64 + 0.5, (self.y + i / self.width) as f64 + 0.5);
        ((rho2 * ZONES as f64) as usize).min(ZONES - 1)
    }

    /// Each zone's median of the darkest channel, of some thousand pixels of the iris.
    fn zones(&self, limbus: &geometry::Frame, radius: f64) -> [f32; ZONES] {
        let step = ((radius / 40.0) as usize).max(1);
        let mut levels = vec![Vec::new(); ZONES];
        for y in (0..self.height).step_by(step) {
            for i in (y * self.width..(y + 1) * self.width).step_by(step).filter(|i| self.inside[*i] && !self.in_pupil[*i]) {
                levels[self.zone(limbus, i)].push(self.white[i]);
            }
        }
        let median = |mut zone: Vec<u8>| {
            let middle = zone.len() / 2;
            if zone.is_empty() { 0.0 } else { f32::from(*zone.select_nth_unstable(middle).1) }
        };
        std::array::from_fn(|n| median(std::mem::take(&mut levels[n])))
    }

    /// How far the dark tenth of the iris' and of the pupil's own texture lies below its median, levels.
    fn spread(&self, rise: &[i16]) -> [f32; 2] {
        let mut histograms = [[0u32; 256]; 2];
        for (i, rise) in rise.iter().enumerate().filter(|(i, _)| self.inside[*i]) {
            histograms[usize::from(self.in_pupil[i])][(-rise).clamp(0, 255) as usize] += 1;
        }
        histograms.map(|h| {
            let (tenth, mut seen) = (h.iter().sum::<u32>() / 10, 0);
            let reached = h.iter().rposition(|n| {
                seen += n;
                seen > tenth
            });
            reached.unwrap_or(0) as f32
        })
    }

    /// The flares that have a core of some size and are not a sliver of sclera along the rim; and how many they are.
    fn judge(&self, flare: &Gray, core: &Gray, limbus: &Ellipse, radius: f64) -> (Gray, u32) {
        #[derive(Default, Clone)]
        struct Facts {
            area: usize,
            core: usize,
            rim: usize,
            runs: Vec<(usize, usize, usize)>,
        }
        let mut parts: Vec<Facts> = Vec::new();
        let limbus = geometry::Frame::new(limbus);
        mask::each_component(flare, |number, y, x0, x1| {
            if number == parts.len() {
                parts.push(Facts::default());
            }
            let part = &mut parts[number];
            part.runs.push((y, x0, x1));
            part.area += x1 - x0;
            for x in x0..x1 {
                part.core += usize::from(core.data[y * self.width + x] > 0);
                let rho2 = limbus.rho2((self.x + x) as f64 + 0.5, (self.y + y) as f64 + 0.5);
                part.rim += usize::from(rho2 > RIM * RIM);
            }
        });
        let smallest = (std::f64::consts::PI * radius * radius * MIN_AREA).max(2.0) as usize;
        let mut kept = Gray::new(self.width, self.height);
        let mut count = 0;
        for part in parts.iter().filter(|p| p.core > 0 && p.area >= smallest && p.rim * 2 <= p.area) {
            count += 1;
            for (y, x0, x1) in &part.runs {
                kept.data[y * self.width + x0..y * self.width + x1].fill(255);
            }
        }
        (kept, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A brown or blue iris with texture, a black pupil, white sclera; 200 x 200 px, limbus of 80 px radius.
    fn eye(colour: [i32; 3]) -> (Rgb, Ellipse, Ellipse, Gray) {
        let (limbus, pupil) = (geometry::circle(100.0, 100.0, 80.0), geometry::circle(102.0, 98.0, 28.0));
        let mut photo = Rgb::new(200, 200);
        for y in 0..200 {
            for x in 0..200 {
                let (fx, fy) = (x as f64 + 0.5, y as f64 + 0.5);
                let rays = ((fy - 100.0).atan2(fx - 100.0) * 30.0).sin() * 25.0;
                let px = if geometry::contains(&pupil, fx, fy) {
                    [12, 10, 10]
                } else if geometry::contains(&limbus, fx, fy) {
                    colour.map(|c| (c + rays as i32).clamp(0, 255) as u8)
                } else {
                    [225, 215, 210]
                };
                photo.set(x, y, px);
            }
        }
        (photo, limbus, pupil, mask::ellipse(200, 200, &geometry::circle(100.0, 100.0, 82.0)))
    }

    fn spot(photo: &mut Rgb, cx: usize, cy: usize, r: usize) {
        for y in cy - r..=cy + r {
            for x in cx - r..=cx + r {
                photo.set(x, y, [250, 252, 251]);
            }
        }
    }

    #[test]
    fn an_eye_without_highlights_has_none_whatever_its_colour() {
        for colour in [[70, 45, 30], [120, 150, 190], [190, 170, 120]] {
            let (photo, limbus, pupil, mask) = eye(colour);
            assert_eq!(find(&photo, &limbus, Some(&pupil), &mask).count, 0, "{colour:?}");
        }
    }

    #[test]
    fn a_lamp_in_the_iris_and_one_across_the_pupils_edge_are_found_whole_and_nothing_else_is() {
        let (mut photo, limbus, pupil, mask) = eye([120, 150, 190]);
        spot(&mut photo, 60, 110, 5);
        spot(&mut photo, 127, 90, 7);
        let h = find(&photo, &limbus, Some(&pupil), &mask);
        assert_eq!(h.count, 2);
        assert!(h.area_px >= 11 * 11 + 15 * 15 && h.area_px < 380, "{}", h.area_px);
        for (x, y) in [(60, 110), (55, 105), (127, 90), (120, 83), (134, 97)] {
            assert_eq!(h.map.gray.px(x - h.map.x, y - h.map.y), 255, "{x} {y}");
        }
    }

    #[test]
    fn the_pale_zone_around_a_pupil_is_no_flare_of_the_lamp_on_it() {
        let (mut photo, limbus, pupil, mask) = eye([60, 90, 130]);
        for y in 0..200 {
            for x in 0..200 {
                let (fx, fy) = (x as f64 + 0.5, y as f64 + 0.5);
                if geometry::contains(&geometry::circle(100.0, 100.0, 48.0), fx, fy) && !geometry::contains(&pupil, fx, fy) {
                    photo.set(x, y, [140, 145, 150]);
                }
            }
        }
        spot(&mut photo, 60, 100, 5);
        let h = find(&photo, &limbus, Some(&pupil), &mask);
        assert_eq!(h.count, 1);
        assert!(h.area_px >= 11 * 11 && h.area_px < 180, "{}", h.area_px);
    }

    #[test]
    fn a_small_lamp_that_the_lens_dims_is_found_on_the_pupil() {
        let (mut photo, limbus, pupil, mask) = eye([70, 45, 30]);
        for (x, y) in (96..101).flat_map(|x| (94..99).map(move |y| (x, y))) {
            photo.set(x, y, [104, 106, 110]);
        }
        assert_eq!(find(&photo, &limbus, Some(&pupil), &mask).area_px, 25);
    }

    #[test]
    fn a_lamp_on_the_sclera_or_outside_the_mask_is_left_alone() {
        let (mut photo, limbus, pupil, mut mask) = eye([70, 45, 30]);
        spot(&mut photo, 190, 100, 5);
        spot(&mut photo, 100, 40, 5);
        for y in 0..60 {
            mask.data[y * 200..(y + 1) * 200].fill(0);
        }
        assert_eq!(find(&photo, &limbus, Some(&pupil), &mask).area_px, 0);
    }

    #[test]
    fn a_limbus_off_the_photo_has_no_highlights() {
        let (photo, _, _, mask) = eye([70, 45, 30]);
        let h = find(&photo, &geometry::circle(-500.0, 50.0, 80.0), None, &mask);
        assert_eq!((h.count, h.area_px, h.map.gray.width), (0, 0, 0));
    }
}
