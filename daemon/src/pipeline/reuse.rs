//! An earlier result as the result of a new job: the same photos' bytes, through the same pipeline, cannot give other pixels.
//!
//! ```text
//!   fingerprint: program version, settings, networks (sha256), runtime, merged photos (sha256) --equal?--> original and files whole (sha256)? --> linked into <out>, new report
//!                                                                        no: the pipeline runs
//! ```
//!
//! Constraints: the earlier folder is only read; what is not whole to the last bit is not offered; the new folder is complete once it has
//! its name, as any other. Files are hard links: results are never written to, so they share their bytes until the last of them is removed,
//! and removing one takes nothing from the others. The report is written anew, with this job's time and the photo's own source.

use std::{fs, io, path::Path};

use sha2::{Digest, Sha256 as Hasher};

use super::{Done, Halt, Input, Others, Pipeline, millis, save};
use crate::{
    domain::{
        ids::Sha256,
        job::Artifacts,
        quality::Quality,
        report::Report,
        stage::{Stage, StepMs},
        transition::Outcome,
    },
    inference::manifest::hash,
};

/// A finished job's result on this device.
pub struct Earlier<'a> {
    pub folder: &'a Path,
    pub artifacts: &'a Artifacts,
}

impl Pipeline {
    /// What decides which pixels come out, as one hash: program version, settings, and, where the settings leave a step to networks, those
    /// that lie here with the runtime library; and the other photos that are merged, with what becomes of one that does not fit: a job that
    /// has to fail over it must not be given what a burst made without it.
    pub fn fingerprint(&self, others: &Others<'_>) -> Sha256 {
        let mut hasher = Hasher::new();
        let mut add = |part: String| {
            hasher.update((part.len() as u64).to_le_bytes()); // so that two parts never read as others
            hasher.update(part);
        };
        add(env!("CARGO_PKG_VERSION").to_owned());
        add(format!("{:?}", self.settings));
        let networks: Vec<_> = self.settings.roles().into_iter().flat_map(|role| self.engine.installed(role)).collect();
        if !networks.is_empty() {
            add(format!("{:?}", self.engine.runtime()));
        }
        networks.into_iter().for_each(|row| add(format!("{row:?}")));
        if !others.photos.is_empty() {
            add(format!("{:?}", others.misfit));
        }
        others.photos.iter().for_each(|photo| add(photo.sha256.to_string()));
        Sha256(hasher.finalize().into())
    }

    /// The earlier result as `input.out`. None: it is not whole, or not of these photos; nothing is left behind, and the pipeline must run.
    pub fn reuse(&self, input: &Input, others: &Others<'_>, earlier: &Earlier<'_>) -> Option<Done> {
        let begun = self.clock.mono();
        match self.take_over(input, others, earlier) {
            Ok((artifacts, report)) => {
                let ms = millis(self.clock.mono().saturating_sub(begun));
                let mut step_ms = StepMs::default();
                step_ms.set(Stage::Save, ms);
                let quality = Quality { verdict: report.verdict, metrics: report.quality.clone() };
                let outcome = Outcome { artifacts, quality, step_ms, processing_time_ms: ms, cached: true };
                Some(Done { outcome, report })
            }
            Err(why) => {
                tracing::info!(why, "an earlier result cannot be used again; the photo is worked on");
                None
            }
        }
    }

    fn take_over(&self, input: &Input, others: &Others<'_>, earlier: &Earlier<'_>) -> Result<(Artifacts, Report), String> {
        let bytes = fs::read(earlier.folder.join("report.json")).map_err(|e| format!("report.json: {e}"))?;
        if Sha256(Hasher::digest(&bytes).into()) != earlier.artifacts.report_sha256 {
            return Err("report.json has changed".into());
        }
        let mut report: Report = serde_json::from_slice(&bytes).map_err(|e| format!("report.json: {e}"))?;
        if report.photo.sha256 != input.sha256 {
            return Err("it is of another photo".into());
        }
        // A disk that changed or lost an original is found out here as it is by a run.
        let others = others.photos.iter().map(|other| (&other.photo, other.sha256));
        for (original, sha256) in [(&input.photo, input.sha256)].into_iter().chain(others) {
            if hash(original).map_err(|e| format!("an original: {e}"))? != sha256 {
                return Err("an original has changed".into());
            }
        }
        let folder = save::Folder::create(&input.out).map_err(in_words)?;
        let files = &earlier.artifacts.files;
        for (name, facts) in [("image.jpg", &files.image), ("mask.png", &files.mask), ("synthetic.png", &files.synthetic)] {
            let linked = folder.link(earlier.folder, name).map_err(|e| format!("{name}: {e}"))?;
            // The link is hashed, not the old name: what is checked is what the new job has.
            if hash(&linked).map_err(|e| format!("{name}: {e}"))? != facts.sha256 {
                return Err(format!("{name} has changed"));
            }
        }
        let thumb = folder.link(earlier.folder, "thumb.jpg").and_then(fs::read).map_err(|e| format!("thumb.jpg: {e}"))?;
        if !(thumb.starts_with(&[0xFF, 0xD8]) && thumb.ends_with(&[0xFF, 0xD9])) {
            return Err("thumb.jpg has changed".into());
        }
        (report.created_at, report.photo.source, report.cached) = (self.clock.now(), input.source, true);
        let (report_sha256, report_bytes) = save::report(&folder, &report).map_err(in_words)?;
        folder.finish().map_err(in_words)?;
        let thumb_bytes = thumb.len() as u64;
        Ok((Artifacts { report_sha256, report_bytes, thumb_bytes, on_disk: true, ..earlier.artifacts.clone() }, report))
    }
}

fn in_words(halt: Halt) -> String {
    match halt {
        Halt::Fault(fault) | Halt::Again(fault) => fault.detail,
        Halt::Refused(refusal) => refusal.fault.detail,
        Halt::Stop => io::ErrorKind::Interrupted.to_string(),
    }
}
