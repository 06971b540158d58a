//! Step 4: the iris, larger. CLAHE and Lanczos, or a network by tiles; either way row by row into image.jpg.

use std::{
    io::{self, Write},
    sync::mpsc,
    thread,
};

use super::{
    Halt, Settings, Steps,
    network::{Loaded, Network, Unmade, batch},
    save::{Brake, Folder, JPEG_QUALITY, THUMB_PX},
    segment::Eye,
};
use crate::{
    config::Scope,
    domain::{
        fault::{Code, Fault},
        report::{DetailFacts, EnhanceFacts, FileFacts, Rect},
    },
    imaging::{
        clahe, detail,
        encode::{self, Chroma},
        geometry,
        raster::{Rgb, Rows},
        resize::{self, Lanczos},
    },
    inference::{
        Engine, RunsOn,
        manifest::{ModelRow, Role},
    },
    ports::ModelError,
};

/// Contrast limit and tiles a side of CLAHE (Zuiderveld 1994).
const CLIP: f32 = 2.0;
const GRID: usize = 8;
/// Room around the iris, limbus radii.
const MARGIN: f64 = 0.25;
/// A result above this many px is made smaller: at 3 bytes each it would fill the memory of whoever opens it.
const MAX_RESULT_PX: u64 = 1 << 30;
/// The network that `auto` takes, where a GPU runs it. Never animevideov3: drawn pictures taught it to draw.
pub const AUTO_NETWORK: &str = "realesrgan-x4plus";

pub struct Enhanced {
    pub image: FileFacts,
    /// px of the upright photo.
    pub crop: Rect,
    pub scale: u32,
    pub facts: EnhanceFacts,
    /// Longest side [`THUMB_PX`].
    pub thumb: Rgb,
}

/// Errors: those of a network that the configuration names, of the disk, or a stop.
pub fn run(photo: Rgb, eye: &Eye, settings: &Settings, engine: &Engine, folder: &Folder, steps: &Steps<'_>) -> Result<Enhanced, Halt> {
    let network = choose(settings, engine)?;
    let crop = match settings.scope {
        Scope::Iris => around(eye, photo.width, photo.height),
        Scope::Photo => Rect { x: 0, y: 0, width: photo.width as u32, height: photo.height as u32 },
    };
    let part = photo.into_part(crop.x as usize, crop.y as usize, crop.width as usize, crop.height as usize);
    let (scale, mut reasons) = fitting(crop, settings.scale)?;
    steps.at(0.05)?;
    if let Some(row) = network {
        match by_network(&part, row, scale, settings, engine, folder, steps) {
            Ok((image, mut facts)) => {
                reasons.extend(facts.fallback_reason);
                facts.fallback_reason = (!reasons.is_empty()).then(|| reasons.join("; "));
                return Ok(Enhanced { image, crop, scale, facts, thumb: thumb(&part) });
            }
            Err(Unmade::Halt(halt)) => return Err(halt),
            Err(Unmade::NoPicture(why)) => {
                tracing::warn!(model = row.name, why, "Lanczos takes over");
                steps.stand_in();
                reasons.push(format!("{}: {why}", row.name));
            }
        }
    }
    let mut part = part;
    clahe::clahe_lab(&mut part, CLIP, GRID);
    steps.at(0.25)?;
    let detail = settings.detail.then(|| detail::sharpen(&mut part));
    steps.at(0.3)?;
    let brake = Brake::default();
    let mut rows = Lanczos::new(&part, scale as usize);
    let image = folder.picture("image.jpg", &mut rows, &brake, steps, (0.3, 1.0), |rows, out| jpeg(rows, out, scale))?;
    let facts = EnhanceFacts {
        method: "clahe_lanczos".into(),
        model: None,
        model_sha256: None,
        provider: None,
        precision: None,
        tile: None,
        overlap: None,
        tiles: None,
        fallback_reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
        detail: detail.map(|d| DetailFacts { noise: d.noise, largest_change: d.most }),
    };
    Ok(Enhanced { image, crop, scale, facts, thumb: thumb(&part) })
}

fn jpeg(rows: &mut dyn Rows, out: &mut dyn Write, scale: u32) -> io::Result<()> {
    encode::jpeg(rows, out, JPEG_QUALITY, Chroma::enlarged(JPEG_QUALITY, scale as usize))
}

/// The network to try, if any. A named one must be there.
fn choose<'a>(settings: &Settings, engine: &'a Engine) -> Result<Option<&'a ModelRow>, Halt> {
    match settings.enhance_model.as_str() {
        "lanczos" => Ok(None),
        "auto" => {
            let row = engine.installed(Role::Enhancement).into_iter().find(|row| row.name == AUTO_NETWORK);
            Ok(row.filter(|row| engine.on_gpu(&row.name)))
        }
        name => {
            let row = engine.spec(name)?;
            if row.role != Role::Enhancement {
                let detail = format!("enhance.model names {name}, whose role is {}", row.role.name());
                return Err(ModelError { code: Code::ModelMismatch, detail }.into());
            }
            // Missing weights or a missing runtime are the device's fault, not a reason for another picture.
            match engine.runs_on(name) {
                Err(e) if e.is_the_devices() => Err(e.into()),
                _ => Ok(Some(row)),
            }
        }
    }
}

