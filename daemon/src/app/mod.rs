//! The composition root: the only place that knows every adapter; start order, drain order.
//!
//! ```text
//! start:  store -> keys and tokens -> models -> broker, bucket, cameras -> port -> `endpoint`, `listening`, READY=1 -> warm-up
//! end:    no new work (HTTP answers writes with 503) -> cameras -> worker: jobs finish or are put back -> outbox: events, `stopped` -> store
//! ```
//! The second signal ends the process at once; so does a part of the end that takes too long. Neither loses what was acknowledged.

use std::{io::Write, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::{JoinError, JoinHandle},
    time::Instant,
};

use crate::{
    adapters::{allocator, clock::SystemClock, systemd},
    camera::Cameras,
    config::Config,
    http::{self, Api, Parts, auth::signer::Signer, auth::tokens::Tokens},
    imaging::{self, cores},
    inference::{Engine, give_way},
    intake::Intake,
    outbox::{self, alerts::Alerts},
    ports::{Clock, EventSink, ObjectStore},
    store::{OpenReport, Store},
    telemetry::{Heartbeats, Metrics},
    worker::{self, Live},
};

mod deeds;
mod endpoint;
mod facts;
mod opening;
pub mod parts;
mod watchdog;

/// For all the parts that end after the worker together; they end side by side. HTTP gives its connections 10 s.
const LAST_TASKS: Duration = Duration::from_secs(11);

/// The long-lived parts that several others need.
struct House {
    config: Config,
    clock: Arc<dyn Clock>,
    store: Store,
    intake: Intake,
    live: Live,
    engine: Engine,
    alerts: Alerts,
    metrics: Metrics,
    beats: Heartbeats,
    /// True: the daemon begins to stop.
    draining: watch::Sender<bool>,
    /// True: the worker is out of work; the outbox says its last words.
    emptied: watch::Sender<bool>,
}

/// The daemon, from start to a clean end.
pub async fn run(config: Config) -> anyhow::Result<()> {
    allocator::give_large_blocks_back();
    if let Err(e) = cores::start(give_way) {
        tracing::warn!(error = %e, "the pixel loops have no threads of their own");
    }
    let mut house = open(config).await?;
    let signer = Signer::open(&house.config.paths.state).context("the key of signed URLs")?;
    let tokens = Arc::new(Tokens::open(&house.config.paths.state).context("the tokens")?);
    tokens.ensure_local(house.clock.now()).context("the local token")?;
    let bucket = parts::bucket(&house.config)?;
    let cameras = cameras(&house)?;
    let listener = http::serve::bind(house.config.http.listen)
        .with_context(|| format!("{} cannot be listened on; is another program there? (http.listen)", house.config.http.listen))?;
    house.config.http.listen = listener.local_addr()?;
    let tls = parts::tls(&house.config)?;
    let house = Arc::new(house);

    let mut worker = spawn_worker(&house);
    let mut deliveries = spawn_outbox(&house, bucket.clone(), &cameras)?;
    let mut housekeeping = tokio::spawn(facts::keep_house(Arc::clone(&house)));
    let router = http::router(Api::new(api_parts(&house, signer, tokens, bucket, cameras.clone())));
    // While the worker drains, reads are still answered; writes get 503 and a word.
    let mut emptied = house.emptied.subscribe();
    let drained = async move {
        let _gone = emptied.wait_for(|emptied| *emptied).await;
    };
    // The accept loop polls this at each of its turns.
    let drained = watchdog::turning(drained, watchdog::TURN, beat(&house, "HTTP"));
    let mut serve = tokio::spawn(http::serve::serve(listener, tls, router, drained));
    watch(&house);
    // Before anybody is told that we are here: who reads the line may end us at once.
    let mut signals = Signals::listen().context("signals")?;
    announce(&house);
    house.engine.warm_up(facts::wanted_models(&house.config, &house.engine), facts::wanted_on_a_gpu(&house.config, &house.engine));

    let why = wait_for_the_end(signals.next(), house.store.damaged(), &mut worker, &mut serve, &mut housekeeping, &mut deliveries).await;
    systemd::stopping();
    house.store.expect_the_end();
    house.draining.send_replace(true);
    tokio::spawn(second_signal(signals));
    let stop_cameras = tokio::task::spawn_blocking(move || cameras.stop());
    // Without a store no job can end: waiting would only keep the next process, which mends it, from starting.
    let (drain, last_tasks) = match why {
        Why::Damaged => (Duration::ZERO, Duration::from_secs(1)),
        Why::Asked | Why::Stuck | Why::Lost(_) => (2 * parts::DRAIN + Duration::from_secs(1), LAST_TASKS),
    };
    if !worker.is_finished() {
        ended("the worker", worker, Instant::now() + drain).await;
    }
    house.emptied.send_replace(true);
    let last = Instant::now() + last_tasks;
    for (name, task) in deliveries {
        if !task.is_finished() {
            ended(name, task, last).await;
        }
    }
    if !serve.is_finished() {
        ended("HTTP", serve, last).await;
    }
    ended("the cameras", stop_cameras, last).await;
    housekeeping.abort();
    house.store.close().await;
    endpoint::withdraw(&house.config.paths.state);
    tracing::info!("stopped");
    match why {
        Why::Asked => Ok(()),
        Why::Damaged => anyhow::bail!("the index of the store is damaged; it is rebuilt from the journal at the next start"),
        Why::Stuck => anyhow::bail!("too many jobs are stuck inside a step; a new process goes on with the others"),
        Why::Lost(part) => anyhow::bail!("{part} ended by itself; a new process has it again"),
    }
}

