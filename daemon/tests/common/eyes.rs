//! Photos for the tests: synthetic eyes of the program's own renderer, and files made by hand that are wrong in one way each.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Mutex,
    time::UNIX_EPOCH,
};

use image::{DynamicImage, ImageFormat, RgbImage};
use serde_json::Value;

use super::daemon::{irisd, program, text};

/// A synthetic eye and what is known about it.
pub struct Eye {
    /// The photo's file, a JPEG.
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub truth: Value,
    /// Beside the photo, its size, 255 = iris.
    pub mask_path: PathBuf,
}

/// One maker at a time: two threads must not write the same sample.
static MAKER: Mutex<()> = Mutex::new(());

/// `irisd sample`, kept for as long as the program under test is the same build.
#[track_caller]
pub fn eye(seed: u64, size: &str) -> Eye {
    let _one = MAKER.lock().unwrap_or_else(|e| e.into_inner());
    let dir = folder();
    let path = dir.join(format!("eye-{seed}-{size}.jpg"));
    let (truth, mask) = (beside(&path, "truth.json"), beside(&path, "mask.png"));
    if ![&path, &truth, &mask].iter().all(|p| p.exists()) {
        // In a folder of this process' own: another one may look for the same eye, and must not find half of it.
        let own = dir.join(format!("making-{}", std::process::id()));
        fs::create_dir_all(&own).unwrap();
        let (seed, made) = (seed.to_string(), own.join("eye.jpg"));
        let mut command = irisd();
        command.args(["sample", "--seed", &seed, "--size", size, "--out"]).arg(&made).stdin(Stdio::null());
        let out = command.output().expect("irisd can be started");
        assert!(out.status.success(), "irisd sample: {}", text(&out));
        for (from, to) in [(beside(&made, "truth.json"), &truth), (beside(&made, "mask.png"), &mask), (made, &path)] {
            fs::rename(from, to).unwrap();
        }
        fs::remove_dir_all(own).unwrap();
    }
    let truth = serde_json::from_slice(&fs::read(&truth).expect("FILE.truth.json beside the sample")).expect("the truth is JSON");
    Eye { bytes: fs::read(&path).unwrap(), path, truth, mask_path: mask }
}

/// A small eye: quick to process.
#[track_caller]
pub fn small_eye(seed: u64) -> Vec<u8> {
    eye(seed, "640x480").bytes
}

/// `FILE.ending`: the contract's names of what `sample` writes beside FILE.
fn beside(path: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}.{ending}", path.display()))
}

