//! The outbox with a real store, a real broker and a real bucket that come and go.
#![allow(clippy::unwrap_used)]

mod servers;

use std::{path::Path, sync::Arc};

use irisd::{
    adapters::{
        clock::SystemClock,
        mqtt::{self, MqttSink},
        s3::{self, S3Bucket},
    },
    domain::{
        event::ProgressTick,
        ids::Sha256,
        job::{Artifacts, Job, Lane, UploadStatus},
        photo::{ClientInfo, ImageFormat, Photo, Source},
        quality::{Quality, Verdict},
        report::{FileFacts, ReportFiles},
        stage::{Stage, StepMs},
        transition::Outcome,
    },
    outbox::{
        self,
        alerts::{Alerts, S3_DENIED},
        command::{Command, CommandResult},
        payload::{DeviceFacts, Topics},
    },
    ports::EventSink,
    store::{NewJobs, NewPhoto, Options, Store, blobs},
};
use servers::{
    mosquitto::{Mosquitto, Watcher},
    s3::{ACCESS, BUCKET, S3Server, SECRET},
    until, within,
};
use sha2::Digest;
use tokio::{
    sync::{broadcast, watch},
    task::JoinHandle,
};

fn open(state: &Path) -> Store {
    let options = Options {
        state: state.to_owned(),
        clock: Arc::new(SystemClock::new()),
        uploads: true,
        upload_originals: true,
        upload_synthetic: false,
        max_pending: 100,
        crash_limit: 3,
        mqtt: true,
        cap: 1 << 40,
        reserve: 0,
        evict_uploaded: true,
    };
    Store::open(options).unwrap().0
}

fn file(path: &Path, bytes: &[u8]) -> FileFacts {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
    FileFacts { sha256: Sha256(sha2::Sha256::digest(bytes).into()), bytes: bytes.len() as u64, width: 1, height: 1 }
}

async fn submitted(store: &Store, original: &[u8]) -> (Photo, Job) {
    let sha256 = Sha256(sha2::Sha256::digest(original).into());
    file(&store.blob_path(&sha256), original);
    let new = NewPhoto {
        user_id: "kiosk".parse().unwrap(),
        sha256,
        bytes: original.len() as u64,
        width: 1,
        height: 1,
        content_type: ImageFormat::Jpeg,
        source: Source::Upload,
        client: ClientInfo::default(),
    };
    let photo = store.add_photo(new, None).await.unwrap().0;
    let jobs = NewJobs {
        user_id: photo.user_id.clone(),
        photo_ids: vec![photo.id],
        merge: None,
        lane: Lane::Default,
        client: ClientInfo::default(),
        reprocess_of: None,
    };
    let job = store.submit(jobs, None).await.unwrap().remove(0);
    (photo, job)
}

async fn completed(store: &Store, job: &Job) {
    let dir = store.result_dir(job.id);
    let files = ReportFiles {
        image: file(&dir.join("image.jpg"), b"image"),
        mask: file(&dir.join("mask.png"), b"mask"),
        synthetic: file(&dir.join("synthetic.png"), b"synthetic"),
    };
    let report = file(&dir.join("report.json"), b"{}");
    let artifacts =
        Artifacts { files, report_sha256: report.sha256, report_bytes: report.bytes, thumb_bytes: 0, on_disk: true, made_by: None };
    let quality = Quality { verdict: Verdict::Pass, metrics: Default::default() };
    let outcome = Outcome { artifacts, quality, step_ms: StepMs::default(), processing_time_ms: 5, cached: false };
    store.complete(job.id, outcome).await.unwrap();
}

