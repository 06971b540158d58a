//! Step 1: the original's bytes become an upright sRGB picture. EXIF is read for the orientation and dropped.

use std::{fs, io};

use sha2::{Digest, Sha256 as Hasher};

use super::{Halt, Input, Settings};
use crate::{
    domain::{
        fault::{Code, Fault},
        ids::Sha256,
        report::PhotoFacts,
    },
    imaging::{decode, raster::Rgb},
};

pub struct Loaded {
    /// Upright, H x W x 3.
    pub photo: Rgb,
    pub facts: PhotoFacts,
}

/// Errors: OriginalMissing, StorageBusy, and those of the decoder.
pub fn run(input: &Input, settings: &Settings) -> Result<Loaded, Halt> {
    let bytes = fs::read(&input.photo).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Fault::new(Code::OriginalMissing, format!("the original {} is not there", input.sha256)),
        _ => Fault::new(Code::StorageBusy, format!("the original {}: {e}", input.sha256)),
    })?;
    // The report will say which bytes the result was made from: a disk that gives back others must not go unseen.
    let found = Sha256(Hasher::digest(&bytes).into());
    if found != input.sha256 {
        return Err(Fault::new(Code::ImageCorrupt, format!("the original {} reads as {found}: the disk changed it", input.sha256)).into());
    }
    let decode::Decoded { rgb, header } = decode::decode(&bytes, &settings.limits).map_err(|e| e.fault())?;
    let facts = PhotoFacts {
        sha256: found,
        width: rgb.width as u32,
        height: rgb.height as u32,
        orientation_applied: header.orientation != 1,
        source: input.source,
    };
    Ok(Loaded { photo: rgb, facts })
}
