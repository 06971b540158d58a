//! Contrast across the eye's two edges.

use super::patch::{Kind, Patch, luma, mean_of};
use crate::{
    domain::report::Ellipse,
    imaging::geometry::{self, Frame},
};

/// Fewer px of the patch, or rays, say nothing.
const MIN_PX: usize = 20;
const MIN_RAYS: usize = 8;
/// Rays of one side: every 3 degrees, 45 up and down from the horizontal, where lids are rare.
const RAYS: i32 = 15;
const RAY_STEP: f64 = 3.0;
/// Where the sclera begins, limbus radii.
const BESIDE: f64 = 1.06;
/// Where a ray is read, limbus radii: within and beyond the limbus' passage.
const WITHIN: [f64; 3] = [0.80, 0.86, 0.92];
const BEYOND: [f64; 3] = [1.08, 1.14, 1.20];

impl Patch {
    /// (out - in) / (out + in) of luma across the limbus, the median of each side's rays, the mean of left and right: an eye is brighter
    /// outside (the two halves of Daugman's 1993 integral). Not the lesser of the two: a side in the shadow of the nose is still an eye's.
    /// 0 where it is darker. None: a lid, a lamp or the photo's edge hides one of them.
    pub fn limbus_edge(&self) -> Option<f64> {
        Some((0.5 * (self.side_edge(0.0)? + self.side_edge(180.0)?)).max(0.0))
    }

    fn side_edge(&self, middle: f64) -> Option<f64> {
        let rays = (-RAYS..=RAYS).filter_map(|k| {
            let t = (middle + f64::from(k) * RAY_STEP - self.limbus.angle_deg).to_radians();
            let read = |places: [f64; 3], is: fn(Kind) -> bool| -> Option<f64> {
                let px = places.into_iter().map(|rho| self.px_at(rho, t)).collect::<Option<Vec<usize>>>()?;
                px.iter().all(|i| is(self.kind[*i])).then(|| px.iter().map(|i| f64::from(luma(self.rgb[*i]))).sum::<f64>() / 3.0)
            };
            let within = read(WITHIN, |k| k == Kind::Iris)?;
            let beyond = read(BEYOND, |k| k != Kind::Off)?;
            // A level, for black on black.
            Some((beyond - within) / (beyond + within + 1.0))
        });
        let mut rays: Vec<f64> = rays.collect();
        (rays.len() >= MIN_RAYS).then(|| median(&mut rays))
    }

    fn px_at(&self, rho: f64, t: f64) -> Option<usize> {
        let e = Ellipse { rx: self.limbus.rx * rho, ry: self.limbus.ry * rho, ..self.limbus };
        let (x, y) = self.on_patch(geometry::point(&e, t));
        (x >= 0.0 && y >= 0.0 && x < self.side as f64 && y < self.side as f64).then(|| y as usize * self.side + x as usize)
    }

    /// ISO/IEC 29794-6, iris-sclera contrast: (sclera - iris) / (sclera + iris - 2 pupil), 0 where the pupil is not the darkest; luma,
    /// medians. The sclera is the brighter half of what lies beside the limbus, since corners and lids lie there, too.
    pub fn sclera_contrast(&self) -> Option<f64> {
        let mut beside: Vec<f64> = Vec::new();
        let limbus = Frame::new(&self.limbus);
        for (i, _) in self.kind.iter().enumerate().filter(|(_, kind)| **kind == Kind::Around) {
            let (x, y) = self.on_photo(i % self.side, i / self.side);
            let (dx, dy) = ((x - self.limbus.cx).abs(), (y - self.limbus.cy).abs());
            if dy < 0.5 * dx && limbus.rho2(x, y) > BESIDE * BESIDE {
                beside.push(f64::from(luma(self.rgb[i])));
            }
        }
        let mut iris: Vec<f64> = self.of(Kind::Iris).map(|c| f64::from(luma(c))).collect();
        if beside.len() < MIN_PX || iris.len() < MIN_PX {
            return None;
        }
        let from = beside.len() / 2;
        beside.select_nth_unstable_by(from, f64::total_cmp);
        let (sclera, iris) = (mean_of(beside[from..].iter().copied()), median(&mut iris));
        let pupil = self.pupil_level().unwrap_or(0.0);
        if pupil >= iris || pupil >= sclera {
            return Some(0.0);
        }
        Some((sclera - iris) / (sclera + iris - 2.0 * pupil))
    }