struct Told {
    live: broadcast::Sender<ProgressTick>,
    _facts: watch::Sender<DeviceFacts>,
    alerts: Alerts,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn tell(store: &Store, broker: &Mosquitto) -> Told {
    let topics = Topics { prefix: "irisd".to_owned(), device: "test".to_owned() };
    let sink = MqttSink::start(mqtt::Options {
        url: format!("mqtt://127.0.0.1:{}", broker.port),
        username: String::new(),
        password: String::new(),
        ca: None,
        client_cert: None,
        client_id: "irisd-test".to_owned(),
        will: Some(topics.will()),
        subscriptions: topics.subscriptions(true, true),
    });
    let sink: Arc<dyn EventSink> = Arc::new(sink.unwrap());
    let (live, alerts) = (broadcast::channel(16).0, Alerts::new());
    let (facts, facts_rx) = watch::channel(DeviceFacts { version: "1.2.3".to_owned(), ok: true, ..Default::default() });
    let (stop, stop_rx) = watch::channel(false);
    let commands: outbox::command::Handler = Arc::new(|command| {
        assert!(matches!(command, Command::Capture { camera: None, submit: true, .. }));
        Box::pin(async { CommandResult::Failed { code: "no_camera".to_owned(), message: "No camera is configured.".to_owned() } })
    });
    let options = outbox::mqtt::Options { topics, discovery: true, alert_codes: vec![S3_DENIED], commands: Some(commands) };
    let sources = outbox::mqtt::Sources { live: live.subscribe(), facts: facts_rx, alerts: alerts.subscribe() };
    let task = outbox::mqtt::spawn_mqtt(store.clone(), sink, Arc::new(SystemClock::new()), sources, options, stop_rx);
    Told { live, _facts: facts, alerts, stop, task }
}

fn bring(
    store: &Store,
    server: &S3Server,
    secret: &str,
    strip: Option<outbox::s3::Strip>,
    alerts: Alerts,
) -> (watch::Sender<bool>, JoinHandle<()>) {
    let bucket = S3Bucket::new(s3::Options {
        endpoint: server.endpoint(),
        region: "us-east-1".to_owned(),
        bucket: BUCKET.to_owned(),
        path_style: true,
        access_key: ACCESS.to_owned(),
        secret_key: secret.to_owned(),
        ca_pem: None,
        part_size: 8 << 20,
        max_rate: None,
        open_uploads: store.state_dir().join("multiparts"),
    });
    let (stop, stopping) = watch::channel(false);
    let options = outbox::s3::Options { newest_first: false, parallel: 2, window: None, strip, alerts };
    let task = outbox::s3::spawn_s3(store.clone(), Arc::new(bucket.unwrap()), Arc::new(SystemClock::new()), options, stopping);
    (stop, task)
}

fn upload_status(store: &Store, job: &Job) -> UploadStatus {
    store.job(job.id).unwrap().unwrap().upload
}

#[tokio::test]
async fn what_happened_while_the_broker_was_away_is_told_in_order_and_the_end_is_stopped() {
    let (dir, mut broker) = (tempfile::tempdir().unwrap(), Mosquitto::start().await);
    broker.kill();
    let store = open(dir.path());
    let told = tell(&store, &broker);
    let mut expected = Vec::new();
    let mut last = None;
    for n in 0..50u8 {
        let (_, job) = submitted(&store, &[n]).await;
        store.claim(job.id).await.unwrap();
        completed(&store, &job).await;
        expected.extend([(job.id, "submitted"), (job.id, "started"), (job.id, "completed")]);
        last = Some(job.id);
    }
    // Without retained messages of before: the watcher may come after the first events, so it asks the broker to keep them.
    broker.up().await;
    let mut watcher = Watcher::on(&broker, "irisd/test/#", &["-x", "60", "-c", "-i", "watcher"]);
    let last = last.unwrap();
    watcher.sees_where("the birth", |l| l.starts_with("irisd/test/status ") && l.ends_with(" online")).await;
    let (_, job) = submitted(&store, b"one more").await;
    let needle = format!("\"job_id\":\"{}\",\"event\":\"submitted\"", job.id);
    watcher.sees_where("the event of now", |l| l.starts_with("irisd/test/job/event") && l.contains(&needle)).await;
    let events: Vec<_> = watcher.seen.iter().filter(|l| l.starts_with("irisd/test/job/event 0 ")).cloned().collect();
    // What was seen is the tail of what happened, in its order, each once.
    let wanted: Vec<_> = expected.iter().map(|(id, event)| format!("\"job_id\":\"{id}\",\"event\":\"{event}\"")).collect();
    let tail = &wanted[wanted.len() - (events.len() - 1)..];
    assert!(events.iter().zip(tail).all(|(seen, want)| seen.contains(want)), "{events:?}");
    // A watcher sees an event before its acknowledgement is back at the daemon and in the store.
    until("all confirmed", || async { store.mqtt_cursor() == store.last_event() }).await;
    let mut later = Watcher::on(&broker, "irisd/test/job/+/state", &[]);
    later.sees_where("the final state", |l| l.starts_with(&format!("irisd/test/job/{last}/state 1")) && l.contains("\"completed\"")).await;
    told.stop.send_replace(true);
    within("the end", told.task).await.unwrap();
    Watcher::on(&broker, "irisd/test/status", &[]).sees("irisd/test/status 1 stopped").await;
}

/// The daemon gives what waits two seconds at its end: how much is told by then is the machine's matter, that nothing is left out is ours.
#[tokio::test]
async fn a_stop_amid_the_events_loses_none_of_them_and_turns_none_round() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), Mosquitto::start().await);
    let store = open(dir.path());
    for n in 0..90u8 {
        submitted(&store, &[n]).await;
    }
    let mut watcher = Watcher::on(&broker, "irisd/test/job/event", &["-x", "60", "-c", "-i", "watcher"]);
    until("the watcher listens", || {
        broker.say("irisd/test/job/event", "hello");
        watcher.drain();
        let listens = !watcher.seen.is_empty();
        async move { listens }
    })
    .await;
    let told = tell(&store, &broker);
    watcher.sees_where("the first event", |l| l.contains("\"seq\":1,")).await;
    told.stop.send_replace(true);
    within("the end", told.task).await.unwrap();
    let confirmed = store.mqtt_cursor().0;
    for n in 90..100u8 {
        submitted(&store, &[n]).await;
    }
    let told = tell(&store, &broker);
    let last = store.last_event().0;
    watcher.sees_where("the last event", |l| l.contains(&format!("\"seq\":{last},"))).await;
    told.stop.send_replace(true);
    within("the end", told.task).await.unwrap();
    let seqs = watcher.seen.iter().filter_map(|l| l.split_once("\"seq\":")?.1.split_once(',')?.0.parse::<u64>().ok());
    // Some may be said twice; each is said for the first time in its turn.
    let firsts = seqs.fold(vec![0], |mut firsts, seq| {
        if seq > firsts[firsts.len() - 1] {
            firsts.push(seq);
        }
        firsts
    });
    assert_eq!(firsts, (0..=last).collect::<Vec<_>>(), "confirmed at the stop: {confirmed}");
}

