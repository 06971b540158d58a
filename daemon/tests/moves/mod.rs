//! The same photo once more, as another camera, another hand or another file would have brought it; and where its mask then lies.
//!
//! Used by `tests/segmentation.rs` on drawn eyes and by `make eval` on real ones.

use std::io::Cursor;

use image::{ImageFormat, RgbImage, codecs::jpeg::JpegEncoder};
use irisd::imaging::raster::{Gray, Rgb};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Move {
    /// EV, in linear light.
    Exposure(f64),
    Mirror,
    UpsideDown,
    /// Degrees counter-clockwise about the middle; the border's colour where the photo ends.
    Turn(f64),
    /// Sides, times this.
    Size(f64),
    /// Quality.
    Jpeg(u8),
}

pub const ALL: [Move; 11] = [
    Move::Exposure(-2.0),
    Move::Exposure(-1.0),
    Move::Exposure(1.0),
    Move::Mirror,
    Move::UpsideDown,
    Move::Turn(20.0),
    Move::Turn(-20.0),
    Move::Size(0.5),
    Move::Size(0.7),
    Move::Size(2.0),
    Move::Jpeg(50),
];

impl Move {
    pub fn photo(self, photo: &Rgb) -> Rgb {
        match self {
            Self::Exposure(ev) => exposed(photo, ev),
            Self::Jpeg(quality) => jpeg(photo, quality),
            _ => {
                let (width, height) = self.size(photo.width, photo.height);
                let mut out = Rgb::new(width, height);
                for c in 0..3 {
                    let plane =
                        Gray { width: photo.width, height: photo.height, data: photo.data.iter().skip(c).step_by(3).copied().collect() };
                    out.data.iter_mut().skip(c).step_by(3).zip(self.warp(&plane).data).for_each(|(to, v)| *to = v);
                }
                out
            }
        }
    }

    pub fn mask(self, mask: &Gray) -> Gray {
        match self {
            Self::Exposure(_) | Self::Jpeg(_) => mask.clone(),
            _ => self.warp(mask),
        }
    }

    fn size(self, width: usize, height: usize) -> (usize, usize) {
        let times = if let Self::Size(times) = self { times } else { 1.0 };
        let side = |n: usize| ((n as f64 * times).round() as usize).max(1);
        (side(width), side(height))
    }

    /// Bilinear; smaller sizes take the mean of 2 x 2 places, which is enough down to a half.
    fn warp(self, from: &Gray) -> Gray {
        let (width, height) = self.size(from.width, from.height);
        let (w, h) = (from.width as f64, from.height as f64);
        let (kx, ky) = (w / width as f64, h / height as f64);
        let back = |x: f64, y: f64| match self {
            Self::Mirror => (w - x, y),
            Self::UpsideDown => (x, h - y),
            Self::Turn(degrees) => {
                let (s, c) = degrees.to_radians().sin_cos();
                let (dx, dy) = (x - w / 2.0, y - h / 2.0);
                (w / 2.0 + c * dx - s * dy, h / 2.0 + s * dx + c * dy)
            }
            _ => (x * kx, y * ky),
        };
        let mut out = Gray::new(width, height);
        for y in 0..height {
            for x in 0..width {
                let places = [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)];
                let whole = if matches!(self, Self::Mirror | Self::UpsideDown) { &[(0.5, 0.5)][..] } else { &places[..] };
                let sum: f64 = whole.iter().map(|(dx, dy)| at(from, back(x as f64 + dx, y as f64 + dy))).sum();
                out.data[y * width + x] = (sum / whole.len() as f64).round() as u8;
            }
        }
        out
    }
}

fn at(g: &Gray, (x, y): (f64, f64)) -> f64 {
    let place = |v: f64, n: usize| (v - 0.5).clamp(0.0, (n - 1) as f64);
    let (x, y) = (place(x, g.width), place(y, g.height));
    let (i, j) = (x as usize, y as usize);
    let (i1, j1) = ((i + 1).min(g.width - 1), (j + 1).min(g.height - 1));
    let px = |i: usize, j: usize| f64::from(g.px(i, j));
    let upper = px(i, j) + (px(i1, j) - px(i, j)) * (x - i as f64);
    let lower = px(i, j1) + (px(i1, j1) - px(i, j1)) * (x - i as f64);
    upper + (lower - upper) * (y - j as f64)
}

/// More or less light on the sensor: linear light times 2^ev, clipped at white.
fn exposed(photo: &Rgb, ev: f64) -> Rgb {
    let lut: Vec<u8> = (0..256)
        .map(|v| {
            let v = f64::from(v) / 255.0;
            let linear = if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) };
            let l = (linear * ev.exp2()).min(1.0);
            let s = if l <= 0.003_130_8 { l * 12.92 } else { 1.055 * l.powf(1.0 / 2.4) - 0.055 };
            (255.0 * s).round() as u8
        })
        .collect();
    Rgb { width: photo.width, height: photo.height, data: photo.data.iter().map(|v| lut[usize::from(*v)]).collect() }
}

fn jpeg(photo: &Rgb, quality: u8) -> Rgb {
    let picture = RgbImage::from_raw(photo.width as u32, photo.height as u32, photo.data.clone()).expect("as many bytes as pixels");
    let mut bytes = Cursor::new(Vec::new());
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality)).expect("encodes");
    let back = image::load_from_memory_with_format(bytes.get_ref(), ImageFormat::Jpeg).expect("decodes").to_rgb8();
    Rgb { width: photo.width, height: photo.height, data: back.into_raw() }
}

/// Intersection over union of what is inside (128 and more).
pub fn iou(a: &Gray, b: &Gray) -> f64 {
    let (mut both, mut either) = (0usize, 0usize);
    for (a, b) in a.data.iter().zip(&b.data) {
        both += usize::from(*a >= 128 && *b >= 128);
        either += usize::from(*a >= 128 || *b >= 128);
    }
    both as f64 / either.max(1) as f64
}
