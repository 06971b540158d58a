//! The same photo again: the stored result at once, as a job of its own, and never one that is not whole, not wanted, or not ours.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    checks,
    common::{JOB, bucket::Bucket, client::Client, daemon::Daemon, eyes, files, live},
};

fn report(state: &Path, job: &str) -> Value {
    serde_json::from_slice(&fs::read(state.join("results").join(job).join("report.json")).unwrap()).unwrap()
}

/// A job of the photo that ran, and one that must have its result.
#[track_caller]
fn first_and_again(client: &Client, photo: &str) -> (Value, Value) {
    let first = client.completed(&client.submit(photo));
    assert_eq!(first["cached"], false, "{first:#}");
    let again = client.completed(&client.submit(photo));
    assert_eq!(again["cached"], true, "{again:#}");
    (first, again)
}

fn id(job: &Value) -> &str {
    job["id"].as_str().unwrap()
}

#[test]
fn the_same_photo_again_is_a_job_of_its_own_with_the_same_pixels_and_a_true_report() {
    let bucket = Bucket::start();
    let daemon = Daemon::start(&bucket.config());
    let client = daemon.client();
    let photo = client.photo(&eyes::small_eye(401));
    let feed = live::sse(&client, None);
    let (first, again) = first_and_again(&client, &photo);
    assert_ne!(id(&first), id(&again));
    assert_eq!((&again["attempt"], &again["quality"]), (&json!(1), &first["quality"]));
    assert!(again["processing_time_ms"].as_u64() < first["processing_time_ms"].as_u64(), "{again:#}");
    let (old, new) = (report(&daemon.state, id(&first)), report(&daemon.state, id(&again)));
    assert_eq!((&old["cached"], &new["cached"]), (&json!(false), &json!(true)));
    assert!(new["created_at"].as_str() > old["created_at"].as_str(), "{new:#}");
    for same in ["photo", "crop", "iris", "quality", "verdict", "reflections", "enhance", "step_ms", "files"] {
        assert_eq!(old[same], new[same], "{same}");
    }
    for job in [&first, &again] {
        checks::results_are_whole(&daemon.state, id(job));
        feed.wait_kind(id(job), "uploaded", JOB);
        checks::events_are_in_order(&feed.kinds(id(job)), "completed", true);
        let bytes = fs::read(daemon.state.join("results").join(id(job)).join("image.jpg")).unwrap();
        let key = client.job(id(job))["result_s3_key"].as_str().unwrap().to_owned();
        assert_eq!(bucket.object(&key).as_deref(), Some(&bytes[..]), "each job has objects of its own");
        assert_eq!(checks::sha256(&bytes), old["files"]["image"]["sha256"].as_str().unwrap());
    }
    assert_eq!(bucket.keys_below("processed/").len(), 6);
}

#[test]
fn reprocess_runs_again_whatever_there_is() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let (first, _) = first_and_again(&client, &client.photo(&eyes::small_eye(402)));
    let new = client.post(&format!("/processing/jobs/{}/reprocess", id(&first)), json!({})).expect(202).id();
    let new = client.completed(&new);
    assert_eq!(new["cached"], false, "{new:#}");
    assert_eq!(report(&daemon.state, id(&new))["files"], report(&daemon.state, id(&first))["files"], "the same photo gives the same files");
}

#[test]
fn a_result_that_is_not_whole_any_more_is_not_given_out_again() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photo = client.photo(&eyes::small_eye(403));
    let mut last = client.completed(&client.submit(&photo));
    for name in ["image.jpg", "mask.png", "synthetic.png", "thumb.jpg", "report.json"] {
        let path = daemon.state.join("results").join(id(&last)).join(name);
        let mut bytes = fs::read(&path).unwrap();
        if name == "thumb.jpg" {
            bytes.truncate(bytes.len() / 2);
        } else {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
        }
        fs::write(&path, bytes).unwrap();
        last = client.completed(&client.submit(&photo));
        assert_eq!(last["cached"], false, "{name} was damaged, and the job has it");
        checks::results_are_whole(&daemon.state, id(&last));
    }
    fs::remove_file(daemon.state.join("results").join(id(&last)).join("mask.png")).unwrap();
    let after = client.completed(&client.submit(&photo));
    assert_eq!(after["cached"], false);
    checks::results_are_whole(&daemon.state, id(&after));
    assert!(files::temporary(&daemon.state).is_empty());
}

#[test]
fn another_configuration_is_another_pipeline_and_a_restart_or_a_rebuilt_index_is_not() {
    let mut daemon = Daemon::start("");
    let photo = daemon.client().photo(&eyes::small_eye(404));
    first_and_again(&daemon.client(), &photo);
    daemon.stop();
    fs::remove_dir_all(daemon.state.join("store/v1")).unwrap();
    daemon.restart();
    let job = daemon.client().completed(&daemon.client().submit(&photo));
    assert_eq!(job["cached"], true, "the index was rebuilt: {job:#}");
    daemon.stop();
    daemon.reconfigure("[enhance]\nscale = 2\n");
    daemon.restart();
    let job = daemon.client().completed(&daemon.client().submit(&photo));
    assert_eq!(job["cached"], false, "{job:#}");
    assert_eq!(report(&daemon.state, id(&job))["scale"], 2);
}

#[test]
fn the_same_bytes_of_another_owner_tell_nothing_and_stay_when_the_first_owners_go() {
    let daemon = Daemon::start("");
    let (anna, bert) = (daemon.client_of("anna", "kiosk"), daemon.client_of("bert", "kiosk"));
    let bytes = eyes::small_eye(405);
    let (hers, his) = (anna.photo(&bytes), bert.photo(&bytes));
    let (_, hers_again) = first_and_again(&anna, &hers);
    let job = bert.completed(&bert.submit(&his));
    assert_eq!(job["cached"], false, "that anna has this photo is nobody's business: {job:#}");
    anna.delete(&format!("/photos/{hers}")).expect(204);
    assert!(!daemon.state.join("results").join(id(&hers_again)).exists());
    checks::results_are_whole(&daemon.state, id(&job));
    let again = bert.completed(&bert.submit(&his));
    assert_eq!(again["cached"], true, "{again:#}");
}

#[test]
fn a_deleted_photos_results_are_gone_for_good_and_what_is_sent_again_is_worked_on_again() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let bytes = eyes::small_eye(406);
    let photo = client.photo(&bytes);
    first_and_again(&client, &photo);
    assert_eq!(files::result_folders(&daemon.state).len(), 2);
    client.delete(&format!("/photos/{photo}")).expect(204);
    assert_eq!(files::result_folders(&daemon.state), Vec::<String>::new());
    let job = client.completed(&client.submit(&client.photo(&bytes)));
    assert_eq!(job["cached"], false, "{job:#}");
}

#[test]
fn a_refused_photo_is_looked_at_again() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photo = client.photo(&eyes::plain(407, 320, 240));
    for _ in 0..2 {
        let job = client.finished(&client.submit(&photo));
        assert_eq!((&job["status"], &job["cached"]), (&json!("failed"), &json!(false)), "{job:#}");
    }
}
