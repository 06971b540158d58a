//! `irisd sample`: a synthetic eye photo and the truth about it, for trying things out without anybody's eye.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use clap::Args;

use super::{Ended, print};
use crate::imaging::{
    encode::{self, Chroma, GrayRows, RgbRows},
    synth,
};

/// Of the photo; a camera's own files are about as good.
const JPEG_QUALITY: u8 = 95;
/// px a side: 48 MP and a little.
const LARGEST: u32 = 8192;
const SMALLEST: u32 = 64;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The same seed and size give the same eye, byte for byte.
    #[arg(long)]
    seed: u64,
    /// px, WIDTHxHEIGHT.
    #[arg(long, default_value = "1600x1200", value_parser = size, value_name = "WxH")]
    size: (u32, u32),
    /// .jpg or .png. FILE.truth.json and FILE.mask.png are written beside it.
    #[arg(long, value_name = "FILE", value_parser = picture)]
    out: PathBuf,
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let parsed = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    let fits = |side: &u32| (SMALLEST..=LARGEST).contains(side);
    parsed.filter(|(w, h)| fits(w) && fits(h)).ok_or_else(|| format!("write it as 1600x1200, {SMALLEST} to {LARGEST} px a side"))
}

fn picture(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if is_png(&path) || has_ending(&path, &["jpg", "jpeg"]) { Ok(path) } else { Err("must end in .jpg or .png".to_owned()) }
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| endings.contains(&e.to_lowercase().as_str()))
}

fn is_png(path: &Path) -> bool {
    has_ending(path, &["png"])
}

pub(super) fn sample(arguments: &Arguments) -> Ended {
    let (width, height) = arguments.size;
    let sample = synth::eye(arguments.seed, width as usize, height as usize);
    let out = &arguments.out;
    write(out, |file| match is_png(out) {
        true => encode::png(&mut RgbRows::new(&sample.photo), file),
        false => encode::jpeg(&mut RgbRows::new(&sample.photo), file, JPEG_QUALITY, Chroma::Full),
    })?;
    write(&beside(out, ".mask.png"), |file| encode::png(&mut GrayRows::new(&sample.mask), file))?;
    fs::write(beside(out, ".truth.json"), format!("{:#}\n", serde_json::to_value(&sample.truth)?))?;
    Ok(print(out.display())?)
}

fn beside(out: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(out);
    name.push(ending);
    name.into()
}

fn write(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let mut file = BufWriter::new(File::create(path).map_err(named)?);
    fill(&mut file).and_then(|()| file.flush()).map_err(named)
}
