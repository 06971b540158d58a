//! `irisd process`: the pipeline alone, no daemon.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use super::{Ended, Output, Stop, configuration, log_quietly};
use crate::{
    adapters::clock::SystemClock,
    app::parts::engine,
    domain::job::MAX_MERGED,
    pipeline::{
        Pipeline, Settings,
        process::{merge_files, process_files},
    },
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[arg(required = true, value_name = "PHOTO")]
    photos: Vec<PathBuf>,
    /// The photos (two or three) are of the same eye, the lamp elsewhere in each: the first is processed, and what its reflections hide
    /// comes from the others instead of being made up.
    #[arg(long)]
    merge: bool,
    /// Made if it is not there. NAME.jpg, NAME.mask.png, NAME.synthetic.png (which pixels were made up) and NAME.report.json are written
    /// for each photo; for a refused one NAME.annotated.jpg, and what an earlier run left under its name goes.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// Photos of one eye: one has nothing to be merged with.
const MERGED: std::ops::RangeInclusive<usize> = 2..=1 + MAX_MERGED;

pub(super) fn process(config: Option<&Path>, arguments: &Arguments) -> Ended {
    let Arguments { photos, merge, out, output } = arguments;
    if *merge && !MERGED.contains(&photos.len()) {
        return Err(Stop::Usage("--merge takes two or three photos of the same eye"));
    }
    let config = configuration(config)?;
    log_quietly();
    let pipeline = Pipeline::new(Settings::from_config(&config), engine(&config)?, Arc::new(SystemClock::new()));
    let files = if *merge { merge_files } else { process_files };
    let all = files(photos, out, output.json, &pipeline, &mut io::stdout().lock())?;
    if all { Ok(()) } else { Err(Stop::Said) }
}
