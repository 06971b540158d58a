//! `irisd store`: the job store itself. The daemon must be stopped: one process a state folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Subcommand;
use serde_json::json;

use super::{Ended, Output, Stop, block_on, configuration, log_quietly, owner::become_owner_of, print};
use crate::{
    adapters::clock::SystemClock,
    app::parts,
    config::Config,
    domain::job::{Job, Status},
    domain::photo::Photo,
    store::{Filter, Listed, OpenReport, Page, Store, StoreError},
};

/// Rows read at a time.
const PAGE: usize = 500;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Read every row and look for every file. Exit code 1 if something is missing or was damaged.
    Verify(Output),
    /// Build the index anew from the journal; the old one is set aside.
    Rebuild(Output),
    /// Every photo and job as JSON, one a line.
    Export,
}

pub(super) fn store(config: Option<&Path>, action: &Action) -> Ended {
    let config = configuration(config)?;
    log_quietly();
    become_owner_of(&config.paths.state)?;
    let state = &config.paths.state;
    // Opening makes what is not there: a typing error in a path would become a new store without a fault in it.
    if !["store", "journal"].iter().any(|folder| state.join(folder).is_dir()) {
        return Err(anyhow::anyhow!("there is no store in {}", state.display()).into());
    }
    let index = state.join("store").join("v1");
    if matches!(action, Action::Rebuild(_)) {
        set_aside(&index, &config)?;
    }
    let (store, report) = Store::open(parts::store_options(&config, Arc::new(SystemClock::new())))?;
    let ended = match action {
        Action::Verify(output) => verify(&store, &report, *output),
        Action::Rebuild(output) => rebuilt(&store, *output),
        Action::Export => export(&store),
    };
    block_on(async {
        store.close().await;
        ended
    })
}

/// Moves the index away, unless a daemon holds the state folder.
fn set_aside(index: &Path, config: &Config) -> Result<(), Stop> {
    let lock = config.paths.state.join("lock");
    match fs::File::open(&lock) {
        Ok(file) => rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| anyhow::Error::from(StoreError::Locked))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e.into()),
    }
    let aside = index.with_file_name(format!("v1.set-aside-{}", jiff::Timestamp::now().as_second()));
    match fs::rename(index, aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// Every row, newest first.
fn each<T>(mut read: impl FnMut(Page) -> Result<Listed<T>, StoreError>, mut row: impl FnMut(T) -> io::Result<()>) -> Result<usize, Stop> {
    let (mut before, mut count) = (None, 0);
    loop {
        let page = read(Page { limit: PAGE, offset: 0, before })?;
        count += page.items.len();
        page.items.into_iter().try_for_each(&mut row)?;
        before = page.next;
        if before.is_none() {
            return Ok(count);
        }
    }
}

fn photos(store: &Store, row: impl FnMut(Photo) -> io::Result<()>) -> Result<usize, Stop> {
    each(|page| store.photos(&Filter::default(), page), row)
}

fn jobs(store: &Store, row: impl FnMut(Job) -> io::Result<()>) -> Result<usize, Stop> {
    each(|page| store.jobs(&Filter::default(), page), row)
}

fn verify(store: &Store, report: &OpenReport, output: Output) -> Ended {
    let mut missing: Vec<PathBuf> = Vec::new();
    let photo_rows = photos(store, |photo| {
        let path = store.blob_path(&photo.sha256);
        if photo.on_disk && !fs::metadata(&path).is_ok_and(|m| m.len() == photo.bytes) {
            missing.push(path);
        }
        Ok(())
    })?;
    let mut without_result = 0;
    let job_rows = jobs(store, |job| {
        // An evicted result is in the bucket; one that is in neither place is lost.
        let uploaded = job.upload == crate::domain::job::UploadStatus::Uploaded;
        without_result += usize::from(job.status == Status::Completed && !uploaded && !store.result_dir(job.id).is_dir());
        Ok(())
    })?;
    let damaged = report.rebuilt.is_some() || report.journal_damage.is_some();
    let fine = !damaged && missing.is_empty() && without_result == 0;
    if output.json {
        print(json!({
            "ok": fine, "photos": photo_rows, "jobs": job_rows, "originals_missing": missing.len(),
            "results_missing": without_result, "index_rebuilt": report.rebuilt, "journal_damage": report.journal_damage,
        }))?;
    } else {
        print(format!("{photo_rows} photos, {job_rows} jobs, {} originals missing, {without_result} results missing", missing.len()))?;
        missing.iter().try_for_each(|path| print(format!("missing: {}", path.display())))?;
        if let Some(why) = &report.rebuilt {
            print(format!("the index was damaged ({why}) and is rebuilt from the journal; the damaged one lies beside it"))?;
        }
        if let Some(what) = &report.journal_damage {
            print(format!("a part of the journal could not be read: {what}"))?;
        }
    }
    if fine { Ok(()) } else { Err(Stop::Said) }
}

fn rebuilt(store: &Store, output: Output) -> Ended {
    let (photos, jobs) = (photos(store, |_| Ok(()))?, jobs(store, |_| Ok(()))?);
    match output.json {
        true => print(json!({ "photos": photos, "jobs": jobs }))?,
        false => print(format!("rebuilt from the journal: {photos} photos, {jobs} jobs"))?,
    }
    Ok(())
}

fn export(store: &Store) -> Ended {
    photos(store, |photo| print(json!({ "photo": photo })))?;
    jobs(store, |job| print(json!({ "job": job })))?;
    Ok(())
}
