//! One look of the network at a square of the photo: pixels in, four planes out, and where they lie on the photo.
//!
//! Input 1 x 3 x N x N; output 1 x 4 x N x N, probabilities, one channel a [`Class`] in the order of the manifest. Each look is the mean of
//! the picture's and of its mirror image's.

use crate::{
    domain::{fault::Code, report::Ellipse},
    imaging::{
        geometry::{self, Point},
        mask,
        raster::{Gray, Plane, Rgb},
        resize,
    },
    inference::{
        Engine, RunError,
        manifest::{Class, ModelRow, Order},
    },
    ports::{ModelError, Tensor},
};

/// Planes of a look.
const VISIBLE: usize = 0;
const PUPIL: usize = 1;
const LIMBUS: usize = 2;
const OPENING: usize = 3;
const CHANNELS: usize = 4;
/// What each plane is.
const CLASSES: [Class; CHANNELS] = [Class::Iris, Class::Pupil, Class::Limbus, Class::Opening];
/// Contour points this near to the border of photo or square are the border's, px of the network.
const BORDER: f64 = 2.0;
/// Fewer pixels of the network are noise.
const MIN_PX: usize = 12;
/// A point of the photo counts as eyeball where the opening is this sure.
const OPEN: f32 = 0.6;
/// A point of the contour is the limbus', not a lid's, where it is open this much further in and out, shares of its way from the centre.
const BESIDE: [f64; 2] = [0.95, 1.08];
/// Short axis / long axis: flatter is an eye that looks aside; above it the network's contour is not that sure.
const ASIDE: f64 = 0.85;
/// Flatter is no eye.
const FLATTEST: f64 = 0.2;

/// The photo and its halves, made as they are needed: several squares of a 12 MP photo share them.
pub struct Levels<'a> {
    photo: &'a Rgb,
    /// Half, a quarter, an eighth ... of its size; None: nobody has asked for it.
    halves: Vec<Option<Rgb>>,
}

impl<'a> Levels<'a> {
    pub fn new(photo: &'a Rgb) -> Self {
        Self { photo, halves: Vec::new() }
    }

    pub fn photo(&self) -> &'a Rgb {
        self.photo
    }

    /// [`resize::square`], from the smallest picture that is still at least as fine.
    pub fn square(&mut self, (cx, cy, side): (f64, f64, f64), out: usize, pad: u8) -> Rgb {
        let mut level = 0;
        while side / out as f64 > f64::from(2u32 << level) {
            level += 1;
        }
        let (width, height) = (self.photo.width, self.photo.height);
        let small = self.level(level);
        // An odd side was not halved exactly.
        let (fx, fy) = (small.width as f64 / width as f64, small.height as f64 / height as f64);
        let long = if width >= height { fx } else { fy };
        resize::square(small, cx * fx, cy * fy, side * long, out, pad)
    }

    /// The photo, halved so many times. From the one before it or, where that was not asked for, from the one before that.
    fn level(&mut self, level: usize) -> &Rgb {
        let Some(place) = level.checked_sub(1) else { return self.photo };
        if self.halves.len() <= place {
            self.halves.resize(place + 1, None);
        }
        if self.halves[place].is_none() {
            let is_there = |level: usize| level.checked_sub(1).is_none_or(|place| self.halves[place].is_some());
            let made = if is_there(level - 1) {
                let from = self.level(level - 1);
                resize::shrink(from, (from.width / 2).max(1), (from.height / 2).max(1))
            } else {
                resize::quarter(self.level(level - 2))
            };
            self.halves[place] = Some(made);
        }
        self.halves[place].as_ref().unwrap_or(self.photo)
    }
}

/// What the network saw in one square of the photo.
pub struct Look {
    pub cx: f64,
    pub cy: f64,
    pub side: f64,
    planes: [Plane; CHANNELS],
}

