use proptest::prelude::*;

use super::*;
use crate::imaging::geometry::circle;

/// Fibres every 6 degrees and a paler ring in an iris, a black pupil.
fn iris() -> (Rgb, Gray, Ellipse, Ellipse) {
    let (limbus, pupil) = (circle(100.0, 100.0, 90.0), circle(100.0, 100.0, 30.0));
    let mut photo = Rgb::new(200, 200);
    for y in 0..200 {
        for x in 0..200 {
            let (dx, dy) = (x as f64 + 0.5 - 100.0, y as f64 + 0.5 - 100.0);
            let r = dx.hypot(dy);
            let v = 90.0 + 30.0 * (dy.atan2(dx) * 30.0).sin() + 40.0 * (-((r - 50.0) / 8.0).powi(2)).exp();
            let px = if r < 30.0 { [10, 9, 8] } else { [v as u8, (v * 0.7) as u8, 40] };
            photo.set(x, y, px);
        }
    }
    (photo, mask::ellipse(200, 200, &limbus), limbus, pupil)
}

fn spot(x: usize, y: usize, side: usize) -> Region {
    Region { x, y, gray: Gray { width: side, height: side, data: vec![255; side * side] } }
}

/// Mean difference inside the hole, levels.
fn error(photo: &Rgb, clean: &Rgb, hole: &Region) -> f64 {
    let side = hole.gray.width;
    let all = (0..side * side).flat_map(|i| {
        let (x, y) = (hole.x + i % side, hole.y + i / side);
        photo.px(x, y).into_iter().zip(clean.px(x, y))
    });
    all.map(|(a, b)| f64::from(a.abs_diff(b))).sum::<f64>() / (3 * side * side) as f64
}

#[test]
fn zones_and_fibres_go_on_through_a_hole_better_than_by_fast_marching() {
    let (clean, mask, limbus, pupil) = iris();
    for hole in [spot(142, 90, 16), spot(92, 140, 18), spot(50, 50, 14)] {
        let (mut ours, mut plain) = (clean.clone(), clean.clone());
        assert_eq!(fill(&mut ours, &hole, &mask, &limbus, Some(&pupil), 0), hole.gray.data.len());
        telea_region(&mut plain, &hole, 5);
        let (a, b) = (error(&ours, &clean, &hole), error(&plain, &clean, &hole));
        assert!(a < 0.9 * b, "{a} {b}");
    }
}

#[test]
fn a_lamp_across_the_pupils_edge_leaves_the_edge_where_it_was() {
    let (clean, mask, limbus, pupil) = iris();
    let hole = spot(122, 92, 14);
    let mut photo = clean.clone();
    for y in 92..106 {
        for x in 122..136 {
            photo.set(x, y, [255; 3]);
        }
    }
    assert_eq!(fill(&mut photo, &hole, &mask, &limbus, Some(&pupil), 0), 196);
    assert!(photo.px(124, 99)[0] < 20 && photo.px(134, 99)[0] > 50, "{:?} {:?}", photo.px(124, 99), photo.px(134, 99));
}

#[test]
fn a_ring_around_the_pupil_is_filled_from_both_of_its_sides() {
    let (clean, mask, limbus, pupil) = iris();
    let mut ring = mask::ellipse(200, 200, &circle(100.0, 100.0, 62.0));
    let inner = mask::ellipse(200, 200, &circle(100.0, 100.0, 56.0));
    ring.data.iter_mut().zip(&inner.data).for_each(|(r, i)| *r = if *r >= 128 && *i < 128 { 255 } else { 0 });
    let mut photo = clean.clone();
    let wanted = ring.count_inside();
    photo.data.chunks_exact_mut(3).zip(&ring.data).filter(|(_, r)| **r > 0).for_each(|(px, _)| px.fill(255));
    let hole = Region { x: 0, y: 0, gray: ring.clone() };
    assert_eq!(fill(&mut photo, &hole, &mask, &limbus, Some(&pupil), 0), wanted);
    let worst = (0..200 * 200).filter(|i| ring.data[*i] > 0).map(|i| photo.data[i * 3].abs_diff(clean.data[i * 3])).max();
    assert!(worst < Some(40), "{worst:?}");
}

#[test]
fn a_hole_beyond_the_limbus_with_nothing_known_of_its_part_is_filled_by_fast_marching() {
    let (clean, mask, limbus, pupil) = iris();
    // The whole pupil is a lamp: nothing tells how black it is, and nothing outside of it may be asked.
    let hole = Region { x: 0, y: 0, gray: mask::ellipse(200, 200, &circle(100.0, 100.0, 33.0)) };
    let mut photo = clean.clone();
    let wanted = hole.gray.count_inside();
    assert_eq!(fill(&mut photo, &hole, &mask, &limbus, Some(&pupil), 0), wanted);
    let mut photo = clean.clone();
    assert_eq!(fill(&mut photo, &spot(190, 190, 20), &mask, &circle(100.0, 100.0, 60.0), Some(&pupil), 0), 100);
}

proptest! {
    #[test]
    fn pixels_outside_the_hole_stay_bit_for_bit_and_each_inside_is_counted(
        spots in proptest::collection::vec((0usize..190, 0usize..190, 1usize..40), 0..5),
        with_pupil: bool,
        guard in 0usize..3,
    ) {
        let (before, mask, limbus, pupil) = iris();
        let mut hole = Region { x: 0, y: 0, gray: Gray::new(200, 200) };
        for (x, y, side) in spots {
            for j in y..(y + side).min(200) {
                hole.gray.data[j * 200 + x..j * 200 + (x + side).min(200)].fill(255);
            }
        }
        let mut after = before.clone();
        let made = fill(&mut after, &hole, &mask, &limbus, with_pupil.then_some(&pupil), guard);
        prop_assert_eq!(made, hole.gray.count_inside());
        for (i, h) in hole.gray.data.iter().enumerate() {
            prop_assert!(*h > 0 || after.data[i * 3..i * 3 + 3] == before.data[i * 3..i * 3 + 3]);
        }
    }
}