/// Why the daemon ends.
enum Why {
    Asked,
    Damaged,
    /// The worker gave up.
    Stuck,
    /// A part that the daemon is nothing without is gone: it panicked.
    Lost(&'static str),
}

async fn open(config: Config) -> anyhow::Result<House> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = parts::store_options(&config, Arc::clone(&clock));
    let state = config.paths.state.display().to_string();
    let opening = tokio::task::spawn_blocking(move || Store::open(options));
    let opened = opening::patiently(opening, opening::ASK, opening::LONGEST, still_opening).await.context("opening the store")?;
    let (store, report) = opened.map_err(|e| anyhow::anyhow!("the state folder {state} cannot be used: {e}"))?;
    let intake = Intake::new(store.clone(), config.http.max_upload.0, config.http.max_pixels);
    let engine = parts::building_engine(&config)?;
    let house = House {
        clock,
        store,
        intake,
        live: Live::default(),
        engine,
        alerts: Alerts::new(),
        metrics: Metrics::new(),
        beats: Heartbeats::default(),
        draining: watch::Sender::new(false),
        emptied: watch::Sender::new(false),
        config,
    };
    tell_report(&house, &report);
    Ok(house)
}

fn still_opening(so_far: Duration) {
    systemd::extend_timeout(opening::ASKED_FOR);
    tracing::info!(seconds = so_far.as_secs(), "the store is being opened; a large one that is rebuilt takes minutes");
}

fn tell_report(house: &House, report: &OpenReport) {
    if let Some(why) = &report.rebuilt {
        tracing::error!(why, "the store's index was rebuilt from the journal; nothing that was acknowledged is missing");
        house.alerts.raise(facts::STORE_REBUILT, "The job store was damaged and was rebuilt. Nothing is missing.", house.clock.now());
    }
    if let Some(what) = &report.journal_damage {
        tracing::error!(what, "the journal is damaged");
        let message = "A part of the job journal could not be read. Contact support; the photos are kept.";
        house.alerts.raise(facts::JOURNAL_DAMAGED, message, house.clock.now());
    }
    if report.recovered_jobs > 0 {
        tracing::warn!(jobs = report.recovered_jobs, "jobs ran when the process died; they run again");
        house.metrics.jobs_crashed(report.recovered_jobs as u64);
    }
}

fn cameras(house: &House) -> anyhow::Result<Cameras> {
    let mut setups = Vec::new();
    for (name, camera) in &house.config.camera {
        setups.push(parts::camera_setup(name, camera, house.config.http.max_upload.0)?);
    }
    Ok(Cameras::start(setups, house.intake.clone(), deeds::watched_photo(house.store.clone())))
}

/// A part's sign of life, to be called wherever it gets on.
fn beat(house: &House, part: &'static str) -> impl Fn() + Send + use<> {
    let beat = house.beats.register(part, watchdog::LONGEST_SILENCE, house.clock.mono());
    let clock = Arc::clone(&house.clock);
    move || beat.touch(clock.mono())
}

