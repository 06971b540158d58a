//! A store as years leave it: jobs that finished, were uploaded and evicted, and a queue that waits.
//!
//! Every row goes through the store's own door, with the transactions of a real job except its steps; only the pictures are empty files.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use futures_util::future::{join_all, try_join_all};
use irisd::{
    adapters::clock::SystemClock,
    domain::{
        ids::{JobId, Sha256, UserId},
        job::{Artifacts, Lane},
        photo::{ClientInfo, ImageFormat, Photo, Source},
        quality::{Metric, Quality, Verdict},
        report::{FileFacts, ReportFiles},
        stage::{Stage, StepMs},
        transition::Outcome,
    },
    store::{First, NewJobs, NewPhoto, Options, Store, StoreError},
};
use sha2::Digest;

/// Jobs on their way at once: enough for whole commit groups.
const AT_ONCE: u64 = 512;
/// Jobs of a batch, as HTTP allows them.
const BATCH: usize = 10;
/// Of the pretended pictures.
const ORIGINAL_BYTES: u64 = 3_000_000;
const IMAGE_BYTES: u64 = 4_000_000;

/// Fills the state folder; gives the ids of the finished jobs, oldest first.
pub fn fill(state: &Path, finished: u64, pending: usize, picture: &[u8]) -> Vec<JobId> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (store, _) = Store::open(options(state)).unwrap();
        let mut ids = Vec::new();
        for from in (0..finished).step_by(AT_ONCE as usize) {
            let jobs = (from..(from + AT_ONCE).min(finished)).map(|n| finish_one(&store, n));
            ids.extend(try_join_all(jobs).await.unwrap());
            upload_and_evict(&store).await.unwrap();
        }
        queue(&store, pending, picture).await.unwrap();
        upload_and_evict(&store).await.unwrap();
        store.tidy_up().await.unwrap();
        store.close().await;
        ids
    })
}

fn options(state: &Path) -> Options {
    Options {
        state: state.to_owned(),
        clock: Arc::new(SystemClock::new()),
        uploads: true,
        upload_originals: true,
        upload_synthetic: false,
        max_pending: usize::MAX,
        crash_limit: 3,
        mqtt: false,
        // What was uploaded does not stay for long.
        cap: 100 * ORIGINAL_BYTES,
        reserve: 0,
        evict_uploaded: true,
    }
}

async fn finish_one(store: &Store, n: u64) -> Result<JobId, StoreError> {
    let photo = photo(store, Sha256(sha2::Sha256::digest(n.to_be_bytes()).into()), ORIGINAL_BYTES, &[], n).await?;
    let id = store.submit(new_jobs(&photo, 1), None).await?[0].id;
    store.claim(id).await?;
    store.complete(id, outcome(n)).await?;
    Ok(id)
}

async fn photo(store: &Store, sha256: Sha256, bytes: u64, picture: &[u8], n: u64) -> Result<Photo, StoreError> {
    let path = store.blob_path(&sha256);
    fs::create_dir_all(path.parent().expect("blobs lie in folders"))?;
    fs::write(path, picture)?;
    let new = NewPhoto {
        user_id: owner(),
        sha256,
        bytes,
        width: 4000,
        height: 3000,
        content_type: ImageFormat::Jpeg,
        source: Source::Upload,
        client: ClientInfo { client_ref: Some(format!("visit-{n}")), ..ClientInfo::default() },
    };
    Ok(store.add_photo(new, None).await?.0)
}

fn owner() -> UserId {
    "kiosk-1".parse().expect("a name")
}

fn new_jobs(photo: &Photo, n: usize) -> NewJobs {
    NewJobs {
        user_id: owner(),
        photo_ids: vec![photo.id; n],
        merge: None,
        lane: Lane::Default,
        client: ClientInfo::default(),
        reprocess_of: None,
    }
}

/// As a completed job's row really looks: eleven figures, five files' facts, five steps.
fn outcome(n: u64) -> Outcome {
    let hash = |part: u64| Sha256(sha2::Sha256::digest((n * 8 + part).to_le_bytes()).into());
    let file = |part, bytes| FileFacts { sha256: hash(part), bytes: bytes + n % 9999, width: 2000, height: 2000 };
    let metric =
        |i: u64| Metric { value: (n * 31 + i * 7919) as f64 % 10_000.0 / 1000.0, unit: "ratio".into(), threshold: 0.25, pass: true };
    let names = ["coverage", "confidence", "iris_diameter", "lightness", "overexposed", "sharpness", "usable_area", "glare_share"];
    let metrics: BTreeMap<_, _> = names.iter().chain(&["pupil_ratio", "gaze", "iris_sclera_contrast"]).zip(0..).collect();
    let mut step_ms = StepMs::default();
    for (stage, i) in Stage::ALL.into_iter().zip(1..) {
        step_ms.set(stage, n * i % 3000);
    }
    Outcome {
        artifacts: Artifacts {
            files: ReportFiles { image: file(0, IMAGE_BYTES), mask: file(1, 20_000), synthetic: file(2, 10_000) },
            report_sha256: hash(3),
            report_bytes: 3000,
            thumb_bytes: 20_000,
            on_disk: true,
            made_by: Some(Sha256([7; 32])),
        },
        quality: Quality {
            verdict: Verdict::Pass,
            metrics: metrics.into_iter().map(|(name, i)| ((*name).to_owned(), metric(i))).collect(),
        },
        step_ms,
        processing_time_ms: n % 9000,
        cached: false,
    }
}

/// The bucket vouches for all that waits; then the oldest go from the disk.
async fn upload_and_evict(store: &Store) -> Result<(), StoreError> {
    loop {
        let rows = store.due_uploads(AT_ONCE as usize, First::Oldest);
        if rows.is_empty() {
            break;
        }
        let confirmed = join_all(rows.into_iter().map(|row| store.upload_confirmed(row.seq))).await;
        confirmed.into_iter().collect::<Result<Vec<()>, _>>()?;
    }
    match store.admit(0, 0).await {
        // Nothing more may go: what is left belongs to jobs that wait.
        Err(StoreError::OverCap { .. }) | Ok(()) => Ok(()),
        Err(e) => Err(e),
    }
}

async fn queue(store: &Store, pending: usize, picture: &[u8]) -> Result<(), StoreError> {
    let sha256 = Sha256(sha2::Sha256::digest(picture).into());
    let photo = photo(store, sha256, picture.len() as u64, picture, u64::MAX).await?;
    let batches = pending / BATCH;
    for from in (0..batches).step_by(AT_ONCE as usize) {
        let some = (batches - from).min(AT_ONCE as usize);
        try_join_all((0..some).map(|_| store.submit(new_jobs(&photo, BATCH), None))).await?;
    }
    Ok(())
}
