//! Hours of an ordinary day, and what must not grow meanwhile: memory, threads, open files, the store.
//!
//! ```text
//! one job a second: upload, submit | batch | cancel | delete | reprocess     --+
//! a page that polls, an SSE reader and a WebSocket that come and go          --+--> irisd --> mosquitto, S3 (each away now and then)
//! ```
//!
//! The cap on the disk is so small that something is evicted all the time. Samples go to `samples.tsv` in the work folder; the summary
//! (slopes by least squares, after the first part of the run) is printed and kept beside them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};

use crate::{
    common::{
        Dice, JOB,
        broker::{Broker, Message},
        bucket::Bucket,
        client::Client,
        daemon::Daemon,
        eventually, eyes,
        folder::Folder,
        raw,
    },
    proc,
};

/// Memory may grow by this much, MB an hour (10^6 bytes).
const MOST_MB_AN_HOUR: f64 = 1.0;
/// Between two looks at the memory; a sample is their mean, since a job in work takes ten megabytes for a moment.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks of those who watch.
const BEAT: Duration = Duration::from_secs(1);
/// A bucket keeps an object this long: it has a lifecycle rule, as buckets of results do, so that a long run does not fill the disk.
const OBJECT_KEPT: Duration = Duration::from_secs(600);
const SIZES: [&str; 4] = ["320x240", "400x300", "480x360", "640x480"];

pub struct Plan {
    pub work: PathBuf,
    pub seed: u64,
    pub length: Duration,
    /// The first part of the run, which the slopes leave out: caches fill, networks are loaded.
    pub warm_up: Duration,
    pub every: Duration,
    /// Jobs of the main load a second. Above 1 it shows in less time what grows with the jobs, though not what grows with the hours.
    pub rate: f64,
}

/// What everybody counts into: answers by what was asked and their status, and what went wrong.
#[derive(Default)]
struct Tally {
    answers: Mutex<BTreeMap<String, u64>>,
    wrong: Mutex<Vec<String>>,
    stop: AtomicBool,
    jobs: AtomicU64,
    events: AtomicU64,
    live: AtomicU64,
}

impl Tally {
    fn count(&self, what: &str, status: &str) {
        *self.answers.lock().unwrap().entry(format!("{what} {status}")).or_default() += 1;
    }

    fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap();
        if wrong.len() < 100 {
            eprintln!("soak: {what}");
            wrong.push(what);
        }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// The answer, where its status is one of those that may come.
    fn ask(&self, client: &Client, what: &str, method: Method, path: &str, body: Option<Value>, fine: &[u16]) -> Option<Value> {
        let request = client.request(method, path);
        let request = body.map(|b| request.try_clone().expect("no body yet").json(&b)).unwrap_or(request);
        match client.try_send(request) {
            Ok(answer) => {
                self.count(what, &answer.status.to_string());
                if !fine.contains(&answer.status) {
                    self.wrong(format!("{what}: {answer}"));
                    return None;
                }
                (answer.status < 300).then(|| serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
            }
            Err(e) => {
                self.count(what, "none");
                self.wrong(format!("{what}: no answer: {e:?}"));
                None
            }
        }
    }
}

/// Somebody who uses the device, with a seed, until the run is over.
type Role = Box<dyn FnOnce(&Client, &Tally, u64) + Send>;

#[derive(Debug, Clone, Copy)]
struct Sample {
    at_s: f64,
    /// The memory is the mean since the sample before.
    figures: proc::Figures,
    peak_kib: u64,
    store: u64,
    kept: u64,
    uploads: u64,
}

/// What a run came to; `faults` is empty where everything held.
pub struct Verdict {
    pub summary: String,
    pub faults: Vec<String>,
}

pub fn run(plan: &Plan) -> Verdict {
    fs::create_dir_all(&plan.work).unwrap();
    let mut broker = Broker::start_in(Folder::lasting(&plan.work.join("broker")));
    let mut bucket = Bucket::start_in(Folder::lasting(&plan.work.join("bucket")));
    let limits = "[http]\nmax_upload = \"8MiB\"\n[retention]\ncap = \"24MiB\"\n[quality]\nmode = \"report\"\n[inference]\nthreads = 1\n";
    let mut daemon =
        Daemon::prepare_in(Folder::lasting(&plan.work.join("daemon")), &format!("{}{}{limits}", broker.config(), bucket.config()));
    daemon.restart();
    println!("pid {}, {}, seed {}, {} s", daemon.pid(), daemon.base, plan.seed, plan.length.as_secs());
    let tally = Arc::new(Tally::default());
    let _heard = broker.listen("soak", &["irisd/#"], hear(tally.clone()));
    let beat = BEAT.div_f64(plan.rate);
    let roles: [Role; 4] =
        [Box::new(move |client, tally, seed| load(client, tally, seed, beat)), Box::new(look), Box::new(read_events), Box::new(websockets)];
    let mut clients = Vec::new();
    for role in roles {
        let (client, tally, seed) = (daemon.client(), tally.clone(), plan.seed);
        clients.push(thread::spawn(move || role(&client, &tally, seed)));
    }
    let samples = sample_to_the_end(plan, &mut daemon, &mut broker, &mut bucket, &tally);
    tally.stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|c| c.join().unwrap());
    settle(&daemon.client(), &tally);
    if !daemon.stop().success() {
        tally.wrong("the daemon did not end cleanly".into());
    }
    let verdict = verdict(plan, &samples, &tally);
    fs::write(plan.work.join("summary.txt"), &verdict.summary).unwrap();
    println!("{}", verdict.summary);
    verdict
}

/// `seq` of the events comes in order and none is missing; one may come twice.
fn hear(tally: Arc<Tally>) -> impl FnMut(Message) + Send {
    let mut last = None;
    move |message| {
        if !message.topic.ends_with("/job/event") {
            return;
        }
        let seq = message.json()["seq"].as_u64().unwrap_or(0);
        tally.events.fetch_add(1, Ordering::Relaxed);
        if last.is_some_and(|l| seq > l + 1) {
            tally.wrong(format!("MQTT: event {seq} came after {last:?}"));
        }
        last = last.max(Some(seq));
    }
}

/// One beat after another: a photo of one of the eyes, never the same bytes twice, and what people do with it.
fn load(client: &Client, tally: &Tally, seed: u64, beat: Duration) {
    let mut dice = Dice::new(seed);
    let pictures: Vec<Vec<u8>> = (0..12).map(|i| eyes::eye(100 + i, SIZES[i as usize % SIZES.len()]).bytes).collect();
    let begin = Instant::now();
    let (mut n, mut last) = (0, None::<(String, String)>);
    while tally.goes_on() {
        n += 1;
        let picture = eyes::numbered(&pictures[dice.roll(12) as usize], n);
        let request = client.request(Method::POST, "/photos").header("content-type", "image/jpeg").body(picture);
        let photo = match client.try_send(request) {
            Ok(answer) if answer.status == 201 => answer.id(),
            Ok(answer) => {
                tally.count("upload", &answer.status.to_string());
                tally.wrong(format!("upload: {answer}"));
                continue;
            }
            Err(e) => {
                tally.wrong(format!("upload: no answer: {e:?}"));
                thread::sleep(beat);
                continue;
            }
        };
        tally.count("upload", "201");
        let lane = if dice.roll(3) == 0 { "default" } else { "high_priority" };
        let post = |what: &str, path: &str, body: Value, fine: &[u16]| tally.ask(client, what, Method::POST, path, Some(body), fine);
        let job = if dice.roll(20) == 0 {
            let batch = json!({"photo_ids": [photo, photo, photo], "lane": lane});
            tally.jobs.fetch_add(2, Ordering::Relaxed);
            post("batch", "/processing/batch", batch, &[202]).map(|b| b["jobs"][0]["id"].as_str().unwrap_or("").to_owned())
        } else {
            post("submit", "/processing/submit", json!({"photo_id": photo, "lane": lane}), &[202])
                .map(|j| j["id"].as_str().unwrap_or("").to_owned())
        };
        tally.jobs.fetch_add(1, Ordering::Relaxed);
        if let (Some(job), 0) = (&job, dice.roll(15)) {
            post("cancel", &format!("/processing/jobs/{job}/cancel"), json!({}), &[200, 409]);
        }
        if let (Some((photo, job)), kind) = (&last, dice.roll(30)) {
            match kind {
                0 | 1 => _ = tally.ask(client, "delete", Method::DELETE, &format!("/photos/{photo}"), None, &[204, 409]),
                2 => _ = post("reprocess", &format!("/processing/jobs/{job}/reprocess"), json!({}), &[202, 404, 409]),
                _ => {}
            }
        }
        last = job.map(|j| (photo, j));
        thread::sleep((begin + beat * n as u32).saturating_duration_since(Instant::now()));
    }
}