/// From here on systemd hears that all get on. Once all have their beats: what has none is not looked at.
fn watch(house: &House) {
    tokio::spawn(watchdog::ask_committer(house.store.clone(), watchdog::TURN, beat(house, "committer")));
    let every = systemd::watchdog_interval().map_or(watchdog::UNWATCHED, |limit| limit / 3);
    tokio::spawn(watchdog::feed(house.beats.clone(), Arc::clone(&house.clock), every, systemd::watchdog_ping));
}

fn spawn_worker(house: &Arc<House>) -> JoinHandle<worker::End> {
    let c = &house.config.queue;
    let memory = parts::memory(c);
    let options = worker::Options { ageing: c.ageing.0, job_timeout: c.job_timeout.0, drain: parts::DRAIN, memory };
    let pipeline = Arc::new(parts::pipeline(&house.config, house.engine.clone(), Arc::clone(&house.clock)));
    tokio::spawn(worker::run(
        house.store.clone(),
        pipeline,
        house.live.clone(),
        Arc::clone(&house.clock),
        options,
        beat(house, "worker"),
        house.draining.subscribe(),
    ))
}

/// A way out of the device, and its task.
type Delivery = (&'static str, JoinHandle<()>);

fn spawn_outbox(house: &Arc<House>, bucket: Option<Arc<dyn ObjectStore>>, cameras: &Cameras) -> anyhow::Result<Vec<Delivery>> {
    let mut tasks = Vec::new();
    let topics = parts::topics(&house.config);
    let subscriptions = topics.subscriptions(house.config.mqtt.discovery, house.config.mqtt.commands);
    if let Some(sink) = parts::broker(&house.config, &topics, subscriptions)? {
        let sink: Arc<dyn EventSink> = sink;
        let commands = house.config.mqtt.commands.then(|| deeds::commands(house.store.clone(), cameras.clone()));
        let options =
            outbox::mqtt::Options { topics, discovery: house.config.mqtt.discovery, alert_codes: facts::ALERTS.to_vec(), commands };
        let sources =
            outbox::mqtt::Sources { live: house.live.subscribe(), facts: facts::told(Arc::clone(house)), alerts: house.alerts.subscribe() };
        let task =
            outbox::mqtt::spawn_mqtt(house.store.clone(), sink, Arc::clone(&house.clock), sources, options, house.emptied.subscribe());
        tasks.push(("MQTT", task));
    }
    if let Some(bucket) = bucket {
        let c = &house.config.upload;
        let strip: outbox::s3::Strip = Arc::new(|bytes, content_type| {
            let format = crate::domain::photo::ImageFormat::sniff(bytes).ok_or_else(|| format!("{content_type} is no picture"))?;
            imaging::metadata::strip(bytes, format)
        });
        let options = outbox::s3::Options {
            newest_first: c.order == crate::config::UploadOrder::Newest,
            parallel: c.parallel,
            window: parts::window(&c.window),
            strip: house.config.privacy.strip_metadata.then_some(strip),
            alerts: house.alerts.clone(),
        };
        let task = outbox::s3::spawn_s3(house.store.clone(), bucket, Arc::clone(&house.clock), options, house.emptied.subscribe());
        tasks.push(("S3", task));
    }
    Ok(tasks)
}

fn api_parts(house: &Arc<House>, signer: Signer, tokens: Arc<Tokens>, bucket: Option<Arc<dyn ObjectStore>>, cameras: Cameras) -> Parts {
    let c = &house.config;
    let (device, ready) = (Arc::clone(house), Arc::clone(house));
    Parts {
        store: house.store.clone(),
        intake: house.intake.clone(),
        live: house.live.clone(),
        cameras,
        clock: Arc::clone(&house.clock),
        tokens,
        signer,
        auth_mode: c.auth.mode,
        bucket,
        presign_ttl: c.s3.presign_ttl.0,
        max_upload: c.http.max_upload.0,
        listen: c.http.listen,
        tls: !c.http.tls_cert.as_os_str().is_empty(),
        host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        allowed_origins: c.http.allowed_origins.clone(),
        max_pending: c.queue.max_pending,
        device: Arc::new(move || facts::device(&device)),
        not_ready: Arc::new(move || facts::not_ready(&ready)),
        metrics: house.metrics.clone(),
        draining: house.draining.subscribe(),
    }
}

/// Says where the daemon is: to clients by a file, to whoever started it by one line, to systemd.
fn announce(house: &House) {
    let scheme = if house.config.http.tls_cert.as_os_str().is_empty() { "http" } else { "https" };
    let url = format!("{scheme}://{}", house.config.http.listen);
    endpoint::tell(&house.config.paths.state, &url);
    let mut stdout = std::io::stdout().lock();
    if let Err(e) = writeln!(stdout, "listening {url}").and_then(|()| stdout.flush()) {
        // Whoever started it does not read; those who send photos do.
        tracing::warn!(error = %e, "stdout cannot be written to");
    }
    systemd::ready();
    tracing::info!(url, version = env!("CARGO_PKG_VERSION"), "listening");
}

/// Until the end is asked for, or a part cannot go on.
async fn wait_for_the_end(
    asked: impl Future<Output = ()>,
    mut damaged: watch::Receiver<bool>,
    worker: &mut JoinHandle<worker::End>,
    serve: &mut JoinHandle<()>,
    housekeeping: &mut JoinHandle<()>,
    deliveries: &mut [Delivery],
) -> Why {
    let (part, ended) = tokio::select! {
        () = asked => return Why::Asked,
        _ = damaged.wait_for(|d| *d) => return Why::Damaged,
        _ = worker => return Why::Stuck,
        ended = serve => ("HTTP", ended),
        ended = housekeeping => ("the housekeeping", ended),
        lost = first_to_end(deliveries) => lost,
    };
    tracing::error!(part, error = ?ended.err(), "ended by itself; the daemon ends, to be started again");
    Why::Lost(part)
}

/// Without any, never.
async fn first_to_end(deliveries: &mut [Delivery]) -> (&'static str, Result<(), JoinError>) {
    if deliveries.is_empty() {
        return std::future::pending().await;
    }
    let each = deliveries.iter_mut().map(|(name, task)| Box::pin(async { (*name, task.await) }));
    futures_util::future::select_all(each).await.0
}

/// What asks the daemon to end: SIGTERM, SIGINT, and SIGHUP of a terminal that was closed (unless nohup(1) had it ignored).
struct Signals([Option<Signal>; 3]);

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let hangup = if hangups_are_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self([Some(signal(SignalKind::terminate())?), Some(signal(SignalKind::interrupt())?), hangup]))
    }

    async fn next(&mut self) {
        let each = self.0.iter_mut().flatten().map(|signal| Box::pin(signal.recv()));
        futures_util::future::select_all(each).await;
    }
}