/// One folder a build; those of older builds are removed.
fn folder() -> PathBuf {
    let built = fs::metadata(program()).unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (base, name) = (Path::new(env!("CARGO_TARGET_TMPDIR")), format!("eyes-{built}"));
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let old = entry.file_name().to_string_lossy().into_owned();
        if old.starts_with("eyes-") && old != name {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    base.join(name)
}

/// A picture that no one has seen before, without an eye, cheap to process: for tests that count photos.
pub fn plain(seed: u64, width: u16, height: u16) -> Vec<u8> {
    let mut dice = super::Dice::new(seed);
    let base = [dice.roll(200), dice.roll(200), dice.roll(200)];
    let pixels: Vec<u8> = (0..usize::from(width) * usize::from(height)).flat_map(|i| base.map(|b| (b as usize + i % 50) as u8)).collect();
    numbered(&jpeg(&pixels, width, height, jpeg_encoder::ColorType::Rgb), seed)
}

/// The same JPEG with a number in a comment segment: two numbers never give the same bytes.
pub fn numbered(jpeg: &[u8], number: u64) -> Vec<u8> {
    [&jpeg[..2], &[0xFF, 0xFE, 0, 10], &number.to_be_bytes(), &jpeg[2..]].concat()
}

fn jpeg(pixels: &[u8], width: u16, height: u16, color: jpeg_encoder::ColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    jpeg_encoder::Encoder::new(&mut bytes, 92).encode(pixels, width, height, color).unwrap();
    bytes
}

pub fn pixels(bytes: &[u8]) -> RgbImage {
    image::load_from_memory(bytes).expect("a picture").to_rgb8()
}

/// The same picture as a CMYK JPEG.
pub fn as_cmyk_jpeg(photo: &[u8]) -> Vec<u8> {
    let rgb = pixels(photo);
    let cmyk: Vec<u8> = rgb.pixels().flat_map(|p| [255 - p[0], 255 - p[1], 255 - p[2], 0]).collect();
    jpeg(&cmyk, rgb.width() as u16, rgb.height() as u16, jpeg_encoder::ColorType::Cmyk)
}

/// The same picture as a PNG of 16 bits a channel.
pub fn as_16_bit_png(photo: &[u8]) -> Vec<u8> {
    encoded(&DynamicImage::ImageRgb16(DynamicImage::ImageRgb8(pixels(photo)).to_rgb16()), ImageFormat::Png)
}

pub fn as_png(photo: &[u8]) -> Vec<u8> {
    encoded(&DynamicImage::ImageRgb8(pixels(photo)), ImageFormat::Png)
}

pub fn as_webp(photo: &[u8]) -> Vec<u8> {
    encoded(&DynamicImage::ImageRgb8(pixels(photo)), ImageFormat::WebP)
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// An APP1 segment of EXIF (TIFF, little-endian): orientation, and a description that should not leave the device.
fn exif_segment(orientation: u16, description: &str) -> Vec<u8> {
    let text = format!("{description}\0");
    let mut tiff = b"II*\0\x08\0\0\0\x02\0".to_vec();
    tiff.extend(0x010E_u16.to_le_bytes()); // ImageDescription, ASCII
    tiff.extend(2_u16.to_le_bytes());
    tiff.extend((text.len() as u32).to_le_bytes());
    tiff.extend(38_u32.to_le_bytes()); // header 8 + count 2 + two entries of 12 + next 4
    tiff.extend(0x0112_u16.to_le_bytes()); // Orientation, SHORT
    tiff.extend(3_u16.to_le_bytes());
    tiff.extend(1_u32.to_le_bytes());
    tiff.extend(orientation.to_le_bytes());
    tiff.extend([0, 0]);
    tiff.extend([0; 4]);
    tiff.extend(text.as_bytes());
    let mut segment = vec![0xFF, 0xE1];
    segment.extend(((tiff.len() + 8) as u16).to_be_bytes());
    segment.extend(b"Exif\0\0");
    segment.extend(tiff);
    segment
}

/// The same JPEG with EXIF put in right after its first marker; the coded picture is untouched.
pub fn with_exif(jpeg: &[u8], orientation: u16, description: &str) -> Vec<u8> {
    assert_eq!(jpeg[..2], [0xFF, 0xD8]);
    [&jpeg[..2], &exif_segment(orientation, description), &jpeg[2..]].concat()
}

/// The head of a PNG that claims `width` x `height`, with good checksums and a little data.
pub fn png_that_claims(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", vec![0x78, 0x9C, 0x63, 0, 0, 0, 1, 0, 1]), (b"IEND", Vec::new())] {
        bytes.extend((data.len() as u32).to_be_bytes());
        let body = [&kind[..], &data].concat();
        bytes.extend(&body);
        bytes.extend(crc32fast::hash(&body).to_be_bytes());
    }
    bytes
}

/// Overlap of two masks over their union, both thresholded at half.
pub fn iou(a: &image::GrayImage, b: &image::GrayImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let (mut both, mut any) = (0_u64, 0_u64);
    for (p, q) in a.pixels().zip(b.pixels()) {
        let (p, q) = (p[0] >= 128, q[0] >= 128);
        both += u64::from(p && q);
        any += u64::from(p || q);
    }
    both as f64 / any.max(1) as f64
}
