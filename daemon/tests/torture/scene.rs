//! A device with some photos and jobs on it, to be damaged: what was answered for is written down, and looked for afterwards.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    audit::{self, Listing},
    kill::tail,
    ledger::{Entry, Known, Ledger},
    load::sha256,
};
use crate::common::{JOB, client::Client, daemon::Daemon, eyes, folder::Folder};

/// Small photos, one thread, no broker, no bucket.
pub const CONFIG: &str = "[queue]\ncrash_limit = 100\n[quality]\nmode = \"report\"\n[segment]\nmodel = \"classical\"\n[inference]\n\
                          threads = 1\n[retention]\nreserve = \"1MiB\"\n";
/// As long as systemd waits before it starts a daemon that ended (systemd/irisd.service).
const STARTS_AGAIN: usize = 5;

/// One line of the table in docs/reliability.md.
pub struct Row {
    pub what: String,
    pub how: String,
    pub seen: String,
    pub faults: Vec<String>,
}

pub struct Scene {
    pub daemon: Daemon,
    pub ledger: Ledger,
    pictures: Vec<Vec<u8>>,
    number: u64,
}

impl Scene {
    /// Prepared, not started. `state`: where the state folder is to lie, if not beside the configuration.
    pub fn new(dir: &Path, state: Option<&Path>) -> Self {
        let place = state.map(|s| format!("[paths]\nstate = \"{}\"\n", s.display())).unwrap_or_default();
        let mut daemon = Daemon::prepare_in(Folder::lasting(dir), &format!("{CONFIG}{place}"));
        if let Some(state) = state {
            daemon.state = state.to_owned();
        }
        let pictures = (0..3).map(|n| eyes::eye(200 + n, "160x120").bytes).collect();
        Self { daemon, ledger: Ledger::default(), pictures, number: 0 }
    }

    pub fn client(&self) -> Client {
        self.daemon.client()
    }

    /// Sends a photo; its id, or the code and words of the refusal.
    pub fn upload(&mut self) -> Result<String, String> {
        self.number += 1;
        let bytes = eyes::numbered(&self.pictures[self.number as usize % self.pictures.len()], self.number);
        let client = self.client();
        let request = client.request(Method::POST, "/photos").header("content-type", "image/jpeg").body(bytes.clone());
        let photo = taken(client.try_send(request))?["id"].as_str().unwrap_or("").to_owned();
        self.ledger.write(Entry::Photo { id: photo.clone(), sha256: sha256(&bytes), shared: true });
        Ok(photo)
    }

    pub fn submit(&mut self, photo: &str) -> Result<String, String> {
        let client = self.client();
        let request = client.request(Method::POST, "/processing/submit").json(&json!({"photo_id": photo}));
        let job = taken(client.try_send(request))?["id"].as_str().unwrap_or("").to_owned();
        self.ledger.write(Entry::Job { id: job.clone(), photo: photo.to_owned(), once: false });
        Ok(job)
    }

    /// Some photos with finished jobs, one job that was cancelled, one photo that was deleted.
    #[track_caller]
    pub fn furnish(&mut self) {
        for n in 0..6 {
            let photo = self.upload().unwrap();
            if n == 5 {
                self.client().delete(&format!("/photos/{photo}")).expect(204);
                self.ledger.write(Entry::Deleted(photo));
                continue;
            }
            let job = self.submit(&photo).unwrap();
            if n == 4 && self.client().post(&format!("/processing/jobs/{job}/cancel"), json!({})).status == 200 {
                self.ledger.write(Entry::Cancelled(job));
            } else {
                self.client().completed(&job);
            }
        }
    }

    /// A photo goes all the way, in the end; the daemon is started again where it ended itself, as systemd would. What was seen meanwhile.
    pub fn works_again(&mut self) -> Result<Vec<String>, String> {
        let (end, mut seen, mut starts) = (Instant::now() + JOB, Vec::new(), 0);
        while Instant::now() < end {
            if !self.daemon.is_running() {
                starts += 1;
                if starts > STARTS_AGAIN {
                    return Err(format!("the daemon does not stay up:\n{}", tail(&self.daemon.log())));
                }
                self.daemon.kill9(); // forgets the one that ended
                seen.push("ended itself, was started again".to_owned());
                if self.daemon.try_restart().is_err() {
                    continue;
                }
            }
            let done = self.upload().and_then(|photo| self.submit(&photo)).and_then(|job| self.end_of(&job));
            match done {
                Ok(job) if job["status"] == "completed" => return Ok(seen),
                Ok(job) => seen.push(job["error_code"].to_string()),
                Err(why) => seen.push(why),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(format!("no photo goes through any more: {seen:?}\n{}", tail(&self.daemon.log())))
    }

    /// The job at its end, or why nobody can say.
    pub fn end_of(&mut self, job: &str) -> Result<Value, String> {
        let end = Instant::now() + JOB;
        while Instant::now() < end && self.daemon.is_running() {
            let client = self.client();
            let now = taken(client.try_send(client.request(Method::GET, &format!("/processing/jobs/{job}"))))?;
            if ["completed", "failed", "cancelled"].iter().any(|s| now["status"] == *s) {
                return Ok(now);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("the daemon ended".into())
    }

    /// Everything that was answered for is there, after one more start.
    pub fn kept(&mut self) -> Vec<String> {
        self.daemon.kill9();
        if let Err(why) = self.daemon.try_restart() {
            return vec![format!("{why}:\n{}", tail(&self.daemon.log()))];
        }
        audit::quiet(&self.client());
        audit::answers(&self.ledger, &Listing::of(&self.client()))
    }

    /// The alerts that the device shows.
    pub fn alerts(&self) -> Vec<String> {
        let device = self.client().get("/device").expect(200).json();
        device["alerts"].as_array().into_iter().flatten().filter_map(|a| a["code"].as_str().map(str::to_owned)).collect()
    }

    /// Photos that nobody deleted.
    pub fn photos(&self) -> Vec<String> {
        self.ledger.photos.iter().filter(|(_, p)| p.deleted == Known::No).map(|(id, _)| id.clone()).collect()
    }
}

/// The body of a 2xx, or the problem's code; an answer without words for the person is one that must not be.
fn taken(answer: Result<crate::common::client::Answer, reqwest::Error>) -> Result<Value, String> {
    match answer {
        Ok(answer) if answer.status < 300 => Ok(answer.json()),
        Ok(answer) => {
            crate::common::client::check_problem(&answer.json(), answer.status);
            Err(format!("{} {}", answer.status, answer.json()["code"].as_str().unwrap_or("?")))
        }
        Err(_) => Err("no answer".into()),
    }
}

/// Files below, largest first.
pub fn largest(dir: &Path, ending: &str) -> Option<std::path::PathBuf> {
    let found = crate::common::files::listing(dir).into_iter().filter(|(name, _)| name.ends_with(ending));
    found.max_by_key(|(_, bytes)| *bytes).map(|(name, _)| dir.join(name))
}

/// Overwrites a part of a file with zeros.
pub fn zero(path: &Path, from: usize, len: usize) {
    let mut bytes = fs::read(path).unwrap();
    let end = bytes.len();
    bytes[from.min(end)..(from + len).min(end)].fill(0);
    fs::write(path, bytes).unwrap();
}
