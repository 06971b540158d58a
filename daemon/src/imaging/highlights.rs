//! Specular highlights on the cornea: the lamp's mirror image inside iris and pupil.
//!
//! A highlight is white (the lamp's colour, not the iris'), far brighter than what lies around it, and has a steep edge. So the measure
//! is min(R, G, B) above its local median: pale blue or hazel texture is bright in one channel, never in all three, and sclera is left
//! out because only the mask's inside counts. Two thresholds (hysteresis): a core that nothing but a lamp makes, grown into its flare.
//! Both follow the eye: in a pale grey iris the fibres themselves rise far above their median, so what counts is the rise in terms of the
//! texture's own spread, and that is taken from its dark half, which no lamp touches. Flare must also be brighter than its zone, all around the
//! pupil: a pale collarette beside a darker ring rises above its surroundings, too, and would be taken for the flare of any lamp on it.
//!
//! A lamp may be larger than its surroundings: what is burnt out and far above the eye's dark quarter is no surroundings, and a pupil's are
//! never brighter than the iris beside it. Where pupil and iris meet, the pupil's edge may be a little off: a core there is brighter than either.

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
/// The same, this far above the dark quarter of the visible iris: a lamp whatever lies around it, and no surroundings of another px.
const LAMP_RISE: u16 = 90;
/// The same in spreads (dark quarter less dark tenth): an overexposed iris burns out fibre by fibre, and its spread grows with the light.
const LAMP_SPREADS: u16 = 5;
/// What lies so near to the pupil's edge, shares of its radius, may be iris.
const PUPIL_EDGE: f64 = 0.12;
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
    for (i, rise) in rise.iter().enumerate().filter(|(i, rise)| **rise >= least && window.part[*i] != Part::Out) {
        let part = window.part[i];
        let as_pupil = usize::from(part != Part::Iris);
        let (rise, spread, white) = (f32::from(*rise), spread[as_pupil], window.white[i]);
        let above_zone = |levels: f32| f32::from(white) >= zones[window.zone(&frame, i)] + levels;
        let stands_out = white >= CORE_LEVEL[as_pupil] && rise >= CORE_RISE.max(CORE_SPREADS * spread);
        let is_burnt = white >= BURNT.0 && rise >= BURNT.1;
        if window.is_lamp(i) || ((stands_out || is_burnt) && (part != Part::PupilEdge || above_zone(CORE_RISE))) {
            (core.data[i], flare.data[i]) = (255, 255);
        } else if rise >= FLARE_RISE.max(FLARE_SPREADS * spread) && (part != Part::Iris || above_zone(ZONE_RISE)) {
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

/// What a pixel is measured as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Outside the mask, or the limbus.
    Out,
    Iris,
    /// Either: measured as pupil, but no surroundings of it, and no core where the iris beside it is as bright.
    PupilEdge,
    Pupil,
}

/// The photo inside the limbus' bounding box.
struct Window {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    /// min(R, G, B).
    white: Vec<u8>,
    part: Vec<Part>,
    /// From this level on `white` is a lamp's wherever it lies; above 255 where the iris is so bright that no level says so.
    lamp: u16,
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
        let radius = geometry::radius(limbus);
        let (limbus, pupil) = (geometry::Frame::new(limbus), pupil.map(geometry::Frame::new));
        let size = width * height;
        let mut w = Self { x, y, width, height, white: Vec::with_capacity(size), part: vec![Part::Out; size], lamp: u16::MAX };
        for py in y..y1 {
            w.white.extend(photo.row(py)[x * 3..x1 * 3].chunks_exact(3).map(|px| px[0].min(px[1]).min(px[2])));
            let at = (py - y) * width;
            let within = |frame: &geometry::Frame, rho: f64| {
                let span = frame.span(py, rho, x1);
                span.start.max(x) - x..span.end.max(x) - x
            };
            let iris = within(&limbus, 1.0);
            let part = &mut w.part[at..at + width];
            part[iris.clone()].fill(Part::Iris);
            if let Some(pupil) = &pupil {
                let clipped = |rho: f64| {
                    let span = within(pupil, rho);
                    span.start.max(iris.start)..span.end.min(iris.end).max(span.start.max(iris.start))
                };
                part[clipped(1.0)].fill(Part::PupilEdge);
                part[clipped(1.0 - PUPIL_EDGE)].fill(Part::Pupil);
            }
            let seen = &mask.row(py)[x..x1];
            part[iris.clone()].iter_mut().zip(&seen[iris]).filter(|(_, seen)| **seen < 128).for_each(|(part, _)| *part = Part::Out);
        }
        w.lamp = w.lamp_level(radius);
        Some(w)
    }

    fn is_lamp(&self, i: usize) -> bool {
        u16::from(self.white[i]) >= self.lamp
    }

    /// Some thousand pixels, evenly.
    fn some(&self, radius: f64) -> impl Iterator<Item = usize> {
        let step = ((radius / 40.0) as usize).max(1);
        (0..self.height).step_by(step).flat_map(move |y| (y * self.width..(y + 1) * self.width).step_by(step))
    }

    fn lamp_level(&self, radius: f64) -> u16 {
        let mut levels: Vec<u8> = self.some(radius).filter(|i| self.part[*i] == Part::Iris).map(|i| self.white[i]).collect();
        if levels.is_empty() {
            return u16::MAX;
        }
        let [quarter, tenth] = [levels.len() / 4, levels.len() / 10].map(|place| u16::from(*levels.select_nth_unstable(place).1));
        (quarter + LAMP_RISE.max(LAMP_SPREADS * (quarter - tenth))).max(u16::from(BURNT.0))
    }

    /// How far each pixel's darkest channel lies above the median of its surroundings, levels; iris and pupil each on their own (a lamp
    /// across the pupil's edge must not make the iris beside it look bright), lamps left out. Medians on a grid of cells a third of the
    /// radius wide, each over its 3 x 3 cells.
    fn rise(&self, radius: f64) -> Vec<i16> {
        let cell = ((radius / 3.0).round() as usize).max(4);
        let (cols, rows) = (self.width.div_ceil(cell), self.height.div_ceil(cell));
        let mut histograms = vec![[[0u32; 64]; 2]; cols * rows];
        for (c, stretch) in self.stretches(cell) {
            for i in stretch.filter(|i| !self.is_lamp(*i)) {
                match self.part[i] {
                    Part::Iris => histograms[c][0][usize::from(self.white[i] / 4)] += 1,
                    Part::Pupil => histograms[c][1][usize::from(self.white[i] / 4)] += 1,
                    Part::PupilEdge | Part::Out => {}
                }
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
        let medians: Vec<[i16; 2]> = (0..cols * rows)
            .map(|c| {
                let [iris, pupil] = [0, 1].map(|part| median(c % cols, c / cols, part).map(|bin| bin as i16 * 4 + 2));
                // A pupil that nothing but a lamp shows, or a dim lamp fills, is measured against its iris.
                let pupil = pupil.into_iter().chain(iris).min().unwrap_or(0);
                [iris.unwrap_or(pupil), pupil]
            })
            .collect();
        let mut rise = Vec::with_capacity(self.white.len());
        for (c, stretch) in self.stretches(cell) {
            let [iris, pupil] = medians[c];
            let places = self.white[stretch.clone()].iter().zip(&self.part[stretch]);
            rise.extend(places.map(|(white, part)| i16::from(*white) - if *part == Part::Iris { iris } else { pupil }));
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
        let mut levels = vec![Vec::new(); ZONES];
        for i in self.some(radius).filter(|i| self.part[*i] == Part::Iris && !self.is_lamp(*i)) {
            levels[self.zone(limbus, i)].push(self.white[i]);
        }
        // Where the pupil is, the innermost zone that is seen stands for what lies within it.
        let mut medians = [0.0; ZONES];
        for n in (0..ZONES).rev() {
            let middle = levels[n].len() / 2;
            medians[n] = match levels[n].is_empty() {
                false => f32::from(*levels[n].select_nth_unstable(middle).1),
                true => medians.get(n + 1).copied().unwrap_or(0.0),
            };
        }
        medians
    }

    /// How far the dark tenth of the iris' and of the pupil's own texture lies below its median, levels.
    fn spread(&self, rise: &[i16]) -> [f32; 2] {
        let mut histograms = [[0u32; 256]; 2];
        for (i, rise) in rise.iter().enumerate().filter(|(i, _)| !self.is_lamp(*i)) {
            match self.part[i] {
                Part::Iris => histograms[0][(-rise).clamp(0, 255) as usize] += 1,
                Part::Pupil => histograms[1][(-rise).clamp(0, 255) as usize] += 1,
                Part::PupilEdge | Part::Out => {}
            }
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
mod tests;
