//! Reflections filled by a network of the role `reflections`: the iris and the map of its highlights in, the iris without them out.
//!
//! ```text
//!   square around the limbus --scaled down or padded--> N x N --+--> network --> N x N --> gate --> highlights' pixels alone --> photo
//!                        map of the highlights ------> N x N --+
//! ```
//!
//! Only pixels under the map are taken; every other one stays bit for bit. The gate measures against the classical filling, which is
//! made anyway: it is what the photo gets where the network's answer is no picture, or still shows the lamp.

use super::{
    Steps, gate,
    network::{Runs, Tries, Unmade},
    tensor,
};
use crate::{
    domain::report::Ellipse,
    imaging::{
        geometry,
        mask::Region,
        raster::{Gray, Rgb},
        resize,
    },
    inference::{RunsOn, manifest::ModelRow},
    ports::Tensor,
};

/// Side of the square, limbus radii: the limbus with some sclera and lid around it.
const ROOM: f64 = 2.4;
/// Sides that a network with a free input gets, px: a multiple of 8 between these.
const SIDES: (usize, usize) = (64, 1024);
/// How far the mean of the filled pixels may lie from the classical filling's, levels of 255: a lamp that is still there lies further off.
const MAX_SHIFT: f64 = 60.0;

/// A square of the photo and its place.
struct Square {
    /// Its corner and side, px of the photo.
    left: f64,
    top: f64,
    side: f64,
    /// Its side as the network sees it, px.
    n: usize,
}

/// Fills `hole` (where it is not 0) by the network. `photo`: filled classically, and left so where there is no picture; `before`: the hole's
/// [`part`] of it as it came. Gives the number of pixels that were made up, and what is to be said of a second try. Errors: a stop; or no
/// picture, and why.
pub fn fill(
    photo: &mut Rgb,
    before: &Rgb,
    hole: &Region,
    limbus: &Ellipse,
    (row, runs, runs_on): (&ModelRow, &dyn Runs, &RunsOn),
    steps: &Steps<'_>,
) -> Result<(usize, Option<String>), Unmade> {
    let square = Square::around(limbus, row).map_err(Unmade::NoPicture)?;
    let wanted = square.cut(photo, row.input.padding);
    let classical = part(photo, hole);
    paste(photo, hole, before);
    let input = tensor::with_mask(&square.cut(photo, row.input.padding), &square.map(hole), row);
    paste(photo, hole, &classical);
    steps.at(0.4)?;
    let mut tries = Tries::new(runs, runs_on);
    let answer = match square.judged(tries.first(&input)?, row, &wanted, hole, photo) {
        Ok(answer) => answer,
        Err(why) => {
            steps.at(0.6)?;
            let answer = tries.again(&input, why)?;
            square.judged(answer, row, &wanted, hole, photo).map_err(|why| Unmade::NoPicture(format!("{why}, in fp32 too")))?
        }
    };
    let made: Vec<_> = places(hole, photo).map(|(x, y)| (x, y, square.sample(&answer, x, y))).collect();
    for (x, y, px) in &made {
        photo.set(*x, *y, *px);
    }
    let again = tries.first_failure().map(|why| format!("it was run again in fp32: {why}"));
    Ok((made.len(), again))
}

/// The part of the photo that the hole's map lies on.
pub fn part(photo: &Rgb, hole: &Region) -> Rgb {
    let (width, height) = (photo.width.saturating_sub(hole.x), photo.height.saturating_sub(hole.y));
    photo.crop(hole.x.min(photo.width), hole.y.min(photo.height), hole.gray.width.min(width), hole.gray.height.min(height))
}

fn paste(photo: &mut Rgb, hole: &Region, part: &Rgb) {
    for (r, row) in part.data.chunks_exact((part.width * 3).max(1)).enumerate() {
        let at = ((hole.y + r) * photo.width + hole.x) * 3;
        photo.data[at..at + row.len()].copy_from_slice(row);
    }
}

/// The pixels of the hole that lie on the photo.
fn places<'a>(hole: &'a Region, photo: &Rgb) -> impl Iterator<Item = (usize, usize)> + use<'a> {
    let (w, h) = (photo.width, photo.height);
    let inside = hole.gray.data.iter().enumerate().filter(|(_, v)| **v != 0);
    inside.map(|(i, _)| (hole.x + i % hole.gray.width, hole.y + i / hole.gray.width)).filter(move |(x, y)| *x < w && *y < h)
}

