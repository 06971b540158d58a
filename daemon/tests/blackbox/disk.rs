//! A disk that really is full: a small filesystem of its own (tmpfs, where root runs the tests). Nothing that was acknowledged is lost, and
//! the daemon goes on by itself when there is room again.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use reqwest::{Method, blocking::multipart};
use serde_json::{Value, json};

use crate::{
    checks,
    common::{
        JOB, SOON,
        bucket::Bucket,
        client::{Client, check_problem},
        daemon::Daemon,
        eventually, eyes, files, raw,
    },
};

const MIB: u64 = 1 << 20;

/// A mounted tmpfs; unmounted at the end, also of a failing test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None: this user may not mount.
    fn mount(mib: u64) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("irisd-disk-").tempdir().unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "irisd-test"]).arg(dir.path()).output();
        mounted.is_ok_and(|out| out.status.success()).then_some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn free(&self) -> u64 {
        let s = rustix::fs::statvfs(self.path()).unwrap();
        s.f_bavail * s.f_frsize
    }

    fn filler(&self) -> PathBuf {
        self.path().join("somebody-elses-file")
    }

    /// Somebody else writes until so many bytes are free.
    fn fill(&self, leave: u64) {
        let mut file = File::options().create(true).append(true).open(self.filler()).unwrap();
        let chunk = vec![1u8; 64 << 10];
        while self.free() > leave {
            let n = chunk.len().min((self.free() - leave) as usize);
            if file.write_all(&chunk[..n]).is_err() {
                break; // full to the last byte
            }
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// A daemon whose state lies on a disk of its own.
fn on(disk: &SmallDisk, extra: &str) -> Daemon {
    let mut daemon = Daemon::prepare("");
    daemon.state = disk.path().join("state");
    daemon.reconfigure(extra);
    daemon.restart();
    daemon
}

macro_rules! small_disk_or_skip {
    ($mib:expr) => {
        match SmallDisk::mount($mib) {
            Some(disk) => disk,
            None => {
                eprintln!("SKIPPED: a small filesystem could not be mounted (this test wants root)");
                return;
            }
        }
    };
}

#[test]
fn at_the_reserve_photos_are_refused_with_507_while_accepted_ones_are_worked_on() {
    let disk = small_disk_or_skip!(256);
    let daemon = on(&disk, "[retention]\nreserve = \"96MiB\"\n");
    let client = daemon.client();
    let photo = client.photo(&eyes::small_eye(111));
    disk.fill(90 * MIB);
    let refused = client.upload("image/jpeg", eyes::small_eye(112));
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|s| s > 0), "{refused}");
    let problem = refused.refused(507);
    check_problem(&problem, 507);
    assert_eq!((&problem["code"], &problem["error_type"]), (&json!("disk_reserve"), &json!("transient_error")));
    client.completed(&client.submit(&photo));
    eventually("the alert is raised", SOON, || {
        alerts(&client.get("/device").expect(200).json()).contains(&"disk_low".to_owned()).then_some(())
    });
    disk.make_room();
    client.upload("image/jpeg", eyes::small_eye(112)).expect(201);
    eventually("the alert is over", SOON, || alerts(&client.get("/device").expect(200).json()).is_empty().then_some(()));
}

