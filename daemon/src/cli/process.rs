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
    pipeline::{Pipeline, Settings, process::process_files},
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[arg(required = true, value_name = "PHOTO")]
    photos: Vec<PathBuf>,
    /// Made if it is not there. NAME.jpg, NAME.mask.png and NAME.report.json are written for each photo.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    output: Output,
}

pub(super) fn process(config: Option<&Path>, arguments: &Arguments) -> Ended {
    let config = configuration(config)?;
    log_quietly();
    let pipeline = Pipeline::new(Settings::from_config(&config), engine(&config)?, Arc::new(SystemClock::new()));
    let all = process_files(&arguments.photos, &arguments.out, arguments.output.json, &pipeline, &mut io::stdout().lock())?;
    if all { Ok(()) } else { Err(Stop::Said) }
}
