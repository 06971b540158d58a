//! `kill -9` at moments drawn by dice, under clients that upload, submit, cancel, delete and reprocess, with broker and bucket up.
//!
//! ```text
//! start (one in six: killed on its way up) -> newest answers there? -> load for some 0 to 600 ms -> SIGKILL (one in ten: SIGTERM first)
//!    ^                                                                                                |
//!    +---- every so many kills: wait until all is quiet, then ledger = daemon = disk = bucket = broker +
//! ```
//!
//! The dice of a cycle depend on the seed and its number alone: the same seed kills at the same moments under the same requests. How far
//! the daemon was by then depends on the machine. Progress and ledger lie in the work folder: a run that was ended goes on.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    audit::{self, Listing},
    heard::Heard,
    ledger::Ledger,
    load::{Clerk, Office},
};
use crate::common::{
    Dice, SOON,
    broker::{Broker, Listener},
    bucket::Bucket,
    client::Client,
    daemon::Daemon,
    eyes,
    folder::Folder,
};

/// Clients at a time.
const CLERKS: usize = 2;
/// Longest pause of a client between two requests.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest life of a daemon under load.
const LIFE_MS: u64 = 600;
/// Faults shown at most; one cause has many.
const SHOWN: usize = 20;
/// Small, and cheap to process; the crash limit is out of the way (the poison guard has a test of its own), and originals go up as they
/// are, so that they can be compared.
const CONFIG: &str = "[queue]\ncrash_limit = 100\n[quality]\nmode = \"report\"\n[segment]\nmodel = \"classical\"\n[inference]\n\
                      threads = 1\n[privacy]\nstrip_metadata = false\n";

pub struct Plan {
    pub work: PathBuf,
    pub seed: u64,
    pub kills: u64,
    /// Kills between two deep looks.
    pub deep_every: u64,
}

/// How far a run is; kept in the work folder.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Progress {
    pub seed: u64,
    pub kills: u64,
    pub kills_in_start: u64,
    pub deep_looks: u64,
    pub next_number: u64,
    pub seconds: f64,
}

struct Run<'a> {
    plan: &'a Plan,
    progress: Progress,
    daemon: Daemon,
    bucket: Bucket,
    heard: Arc<Mutex<Heard>>,
    /// Jobs of before somebody listened.
    since: BTreeSet<String>,
    office: Arc<Office>,
    clerks: Vec<Clerk>,
    client: Option<Client>,
    /// How long the last whole start took.
    start: Duration,
    began: Instant,
    _broker: Broker,
    _listener: Listener,
}

/// Goes on until the plan is fulfilled or a fault is found; the work folder then holds what there is to be looked at.
pub fn run(plan: &Plan) -> Vec<String> {
    let mut run = Run::begin(plan);
    let mut faults = Vec::new();
    while faults.is_empty() && run.progress.kills < plan.kills {
        faults = run.cycle();
        let deep_is_due = run.progress.kills / plan.deep_every > run.progress.deep_looks || run.progress.kills >= plan.kills;
        if faults.is_empty() && deep_is_due {
            faults = run.deep_look();
        }
        run.note();
    }
    faults.truncate(SHOWN);
    if !faults.is_empty() {
        println!("FAULTS after kill {} with seed {}:\n{}", run.progress.kills, plan.seed, faults.join("\n"));
    }
    println!("{}", run.summary());
    faults
}

impl<'a> Run<'a> {
    fn begin(plan: &'a Plan) -> Self {
        fs::create_dir_all(&plan.work).unwrap();
        let old = fs::read(plan.work.join("progress.json")).ok().and_then(|b| serde_json::from_slice::<Progress>(&b).ok());
        let progress = old.unwrap_or(Progress { seed: plan.seed, ..Progress::default() });
        assert_eq!(progress.seed, plan.seed, "the work folder belongs to another seed");
        let broker = Broker::start_in(Folder::lasting(&plan.work.join("broker")));
        let bucket = Bucket::start_in(Folder::lasting(&plan.work.join("bucket")));
        let config = format!("{}{}{CONFIG}", broker.config(), bucket.config());
        let daemon = Daemon::prepare_in(Folder::lasting(&plan.work.join("daemon")), &config);
        let heard = Arc::new(Mutex::new(Heard::default()));
        let into = heard.clone();
        // A session of its own each time: what was said while nobody listened is not held against the daemon.
        let session = format!("kills-{}", progress.kills);
        let listener = broker.listen(&session, &["irisd/#"], move |m| into.lock().unwrap().take(&m));
        let ledger = Ledger::open(&plan.work.join("ledger.jsonl"));
        let pictures = (0..6).map(|n| eyes::eye(200 + n, "160x120").bytes).collect();
        let office = Office::new(ledger, progress.next_number, pictures);
        let mut run = Self {
            plan,
            progress,
            daemon,
            bucket,
            heard,
            since: BTreeSet::new(),
            clerks: (0..CLERKS).map(|_| Clerk::new(office.clone())).collect(),
            office,
            client: None,
            start: Duration::from_millis(300),
            began: Instant::now(),
            _broker: broker,
            _listener: listener,
        };
        if run.progress.kills > 0 {
            println!("goes on after {} kills", run.progress.kills);
            run.daemon.restart();
            audit::quiet(&run.client());
            run.since = Listing::of(&run.client()).jobs.into_keys().collect();
            run.daemon.kill9();
            *run.heard.lock().unwrap() = Heard::default();
        }
        run
    }