/// A page that somebody has open, and a monitoring system.
fn look(client: &Client, tally: &Tally, _: u64) {
    while tally.goes_on() {
        let get = |what: &str, path: &str| tally.ask(client, what, Method::GET, path, None, &[200]);
        let jobs = get("list", "/processing/jobs?limit=20");
        for path in ["/queue", "/uploads", "/device", "/photos?limit=20", "root:/metrics", "root:/readyz", "root:/"] {
            get(path, path);
        }
        let done = jobs.as_ref().and_then(|j| j["items"].as_array()?.iter().find(|j| j["status"] == "completed").cloned());
        if let Some(job) = done {
            for url in ["thumb_url", "result_url", "report_url"] {
                if job[url].is_string() {
                    // The bucket may be away, or the photo deleted since.
                    _ = client.try_send(client.request(Method::GET, &client.absolute(&job[url])));
                }
            }
        }
        thread::sleep(2 * BEAT);
    }
}

/// Server-sent events, read for a while, dropped, and gone on with where they ended.
fn read_events(client: &Client, tally: &Tally, seed: u64) {
    let (mut dice, mut last) = (Dice::new(seed + 1), None::<u64>);
    while tally.goes_on() {
        let mut stream = raw::connect(&client.base);
        let mut head = raw::head("GET", "/api/v1/events", &client.base, client.token.as_deref().unwrap_or(""));
        if let Some(id) = last {
            _ = write!(head, "Last-Event-ID: {id}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        let end = Instant::now() + BEAT * (2 + dice.roll(40) as u32);
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        while Instant::now() < end && tally.goes_on() {
            match lines.read_line(&mut line) {
                Ok(0) => {
                    tally.wrong("SSE: the stream ended".into());
                    break;
                }
                Ok(_) => {
                    if let Some(id) = line.strip_prefix("id:").and_then(|id| id.trim().parse().ok()) {
                        if last.is_some_and(|l| id != l + 1) {
                            tally.wrong(format!("SSE: event {id} came after {last:?}"));
                        }
                        last = Some(id);
                        tally.live.fetch_add(1, Ordering::Relaxed);
                    }
                    line.clear();
                }
                Err(_) => {} // the read's own time limit; a part of a line stays in `line`
            }
        }
    }
}

/// WebSockets that end without a word, as a tablet that goes out of reach.
fn websockets(client: &Client, tally: &Tally, seed: u64) {
    let mut dice = Dice::new(seed + 2);
    while tally.goes_on() {
        let mut request = client.url("/ws").replacen("http", "ws", 1).into_client_request().unwrap();
        let token = format!("Bearer {}", client.token.as_deref().unwrap_or(""));
        request.headers_mut().insert("Authorization", token.parse().unwrap());
        let stream = raw::connect(&client.base);
        let Ok((mut socket, _)) = tungstenite::client(request, stream) else {
            tally.wrong("WebSocket: it does not open".into());
            thread::sleep(BEAT);
            continue;
        };
        let end = Instant::now() + BEAT * (2 + dice.roll(30) as u32);
        while Instant::now() < end && tally.goes_on() {
            if socket.read().is_ok() {
                tally.live.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Samples until the time is over; meanwhile the broker and the bucket go away and come back.
fn sample_to_the_end(plan: &Plan, daemon: &mut Daemon, broker: &mut Broker, bucket: &mut Bucket, tally: &Tally) -> Vec<Sample> {
    let mut out = fs::File::create(plan.work.join("samples.tsv")).unwrap();
    writeln!(out, "seconds\trss_kib\tthreads\tfiles\tcpu_s\tstore_bytes\tkept_bytes\tjobs\tuploads_pending\tpeak_rss_kib").unwrap();
    let begin = Instant::now();
    let (mut samples, mut n) = (Vec::new(), 0);
    while begin.elapsed() < plan.length {
        n += 1;
        let looks = look_until(begin + plan.every * n, daemon.pid());
        // Away for two samples: the broker 4 times, the bucket 6 times in 100.
        match n % 100 {
            20 | 45 | 70 | 95 => broker.stop(),
            22 | 47 | 72 | 97 => broker.restart(),
            10 | 26 | 42 | 58 | 74 | 90 => bucket.stop(),
            12 | 28 | 44 | 60 | 76 | 92 => bucket.restart(),
            _ => {}
        }
        forget_old_objects(&bucket.root());
        let Some(now) = proc::figures(daemon.pid()).filter(|_| daemon.is_running() && !looks.is_empty()) else {
            tally.wrong("the daemon ended".into());
            break;
        };
        let figures = proc::Figures { rss_kib: looks.iter().sum::<u64>() / looks.len() as u64, ..now };
        let peak_kib = looks.into_iter().fold(0, u64::max);
        let store = proc::bytes_below(&daemon.state.join("store")) + proc::bytes_below(&daemon.state.join("journal"));
        let kept = proc::bytes_below(&daemon.state.join("blobs")) + proc::bytes_below(&daemon.state.join("results"));
        let uploads = daemon.client().try_send(daemon.client().request(Method::GET, "/uploads"));
        let uploads = uploads.ok().and_then(|a| serde_json::from_slice::<Value>(&a.body).ok()?["pending"].as_u64()).unwrap_or(0);
        let jobs = tally.jobs.load(Ordering::Relaxed);
        let s = Sample { at_s: begin.elapsed().as_secs_f64(), figures, peak_kib, store, kept, uploads };
        let proc::Figures { rss_kib, threads, files, cpu_s } = figures;
        writeln!(out, "{:.0}\t{rss_kib}\t{threads}\t{files}\t{cpu_s:.1}\t{store}\t{kept}\t{jobs}\t{uploads}\t{peak_kib}", s.at_s).unwrap();
        samples.push(s);
    }
    if !bucket.is_running() {
        bucket.restart();
    }
    if !broker.is_running() {
        broker.restart();
    }
    samples
}

/// The memory in KiB, once a [`LOOK`] and at the end; fewer looks where the process ends.
fn look_until(end: Instant, pid: u32) -> Vec<u64> {
    let mut looks = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        thread::sleep(left.min(LOOK));
        looks.extend(proc::figures(pid).map(|f| f.rss_kib));
        if left <= LOOK {
            return looks;
        }
    }
}

fn forget_old_objects(root: &Path) {
    for key in crate::common::files::listing(root).into_keys() {
        let path = root.join(key);
        let old = path.metadata().and_then(|m| m.modified()).ok().and_then(|t| SystemTime::now().duration_since(t).ok());
        if old.is_some_and(|age| age > OBJECT_KEPT) {
            _ = fs::remove_file(path); // deleted by the daemon in the meantime
        }
    }
}

/// Everything that was asked for comes to its end, and to the bucket.
fn settle(client: &Client, tally: &Tally) {
    for status in ["pending", "processing"] {
        eventually(&format!("no job is {status}"), JOB, || {
            let list = client.get(&format!("/processing/jobs?limit=1&status={status}")).expect(200).json();
            (list["total"] == 0).then_some(())
        });
    }
    eventually("everything is uploaded", JOB, || (client.get("/uploads").expect(200).json()["pending"] == 0).then_some(()));
    for status in ["completed", "failed", "cancelled"] {
        let total = client.get(&format!("/processing/jobs?limit=1&status={status}")).expect(200).json()["total"].as_u64();
        *tally.answers.lock().unwrap().entry(format!("jobs that are {status}")).or_default() += total.unwrap_or(0);
    }
}

fn verdict(plan: &Plan, samples: &[Sample], tally: &Tally) -> Verdict {
    let mut faults = tally.wrong.lock().unwrap().clone();
    let after: Vec<Sample> = samples.iter().filter(|s| s.at_s >= plan.warm_up.as_secs_f64()).copied().collect();
    let mut text = String::new();
    let minutes = samples.last().map_or(0.0, |s| s.at_s / 60.0);
    let jobs = tally.jobs.load(Ordering::Relaxed);
    _ = writeln!(text, "seed {}, {minutes:.1} minutes, {jobs} jobs, slopes after the first {} s", plan.seed, plan.warm_up.as_secs());
    let mut row = |what: &str, unit: &str, of: &dyn Fn(&Sample) -> f64| {
        let points: Vec<(f64, f64)> = after.iter().map(|s| (s.at_s / 3600.0, of(s))).collect();
        let slope = proc::slope(&points);
        let values = || points.iter().map(|p| p.1);
        let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        _ = writeln!(text, "{what:<22}{slope:>12.3} {unit:<6} an hour   least {least:.1}, most {most:.1}");
        (slope, least, most)
    };
    let (memory, ..) = row("RSS", "MB", &|s| s.figures.rss_kib as f64 * 1024.0 / 1e6);
    row("its peaks", "MB", &|s| s.peak_kib as f64 * 1024.0 / 1e6);
    let (threads, ..) = row("threads", "", &|s| s.figures.threads as f64);
    let (files, ..) = row("open files", "", &|s| s.figures.files as f64);
    row("store and journal", "MB", &|s| s.store as f64 / 1e6);
    row("photos and results", "MB", &|s| s.kept as f64 / 1e6);
    row("uploads that wait", "", &|s| s.uploads as f64);
    if let (Some(first), Some(last)) = (samples.first(), samples.last()) {
        let share = (last.figures.cpu_s - first.figures.cpu_s) / (last.at_s - first.at_s).max(1.0) * 100.0;
        _ = writeln!(text, "the daemon took {share:.1} % of one core");
    }
    let (events, live) = (tally.events.load(Ordering::Relaxed), tally.live.load(Ordering::Relaxed));
    _ = writeln!(text, "{events} events over MQTT, {live} messages over SSE and WebSocket");
    for (what, n) in tally.answers.lock().unwrap().iter() {
        _ = writeln!(text, "  {what}: {n}");
    }
    // A slope over less than this says more about the weather than about the daemon.
    if minutes * 60.0 - plan.warm_up.as_secs_f64() >= 1800.0 {
        let mut limit = |what: &str, is: f64, most: f64| {
            if is > most {
                faults.push(format!("{what} grows by {is:.3} an hour, {most} is allowed"));
            }
        };
        limit("RSS (MB)", memory, MOST_MB_AN_HOUR);
        limit("the number of threads", threads, 0.5);
        limit("the number of open files", files, 1.0);
    }
    _ = writeln!(text, "{}", if faults.is_empty() { "held".to_owned() } else { format!("{} FAULTS\n{}", faults.len(), faults.join("\n")) });
    Verdict { summary: text, faults }
}
