//! A client whose day is drawn by dice: uploads, submits, batches, cancels, deletes, reprocesses, until the daemon dies under it.
//!
//! What was not answered is asked again after the next start, with the same bytes and the same Idempotency-Key, as a good client does.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};

use super::ledger::{Entry, Known, Ledger};
use crate::common::{
    Dice,
    client::{Answer, Client},
    eyes,
};

/// Photos and jobs that are chosen from for what comes next: the newest, so that things happen to jobs that wait or run.
const NEWEST: usize = 12;

/// What the clients of one run share.
pub struct Office {
    pub ledger: Mutex<Ledger>,
    /// Every photo has a number of its own, over restarts too.
    pub numbers: AtomicU64,
    /// Eyes to send, before they are numbered.
    pub pictures: Vec<Vec<u8>>,
    pub stop: AtomicBool,
    /// Answers that no client should ever see.
    pub wrong: Mutex<Vec<String>>,
}

impl Office {
    pub fn new(ledger: Ledger, first_number: u64, pictures: Vec<Vec<u8>>) -> Arc<Self> {
        let (stop, wrong) = (AtomicBool::new(false), Mutex::default());
        Arc::new(Self { ledger: Mutex::new(ledger), numbers: AtomicU64::new(first_number), pictures, stop, wrong })
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }
}

/// A request that had no answer.
enum Open {
    Upload { number: u64 },
    Submit { photo: String, key: String },
    Batch { photos: Vec<String>, key: String },
}

/// One client; it outlives the daemon.
pub struct Clerk {
    office: Arc<Office>,
    open: Option<Open>,
}

/// The connection broke: the daemon is dead.
struct Gone;

type Asked<T> = Result<T, Gone>;

impl Clerk {
    pub fn new(office: Arc<Office>) -> Self {
        Self { office, open: None }
    }

    /// Works until the daemon dies or the office closes. `pause`: at most this long between two requests.
    pub fn work(&mut self, client: &Client, mut dice: Dice, pause: Duration) {
        let alive = self.again(client).is_ok();
        while alive && !self.office.stop.load(Ordering::Relaxed) {
            if self.one(client, &mut dice).is_err() {
                return;
            }
            thread::sleep(pause.mul_f64(dice.roll(1000) as f64 / 1000.0));
        }
    }

    fn one(&mut self, client: &Client, dice: &mut Dice) -> Asked<()> {
        match dice.roll(12) {
            0..=4 => {
                let number = self.office.numbers.fetch_add(1, Ordering::Relaxed);
                self.upload(client, number)?;
            }
            5 | 6 => {
                if let Some(photo) = self.some_photo(dice) {
                    let lane = if dice.roll(2) == 0 { "default" } else { "high_priority" };
                    let body = json!({"photo_id": photo, "lane": lane});
                    let answer = self.ask(client, Method::POST, "/processing/submit", None, body, &[202, 404, 409])?;
                    self.take_job(answer.as_ref(), false);
                }
            }
            7 => {
                let photos: Vec<String> = (0..2 + dice.roll(3)).filter_map(|_| self.some_photo(dice)).collect();
                if !photos.is_empty() {
                    let key = format!("batch-{}-{}", photos[0], dice.roll(u64::MAX >> 33));
                    self.batch(client, photos, key)?;
                }
            }
            8 | 9 => self.cancel(client, dice)?,
            10 => self.delete(client, dice)?,
            _ => {
                if let Some(job) = self.some_job(dice) {
                    let path = format!("/processing/jobs/{job}/reprocess");
                    let answer = self.ask(client, Method::POST, &path, None, json!({}), &[202, 404, 409])?;
                    self.take_job(answer.as_ref(), false);
                }
            }
        }
        Ok(())
    }

    fn cancel(&self, client: &Client, dice: &mut Dice) -> Asked<()> {
        let chosen = self.office.ledger().ask_cancel(pick(dice), NEWEST);
        let Some(job) = chosen else { return Ok(()) };
        let path = format!("/processing/jobs/{job}/cancel");
        let done = self.ask(client, Method::POST, &path, None, json!({}), &[200, 409])?.is_some();
        self.office.ledger().write(if done { Entry::Cancelled(job) } else { Entry::CancelRefused(job) });
        Ok(())
    }