    /// One connection pool for the whole run; the address changes with each start.
    fn client(&mut self) -> Client {
        let daemon = &self.daemon;
        let client = self.client.get_or_insert_with(|| daemon.client());
        client.base.clone_from(&daemon.base);
        client.clone()
    }

    fn cycle(&mut self) -> Vec<String> {
        let mut dice = Dice::new(self.plan.seed.wrapping_mul(1_000_003).wrapping_add(self.progress.kills));
        if dice.roll(6) == 0 {
            let within = self.start.mul_f64(1.2 * dice.roll(1000) as f64 / 1000.0);
            let _lines = self.daemon.spawn();
            thread::sleep(within);
            self.daemon.kill9();
            self.progress.kills += 1;
            self.progress.kills_in_start += 1;
        }
        let at = Instant::now();
        if let Err(why) = self.daemon.try_restart() {
            return vec![format!("a start that needs a hand: {why}; the end of the log:\n{}", tail(&self.daemon.log()))];
        }
        self.start = at.elapsed();
        let client = self.client();
        let fresh = self.office.ledger.lock().unwrap().take_fresh();
        let mut faults = audit::newest_answers(&client, &fresh, &self.office.ledger.lock().unwrap());

        let life = Duration::from_millis(dice.roll(LIFE_MS));
        let warned = (dice.roll(10) == 0).then(|| Duration::from_millis(dice.roll(200)));
        let working: Vec<_> = std::mem::take(&mut self.clerks)
            .into_iter()
            .map(|mut clerk| {
                let (client, dice) = (client.clone(), Dice::new(dice.roll(u64::MAX >> 33)));
                thread::spawn(move || {
                    clerk.work(&client, dice, PAUSE);
                    clerk
                })
            })
            .collect();
        thread::sleep(life);
        if let Some(warned) = warned {
            self.daemon.terminate();
            thread::sleep(warned);
        }
        self.daemon.kill9();
        self.progress.kills += 1;
        self.clerks = working.into_iter().map(|w| w.join().unwrap()).collect();
        faults.append(&mut self.office.wrong.lock().unwrap());
        faults.extend(self.heard.lock().unwrap().wrong.iter().take(SHOWN).cloned());
        faults
    }

    fn deep_look(&mut self) -> Vec<String> {
        if let Err(why) = self.daemon.try_restart() {
            return vec![format!("a start that needs a hand: {why}")];
        }
        let client = self.client();
        audit::quiet(&client);
        let listing = Listing::of(&client);
        let ledger = self.office.ledger.lock().unwrap();
        let mut faults = audit::answers(&ledger, &listing);
        faults.extend(audit::ends(&listing));
        faults.extend(audit::disk(&self.daemon.state, &listing));
        faults.extend(audit::objects(&self.bucket, &self.daemon.state, &listing));
        // The subscriber may be some messages behind the daemon.
        let end = Instant::now() + SOON;
        let mut missing = audit::events(&self.heard.lock().unwrap(), &listing, &self.since);
        while !missing.is_empty() && Instant::now() < end {
            thread::sleep(Duration::from_millis(100));
            missing = audit::events(&self.heard.lock().unwrap(), &listing, &self.since);
        }
        faults.extend(missing);
        drop(ledger);
        self.daemon.kill9();
        self.progress.kills += 1;
        self.progress.deep_looks += 1;
        self.note();
        println!("{}", self.summary());
        faults
    }

    fn note(&mut self) {
        self.progress.seconds += self.began.elapsed().as_secs_f64();
        self.began = Instant::now();
        self.progress.next_number = self.office.numbers.load(std::sync::atomic::Ordering::Relaxed);
        let path = self.plan.work.join("progress.json");
        let tmp = path.with_extension("new");
        fs::write(&tmp, serde_json::to_vec(&self.progress).unwrap()).and_then(|()| fs::rename(&tmp, &path)).unwrap();
    }

    fn summary(&self) -> String {
        let (p, heard) = (&self.progress, self.heard.lock().unwrap());
        format!(
            "seed {}: {} kills ({} during the start), {} deep looks, {:.0} s; {}; {} events heard, {} of them again; last start {} ms",
            p.seed,
            p.kills,
            p.kills_in_start,
            p.deep_looks,
            p.seconds,
            self.office.ledger.lock().unwrap().summary(),
            heard.events(),
            heard.repeats,
            self.start.as_millis()
        )
    }
}

/// The last lines of a log.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