/// image.jpg by the network, or why not. The encoder works on a thread of its own: while the network runs, the strip before is written.
fn by_network(
    part: &Rgb,
    row: &ModelRow,
    scale: u32,
    settings: &Settings,
    engine: &Engine,
    folder: &Folder,
    steps: &Steps<'_>,
) -> Result<(FileFacts, EnhanceFacts), Unmade> {
    if row.scale != scale as usize {
        return Err(Unmade::NoPicture(format!("it makes pictures {} times larger, not {scale} times", row.scale)));
    }
    let runs_on = engine.runs_on(&row.name)?;
    let (tile, smaller) = tile(row, &runs_on, settings.tile as usize, engine)?;
    let loaded = Loaded { engine, name: &row.name };
    let mut network = Network::new(part, row, &loaded, &runs_on, tile, steps)?;
    let size = (part.width * row.scale, part.height * row.scale);
    let (made, written) = thread::scope(|scope| {
        // Without room in between: beside the strip that is made, one more is held.
        let (send, strips) = mpsc::sync_channel(0);
        let encode = || folder.strips("image.jpg", size, strips, |rows, out| jpeg(rows, out, scale));
        let encoder = thread::Builder::new().name("encoder".into()).spawn_scoped(scope, encode);
        let encoder = encoder.map_err(|e| Fault::new(Code::DeviceBusy, format!("no thread for the encoder: {e}")))?;
        let made = network.strips(|strip| send.send(strip).is_ok());
        drop(send);
        let written = encoder.join().unwrap_or_else(|_| Err(Fault::new(Code::Internal, "the encoder panicked").into()));
        Ok::<_, Fault>((made, written))
    })?;
    made?; // why the network stopped is the cause; what the encoder says then is how it came out
    let mut provider = runs_on.provider;
    // An engine that was ready in the middle of the picture took over.
    let at_the_end = engine.runs_on(&row.name)?.provider;
    if at_the_end != provider {
        provider = format!("{provider}, then {at_the_end}");
    }
    let reasons: Vec<String> = smaller.into_iter().chain(network.tried_again()).collect();
    let facts = EnhanceFacts {
        method: "network".into(),
        model: Some(row.name.clone()),
        model_sha256: Some(row.sha256),
        provider: Some(provider),
        precision: Some(runs_on.precision),
        tile: Some(network.longest_side() as u32),
        overlap: Some(row.overlap as u32),
        tiles: Some(network.tiles() as u32),
        fallback_reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
        detail: None, // a network brings its own
    };
    Ok((written?, facts))
}

/// The tile that the memory has room for, px, and what to say where it is not the one that was asked for.
fn tile(row: &ModelRow, runs_on: &RunsOn, wanted: usize, engine: &Engine) -> Result<(usize, Option<String>), Unmade> {
    let fits = engine.tile(&row.name, wanted, batch(row, runs_on))?;
    if fits == wanted {
        return Ok((wanted, None));
    }
    let why = format!("the memory that is free has room for tiles of {fits} px, not of {wanted}");
    // An engine is for one size alone.
    if runs_on.provider == "tensorrt" { Err(Unmade::NoPicture(why)) } else { Ok((fits, Some(why))) }
}

/// The bounding box of limbus and mask with a margin, inside the photo; the whole photo where there is no mask.
fn around(eye: &Eye, width: usize, height: usize) -> Rect {
    let Some((mx0, my0, mx1, my1)) = eye.mask.bounds(128) else {
        return Rect { x: 0, y: 0, width: width as u32, height: height as u32 };
    };
    let margin = MARGIN * geometry::radius(&eye.iris.limbus);
    let (x0, y0, x1, y1) = geometry::bounds(&eye.iris.limbus);
    let low = |a: f64, b: usize| (a.min(b as f64) - margin).floor().max(0.0) as u32;
    let high = |a: f64, b: usize, end: usize| ((a.max(b as f64) + margin).ceil() as u32).min(end as u32);
    let (x, y) = (low(x0, mx0), low(y0, my0));
    Rect { x, y, width: high(x1, mx1, width) - x, height: high(y1, my1, height) - y }
}

/// The largest whole factor up to the wanted one whose result a JPEG can hold, and what to say if it is another.
fn fitting(crop: Rect, wanted: u32) -> Result<(u32, Vec<String>), Fault> {
    let fits = |k: u32| {
        let (w, h) = (u64::from(crop.width) * u64::from(k), u64::from(crop.height) * u64::from(k));
        w.max(h) <= encode::JPEG_MAX_SIDE as u64 && w * h <= MAX_RESULT_PX
    };
    let size = format!("{} x {} px", crop.width, crop.height);
    match (1..=wanted).rev().find(|k| fits(*k)) {
        Some(k) if k == wanted => Ok((k, Vec::new())),
        Some(k) => Ok((k, vec![format!("{size} at {wanted} times would be too large a picture: {k} times")])),
        None => Err(Fault::new(Code::TooManyPixels, format!("{size} is more than a JPEG can hold"))),
    }
}

/// Of the crop before it grows: the same picture at a sixteenth of the work.
fn thumb(part: &Rgb) -> Rgb {
    let long = part.width.max(part.height);
    if long <= THUMB_PX {
        return part.clone();
    }
    let side = |px: usize| (px * THUMB_PX / long).max(1);
    resize::shrink(part, side(part.width), side(part.height))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(width: u32, height: u32) -> Rect {
        Rect { x: 0, y: 0, width, height }
    }

    #[test]
    fn a_result_too_large_for_a_jpeg_gets_the_largest_factor_that_fits_and_says_so() {
        assert_eq!(fitting(rect(4000, 3000), 4), Ok((4, Vec::new())));
        let (scale, said) = fitting(rect(20_000, 100), 4).expect("it fits three times");
        assert_eq!((scale, said.len()), (3, 1));
        assert_eq!(fitting(rect(65_535, 100), 4).expect("fits once").0, 1);
        assert_eq!(fitting(rect(65_536, 100), 4).expect_err("never").code, Code::TooManyPixels);
        assert!(fitting(rect(60_000, 60_000), 4).is_err());
    }
}