    fn delete(&self, client: &Client, dice: &mut Dice) -> Asked<()> {
        let chosen = self.office.ledger().ask_delete(pick(dice), NEWEST);
        let Some(photo) = chosen else { return Ok(()) };
        let done = self.ask(client, Method::DELETE, &format!("/photos/{photo}"), None, Value::Null, &[204, 409])?.is_some();
        self.office.ledger().write(if done { Entry::Deleted(photo) } else { Entry::DeleteRefused(photo) });
        Ok(())
    }

    /// What stayed without an answer, once more. One that is refused now was overtaken by another client's delete.
    fn again(&mut self, client: &Client) -> Asked<()> {
        match self.open.take() {
            None => Ok(()),
            Some(Open::Upload { number }) => self.upload(client, number),
            Some(Open::Submit { photo, key }) => self.submit_once(client, photo, key),
            Some(Open::Batch { photos, key }) => self.batch(client, photos, key),
        }
    }

    /// Most photos are submitted at once, and once.
    fn upload(&mut self, client: &Client, number: u64) -> Asked<()> {
        self.open = Some(Open::Upload { number });
        let pictures = &self.office.pictures;
        let bytes = eyes::numbered(&pictures[number as usize % pictures.len()], number);
        let sha256 = sha256(&bytes);
        let request = client.request(Method::POST, "/photos").header("content-type", "image/jpeg").body(bytes);
        let Ok(answer) = client.try_send(request) else { return Err(Gone) };
        self.open = None;
        let Some(photo) = self.fine(&answer, &[200, 201]) else { return Ok(()) };
        let photo = photo["id"].as_str().unwrap_or("").to_owned();
        let shared = number.is_multiple_of(2);
        self.office.ledger().write(Entry::Photo { id: photo.clone(), sha256, shared });
        if !shared {
            let key = format!("once-{number}");
            return self.submit_once(client, photo, key);
        }
        Ok(())
    }

    fn submit_once(&mut self, client: &Client, photo: String, key: String) -> Asked<()> {
        let body = json!({"photo_id": photo});
        self.open = Some(Open::Submit { photo, key: key.clone() });
        let answer = self.ask(client, Method::POST, "/processing/submit", Some(&key), body, &[202, 404])?;
        self.open = None;
        self.take_job(answer.as_ref(), true);
        Ok(())
    }

    fn batch(&mut self, client: &Client, photos: Vec<String>, key: String) -> Asked<()> {
        let body = json!({"photo_ids": photos, "lane": "default"});
        self.open = Some(Open::Batch { photos, key: key.clone() });
        let answer = self.ask(client, Method::POST, "/processing/batch", Some(&key), body, &[202, 404, 409])?;
        self.open = None;
        for job in answer.iter().flat_map(|a| a["jobs"].as_array().cloned().unwrap_or_default()) {
            self.take_job(Some(&job), false);
        }
        Ok(())
    }

    fn take_job(&self, job: Option<&Value>, once: bool) {
        if let Some(job) = job {
            let (id, photo) = (job["id"].as_str().unwrap_or("").to_owned(), job["photo_id"].as_str().unwrap_or("").to_owned());
            self.office.ledger().write(Entry::Job { id, photo, once });
        }
    }

    /// The body of a 2xx; None where it was refused, with a status that may come.
    fn ask(&self, client: &Client, method: Method, path: &str, key: Option<&str>, body: Value, fine: &[u16]) -> Asked<Option<Value>> {
        let mut request = client.request(method, path);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        match client.try_send(request) {
            Ok(answer) => Ok(self.fine(&answer, fine)),
            Err(_) => Err(Gone),
        }
    }

    fn fine(&self, answer: &Answer, fine: &[u16]) -> Option<Value> {
        // 503: it is on its way down, and says so.
        if !fine.contains(&answer.status) && answer.status != 503 {
            self.office.wrong.lock().unwrap().push(format!("an answer that nobody expects: {answer}"));
        }
        (answer.status < 300).then(|| serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
    }

    /// One of the newest photos that any client may submit, and that nobody asked to delete.
    fn some_photo(&self, dice: &mut Dice) -> Option<String> {
        let ledger = self.office.ledger();
        let newest = ledger.newest_photos(2 * NEWEST).into_iter().filter(|p| ledger.photos[*p].shared).nth(pick(dice))?;
        (ledger.photos[newest].deleted == Known::No).then(|| newest.clone())
    }

    fn some_job(&self, dice: &mut Dice) -> Option<String> {
        let ledger = self.office.ledger();
        ledger.order.iter().rev().nth(pick(dice)).cloned()
    }
}

/// 0..NEWEST
fn pick(dice: &mut Dice) -> usize {
    dice.roll(NEWEST as u64) as usize
}

pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}