fn alerts(device: &Value) -> Vec<String> {
    device["alerts"].as_array().unwrap().iter().map(|a| a["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn with_not_a_byte_left_jobs_wait_instead_of_failing_and_go_on_by_themselves_when_there_is_room() {
    let disk = small_disk_or_skip!(256);
    let mut daemon = on(&disk, "[retention]\nreserve = \"64MiB\"\n");
    let client = daemon.client();
    let photos: Vec<String> = (0..4).map(|n| client.photo(&eyes::small_eye(113 + n))).collect();
    disk.fill(12 * MIB); // below a quarter of the reserve: results would eat what the store needs
    let jobs: Vec<String> = photos.iter().map(|p| client.submit(p)).collect();
    eventually("the device says that it waits for room", SOON, || {
        alerts(&client.get("/device").expect(200).json()).contains(&"disk_full".to_owned()).then_some(())
    });
    disk.fill(0);
    // Whatever is answered now: what was acknowledged counts, what was not is told so in words.
    let mut acknowledged = jobs.clone();
    for photo in &photos {
        let answer = client.send(client.request(Method::POST, "/processing/submit").json(&json!({"photo_id": photo})));
        match answer.status {
            202 => acknowledged.push(answer.id()),
            _ => drop(answer.refused_with(&[507])),
        }
    }
    client.upload("image/jpeg", eyes::small_eye(118)).refused(507);
    for job in &acknowledged {
        assert_eq!(client.job(job)["status"], "pending", "it waits for room");
    }
    assert!(daemon.is_running());
    disk.make_room();
    for job in &acknowledged {
        let done = client.completed(job);
        assert_eq!((&done["attempt"], &done["crashes"]), (&json!(1), &json!(0)), "{done:#}");
        checks::results_are_whole(&daemon.state, job);
    }
    client.upload("image/jpeg", eyes::small_eye(118)).expect(201);
    assert_eq!(client.total_jobs(), acknowledged.len() as u64);
    daemon.kill9();
    daemon.restart();
    for job in &acknowledged {
        assert_eq!(daemon.client().job(job)["status"], "completed");
    }
}

#[test]
fn a_disk_that_fills_up_under_a_job_at_work_costs_the_run_and_not_the_job() {
    let disk = small_disk_or_skip!(256);
    let daemon = on(&disk, &format!("{}[retention]\nreserve = \"16MiB\"\n", crate::kills::SLOW));
    let client = daemon.client();
    let photo = client.photo(&eyes::eye(119, crate::kills::SLOW_SIZE).bytes);
    let job = client.submit(&photo);
    eventually("a part of the result is on the disk", JOB, || (!files::temporary(&daemon.state).is_empty()).then_some(()));
    disk.fill(0);
    let waiting = eventually("the run is over and the job waits", JOB, || {
        let now = client.job(&job);
        assert_ne!(now["status"], "failed", "{now:#}");
        (now["status"] == "pending" || now["status"] == "completed").then_some(now)
    });
    if waiting["status"] == "completed" {
        eprintln!("the job was done before the disk was full");
        return;
    }
    assert!(files::temporary(&daemon.state).is_empty(), "what was begun is gone: {:?}", files::temporary(&daemon.state));
    disk.make_room();
    let done = client.completed(&job);
    assert_eq!((&done["crashes"], &done["transient_retries"]), (&json!(0), &json!(0)), "{done:#}");
    checks::results_are_whole(&daemon.state, &job);
}

#[test]
fn at_the_cap_what_the_bucket_has_goes_oldest_first_and_what_it_lacks_stays() {
    let mut bucket = Bucket::start();
    let photos: Vec<Vec<u8>> = (0..3).map(|n| eyes::eye(121 + n, "1600x1200").bytes).collect();
    let mut daemon = Daemon::start(&bucket.config());
    let client = daemon.client();
    let old = client.submit(&client.photo(&photos[0]));
    client.uploaded(&old, JOB);
    bucket.stop();
    let new = client.submit(&client.photo(&photos[1]));
    client.completed(&new);
    let used = client.get("/device").expect(200).json()["storage"]["used"].as_u64().unwrap();
    assert!(daemon.stop().success());
    // Room for what is there and half a photo: the next one needs some of the old one's place.
    let cap = used + photos[2].len() as u64 / 2;
    daemon.reconfigure(&format!("{}[http]\nmax_upload = \"1MiB\"\n[retention]\ncap = \"{cap}B\"\n", bucket.config()));
    daemon.restart();
    let client = daemon.client();
    client.photo(&photos[2]);
    let (old_job, new_job) = (client.job(&old), client.job(&new));
    let photo = |job: &Value| client.get(&format!("/photos/{}/image", job["photo_id"].as_str().unwrap())).status;
    assert_eq!((photo(&old_job), photo(&new_job)), (404, 200), "the uploaded original went, the other one stayed");
    client.get(&client.absolute(&new_job["result_url"])).expect(200);
    let metrics = String::from_utf8(client.get("root:/metrics").expect(200).body).unwrap();
    let counted = |metrics: &str| metrics.lines().any(|l| l.starts_with("irisd_evicted_total{name=\"originals\"} 1"));
    assert!(
        counted(&metrics)
            || eventually("the eviction is counted", SOON, || {
                counted(&String::from_utf8(client.get("root:/metrics").expect(200).body).unwrap()).then_some(true)
            })
    );
    bucket.restart();
    client.uploaded(&new, JOB);
}

#[test]
fn what_was_sent_before_needs_no_room_and_a_photo_that_finds_none_is_said_until_one_like_it_would() {
    let mut daemon = Daemon::start("");
    let client = daemon.client();
    let (known, large) = (eyes::plain(124, 64, 64), eyes::eye(125, "1600x1200").bytes);
    let keyed = |client: &Client, bytes: &[u8]| {
        let request = client.request(Method::POST, "/photos").header("content-type", "image/jpeg").header("Idempotency-Key", "once");
        client.send(request.body(bytes.to_vec()))
    };
    let id = keyed(&client, &known).expect(201).id();
    let used = client.get("/device").expect(200).json()["storage"]["used"].as_u64().unwrap();
    assert!(daemon.stop().success());
    // What is there leaves no room for the largest photo that may come.
    let (most, cap) = (large.len(), used / 2 + large.len() as u64);
    daemon.reconfigure(&format!("[http]\nmax_upload = \"{most}B\"\n[retention]\ncap = \"{cap}B\"\n"));
    daemon.restart();
    let client = daemon.client();
    let ready = || client.get("root:/readyz").status;
    assert_eq!(ready(), 200);
    client.upload("image/jpeg", large).refused(507);
    assert!(files::temporary(&daemon.state).is_empty());
    eventually("the alert is raised", SOON, || {
        alerts(&client.get("/device").expect(200).json()).contains(&"disk_cap".to_owned()).then_some(())
    });
    assert_eq!(ready(), 503);
    assert_eq!(keyed(&client, &known).expect(201).id(), id, "the same answer for 24 h");
    assert_eq!(client.upload("image/jpeg", known.clone()).expect(200).id(), id, "known bytes");
    // One that finds no room takes none from others while it comes in.
    let mut half = raw::connect(&daemon.base);
    let head = raw::head("POST", "/api/v1/photos", &daemon.base, &daemon.token);
    write!(half, "{head}Content-Type: image/jpeg\r\nContent-Length: {most}\r\n\r\nhalf of it").unwrap();
    client.upload("image/jpeg", eyes::plain(128, 64, 64)).expect(201);
    drop(half);
    // A form says how long it is as a whole: that is what it may take, and not what the largest photo would.
    let part = multipart::Part::bytes(eyes::plain(126, 64, 64)).file_name("eye.jpg");
    client.send(client.request(Method::POST, "/photos").multipart(multipart::Form::new().part("file", part))).expect(201);
    assert!(daemon.stop().success());
    daemon.reconfigure("[retention]\nreserve = \"900TiB\"\n");
    daemon.restart();
    let client = daemon.client();
    client.upload("image/jpeg", eyes::plain(127, 64, 64)).refused(507);
    assert_eq!(client.upload("image/jpeg", known.clone()).expect(200).id(), id, "below the reserve, too");
    assert_eq!(keyed(&client, &known).expect(201).id(), id);
}
