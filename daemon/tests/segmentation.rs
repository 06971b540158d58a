//! Finding the iris, on drawn eyes with their truth: the network as it ships, and the classical segmenter. Without the library of ONNX
//! Runtime (`daemon/scripts/onnxruntime.sh` brings it) the network's tests say so and pass.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod moves;

use std::{path::Path, sync::Arc};

use irisd::{
    adapters::model_ort::{OrtOptions, OrtRuntime},
    imaging::{
        geometry, mask,
        raster::{Gray, Rgb},
        segment, synth,
    },
    inference::{
        Engine, Options, RunError,
        manifest::{Manifest, Role},
    },
    pipeline::eyenet,
    ports::ModelRuntime,
};
use moves::{ALL, Move, iou};

const SEEDS: std::ops::Range<u64> = 0..8;

fn engine() -> Option<Engine> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let library = root.join(".tools/onnxruntime/libonnxruntime.so");
    if !library.is_file() {
        eprintln!("skipped: no ONNX Runtime in .tools (daemon/scripts/onnxruntime.sh brings it)");
        return None;
    }
    let options = OrtOptions { library, threads: 1 };
    let runtime: Arc<dyn ModelRuntime> = Arc::new(OrtRuntime::open(options).unwrap());
    let manifest = Manifest::load(Path::new("/nonexistent"), &root.join("weights")).unwrap();
    Some(Engine::new(manifest, Ok(runtime), Options::default()))
}

fn by_network(engine: &Engine, photo: &Rgb) -> Option<eyenet::Found> {
    let row = engine.installed(Role::Segmentation)[0];
    eyenet::find(photo, row, engine, |_| Ok::<_, RunError>(())).unwrap()
}

#[test]
fn the_network_finds_drawn_eyes_and_their_ellipses() {
    let Some(engine) = engine() else { return };
    for seed in SEEDS {
        let sample = synth::eye(seed, 640, 480);
        let found = by_network(&engine, &sample.photo).expect("an eye");
        let overlap = iou(&found.mask, &sample.mask);
        let (truth, r) = (sample.truth.limbus, geometry::radius(&sample.truth.limbus));
        let centre = (found.limbus.cx - truth.cx).hypot(found.limbus.cy - truth.cy) / r;
        let size = (geometry::radius(&found.limbus) / r - 1.0).abs();
        assert!(overlap > 0.93, "seed {seed}: {overlap:.3}");
        assert!(centre < 0.03 && size < 0.03, "seed {seed}: centre {centre:.3}, radius {size:.3}");
        assert!(found.pupil.is_some() && found.confidence > 0.5, "seed {seed}: {:.2}", found.confidence);
    }
}

#[test]
fn an_eye_that_looks_aside_keeps_its_shape() {
    let Some(engine) = engine() else { return };
    for (seed, share) in SEEDS.flat_map(|seed| [(seed, 0.7), (seed, 0.5)]) {
        let sample = synth::eye(seed, 640, 480);
        // Squeezed from the sides, as a look of 46 or 60 degrees to one of them squeezes a circle.
        let mut aside = Rgb::new((640.0 * share) as usize, 480);
        for y in 0..480 {
            for x in 0..aside.width {
                aside.set(x, y, sample.photo.px(((x as f64 + 0.5) / share) as usize, y));
            }
        }
        let limbus = by_network(&engine, &aside).expect("an eye").limbus;
        let (left, top, right, bottom) = geometry::bounds(&limbus);
        let (wide, high) = ((right - left) / (2.0 * sample.truth.limbus.rx * share), (bottom - top) / (2.0 * sample.truth.limbus.ry));
        assert!((wide - 1.0).abs() < 0.06 && (high - 1.0).abs() < 0.06, "seed {seed}, {share}: {wide:.3} x {high:.3}");
    }
}

#[test]
fn the_networks_mask_follows_the_photo_wherever_it_is_moved() {
    let Some(engine) = engine() else { return };
    for seed in SEEDS {
        let photo = synth::eye(seed, 480, 360).photo;
        let before = by_network(&engine, &photo).expect("an eye").mask;
        for by in ALL {
            let after = by_network(&engine, &by.photo(&photo)).unwrap_or_else(|| panic!("seed {seed}, {by:?}: no eye")).mask;
            let overlap = iou(&after, &by.mask(&before));
            assert!(overlap >= 0.9, "seed {seed}, {by:?}: {overlap:.3}");
        }
    }
}

#[test]
fn the_classical_mask_follows_the_photo_that_stays_upright() {
    for seed in SEEDS {
        let photo = synth::eye(seed, 480, 360).photo;
        let before = segment::classical(&photo).expect("an eye").mask;
        for by in
            [Move::Exposure(-1.0), Move::Exposure(0.5), Move::Mirror, Move::Turn(10.0), Move::Size(0.5), Move::Size(2.0), Move::Jpeg(50)]
        {
            let after = segment::classical(&by.photo(&photo)).unwrap_or_else(|| panic!("seed {seed}, {by:?}: no eye")).mask;
            let overlap = iou(&after, &by.mask(&before));
            assert!(overlap >= 0.8, "seed {seed}, {by:?}: {overlap:.3}");
        }
    }
}

#[test]
fn the_mask_of_a_large_photo_has_an_edge_of_a_px_or_two_and_no_stairs() {
    let Some(engine) = engine() else { return };
    let sample = synth::eye(5, 2400, 1800);
    let found = by_network(&engine, &sample.photo).expect("an eye");
    let soft = found.mask.data.iter().filter(|v| (1..255).contains(*v)).count();
    let round = std::f64::consts::TAU * geometry::radius(&found.limbus);
    assert!((soft as f64) < 4.0 * round, "{soft} soft px on an edge of about {round:.0}");
    // Of a staircase of 11 px (one px of the network) half the edge would lie along rows or columns for as long as that.
    let flat = longest_flat_runs(&found.mask, 11);
    assert!((flat as f64) < 0.25 * round, "{flat} px of the edge lie in straight runs");
    let mut once_more = found.mask.clone();
    mask::clean(&mut once_more);
    assert!(iou(&once_more, &found.mask) > 0.9999, "one component without holes");
}

/// Edge px in vertical runs of exactly one column, at least `long` px: where the left edge does not move from row to row. A circle's own
/// poles are left out by looking at the middle half of its height.
fn longest_flat_runs(mask: &Gray, long: usize) -> usize {
    let left: Vec<Option<usize>> = (0..mask.height).map(|y| mask.row(y).iter().position(|v| *v >= 128)).collect();
    let rows: Vec<usize> = (0..mask.height).filter(|y| left[*y].is_some()).collect();
    let (from, to) = (rows[rows.len() / 8], rows[rows.len() * 3 / 8]);
    let (mut run, mut sum) = (1, 0);
    for y in from + 1..=to {
        if y < to && left[y] == left[y - 1] {
            run += 1;
        } else {
            sum += if run >= long { run } else { 0 };
            run = 1;
        }
    }
    sum
}