impl Look {
    pub fn at(levels: &mut Levels<'_>, row: &ModelRow, engine: &Engine, square: (f64, f64, f64)) -> Result<Self, RunError> {
        let [_, channels, n, width] = row.input.shape;
        if channels != 3 || n == 0 || n != width {
            let detail = format!("{}: segmentation wants an input of 1 x 3 x N x N, the manifest says {:?}", row.name, row.input.shape);
            return Err(ModelError { code: Code::ModelMismatch, detail }.into());
        }
        let order = channels_of(row)?;
        let picture = levels.square(square, n, row.input.padding);
        let mut planes: [Plane; CHANNELS] = std::array::from_fn(|_| Plane::new(n, n));
        for mirrored in [false, true] {
            let out = engine.run(&row.name, &tensor(&picture, row, mirrored))?;
            let data = out.first().filter(|t| t.shape == [1, CHANNELS, n, n]).map(|t| &t.data).ok_or_else(|| {
                let shapes: Vec<_> = out.iter().map(|t| &t.shape).collect();
                ModelError { code: Code::ModelMismatch, detail: format!("{}: {shapes:?} came out, 1 x 4 x {n} x {n} is wanted", row.name) }
            })?;
            if data.iter().any(|p| !p.is_finite()) {
                return Err(ModelError { code: Code::ModelFailed, detail: format!("{}: the output is not finite", row.name) }.into());
            }
            for (plane, channel) in planes.iter_mut().zip(order) {
                let part = &data[channel * n * n..][..n * n];
                for (into, from) in plane.data.chunks_exact_mut(n).zip(part.chunks_exact(n)) {
                    for x in 0..n {
                        into[x] += 0.5 * if mirrored { from[n - 1 - x] } else { from[x] };
                    }
                }
            }
        }
        let (cx, cy, side) = square;
        Ok(Self { cx, cy, side, planes })
    }

    pub fn size(&self) -> usize {
        self.planes[0].width
    }

    /// px of the photo for a px of the network.
    pub fn scale(&self) -> f64 {
        self.side / self.size() as f64
    }

    pub fn left(&self) -> f64 {
        self.cx - self.side / 2.0
    }

    pub fn top(&self) -> f64 {
        self.cy - self.side / 2.0
    }

    pub fn visible(&self) -> &Plane {
        &self.planes[VISIBLE]
    }

    pub fn pupil_disc(&self) -> &Plane {
        &self.planes[PUPIL]
    }

    pub fn limbus_disc(&self) -> &Plane {
        &self.planes[LIMBUS]
    }

    pub fn opening(&self) -> &Plane {
        &self.planes[OPENING]
    }

    /// Whether a point of the photo lies between the lids.
    pub fn is_open(&self, x: f64, y: f64) -> bool {
        let (u, v) = ((x - self.left()) / self.scale(), (y - self.top()) / self.scale());
        let n = self.size() as f64;
        u >= 0.0 && v >= 0.0 && u < n && v < n && self.opening().px(u as usize, v as usize) > OPEN
    }

    pub fn limbus(&self, photo: &Rgb) -> Option<Ellipse> {
        self.ellipse(LIMBUS, photo)
    }

    pub fn pupil(&self, photo: &Rgb) -> Option<Ellipse> {
        self.ellipse(PUPIL, photo)
    }

    /// The limbus as far as it is seen, px of the photo. `seen`: the ellipse of the whole contour; where a lid hangs over the iris the network's
    /// disc is flatter than the eye's, and so is that ellipse: its long axis is the better radius, the arcs between the lids the best. They are
    /// those of a circle, or of a circle squeezed along `seen`'s short axis where the eye looks aside ([`squeeze`]).
    pub fn between_lids(&self, photo: &Rgb, seen: &Ellipse) -> Ellipse {
        let on_photo = |(x, y): Point| (self.left() + x * self.scale(), self.top() + y * self.scale());
        let mut points: Vec<Point> = self.rim(LIMBUS, photo).into_iter().map(on_photo).collect();
        let open = |(x, y): &Point| BESIDE.iter().all(|k| self.is_open(seen.cx + k * (x - seen.cx), seen.cy + k * (y - seen.cy)));
        points.retain(open);
        let (squeeze, (ux, uy)) = (squeeze(seen), short_axis(seen));
        let by = |(x, y): Point, factor: f64| {
            let along = (factor - 1.0) * ((x - seen.cx) * ux + (y - seen.cy) * uy);
            (x + along * ux, y + along * uy)
        };
        points.iter_mut().for_each(|p| *p = by(*p, 1.0 / squeeze));
        let long = seen.rx.max(seen.ry);
        let round = geometry::arc::fit(&points, &geometry::circle(seen.cx, seen.cy, long));
        let (cx, cy) = by((round.cx, round.cy), squeeze);
        let half = |axis: f64| if axis < long { round.rx * squeeze } else { round.rx };
        Ellipse { cx, cy, rx: half(seen.rx), ry: half(seen.ry), angle_deg: seen.angle_deg }
    }