impl Square {
    fn around(limbus: &Ellipse, row: &ModelRow) -> Result<Self, String> {
        let [_, channels, height, width] = row.input.shape;
        if channels + usize::from(row.mask.is_some()) != 4 || height != width || row.scale != 1 {
            let shape = row.input.shape;
            return Err(format!(
                "reflections want a square of 3 channels and a mask, of scale 1; the manifest says {shape:?}, {}",
                row.scale
            ));
        }
        let (x0, y0, x1, y1) = geometry::bounds(limbus);
        let side = ROOM / 2.0 * (x1 - x0).max(y1 - y0);
        let free = (side.ceil().max(0.0) as usize).next_multiple_of(8).clamp(SIDES.0, SIDES.1);
        let n = if width > 0 { width } else { free };
        let middle = |from: f64, to: f64, side: f64| ((from + to) / 2.0 - side / 2.0).round();
        // Never larger than life: a small iris is shown with more around it, and lies on whole pixels.
        let side = side.max(n as f64);
        Ok(Self { left: middle(x0, x1, side), top: middle(y0, y1, side), side, n })
    }

    fn cut(&self, photo: &Rgb, padding: u8) -> Rgb {
        let half = self.side / 2.0;
        resize::square(photo, self.left + half, self.top + half, self.side, self.n, padding)
    }

    /// Photo px of one of the network's.
    fn step(&self) -> f64 {
        self.side / self.n as f64
    }

    /// 255 where a pixel of the square shows any of the hole; one more around it where the square is a reduction, which mixes neighbours.
    fn map(&self, hole: &Region) -> Gray {
        let mut map = Gray::new(self.n, self.n);
        let reach = isize::from(self.step() > 1.0);
        for (i, _) in hole.gray.data.iter().enumerate().filter(|(_, v)| **v != 0) {
            let place = |at: usize, corner: f64| ((at as f64 + 0.5 - corner) / self.step()).floor() as isize;
            let (x, y) = (place(hole.x + i % hole.gray.width, self.left), place(hole.y + i / hole.gray.width, self.top));
            for (x, y) in (y - reach..=y + reach).flat_map(|y| (x - reach..=x + reach).map(move |x| (x, y))) {
                if (0..self.n as isize).contains(&x) && (0..self.n as isize).contains(&y) {
                    map.data[y as usize * self.n + x as usize] = 255;
                }
            }
        }
        map
    }

    /// The answer as a picture, or why it is none.
    fn judged(&self, answer: Vec<Tensor>, row: &ModelRow, wanted: &Rgb, hole: &Region, classical: &Rgb) -> Result<Rgb, String> {
        let answer = answer.into_iter().next().filter(|t| t.shape == [1, 3, self.n, self.n]);
        let answer = answer.ok_or("its output has another size than it should")?;
        let picture = tensor::picture(&answer, 0, row, (0, 0), (self.n, self.n)).ok_or("its answer is not finite")?;
        gate::check(wanted, &picture, 1).map_err(|why| format!("its answer {why}"))?;
        let (mut shift, mut n) = ([0.0; 3], 0.0);
        for (x, y) in places(hole, classical) {
            let (is, was) = (self.sample(&picture, x, y), classical.px(x, y));
            (0..3).for_each(|c| shift[c] += f64::from(is[c]) - f64::from(was[c]));
            n += 1.0;
        }
        let farthest =
            shift.into_iter().map(|s| s / f64::max(n, 1.0)).fold(0.0, |most: f64, s| if s.abs() > most.abs() { s } else { most });
        if farthest.abs() > MAX_SHIFT {
            return Err(format!("what it filled in lies {farthest:.0} of 255 levels off the surroundings"));
        }
        Ok(picture)
    }

