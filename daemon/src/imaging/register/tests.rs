use super::*;
use crate::imaging::{
    highlights, merge,
    synth::lamps::{Kind, Lit, Pose, lit},
};

fn shot<'a>(l: &'a Lit, glare: &'a Region) -> Shot<'a> {
    Shot { photo: &l.photo, mask: &l.mask, limbus: &l.truth.limbus, pupil: Some(&l.truth.pupil), glare }
}

fn glare(l: &Lit) -> Region {
    highlights::find(&l.photo, &l.truth.limbus, Some(&l.truth.pupil), &l.mask).map
}

/// Where the pose says that a point of the first shot went.
fn moved(a: &Lit, b: &Lit, pose: Pose, (x, y): (f64, f64)) -> (f64, f64) {
    let (dx, dy) = ((x - a.truth.limbus.cx) * f64::from(pose.scale), (y - a.truth.limbus.cy) * f64::from(pose.scale));
    let (s, c) = f64::from(pose.turn_deg).to_radians().sin_cos();
    (b.truth.limbus.cx + c * dx - s * dy, b.truth.limbus.cy + s * dx + c * dy)
}

const POSES: [Pose; 2] =
    [Pose { scale: 1.03, turn_deg: 2.0, shift: (0.05, -0.04) }, Pose { scale: 0.97, turn_deg: -2.0, shift: (-0.06, 0.02) }];

#[test]
fn a_turned_and_moved_shot_is_laid_on_the_first_to_a_fraction_of_a_pixel() {
    for (seed, pose) in [(5, POSES[0]), (6, POSES[1])] {
        let a = lit(seed, 1, Kind::Softbox, 0.12, Pose::STRAIGHT, 480, 360);
        let b = lit(seed, 2, Kind::Ring, 0.15, pose, 480, 360);
        let (ga, gb) = (glare(&a), glare(&b));
        // A segmentation's centre and radius are a few percent off.
        let off = Ellipse { cx: a.truth.limbus.cx + 2.0, rx: a.truth.limbus.rx * 1.02, ry: a.truth.limbus.ry * 1.02, ..a.truth.limbus };
        let first = Shot { limbus: &off, ..shot(&a, &ga) };
        let found = align(&first, &shot(&b, &gb)).expect("texture");
        assert!(found.correlation > 0.6, "{}", found.correlation);
        let r = a.truth.limbus.rx * 0.6;
        for (dx, dy) in [(r, 0.0), (-r, 0.0), (0.0, r), (0.5 * r, 0.5 * r)] {
            let at = (a.truth.limbus.cx + dx, a.truth.limbus.cy + dy);
            let (want, is) = (moved(&a, &b, pose, at), found.warp.at(at.0, at.1));
            assert!((want.0 - is.0).hypot(want.1 - is.1) < 0.5, "seed {seed}: {want:?} {is:?}");
        }
    }
}

#[test]
fn another_eye_of_any_colour_does_not_fit() {
    let eyes: Vec<Lit> = (0..6).map(|seed| lit(40 + seed, seed, Kind::Point, 0.08, Pose::STRAIGHT, 320, 240)).collect();
    for (i, a) in eyes.iter().enumerate() {
        for b in &eyes[i + 1..] {
            let (ga, gb) = (glare(a), glare(b));
            let found = align(&shot(a, &ga), &shot(b, &gb)).map_or(0.0, |f| f.correlation);
            assert!(found < SAME_EYE, "{} {}: {found}", a.truth.seed, b.truth.seed);
        }
    }
}

#[test]
fn lamps_are_replaced_by_what_the_other_shot_shows_there_and_nothing_else_changes() {
    let a = lit(5, 1, Kind::Softbox, 0.12, Pose::STRAIGHT, 480, 360);
    let b = lit(5, 2, Kind::Ring, 0.2, POSES[0], 480, 360);
    let (ga, gb) = (glare(&a), glare(&b));
    let (first, other) = (shot(&a, &ga), shot(&b, &gb));
    let warp = align(&first, &other).expect("texture").warp;
    let taken = merge::under_the_lamps(&first, &[(other, warp)]);
    let (mut square, mut n) = (0.0, 0.0);
    let places: std::collections::HashSet<_> = taken.pixels.iter().map(|(x, y, ..)| (x, y)).collect();
    assert_eq!(places.len(), taken.pixels.len(), "a px was taken twice");
    for (x, y, _, px) in &taken.pixels {
        assert!(a.mask.px(*x, *y) >= 128);
        if a.glare.px(*x, *y) > 0 {
            px.iter().zip(a.clean.px(*x, *y)).for_each(|(p, q)| square += f64::from(p.abs_diff(q)).powi(2));
            n += 3.0;
        }
    }
    let psnr = 10.0 * (255.0f64.powi(2) / (square / n)).log10();
    assert!(n > 300.0 && psnr > 33.0, "{n} {psnr}");
}

#[test]
fn the_flare_around_a_lamp_does_not_lift_what_is_taken_and_goes_with_it() {
    for seed in [17, 21, 37, 45] {
        // A ring's flare is strongest inside the ring, where no glare is found.
        let a = lit(7000 + seed, 1 + seed, Kind::Ring, 0.12, Pose::STRAIGHT, 480, 360);
        let b = lit(7000 + seed, 100 + seed, Kind::Window, 0.12, POSES[0], 480, 360);
        let (ga, gb) = (glare(&a), glare(&b));
        let (first, other) = (shot(&a, &ga), shot(&b, &gb));
        let warp = align(&first, &other).expect("texture").warp;
        let taken = merge::under_the_lamps(&first, &[(other, warp)]);
        let off = |of: bool, px: &dyn Fn(usize, usize, [u8; 3]) -> [u8; 3]| {
            let at = taken.pixels.iter().filter(|(x, y, ..)| (a.glare.px(*x, *y) > 0) == of);
            let each =
                at.flat_map(|(x, y, _, q)| px(*x, *y, *q).into_iter().zip(a.clean.px(*x, *y)).map(|(p, q)| f64::from(p) - f64::from(q)));
            let all: Vec<f64> = each.collect();
            all.iter().sum::<f64>() / all.len() as f64
        };
        let (under, beside) = (off(true, &|_, _, q| q), off(false, &|_, _, q| q));
        let before = off(false, &|x, y, _| a.photo.px(x, y));
        assert!(
            under.abs() < 2.0 && beside.abs() < 2.0 && before > 3.0,
            "seed {seed}: {under:.2}, {beside:.2} levels off; {before:.2} before"
        );
    }
}
