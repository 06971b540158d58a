//! Files that are damaged while the daemon is down: index, journal, originals, results. Detected at the next start or when they are
//! needed, and nothing that was answered for is lost.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    audit::{self, Listing},
    kill::tail,
    scene::{Row, Scene, largest, zero},
};
use crate::common::files;

const BLOCK: usize = 4096;

/// How the state folder is damaged; what was done.
type Harm = fn(&Path) -> String;

const HARMS: [(&str, Harm); 10] = [
    ("zeroed block at the start of sled's data", |state| {
        let db = state.join("store/v1/db");
        zero(&db, 0, BLOCK);
        "the first 4096 bytes of store/v1/db are zeros".into()
    }),
    ("zeroed block in the middle of sled's data", |state| {
        let db = state.join("store/v1/db");
        let used = used(&db);
        zero(&db, used / 2, BLOCK);
        format!("4096 zeros at byte {} of store/v1/db", used / 2)
    }),
    ("truncated data file of sled", |state| {
        let db = state.join("store/v1/db");
        let used = used(&db);
        fs::File::options().write(true).open(&db).unwrap().set_len(used as u64 / 2).unwrap();
        format!("store/v1/db cut to {} bytes", used / 2)
    }),
    ("zero-length snapshot of sled", |state| {
        let snap = state.join("store/v1/snap.0000000000000042");
        let snap = fs::read_dir(state.join("store/v1")).unwrap().flatten().map(|e| e.path()).find(|p| is_snap(p)).unwrap_or(snap);
        fs::write(&snap, b"").unwrap();
        "store/v1/snap.* has 0 bytes".into()
    }),
    ("deleted store folder", |state| {
        fs::remove_dir_all(state.join("store")).unwrap();
        "rm -r store".into()
    }),
    ("deleted journal folder", |state| {
        fs::remove_dir_all(state.join("journal")).unwrap();
        "rm -r journal".into()
    }),
    ("zeroed block in the middle of the journal", |state| {
        let log = largest(&state.join("journal"), ".log").unwrap();
        let middle = fs::metadata(&log).unwrap().len() as usize / 2;
        zero(&log, middle, BLOCK);
        format!("4096 zeros at byte {middle} of the log")
    }),
    ("truncated journal", |state| {
        let log = largest(&state.join("journal"), ".log").unwrap();
        let half = fs::metadata(&log).unwrap().len() / 2;
        fs::File::options().write(true).open(&log).unwrap().set_len(half).unwrap();
        format!("the log cut to {half} bytes")
    }),
    ("torn last frame of the journal, and no index", |state| {
        let log = largest(&state.join("journal"), ".log").unwrap();
        let mut bytes = fs::read(&log).unwrap();
        bytes.extend_from_slice(&[40, 0, 0, 0, 1, 2, 3]);
        fs::write(&log, bytes).unwrap();
        fs::remove_dir_all(state.join("store")).unwrap();
        "7 bytes of a frame behind the last whole one; rm -r store".into()
    }),
    ("deleted results folder", |state| {
        fs::remove_dir_all(state.join("results")).unwrap();
        "rm -r results".into()
    }),
];

fn is_snap(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("snap."))
}

/// Bytes up to the last that is no zero: sled grows its file in steps.
fn used(path: &Path) -> usize {
    fs::read(path).unwrap().iter().rposition(|b| *b != 0).map_or(0, |at| at + 1)
}

pub fn run(work: &Path) -> Vec<Row> {
    let mut rows: Vec<Row> = HARMS.iter().enumerate().map(|(i, (what, harm))| one(&work.join(i.to_string()), what, *harm)).collect();
    rows.push(damaged_original(&work.join("original"), "damaged original", |blob| {
        let middle = fs::metadata(blob).unwrap().len() as usize / 2;
        zero(blob, middle, 64);
    }));
    rows.push(damaged_original(&work.join("no-original"), "deleted original", |blob| fs::remove_file(blob).unwrap()));
    rows
}

fn one(dir: &Path, what: &str, harm: Harm) -> Row {
    let mut scene = Scene::new(dir, None);
    scene.daemon.restart();
    scene.furnish();
    // One of each end: sled's own, and a death. What a death leaves in the journal alone is gone with the journal: two faults at once.
    if what.contains("journal") && !what.contains("deleted") && !what.contains("truncated") {
        scene.daemon.kill9();
    } else {
        assert!(scene.daemon.stop().success());
    }
    let how = harm(&scene.daemon.state);
    let mut faults = Vec::new();
    let seen = match scene.daemon.try_restart() {
        Err(why) => {
            faults.push(format!("{what}: {why}\n{}", tail(&scene.daemon.log())));
            "it does not start".to_owned()
        }
        Ok(()) => seen(&scene),
    };
    if faults.is_empty() {
        faults.extend(audit::answers(&scene.ledger, &Listing::of(&scene.client())));
        faults.extend(scene.works_again().err());
        faults.extend(scene.kept());
    }
    Row { what: what.to_owned(), how, seen, faults }
}

/// Alerts, and what the rebuild left.
fn seen(scene: &Scene) -> String {
    let mut seen = scene.alerts().iter().map(|code| format!("alert `{code}`")).collect::<Vec<_>>();
    let names = files::listing(&scene.daemon.state).into_keys();
    let aside = names.filter_map(|n| {
        Some(if n.contains("v1.damaged-") { "store/v1.damaged-*" } else { n.ends_with(".damaged").then_some("journal/*.damaged")? })
    });
    let mut aside: Vec<&str> = aside.collect();
    aside.dedup();
    seen.extend(aside.into_iter().map(|name| format!("kept `{name}`")));
    if seen.is_empty() { "started, nothing to say".to_owned() } else { seen.join(", ") }
}

/// An original that the disk changed or lost: a job on it says so, the others go on.
fn damaged_original(dir: &Path, what: &str, harm: fn(&PathBuf)) -> Row {
    let mut scene = Scene::new(dir, None);
    scene.daemon.restart();
    scene.furnish();
    let photo = scene.photos()[0].clone();
    let hash = &scene.ledger.photos[&photo].sha256;
    let blob = scene.daemon.state.join(format!("blobs/{}/{hash}", &hash[..2]));
    harm(&blob);
    let mut faults = Vec::new();
    let seen = match scene.submit(&photo).and_then(|job| scene.end_of(&job)) {
        Ok(job) if job["status"] == "failed" => format!("its job fails with `{}`", job["error_code"].as_str().unwrap_or("")),
        Ok(job) => {
            faults.push(format!("{what}: the job ended as {job}"));
            "nothing".into()
        }
        Err(why) => format!("a submit is refused: {why}"),
    };
    faults.extend(scene.works_again().err());
    faults.extend(scene.kept());
    Row { what: what.to_owned(), how: "64 zeros in the middle of its file, or rm".into(), seen, faults }
}
