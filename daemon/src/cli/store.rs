//! `irisd store`: the job store itself. The daemon must be stopped: one process a state folder.
//!
//! Exit code 0: all is well (verify), or it is done. 1: something is missing or damaged, or it could not be done; what it is stands in
//! the words (or the JSON), and nothing was made worse. Long work says on stderr how far it is.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Subcommand;
use serde_json::json;
use sha2::Digest;

use super::{Ended, Output, Stop, block_on, configuration, log_quietly, owner::become_owner_of, print, tell};
use crate::{
    adapters::clock::SystemClock,
    app::parts,
    config::Config,
    domain::{
        ids::Sha256,
        job::{Artifacts, Job, Status, UploadStatus},
        photo::Photo,
    },
    store::{self, Filter, Listed, OpenReport, Page, Store},
};

/// Rows read at a time.
const PAGE: usize = 500;
/// Between two words about how far it is.
const SAID_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Read the journal and every row, and look for every file. Exit code 1 if something is missing or damaged.
    Verify {
        /// Read every original, too, and compare its SHA-256: minutes for a full disk.
        #[arg(long)]
        originals: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Make the index anew from the journal. Only with a whole journal; the old index is set aside beside earlier ones, not removed.
    Rebuild(Output),
    /// Every photo and job as JSON, one a line. With owners and the clinic's own references; without pictures, tokens and keys.
    Export,
}

/// Says now and then how far a long piece of work is.
struct Progress {
    what: &'static str,
    said: Instant,
}

impl Progress {
    fn new(what: &'static str) -> Self {
        Self { what, said: Instant::now() }
    }

    fn at(&mut self, n: u64) {
        if self.said.elapsed() >= SAID_EVERY {
            self.said = Instant::now();
            tell(format!("... {n} {}", self.what));
        }
    }
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
    match action {
        Action::Verify { originals, output } => verify(&config, *originals, *output),
        Action::Rebuild(output) => rebuild(&config, *output),
        Action::Export => with_store(&config, |store, _| export(store)),
    }
}

/// Opens the store (which repairs what can be repaired), does something with it, and closes it whatever came of that.
fn with_store<T>(config: &Config, work: impl FnOnce(&Store, &OpenReport) -> Result<T, Stop>) -> Result<T, Stop> {
    let (store, report) = Store::open(parts::store_options(config, Arc::new(SystemClock::new())))?;
    let done = work(&store, &report);
    block_on(async {
        store.close().await;
        done
    })
}

/// Every row, newest first.
fn each<T>(
    what: &'static str,
    mut read: impl FnMut(Page) -> Result<Listed<T>, store::StoreError>,
    mut row: impl FnMut(T) -> io::Result<()>,
) -> Result<usize, Stop> {
    let (mut before, mut count, mut progress) = (None, 0, Progress::new(what));
    loop {
        let page = read(Page { limit: PAGE, offset: 0, before })?;
        count += page.items.len();
        page.items.into_iter().try_for_each(&mut row)?;
        progress.at(count as u64);
        before = page.next;
        if before.is_none() {
            return Ok(count);
        }
    }
}

fn photos(store: &Store, row: impl FnMut(Photo) -> io::Result<()>) -> Result<usize, Stop> {
    each("photos", |page| store.photos(&Filter::default(), page), row)
}

fn jobs(store: &Store, row: impl FnMut(Job) -> io::Result<()>) -> Result<usize, Stop> {
    each("jobs", |page| store.jobs(&Filter::default(), page), row)
}

/// What a look at everything found.
#[derive(Default)]
struct Findings {
    photos: usize,
    jobs: usize,
    missing: Vec<PathBuf>,
    altered: Vec<PathBuf>,
    without_result: Vec<PathBuf>,
    journal_bytes: u64,
    journal_wrong: Vec<String>,
    /// The index was damaged, and why; it is rebuilt.
    rebuilt: Option<String>,
    /// Frames of the journal are lost; the index stands in for them where it has them.
    journal_damage: Option<String>,
}

impl Findings {
    fn are_fine(&self) -> bool {
        let files = self.missing.len() + self.altered.len() + self.without_result.len();
        files == 0 && self.journal_wrong.is_empty() && self.rebuilt.is_none() && self.journal_damage.is_none()
    }
}

fn verify(config: &Config, originals: bool, output: Output) -> Ended {
    let mut progress = Progress::new("bytes of the journal read");
    let mut found = Findings::default();
    (found.journal_bytes, found.journal_wrong) = store::verify_journal(&config.paths.state, |n| progress.at(n))?;
    with_store(config, |store, report| {
        (found.rebuilt, found.journal_damage) = (report.rebuilt.clone(), report.journal_damage.clone());
        look_at_everything(store, originals, &mut found)
    })?;
    if output.json {
        say_findings_as_json(&found)?
    } else {
        say_findings(&found, originals)?
    }
    if found.are_fine() { Ok(()) } else { Err(Stop::Said) }
}

