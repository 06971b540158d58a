//! Is everything there that was answered for, and nothing beside it: the ledger against the daemon, the disk, the bucket and the broker.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
};

use serde_json::Value;

use super::{
    heard::{self, Heard, Uploaded},
    ledger::{Entry, Known, Ledger},
    load::sha256,
};
use crate::common::{JOB, bucket::Bucket, client::Client, eventually, files};

/// Everything the daemon lists, by id.
pub struct Listing {
    pub photos: BTreeMap<String, Value>,
    pub jobs: BTreeMap<String, Value>,
}

impl Listing {
    pub fn of(client: &Client) -> Self {
        Self { photos: all(client, "/photos"), jobs: all(client, "/processing/jobs") }
    }
}

fn all(client: &Client, path: &str) -> BTreeMap<String, Value> {
    let (mut found, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let page = client.get(&format!("{path}?limit=100{cursor}")).expect(200).json();
        for item in page["items"].as_array().into_iter().flatten() {
            found.insert(item["id"].as_str().unwrap_or("").to_owned(), item.clone());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// The newest answers, looked up one by one: what a start is asked for first.
pub fn newest_answers(client: &Client, fresh: &[Entry], ledger: &Ledger) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |path: String, statuses: &[u16], fits: &dyn Fn(&Value) -> bool| {
        let answer = client.get(&path);
        let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        if !statuses.contains(&answer.status) || answer.status == 200 && !fits(&body) {
            faults.push(format!("after the start: {answer}"));
        }
    };
    for entry in fresh {
        match entry {
            Entry::Photo { id, sha256, .. } => {
                let statuses: &[u16] = match ledger.photos[id].deleted {
                    Known::No => &[200],
                    Known::Asked => &[200, 404],
                    Known::Yes => &[404],
                };
                expect(format!("/photos/{id}"), statuses, &|photo| photo["sha256"] == **sha256);
            }
            Entry::Job { id, photo, .. } => expect(format!("/processing/jobs/{id}"), &[200], &|job| job["photo_id"] == **photo),
            Entry::Cancelled(id) => expect(format!("/processing/jobs/{id}"), &[200], &|job| job["status"] == "cancelled"),
            Entry::Deleted(id) => expect(format!("/photos/{id}"), &[404], &|_| true),
            _ => {}
        }
    }
    faults
}

/// Waits until nothing is left to do: every job at its end, and, where there is a bucket, everything in it. A long queue on a slow machine
/// may take its time, but each job must come to its end.
pub fn quiet(client: &Client) {
    let left = || -> u64 {
        let of = |status| client.get(&format!("/processing/jobs?limit=1&status={status}")).expect(200).json()["total"].as_u64().unwrap();
        of("pending") + of("processing")
    };
    let mut now = left();
    while now > 0 {
        now = eventually(&format!("fewer than {now} jobs are left"), JOB, || Some(left()).filter(|n| *n < now));
    }
    eventually("everything is uploaded", JOB, || (client.get("/uploads").expect(200).json()["pending"] == 0).then_some(()));
}

/// The ledger against what the daemon lists, when it is quiet.
pub fn answers(ledger: &Ledger, listing: &Listing) -> Vec<String> {
    let mut faults = Vec::new();
    for (id, known) in &ledger.photos {
        match (listing.photos.get(id), known.deleted) {
            (None, Known::No) => faults.push(format!("photo {id} was answered for and is lost")),
            (Some(_), Known::Yes) => faults.push(format!("photo {id} was deleted and is there")),
            (Some(photo), _) if photo["sha256"] != *known.sha256 => faults.push(format!("photo {id} has other bytes: {photo}")),
            _ => {}
        }
    }
    for (id, known) in &ledger.jobs {
        let Some(job) = listing.jobs.get(id) else {
            faults.push(format!("job {id} was answered for and is lost"));
            continue;
        };
        let cancelled = job["status"] == "cancelled";
        if job["photo_id"] != *known.photo || known.cancelled == Known::Yes && !cancelled || known.cancelled == Known::No && cancelled {
            faults.push(format!("job {id} was cancelled: {:?}, and is {job}", known.cancelled));
        }
    }
    let mut hashes = BTreeSet::new();
    for (id, photo) in &listing.photos {
        if !hashes.insert(photo["sha256"].as_str()) {
            faults.push(format!("photo {id} is there twice"));
        }
    }
    // A request that was asked again under its key has had one effect.
    let mut of_photo: HashMap<&str, usize> = HashMap::new();
    for job in listing.jobs.values().filter(|j| j["reprocess_of"].is_null()) {
        *of_photo.entry(job["photo_id"].as_str().unwrap_or("")).or_default() += 1;
    }
    for photo in ledger.once() {
        if of_photo.get(photo).copied().unwrap_or(0) > 1 {
            faults.push(format!("photo {photo} was submitted once and has {} jobs", of_photo[photo]));
        }
    }
    faults
}

/// Every job has ended, and none because of the device.
pub fn ends(listing: &Listing) -> Vec<String> {
    let good =
        |job: &Value| ["completed", "failed", "cancelled"].iter().any(|s| job["status"] == *s) && job["error_type"] != "server_error";
    listing.jobs.values().filter(|job| !good(job)).map(|job| format!("a job did not come to a good end: {job}")).collect()
}

/// The state folder: originals and results that somebody names, whole, and nothing else.
pub fn disk(state: &Path, listing: &Listing) -> Vec<String> {
    let mut faults = Vec::new();
    let mut wanted = BTreeSet::new();
    for (id, photo) in &listing.photos {
        let hash = photo["sha256"].as_str().unwrap_or("");
        let name = format!("blobs/{}/{hash}", &hash[..2]);
        match fs::read(state.join(&name)) {
            Ok(bytes) if sha256(&bytes) == hash => {}
            Ok(_) => faults.push(format!("the original of photo {id} is damaged")),
            Err(e) => faults.push(format!("the original of photo {id}: {e}")),
        }
        wanted.insert(name);
    }
    for (id, job) in with_results(listing) {
        let dir = state.join("results").join(id);
        let names: Vec<String> = files::listing(&dir).into_keys().collect();
        let four: Vec<&str> = names.iter().map(String::as_str).filter(|n| *n != "synthetic.png").collect();
        if four != ["image.jpg", "mask.png", "report.json", "thumb.jpg"] {
            faults.push(format!("results/{id} has {names:?}"));
            continue;
        }
        let report: Value = fs::read(dir.join("report.json")).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or(Value::Null);
        for (file, name) in [("image", "image.jpg"), ("mask", "mask.png")] {
            if report["files"][file]["sha256"] != *sha256(&fs::read(dir.join(name)).unwrap_or_default()) {
                faults.push(format!("results/{id}/{name} is not the file of its report"));
            }
        }
        let photo = &listing.photos[job["photo_id"].as_str().unwrap_or("")];
        if report["photo"]["sha256"] != photo["sha256"] {
            faults.push(format!("results/{id} is of another photo"));
        }
        wanted.extend(names.into_iter().map(|n| format!("results/{id}/{n}")));
    }
    for (id, job) in &listing.jobs {
        if job["status"] == "failed" && !job["thumb_url"].is_null() {
            let name = format!("refused/{id}/annotated.jpg");
            if !state.join(&name).is_file() {
                faults.push(format!("{name} is named and is not there"));
            }
            wanted.insert(name);
        }
    }
    for name in files::kept(state).into_keys().filter(|n| !wanted.contains(n)) {
        faults.push(format!("{name} lies there and nobody names it"));
    }
    faults
}

/// Originals and results as the daemon serves them: the bytes that were sent, the files that the report names.
pub fn served(client: &Client, listing: &Listing) -> Vec<String> {
    let mut faults = Vec::new();
    for (id, photo) in &listing.photos {
        let answer = client.get(&format!("/photos/{id}/image"));
        if answer.status != 200 || photo["sha256"] != *sha256(&answer.body) {
            faults.push(format!("the original of photo {id} is served as {} bytes: {}", answer.body.len(), answer.status));
        }
    }
    for (id, _) in with_results(listing) {
        // Its addresses are those of now.
        let job = client.job(id);
        let report: Value = serde_json::from_slice(&client.get(&client.absolute(&job["report_url"])).body).unwrap_or(Value::Null);
        for (file, url) in [("image", "result_url"), ("mask", "mask_url")] {
            let answer = client.get(&client.absolute(&job[url]));
            if answer.status != 200 || report["files"][file]["sha256"] != *sha256(&answer.body) {
                faults.push(format!("the {file} of job {id} is not the file of its report: {}", answer.status));
            }
        }
    }
    faults
}

/// Completed jobs whose photo is still there.
fn with_results(listing: &Listing) -> impl Iterator<Item = (&String, &Value)> {
    let has_photo = |job: &Value| job["photo_id"].as_str().is_some_and(|p| listing.photos.contains_key(p));
    listing.jobs.iter().filter(move |(_, job)| job["status"] == "completed" && has_photo(job))
}

/// The bucket: three objects a completed job and one an original, equal to the files here, and nothing else.
pub fn objects(bucket: &Bucket, state: &Path, listing: &Listing) -> Vec<String> {
    let mut faults = Vec::new();
    let mut wanted: BTreeMap<String, std::path::PathBuf> = BTreeMap::new();
    for (id, job) in with_results(listing) {
        if job["upload_status"] != "uploaded" {
            faults.push(format!("job {id} is not uploaded: {job}"));
        }
        for (key, name) in [("result_s3_key", "image.jpg"), ("mask_s3_key", "mask.png"), ("report_s3_key", "report.json")] {
            wanted.insert(job[key].as_str().unwrap_or("").to_owned(), state.join("results").join(id).join(name));
        }
    }
    for (id, photo) in &listing.photos {
        let hash = photo["sha256"].as_str().unwrap_or("");
        let key = format!("photos/{}/{id}.jpg", photo["user_id"].as_str().unwrap_or(""));
        wanted.insert(key, state.join(format!("blobs/{}/{hash}", &hash[..2])));
    }
    for (key, file) in &wanted {
        match bucket.object(key) {
            None => faults.push(format!("the bucket lacks {key}")),
            Some(bytes) if fs::read(file).ok().as_ref() != Some(&bytes) => {
                faults.push(format!("{key} in the bucket is not {}", file.display()))
            }
            Some(_) => {}
        }
    }
    faults.extend(bucket.keys().into_iter().filter(|k| !wanted.contains_key(k)).map(|k| format!("the bucket has {k}, which nobody names")));
    faults
}

/// The broker: each job's whole story in order. `since`: jobs that were submitted before somebody listened are left out.
pub fn events(heard: &Heard, listing: &Listing, since: &BTreeSet<String>) -> Vec<String> {
    let mut faults = heard.wrong.clone();
    for (id, job) in listing.jobs.iter().filter(|(id, _)| !since.contains(*id)) {
        let end = job["status"].as_str().unwrap_or("");
        let has_photo = job["photo_id"].as_str().is_some_and(|p| listing.photos.contains_key(p));
        let uploaded = match (end, has_photo) {
            ("completed", true) => Uploaded::Must,
            ("completed", false) => Uploaded::May,
            _ => Uploaded::Never,
        };
        if !heard::is_in_order(heard.kinds(id), end, uploaded) {
            faults.push(format!("MQTT: job {id} is {end}, heard was {:?}", heard.kinds(id)));
        }
    }
    faults
}