#[tokio::test]
async fn steps_alerts_commands_and_discovery_are_told() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), Mosquitto::start().await);
    let store = open(dir.path());
    let mut watcher = Watcher::on(&broker, "#", &[]);
    let told = tell(&store, &broker);
    watcher.sees_start("homeassistant/device/test/config").await;
    for name in ["info", "health", "queue", "uploads", "storage"] {
        watcher.sees_start(&format!("irisd/test/{name} ")).await;
    }
    let (_, job) = submitted(&store, b"x").await;
    store.claim(job.id).await.unwrap();
    watcher.sees_where("started", |l| l.contains("job/event") && l.contains("started")).await;
    // The announcement may still be on its way to the task's own books: the tick is repeated, as a worker does.
    let tick = ProgressTick { job_id: job.id, user_id: job.user_id.clone(), current_step: Stage::Enhance, progress: 70 };
    until("a live step", || {
        let _ = told.live.send(tick.clone());
        watcher.drain();
        let has = |tail: &str, text: &str| watcher.seen.iter().any(|l| l.contains(&format!("job/{}/{tail} ", job.id)) && l.contains(text));
        let so = has("progress", "\"progress\":70") && has("state", "\"current_step\":\"enhance\"");
        async move { so }
    })
    .await;
    told.alerts.raise(S3_DENIED, "refused", jiff::Timestamp::now());
    watcher.sees_where("the alert", |l| l.contains("alert/s3_denied") && l.contains("refused")).await;
    watcher.seen.clear();
    told.alerts.resolve(S3_DENIED);
    watcher.sees_where("no alert", |l| l.trim_end().ends_with("alert/s3_denied 0") || l.trim_end().ends_with("alert/s3_denied 1")).await;
    broker.say("irisd/test/cmd/capture", "{\"request_id\":\"7\"}");
    watcher
        .sees_where("the result", |l| l.contains("cmd/capture/result") && l.contains("\"request_id\":\"7\"") && l.contains("no_camera"))
        .await;
    watcher.seen.clear();
    broker.say("homeassistant/status", "online");
    watcher.sees_start("homeassistant/device/test/config").await;
}

