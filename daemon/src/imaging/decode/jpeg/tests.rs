//! The walk of the usual files against the two walks of all others: the same verdict and the same pixels, whatever is done to a file.

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use proptest::prelude::*;

use super::{in_one_walk, in_two_walks};
use crate::imaging::{
    decode::DecodeError,
    encode::{self, Chroma, RgbRows},
    raster::Rgb,
};

/// Flat, smooth and noisy parts, sides of any length.
fn picture(width: usize, height: usize, noise: u32, mut seed: u32) -> Rgb {
    let mut rgb = Rgb::new(width, height);
    for y in 0..height {
        for x in 0..width {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let flat = (x / 24 + y / 24) % 3 == 0;
            let grain = if flat { 0 } else { ((seed >> 16) % (noise + 1)) as usize };
            let slope = if flat { 90 } else { x * 150 / width + y * 80 / height };
            rgb.set(x, y, [slope, 200 - slope.min(200), slope / 2].map(|v| (v + grain).min(255) as u8));
        }
    }
    rgb
}

fn coded(rgb: &Rgb, quality: u8, color: ColorType, set: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, quality);
    set(&mut encoder);
    let grey: Vec<u8> = rgb.data.chunks_exact(3).map(|px| px[1]).collect();
    let data = if color == ColorType::Luma { &grey } else { &rgb.data };
    encoder.encode(data, rgb.width as u16, rgb.height as u16, color).unwrap();
    bytes
}

const USUAL: [SamplingFactor; 4] = [SamplingFactor::F_1_1, SamplingFactor::F_2_1, SamplingFactor::F_1_2, SamplingFactor::F_2_2];

fn usual() -> impl Strategy<Value = Vec<u8>> {
    let kind = (0usize..5, prop_oneof![Just(0u16), 1u16..9], any::<bool>(), prop_oneof![1u8..=100, Just(95)]);
    (kind, 1usize..90, 1usize..90, prop_oneof![Just(0u32), Just(20), Just(255)], any::<u32>()).prop_map(
        |((kind, restart, optimised, quality), width, height, noise, seed)| {
            let color = if kind == USUAL.len() { ColorType::Luma } else { ColorType::Rgb };
            coded(&picture(width, height, noise, seed), quality, color, |e| {
                e.set_sampling_factor(*USUAL.get(kind).unwrap_or(&USUAL[0]));
                if restart > 0 {
                    e.set_restart_interval(restart);
                }
                // Optimised tables come with a scan for each component, unless the picture is grey, and lack bits before restarts.
                e.set_optimized_huffman_tables(optimised && color == ColorType::Luma && restart == 0);
            })
        },
    )
}

type Verdict = Result<Rgb, DecodeError>;

fn two(bytes: &[u8]) -> Verdict {
    in_two_walks(bytes).map(|(rgb, _)| rgb)
}

/// Where one walk takes a file, two take it with the same pixels.
fn agreed(bytes: &[u8]) -> bool {
    let one = in_one_walk(bytes);
    if let Some(rgb) = &one {
        let same = two(bytes).is_ok_and(|other| other == *rgb);
        assert!(same, "one walk took what two refuse or see otherwise: {}", hex::encode(bytes));
    }
    one.is_some()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn usual_files_take_one_walk_and_come_out_to_the_bit_as_from_two(bytes in usual(), threads in 1usize..=2) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        prop_assert!(pool.install(|| agreed(&bytes)));
    }

    #[test]
    fn damaged_files_get_the_verdict_and_the_pixels_of_two_walks(
        bytes in usual(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..4),
    ) {
        let mut bytes = bytes;
        for (at, value, how) in damage {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = value,
                1 => bytes[at] ^= 1 << (value % 8),
                2 => bytes.insert(at, value),
                _ => drop(bytes.remove(at)),
            }
            if bytes.is_empty() {
                return Ok(());
            }
        }
        agreed(&bytes);
    }

    #[test]
    fn cut_files_are_left_to_two_walks(bytes in usual(), at in any::<prop::sample::Index>(), ended in any::<bool>()) {
        let end: &[u8] = if ended { &[0xFF, 0xD9] } else { &[] };
        let cut = [&bytes[..at.index(bytes.len() - 2)], end].concat();
        prop_assert!(!agreed(&cut) || cut == bytes);
    }
}

#[test]
fn our_own_photos_and_results_take_one_walk() {
    let rgb = picture(131, 77, 30, 7);
    for chroma in [Chroma::Full, Chroma::Half] {
        let mut bytes = Vec::new();
        encode::jpeg(&mut RgbRows::new(&rgb), &mut bytes, 95, chroma).unwrap();
        assert!(agreed(&bytes), "{chroma:?}");
        assert!(agreed(&[bytes.as_slice(), b"trailing bytes of a camera"].concat()));
    }
}

#[test]
fn what_is_not_usual_is_left_to_two_walks() {
    let rgb = picture(70, 50, 30, 7);
    let files = [
        ("progressive", coded(&rgb, 90, ColorType::Rgb, |e| e.set_progressive(true))),
        ("a scan a component", coded(&rgb, 90, ColorType::Rgb, |e| e.set_optimized_huffman_tables(true))),
        ("4:1:1", coded(&rgb, 90, ColorType::Rgb, |e| e.set_sampling_factor(SamplingFactor::F_4_1))),
    ];
    for (name, bytes) in files {
        assert!(in_one_walk(&bytes).is_none() && two(&bytes).is_ok(), "{name}");
    }
}

#[test]
fn a_file_whose_marker_or_padding_is_odd_is_left_to_two_walks() {
    let rgb = picture(70, 50, 30, 7);
    let bytes = coded(&rgb, 90, ColorType::Rgb, |e| e.set_restart_interval(3));
    assert!(agreed(&bytes));
    let restart = bytes.windows(2).position(|w| w == [0xFF, 0xD0]).unwrap();
    let misnumbered = [&bytes[..restart], &[0xFF, 0xD1], &bytes[restart + 2..]].concat();
    let padded = [&bytes[..bytes.len() - 2], &[0, 0], &bytes[bytes.len() - 2..]].concat();
    let junk = [&bytes[..2], &[0, 1, 2], &bytes[2..]].concat();
    for odd in [misnumbered, padded, junk] {
        assert!(in_one_walk(&odd).is_none() && two(&odd).is_ok());
    }
}