    /// The answer's colour for a pixel of the photo; bilinear.
    fn sample(&self, answer: &Rgb, x: usize, y: usize) -> [u8; 3] {
        let place = |at: usize, corner: f64| ((at as f64 + 0.5 - corner) / self.step() - 0.5).clamp(0.0, (self.n - 1) as f64);
        let (u, v) = (place(x, self.left), place(y, self.top));
        let (i, j) = (u as usize, v as usize);
        let (i1, j1) = ((i + 1).min(self.n - 1), (j + 1).min(self.n - 1));
        let (fu, fv) = (u - i as f64, v - j as f64);
        let [a, b, c, d] = [(i, j), (i1, j), (i, j1), (i1, j1)].map(|(x, y)| answer.px(x, y).map(f64::from));
        std::array::from_fn(|k| {
            let (upper, lower) = (a[k] + (b[k] - a[k]) * fu, c[k] + (d[k] - c[k]) * fu);
            (upper + (lower - upper) * fv + 0.5) as u8
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inference::RunError,
        inference::manifest::{Manifest, MaskPort},
        pipeline::fakes::{Seen, on, steps},
        ports::Model,
    };

    fn row(side: usize) -> ModelRow {
        let manifest = Manifest::load("/nonexistent".as_ref(), "/nonexistent".as_ref()).expect("the built-in one");
        let mut row = manifest.models()[0].clone();
        (row.input.shape, row.scale) = ([1, 3, side, side], 1);
        row.mask = Some(MaskPort { name: "mask".into(), range: [0.0, 1.0] });
        row
    }

    #[test]
    fn a_small_iris_is_shown_at_its_own_size_on_whole_pixels_and_a_large_one_is_scaled_down() {
        let photo = Rgb { width: 90, height: 70, data: (0..90 * 70 * 3).map(|i| (i * 31 % 251) as u8).collect() };
        let small = Square::around(&geometry::circle(40.3, 33.8, 20.2), &row(64)).expect("square");
        assert_eq!((small.side, small.left.fract(), small.top.fract()), (64.0, 0.0, 0.0));
        let cut = small.cut(&photo, 0);
        for (x, y) in [(30, 30), (45, 20), (60, 50)] {
            assert_eq!(small.sample(&cut, x, y), photo.px(x, y), "{x}, {y}");
        }
        let large = Square::around(&geometry::circle(40.0, 33.0, 200.0), &row(64)).expect("square");
        assert!((large.side - 480.0).abs() < 1e-9 && large.n == 64);
        let free = Square::around(&geometry::circle(40.0, 33.0, 200.0), &row(0)).expect("square");
        assert_eq!((free.n, free.side), (480, 480.0));
    }

    #[test]
    fn every_pixel_of_the_hole_is_seen_on_the_map_however_strong_the_reduction() {
        let mut gray = Gray::new(300, 300);
        [(3, 4), (150, 151), (299, 299)].iter().for_each(|(x, y)| gray.data[y * 300 + x] = 255);
        let hole = Region { x: 50, y: 50, gray };
        let square = Square::around(&geometry::circle(200.0, 200.0, 150.0), &row(64)).expect("square");
        let map = square.map(&hole);
        assert!(map.count_inside() <= 27 && map.count_inside() >= 12, "{}", map.count_inside());
        let at = |v: f64| ((v + 0.5 - square.left) / square.step()) as usize;
        for (x, y) in [(53.0, 54.0), (200.0, 201.0), (349.0, 349.0)] {
            assert_eq!(map.px(at(x), at(y)), 255);
        }
    }

    #[test]
    fn a_row_that_is_no_filling_network_is_refused_with_its_shape() {
        let mut wrong = row(64);
        wrong.mask = None;
        assert!(Square::around(&geometry::circle(40.0, 33.0, 20.0), &wrong).err().is_some_and(|why| why.contains("[1, 3, 64, 64]")));
    }
    /// Does to an image what `answer` says; runs on the CPU, or says that it runs in fp16.
    struct Fake(fn(usize, &Tensor) -> Vec<f32>, std::cell::Cell<usize>);

    impl Runs for Fake {
        fn run(&self, input: &Tensor) -> Result<Vec<Tensor>, RunError> {
            let [_, 4, h, w] = input.shape[..] else { panic!("{:?}", input.shape) };
            let data = (self.0)(self.1.replace(self.1.get() + 1), input);
            Ok(vec![Tensor { shape: vec![1, 3, h, w], data }])
        }
        fn plain(&self) -> Result<Box<dyn Model>, RunError> {
            panic!("it runs in fp32 on the CPU already")
        }
    }

    /// An iris with a lamp in it: the photo, the map, the photo as it was without the lamp.
    fn lamp() -> (Rgb, Region, Rgb) {
        let grain = |x: usize, y: usize| [90 + (x * 7 + y * 3) % 20, 100 + (x * 5 + y * 11) % 20, 110 + (x + y * 13) % 20].map(|v| v as u8);
        let (mut clean, mut photo) = (Rgb::new(120, 100), Rgb::new(120, 100));
        let mut gray = Gray::new(40, 40);
        for y in 0..100 {
            for x in 0..120 {
                clean.set(x, y, grain(x, y));
                let lit = (50..58).contains(&x) && (40..47).contains(&y);
                photo.set(x, y, if lit { [250; 3] } else { grain(x, y) });
                if lit {
                    gray.data[(y - 30) * 40 + x - 40] = 255;
                }
            }
        }
        (photo, Region { x: 40, y: 30, gray }, clean)
    }

    fn filled(answer: fn(usize, &Tensor) -> Vec<f32>, side: usize, radius: f64) -> (Rgb, Result<(usize, Option<String>), Unmade>) {
        let (lit, hole, mut photo) = lamp();
        let fake = Fake(answer, std::cell::Cell::new(0));
        let seen = Seen::default();
        let how = (&row(side), &fake as &dyn Runs, &on("cpu", "fp32"));
        let result = fill(&mut photo, &part(&lit, &hole), &hole, &geometry::circle(55.0, 45.0, radius), how, &steps(&seen));
        (photo, result)
    }

    /// Each value of the image but the masked ones a little brighter, those a middle grey.
    fn works(_: usize, input: &Tensor) -> Vec<f32> {
        let px = input.data.len() / 4;
        (0..3 * px).map(|i| if input.data[3 * px + i % px] > 0.5 { 100.0 / 255.0 } else { input.data[i] + 4.0 / 255.0 }).collect()
    }

    #[test]
    fn pixels_under_the_map_are_the_networks_and_every_other_one_stays_bit_for_bit() {
        for (side, radius) in [(64, 20.0), (0, 20.0), (64, 60.0)] {
            let (photo, result) = filled(works, side, radius);
            let (made, again) = result.unwrap_or_else(|_| panic!("it works"));
            assert_eq!((made, again), (56, None));
            let (_, hole, before) = lamp();
            let inside: Vec<_> = places(&hole, &before).collect();
            for y in 0..100 {
                for x in 0..120 {
                    if inside.contains(&(x, y)) {
                        assert!(photo.px(x, y).iter().all(|v| v.abs_diff(100) <= 8), "{x}, {y}: {:?}", photo.px(x, y));
                    } else {
                        assert_eq!(photo.px(x, y), before.px(x, y), "{x}, {y} is not under the map");
                    }
                }
            }
        }
    }

    #[test]
    fn an_answer_that_is_undefined_black_or_still_shows_the_lamp_is_tried_again_and_then_refused_and_the_photo_stays() {
        let leaves: fn(usize, &Tensor) -> Vec<f32> = |_, input| input.data[..input.data.len() / 4 * 3].to_vec();
        let undefined: fn(usize, &Tensor) -> Vec<f32> = |_, input| vec![f32::NAN; input.data.len() / 4 * 3];
        let black: fn(usize, &Tensor) -> Vec<f32> = |_, input| vec![0.0; input.data.len() / 4 * 3];
        for (answer, word) in [(leaves, "off the surroundings"), (undefined, "not finite"), (black, "black")] {
            let (photo, result) = filled(answer, 64, 20.0);
            match result {
                Err(Unmade::NoPicture(why)) => assert!(why.contains(word) && why.ends_with("in fp32 too"), "{why}"),
                _ => panic!("{word}: it was taken"),
            }
            assert_eq!(photo, lamp().2, "{word}: the classical filling stays");
        }
        let (_, result) = filled(|n, input| if n == 0 { vec![f32::NAN; input.data.len() / 4 * 3] } else { works(n, input) }, 64, 20.0);
        let again = result.unwrap_or_else(|_| panic!("the second try works")).1.expect("it is said");
        assert!(again.starts_with("it was run again in fp32: its answer is not finite"), "{again}");
    }
}