#[tokio::test]
async fn results_wait_while_the_bucket_is_away_and_are_there_when_it_is_back_the_original_without_its_metadata() {
    let (dir, mut server) = (tempfile::tempdir().unwrap(), S3Server::start().await);
    server.down().await;
    let store = open(dir.path());
    let strip: outbox::s3::Strip = Arc::new(|bytes, _| Ok(bytes.iter().copied().filter(|b| *b != b'!').collect()));
    let (stop, task) = bring(&store, &server, SECRET, Some(strip), Alerts::new());
    let (photo, job) = submitted(&store, b"pix!els").await;
    store.claim(job.id).await.unwrap();
    completed(&store, &job).await;
    assert_ne!(upload_status(&store, &job), UploadStatus::Failed);
    server.up().await;
    until("uploaded", || async { upload_status(&store, &job) == UploadStatus::Uploaded }).await;
    for (ending, bytes) in [(".jpg", &b"image"[..]), (".png", b"mask"), (".json", b"{}")] {
        assert_eq!(std::fs::read(server.file(&job.s3_key(ending))).unwrap(), bytes);
    }
    assert_eq!(std::fs::read(server.file(&photo.s3_key())).unwrap(), b"pixels");
    assert_eq!(std::fs::read(store.blob_path(&photo.sha256)).unwrap(), b"pix!els");
    assert_eq!(std::fs::read_dir(blobs::incoming_dir(dir.path())).unwrap().count(), 0, "the copy that was sent is gone");
    store.delete_photo(photo.id).await.unwrap();
    until("deleted", || async { !server.file(&photo.s3_key()).exists() && !server.file(&job.s3_key(".jpg")).exists() }).await;
    stop.send_replace(true);
    within("the end", task).await.unwrap();
}

#[tokio::test]
async fn a_bucket_that_refuses_is_an_alert_until_it_takes_an_object_and_nothing_is_lost() {
    let (dir, server) = (tempfile::tempdir().unwrap(), S3Server::start().await);
    let (store, alerts) = (open(dir.path()), Alerts::new());
    let (stop, task) = bring(&store, &server, "wrong", None, alerts.clone());
    let (_, job) = submitted(&store, b"x").await;
    store.claim(job.id).await.unwrap();
    completed(&store, &job).await;
    until("the alert", || async { alerts.current().iter().any(|a| a.code == S3_DENIED) }).await;
    stop.send_replace(true);
    within("the end", task).await.unwrap();
    assert_ne!(upload_status(&store, &job), UploadStatus::Failed);
    let (_stop, _task) = bring(&store, &server, SECRET, None, alerts.clone());
    until("uploaded", || async { upload_status(&store, &job) == UploadStatus::Uploaded }).await;
    assert!(alerts.current().is_empty());
}

#[tokio::test]
async fn a_result_whose_file_is_gone_is_given_up_and_the_others_go_on() {
    let (dir, server) = (tempfile::tempdir().unwrap(), S3Server::start().await);
    let store = open(dir.path());
    let (_, broken) = submitted(&store, b"a").await;
    let (_, whole) = submitted(&store, b"b").await;
    for job in [&broken, &whole] {
        store.claim(job.id).await.unwrap();
        completed(&store, job).await;
    }
    std::fs::remove_file(store.result_dir(broken.id).join("mask.png")).unwrap();
    let (_stop, _task) = bring(&store, &server, SECRET, None, Alerts::new());
    until("the whole one", || async { upload_status(&store, &whole) == UploadStatus::Uploaded }).await;
    until("the broken one", || async { upload_status(&store, &broken) == UploadStatus::Failed }).await;
}
