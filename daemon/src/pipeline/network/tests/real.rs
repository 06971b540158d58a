//! The networks of weights/ themselves, tiled and whole. Without the runtime library or the weights these tests say so and pass.

use std::path::Path;

use super::*;
use crate::{app::parts, config::Config, imaging::synth, pipeline::tensor};

/// An engine on one CPU thread, where library and weights are there.
fn engine(name: &str) -> Option<Engine> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let library = root.join(".tools/onnxruntime/libonnxruntime.so");
    let mut config = Config::default();
    (config.paths.state, config.paths.weights, config.paths.onnxruntime) = ("/nonexistent".into(), root.join("weights"), library.clone());
    (config.inference.providers, config.inference.threads) = (vec!["cpu".into()], 1);
    let engine = parts::engine(&config).expect("the manifest");
    let there = engine.manifest().get(name).is_some_and(|row| engine.manifest().locate(row).is_some());
    if !library.is_file() || !there {
        eprintln!("skipped: {} or the weights of {name} are missing", library.display());
        return None;
    }
    Some(engine)
}

/// The middle of a synthetic eye: iris, pupil, lid and lashes.
fn eye(side: usize) -> Rgb {
    let photo = synth::eye(5, 640, 480).photo;
    photo.crop((640 - side) / 2, (480 - side) / 2, side, side)
}

/// By tiles of at most `tile` px, and in one run over the whole picture.
fn both(engine: &Engine, name: &str, source: &Rgb, tile: usize) -> (Rgb, Rgb, Tiles) {
    let row = engine.spec(name).expect("row");
    let seen = Seen::default();
    let steps = steps(&seen);
    let loaded = Loaded { engine, name };
    let mut network = Network::new(source, row, &loaded, &on("cpu", "fp32"), tile, &steps).unwrap_or_else(|_| panic!("it fits"));
    let mut tiled = Rgb { width: source.width * 4, height: source.height * 4, data: Vec::new() };
    if let Err(Unmade::NoPicture(why)) = network.strips(|strip| {
        tiled.data.extend(strip);
        true
    }) {
        panic!("{why}");
    }
    assert_eq!(network.tried_again(), None);
    let answer = engine.run(name, &tensor::of(std::slice::from_ref(source), row)).expect("runs");
    let whole = tensor::picture(&answer[0], 0, row, (0, 0), (tiled.width, tiled.height)).expect("finite");
    (tiled, whole, network.tiles)
}

/// Largest difference of a level between two pictures, `rim` px inside.
fn farthest(a: &Rgb, b: &Rgb, rim: usize) -> u8 {
    let px = (rim..a.height - rim).flat_map(|y| (rim..a.width - rim).map(move |x| (x, y)));
    px.flat_map(|(x, y)| a.px(x, y).into_iter().zip(b.px(x, y))).map(|(a, b)| a.abs_diff(b)).max().unwrap_or(0)
}

#[test]
fn animevideov3_by_tiles_is_what_it_is_in_one_piece_within_a_level() {
    let name = "realesr-animevideov3-x4";
    let Some(engine) = engine(name) else { return };
    let (tiled, whole, tiles) = both(&engine, name, &eye(120), 80);
    assert!(tiles.count() >= 4, "{}", tiles.count());
    // At the picture's rim the network sees zeros in one piece, and repeated pixels by tiles.
    assert!(farthest(&tiled, &whole, 4 * 18) <= 1, "{} levels", farthest(&tiled, &whole, 4 * 18));
}

fn transposed(rgb: &Rgb) -> Rgb {
    let mut out = Rgb::new(rgb.height, rgb.width);
    (0..rgb.height).for_each(|y| (0..rgb.width).for_each(|x| out.set(y, x, rgb.px(x, y))));
    out
}

/// Mean step of a level from each column to the next.
fn steps_between_columns(rgb: &Rgb) -> Vec<f64> {
    let step = |x: usize, y: usize| rgb.px(x, y).into_iter().zip(rgb.px(x + 1, y)).map(|(a, b)| f64::from(a.abs_diff(b))).sum::<f64>();
    (0..rgb.width - 1).map(|x| (0..rgb.height).map(|y| step(x, y)).sum::<f64>() / (3 * rgb.height) as f64).collect()
}

#[test]
fn x4plus_shows_no_seam_where_its_tiles_meet() {
    let name = "realesrgan-x4plus";
    let Some(engine) = engine(name) else { return };
    let (tiled, whole, tiles) = both(&engine, name, &eye(96), 88);
    assert!(tiles.count() >= 4, "{}", tiles.count());
    for (spans, tiled, whole) in [(&tiles.columns, tiled.clone(), whole.clone()), (&tiles.rows, transposed(&tiled), transposed(&whole))] {
        let (steps, untiled) = (steps_between_columns(&tiled), steps_between_columns(&whole));
        let mut sorted = steps.clone();
        sorted.sort_by(f64::total_cmp);
        let usual = sorted[sorted.len() * 95 / 100];
        for span in &spans[1..] {
            // The fade, and the lines at its ends, where a step would be.
            for line in 4 * span.from - 1..4 * (span.from + tile::FADE) {
                let (here, there) = (steps[line], untiled[line]);
                assert!(
                    here <= usual && here <= 1.3 * there + 0.2,
                    "a seam at {line}: {here:.2}; in one piece {there:.2}; usual {usual:.2}"
                );
            }
        }
    }
}
