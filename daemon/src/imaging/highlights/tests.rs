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
fn a_lamp_larger_than_its_surroundings_is_found_whole_also_where_it_fills_the_pupil() {
    for colour in [[70, 45, 30], [120, 150, 190]] {
        for (cx, cy, r) in [(102.0, 98.0, 24.0), (102.0, 98.0, 30.0), (100.0, 140.0, 35.0)] {
            let (mut photo, limbus, pupil, mask) = eye(colour);
            let lamp = mask::ellipse(200, 200, &geometry::circle(cx, cy, r));
            (0..200 * 200).filter(|i| lamp.data[*i] >= 128).for_each(|i| photo.set(i % 200, i / 200, [250, 252, 251]));
            let h = find(&photo, &limbus, Some(&pupil), &mask);
            let found = h.map.expand(200, 200);
            let (area, seen) = (lamp.count_inside(), (0..200 * 200).filter(|i| lamp.data[*i] >= 128 && found.data[*i] == 255).count());
            assert!(
                seen * 100 >= area * 97 && h.area_px as usize * 100 <= area * 103,
                "{colour:?}, {r} px: {seen}, {} of {area}",
                h.area_px
            );
        }
    }
}

#[test]
fn an_overexposed_iris_burns_out_fibre_by_fibre_and_is_no_lamp() {
    let (mut photo, limbus, pupil, mask) = eye([150, 155, 170]);
    for y in 0..200 {
        for x in 0..200 {
            let shade = (y as f64 - 100.0) * 1.1;
            let px = photo.px(x, y);
            photo.set(x, y, px.map(|v| (f64::from(v) * 1.2 + if v > 20 { shade } else { 0.0 }).clamp(0.0, 255.0) as u8));
        }
    }
    let found = find(&photo, &limbus, Some(&pupil), &mask);
    let burnt = (0..200 * 200).filter(|i| mask.data[*i] >= 128 && photo.data[i * 3] >= 240).count();
    assert!(burnt > 2000 && found.area_px as usize * 10 < burnt, "{burnt} burnt, {} taken for a lamp", found.area_px);
}

#[test]
fn a_pale_iris_is_no_lamp_where_the_pupil_was_taken_for_larger_than_it_is() {
    let (photo, limbus, pupil, mask) = eye([160, 165, 170]);
    let larger = Ellipse { rx: pupil.rx * 1.06, ry: pupil.ry * 1.06, ..pupil };
    assert_eq!(find(&photo, &limbus, Some(&larger), &mask).area_px, 0);
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