    /// Limbus or pupil, px of the photo.
    fn ellipse(&self, channel: usize, photo: &Rgb) -> Option<Ellipse> {
        let found = geometry::fit_ellipse_robust(&self.rim(channel, photo))?;
        Some(geometry::transform(&found, self.scale(), self.left(), self.top()))
    }

    /// The contour of a disc, px of the network. Where the photo ends, the network's region ends too, and that is no edge of the eye: such
    /// points would press the circle of a half-shown iris into a narrow ellipse that lies wholly on the photo.
    fn rim(&self, channel: usize, photo: &Rgb) -> Vec<Point> {
        let plane = &self.planes[channel];
        let scale = self.scale();
        let lies_within = |at: f64, from: f64, photo: usize| {
            let (low, high) = (-from / scale, (photo as f64 - from) / scale);
            at > low.max(0.0) + BORDER && at < high.min(plane.width as f64) - BORDER
        };
        let mut points = geometry::contour(plane, 0.5);
        points.retain(|(x, y)| lies_within(*x, self.left(), photo.width) && lies_within(*y, self.top(), photo.height));
        points
    }

    /// Centre and radius of the limbus, px of the photo: of the largest component of what is limbus or visible iris. Where nothing
    /// reaches 0.5 but something stands out, the level follows it down: a faint first look still finds the place to zoom in on.
    pub fn disc(&self) -> Option<(f64, f64, f64)> {
        let n = self.size();
        let data: Vec<f32> = self.limbus_disc().data.iter().zip(&self.visible().data).map(|(a, b)| a.max(*b)).collect();
        let plane = Plane { width: n, height: n, data };
        let peak = plane.data.iter().copied().fold(0.0, f32::max);
        [0.5, peak * 0.6].into_iter().filter(|_| peak > 0.15).find_map(|level| {
            let found = component(&plane, level);
            let inside = found.data.iter().enumerate().filter(|(_, v)| **v > 0);
            let (mut x0, mut x1, mut y0, mut y1, mut area) = (n, 0, n, 0, 0usize);
            for (i, _) in inside {
                (x0, x1, y0, y1) = (x0.min(i % n), x1.max(i % n + 1), y0.min(i / n), y1.max(i / n + 1));
                area += 1;
            }
            if area < MIN_PX {
                return None;
            }
            let r = ((x1 - x0).max(y1 - y0) as f64).max(2.0 * (area as f64 / std::f64::consts::PI).sqrt()) / 2.0;
            let (cx, cy) = ((x0 + x1) as f64 / 2.0, (y0 + y1) as f64 / 2.0);
            Some((self.left() + cx * self.scale(), self.top() + cy * self.scale(), r * self.scale()))
        })
    }
}

/// Short axis / long axis of an eye that looks aside, 1 of one that does not. An upright limbus is no lid's doing, one that lies mostly is.
fn squeeze(seen: &Ellipse) -> f64 {
    let (flat, (across, down)) = (seen.rx.min(seen.ry) / seen.rx.max(seen.ry), short_axis(seen));
    if across.abs() > down.abs() && (FLATTEST..ASIDE).contains(&flat) { flat } else { 1.0 }
}

/// Its direction, of length 1.
fn short_axis(e: &Ellipse) -> Point {
    let (s, c) = e.angle_deg.to_radians().sin_cos();
    if e.rx < e.ry { (c, -s) } else { (s, c) }
}

/// The largest component of `plane > level`, holes filled: 255 and 0.
pub fn component(plane: &Plane, level: f32) -> Gray {
    let data = plane.data.iter().map(|p| if *p > level { 255 } else { 0 }).collect();
    let mut found = Gray { width: plane.width, height: plane.height, data };
    mask::clean(&mut found);
    found
}