    /// ISO/IEC 29794-6, iris-pupil contrast: w / (0.75 + w) with Weber's ratio w = |iris - pupil| / (20 + pupil); luma, medians, of the
    /// iris between 1.1 pupil radii and half way to the limbus. None: no pupil, or nothing of it to be seen.
    pub fn pupil_contrast(&self) -> Option<f64> {
        let e = self.pupil?;
        let half_way = (geometry::radius(&self.limbus) / geometry::radius(&e).max(1e-9) + 1.0) / 2.0;
        let frame = Frame::new(&e);
        let near = |i: usize| {
            let (x, y) = self.on_photo(i % self.side, i / self.side);
            (1.1..half_way.max(1.3)).contains(&frame.rho2(x, y).sqrt())
        };
        let px = self.kind.iter().enumerate().filter(|(i, k)| **k == Kind::Iris && near(*i));
        let mut iris: Vec<f64> = px.map(|(i, _)| f64::from(luma(self.rgb[i]))).collect();
        let pupil = self.pupil_level()?;
        if iris.len() < MIN_PX {
            return None;
        }
        let weber = (median(&mut iris) - pupil).abs() / (20.0 + pupil);
        Some(weber / (0.75 + weber))
    }

    /// Median luma of the visible pupil's inner four fifths.
    fn pupil_level(&self) -> Option<f64> {
        let frame = Frame::new(&self.pupil?);
        let inner = |i: usize| {
            let (x, y) = self.on_photo(i % self.side, i / self.side);
            frame.rho2(x, y) < 0.8 * 0.8
        };
        let px = self.kind.iter().enumerate().filter(|(i, k)| **k == Kind::Pupil && inner(*i));
        let mut levels: Vec<f64> = px.map(|(i, _)| f64::from(luma(self.rgb[i]))).collect();
        (levels.len() >= MIN_PX).then(|| median(&mut levels))
    }
}

/// Of at least one value.
fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::{
        geometry::circle,
        mask,
        quality::Seen,
        raster::{Gray, Rgb},
    };

    /// Flat discs: white, iris, pupil; `left`: the white on that side. A limbus of 80 px radius on 300 x 220 px.
    fn patch(white: u8, left: u8, iris: u8, pupil: u8) -> Patch {
        let (limbus, inner) = (circle(150.0, 110.0, 80.0), circle(150.0, 110.0, 30.0));
        let mut photo = Rgb::new(300, 220);
        for y in 0..220 {
            for x in 0..300 {
                let (fx, fy) = (x as f64 + 0.5, y as f64 + 0.5);
                let level = match () {
                    () if geometry::contains(&inner, fx, fy) => pupil,
                    () if geometry::contains(&limbus, fx, fy) => iris,
                    () if fx < 150.0 => left,
                    () => white,
                };
                photo.set(x, y, [level; 3]);
            }
        }
        let (mask, glare) = (mask::ellipse(300, 220, &limbus), Gray::new(300, 220));
        let seen = Seen { photo: &photo, mask: &mask, limbus: &limbus, pupil: Some(&inner), glare: &glare, confidence: 1.0 };
        Patch::new(&seen)
    }

    fn near(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 0.01)
    }

    #[test]
    fn contrasts_are_those_of_the_standards_formulas() {
        let eye = patch(200, 200, 80, 20);
        assert!(near(eye.sclera_contrast(), 120.0 / 240.0), "{:?}", eye.sclera_contrast());
        assert!(near(eye.pupil_contrast(), 1.5 / 2.25), "{:?}", eye.pupil_contrast());
        assert!(near(patch(200, 200, 20, 20).pupil_contrast(), 0.0), "a pupil that cannot be told from its iris");
        assert_eq!(patch(200, 200, 60, 90).sclera_contrast(), Some(0.0), "a pupil brighter than its iris");
    }

    #[test]
    fn the_limbus_edge_is_the_mean_of_both_sides_and_none_where_it_is_darker_outside() {
        assert!(near(patch(200, 200, 80, 20).limbus_edge(), 120.0 / 281.0));
        assert!(near(patch(200, 80, 80, 20).limbus_edge(), 60.0 / 281.0), "one side in the shadow");
        assert_eq!(patch(30, 30, 80, 20).limbus_edge(), Some(0.0));
    }

    #[test]
    fn a_side_that_nobody_sees_has_no_edge() {
        let mut eye = patch(200, 200, 80, 20);
        let side = eye.side;
        eye.kind.iter_mut().enumerate().filter(|(i, k)| i % side < side / 2 && **k == Kind::Iris).for_each(|(_, k)| *k = Kind::Covered);
        assert_eq!(eye.limbus_edge(), None);
    }
}