fn look_at_everything(store: &Store, originals: bool, found: &mut Findings) -> Ended {
    let (mut missing, mut altered, mut without_result) = (Vec::new(), Vec::new(), Vec::new());
    found.photos = photos(store, |photo| {
        let path = store.blob_path(&photo.sha256);
        if photo.on_disk && !fs::metadata(&path).is_ok_and(|m| m.len() == photo.bytes) {
            missing.push(path);
        } else if photo.on_disk && originals && hash_of(&path)? != photo.sha256 {
            altered.push(path);
        }
        Ok(())
    })?;
    found.jobs = jobs(store, |job| {
        // An evicted result is in the bucket; one that is in neither place is lost. Of a deleted photo's jobs only the rows stay.
        let here = job.artifacts.as_ref().is_some_and(|a| a.on_disk);
        let uploaded = job.upload == UploadStatus::Uploaded;
        if job.status == Status::Completed && here && !uploaded {
            without_result.extend(missing_of_result(&store.result_dir(job.id), job.artifacts.as_ref()));
        }
        Ok(())
    })?;
    (found.missing, found.altered, found.without_result) = (missing, altered, without_result);
    Ok(())
}

/// The result's folder, or those of its files that are not there or not as long as they were.
fn missing_of_result(folder: &Path, artifacts: Option<&Artifacts>) -> Vec<PathBuf> {
    let (Some(a), true) = (artifacts, folder.is_dir()) else { return vec![folder.to_owned()] };
    let files = [
        ("image.jpg", a.files.image.bytes),
        ("mask.png", a.files.mask.bytes),
        ("synthetic.png", a.files.synthetic.bytes),
        ("report.json", a.report_bytes),
        ("thumb.jpg", a.thumb_bytes),
    ];
    let whole = |path: &Path, bytes: u64| fs::metadata(path).is_ok_and(|m| m.len() == bytes || (bytes == 0 && m.len() > 0));
    files
        .into_iter()
        .map(|(name, bytes)| (folder.join(name), bytes))
        .filter(|(path, bytes)| !whole(path, *bytes))
        .map(|(path, _)| path)
        .collect()
}

fn hash_of(path: &Path) -> io::Result<Sha256> {
    let mut hash = sha2::Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(Sha256(hash.finalize().into()))
}

fn say_findings_as_json(found: &Findings) -> io::Result<()> {
    print(json!({
        "ok": found.are_fine(), "photos": found.photos, "jobs": found.jobs, "originals_missing": found.missing.len(),
        "originals_altered": found.altered.len(), "results_missing": found.without_result.len(), "index_rebuilt": found.rebuilt,
        "journal_damage": found.journal_damage, "journal_bytes": found.journal_bytes, "journal_wrong": found.journal_wrong,
    }))
}

fn say_findings(found: &Findings, originals: bool) -> io::Result<()> {
    let Findings { photos, jobs, journal_bytes, .. } = found;
    print(format!("{photos} photos and {jobs} jobs read, {journal_bytes} bytes of journal"))?;
    found.missing.iter().try_for_each(|path| print(format!("original missing or cut short: {}", path.display())))?;
    found.altered.iter().try_for_each(|path| print(format!("original is not what was received: {}", path.display())))?;
    found.without_result.iter().try_for_each(|path| print(format!("result missing or cut short: {}", path.display())))?;
    found.journal_wrong.iter().try_for_each(|what| print(format!("journal: {what}")))?;
    if let Some(why) = &found.rebuilt {
        print(format!("the index was damaged ({why}); it is rebuilt from the journal, and the damaged one lies beside it"))?;
    }
    if let Some(what) = &found.journal_damage {
        print(format!(
            "a part of the journal cannot be read ({what}); the damaged file is kept, and no original is removed while it lies there"
        ))?;
    }
    match (found.are_fine(), originals) {
        (true, true) => print("all is well; every original is what was received"),
        (true, false) => print("all is well (--originals also compares every original with its SHA-256)"),
        (false, _) => print("not all is well: keep this folder as it is, make a copy, and contact support"),
    }
}

fn rebuild(config: &Config, output: Output) -> Ended {
    // The journal is about to be the only copy: it must be whole first. Opening mends what can be mended, from the index if need be.
    let (_, wrong) = store::verify_journal(&config.paths.state, |_| {})?;
    let damage = with_store(config, |_, report| Ok(report.journal_damage.clone()))?;
    if let Some(what) = damage.or_else(|| wrong.into_iter().next()) {
        let refused = "the index was not thrown away: the journal was not whole";
        return Err(anyhow::anyhow!("{refused} ({what}); a new journal was written from what is there, run this again").into());
    }
    let aside = set_aside(&config.paths.state)?;
    let (photos, jobs) = with_store(config, |store, _| Ok((photos(store, |_| Ok(()))?, jobs(store, |_| Ok(()))?)))?;
    match output.json {
        true => print(json!({ "photos": photos, "jobs": jobs, "old_index": aside }))?,
        false => {
            print(format!("rebuilt from the journal: {photos} photos, {jobs} jobs"))?;
            print(format!("the old index lies in {} and may be removed", aside.display()))?;
        }
    }
    Ok(())
}

/// Moves the index away, beside older ones that were moved away before.
fn set_aside(state: &Path) -> io::Result<PathBuf> {
    let store = state.join("store");
    let names = std::iter::once("v1.set-aside".to_owned()).chain((2..).map(|n| format!("v1.set-aside-{n}")));
    let aside = names.map(|name| store.join(name)).find(|path| !path.exists()).expect("the numbers do not end");
    fs::rename(store.join("v1"), &aside)?;
    Ok(aside)
}

fn export(store: &Store) -> Ended {
    photos(store, |photo| print(json!({ "photo": photo })))?;
    jobs(store, |job| print(json!({ "job": job })))?;
    Ok(())
}