/// proc(5): SigIgn, a mask of which bit 0 is signal 1.
fn hangups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

async fn second_signal(mut signals: Signals) {
    signals.next().await;
    tracing::warn!("second signal: ending at once; what was acknowledged is on disk");
    // Not exit(): that runs C++ destructors under networks that still work, and a job could end with a wrong result.
    if let Err(e) = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL) {
        tracing::error!(error = %e, "cannot end at once");
    }
}

async fn ended<T>(name: &str, task: JoinHandle<T>, until: Instant) {
    match tokio::time::timeout_at(until, task).await {
        Ok(Ok(_)) => {}
        Ok(Err(e)) => tracing::error!(part = name, error = %e, "did not end well"),
        Err(_) => tracing::warn!(part = name, "did not end in time; going on without it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle<T: Send + 'static>() -> JoinHandle<T> {
        tokio::spawn(std::future::pending())
    }

    #[test]
    fn a_part_that_panics_ends_the_daemon_and_a_signal_ends_it_well() {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(async {
            let (damaged, _) = watch::channel(false);
            let mut panicked = tokio::spawn(async { panic!("as a bug would") });
            let never = std::future::pending();
            let why = wait_for_the_end(never, damaged.subscribe(), &mut idle(), &mut panicked, &mut idle(), &mut []).await;
            assert!(matches!(why, Why::Lost("HTTP")));
            let mut deliveries = [("MQTT", idle()), ("S3", tokio::spawn(async { panic!("as a bug would") }))];
            let never = std::future::pending();
            let why = wait_for_the_end(never, damaged.subscribe(), &mut idle(), &mut idle(), &mut idle(), &mut deliveries).await;
            assert!(matches!(why, Why::Lost("S3")));
            let why = wait_for_the_end(async {}, damaged.subscribe(), &mut idle(), &mut idle(), &mut idle(), &mut []).await;
            assert!(matches!(why, Why::Asked));
        });
    }
}