/// The channel of the output in which each of [`CLASSES`] lies. Errors: ModelMismatch.
fn channels_of(row: &ModelRow) -> Result<[usize; CHANNELS], ModelError> {
    let mut channels = [0; CHANNELS];
    for (channel, class) in channels.iter_mut().zip(CLASSES) {
        *channel = row.output.classes.iter().position(|c| *c == class).ok_or_else(|| {
            let detail = format!("{}: segmentation wants the class {class:?}, the manifest says {:?}", row.name, row.output.classes);
            ModelError { code: Code::ModelMismatch, detail }
        })?;
    }
    Ok(channels)
}

/// N x N x 3 bytes to 1 x 3 x N x N in the manifest's range and order.
fn tensor(square: &Rgb, row: &ModelRow, mirrored: bool) -> Tensor {
    let n = square.width;
    let mut data = vec![0.0; 3 * n * n];
    for (c, plane) in data.chunks_exact_mut(n * n).enumerate() {
        let from = if row.input.order == Order::Rgb { c } else { 2 - c };
        let [black, white] = row.input.ends(from);
        for (y, out) in plane.chunks_exact_mut(n).enumerate() {
            for (x, v) in out.iter_mut().enumerate() {
                let at = if mirrored { n - 1 - x } else { x };
                *v = black + (white - black) * f32::from(square.data[(y * n + at) * 3 + from]) / 255.0;
            }
        }
    }
    Tensor { shape: vec![1, 3, n, n], data }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::manifest::Manifest;

    #[test]
    fn planes_are_found_by_their_class_wherever_the_network_has_them_and_a_class_that_is_missing_is_named() {
        let manifest = Manifest::load("/nonexistent".as_ref(), "/nonexistent".as_ref()).expect("the built-in one");
        let mut row = manifest.get("iris").expect("row").clone();
        assert_eq!(channels_of(&row).expect("all four"), [0, 1, 2, 3]);
        row.output.classes = vec![Class::Opening, Class::Limbus, Class::Iris, Class::Pupil];
        assert_eq!(channels_of(&row).expect("all four"), [2, 3, 1, 0]);
        row.output.classes[3] = Class::Iris;
        let error = channels_of(&row).expect_err("no pupil");
        assert!(error.code == Code::ModelMismatch && error.detail.contains("Pupil"), "{error}");
    }

    #[test]
    fn an_upright_limbus_is_an_eye_that_looks_aside_and_one_that_lies_is_a_lids_doing() {
        let squeezed = |rx, ry, angle_deg| squeeze(&Ellipse { cx: 50.0, cy: 50.0, rx, ry, angle_deg });
        assert_eq!([squeezed(6.0, 10.0, 0.0), squeezed(10.0, 6.0, 90.0), squeezed(6.0, 10.0, -30.0)], [0.6; 3]);
        assert_eq!([squeezed(10.0, 6.0, 0.0), squeezed(6.0, 10.0, 90.0), squeezed(9.0, 10.0, 0.0), squeezed(1.0, 10.0, 0.0)], [1.0; 4]);
    }

    #[test]
    fn a_square_of_the_halves_shows_what_a_square_of_the_photo_shows() {
        let mut photo = Rgb::new(901, 640);
        for y in 0..640 {
            for x in 0..901 {
                photo.set(x, y, [(x / 4) as u8, (y / 3) as u8, ((x + y) / 8) as u8]);
            }
        }
        let mut levels = Levels::new(&photo);
        for square in [(450.0, 320.0, 901.0), (300.0, 400.0, 300.0), (500.0, 300.0, 100.0), (700.0, 500.0, 2000.0)] {
            let (shared, alone) = (levels.square(square, 64, 127), resize::square(&photo, square.0, square.1, square.2, 64, 127));
            let close = shared.data.iter().zip(&alone.data).filter(|(a, b)| a.abs_diff(**b) <= 2).count();
            assert!(close * 100 >= shared.data.len() * 97, "{square:?}: {close} of {}", shared.data.len());
        }
    }
}
