//! Signed addresses: of the bucket once the upload is verified, of this device before that. The client never cares which.

use std::time::Duration;

use serde_json::Value;

use crate::{
    checks::sha256,
    common::{JOB, SOON, bucket::Bucket, client::Client, daemon::Daemon, eventually, eyes},
};

const LINKS: [(&str, &str); 4] =
    [("result_url", "image/jpeg"), ("mask_url", "image/png"), ("report_url", "application/json"), ("thumb_url", "image/jpeg")];

/// The same address with another signature: the first letter of the value whose name speaks of a signature (else of the last value).
#[track_caller]
fn tampered(url: &str) -> String {
    let (path, query) = url.split_once('?').unwrap_or_else(|| panic!("a signed address has a query: {url}"));
    let mut pairs: Vec<(String, String)> =
        query.split('&').map(|p| p.split_once('=').unwrap_or((p, ""))).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let at = pairs.iter().position(|(k, _)| k.to_lowercase().contains("sig")).unwrap_or(pairs.len() - 1);
    let first = if pairs[at].1.starts_with('a') { "b" } else { "a" };
    pairs[at].1.replace_range(..1, first);
    let query: Vec<_> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    format!("{path}?{}", query.join("&"))
}

#[track_caller]
fn opens(client: &Client, url: &str, kind: &str) -> Vec<u8> {
    let answer = client.get(url).expect(200);
    assert!(answer.header("content-type").starts_with(kind), "{url}: {}", answer.header("content-type"));
    answer.body
}

#[track_caller]
fn does_not_open(client: &Client, url: &str) {
    let answer = client.get(url);
    assert!([401, 403, 404, 410].contains(&answer.status), "it opened: {answer}");
}

fn file_of(daemon: &Daemon, job: &Value, link: &str) -> Vec<u8> {
    let name = match link {
        "result_url" => "image.jpg",
        "mask_url" => "mask.png",
        "report_url" => "report.json",
        _ => "thumb.jpg",
    };
    std::fs::read(daemon.state.join("results").join(job["id"].as_str().unwrap()).join(name)).unwrap()
}

#[test]
fn before_the_upload_the_devices_own_addresses_open_without_a_token_and_no_other_does() {
    let daemon = Daemon::start("");
    let (client, anyone) = (daemon.client(), daemon.anonymous());
    let photo = eyes::small_eye(21);
    let job = client.completed(&client.submit(&client.photo(&photo)));
    assert_eq!(job["upload_status"], "off");
    for (link, kind) in LINKS {
        let url = client.absolute(&job[link]);
        assert_eq!(opens(&anyone, &url, kind), file_of(&daemon, &job, link), "{link}");
        does_not_open(&anyone, &tampered(&url));
        does_not_open(&anyone, url.split_once('?').unwrap().0);
    }
    assert_eq!(opens(&anyone, &client.absolute(&job["original_url"]), "image/jpeg"), photo);

    // A signature is for one file of one job.
    let other = client.completed(&client.submit(&client.photo(&eyes::small_eye(22))));
    let (mine, its) = (client.absolute(&job["result_url"]), client.absolute(&other["result_url"]));
    does_not_open(&anyone, &mine.replace(job["id"].as_str().unwrap(), other["id"].as_str().unwrap()));
    let (path, query) = (its.split_once('?').unwrap().0, mine.split_once('?').unwrap().1);
    does_not_open(&anyone, &format!("{path}?{query}"));
}

#[test]
fn an_address_of_the_device_expires_and_a_fresh_one_opens() {
    let daemon = Daemon::start("[s3]\npresign_ttl = \"5s\"\n");
    let (client, anyone) = (daemon.client(), daemon.anonymous());
    let id = client.submit(&client.photo(&eyes::small_eye(23)));
    let job = client.completed(&id);
    let url = client.absolute(&job["result_url"]);
    assert_eq!(anyone.get(&url).status, 200);
    eventually("the address expires", SOON, || (anyone.get(&url).status != 200).then_some(()));
    does_not_open(&anyone, &url);
    opens(&anyone, &client.absolute(&client.job(&id)["result_url"]), "image/jpeg");
}

#[test]
fn after_the_upload_presigned_addresses_of_the_bucket_open_and_tampered_ones_do_not() {
    let bucket = Bucket::start();
    let daemon = Daemon::start(&bucket.config());
    let (client, anyone) = (daemon.client(), daemon.anonymous());
    let job = client.uploaded(&client.submit(&client.photo(&eyes::small_eye(24))), JOB);
    for (link, kind) in LINKS {
        let url = client.absolute(&job[link]);
        let in_bucket = url.starts_with(&format!("http://127.0.0.1:{}/", bucket.port));
        assert_eq!(in_bucket, link != "thumb_url", "thumbnails stay on the device, all else is served by the bucket: {link} is {url}");
        assert_eq!(opens(&anyone, &url, kind), file_of(&daemon, &job, link), "{link}");
        does_not_open(&anyone, &tampered(&url));
        if in_bucket {
            does_not_open(&anyone, url.split_once('?').unwrap().0);
        }
    }
}

#[test]
fn objects_carry_their_sha256_and_type() {
    let bucket = Bucket::start();
    let daemon = Daemon::start(&bucket.config());
    let client = daemon.client();
    let job = client.uploaded(&client.submit(&client.photo(&eyes::small_eye(25))), JOB);
    for (link, kind) in &LINKS[..3] {
        let answer = daemon.anonymous().get(&client.absolute(&job[*link])).expect(200);
        assert_eq!(answer.header("content-type"), *kind, "{link}");
        assert_eq!(answer.header("x-amz-meta-sha256"), sha256(&answer.body), "{link}");
    }
}

#[test]
fn a_presigned_address_of_the_bucket_expires() {
    let bucket = Bucket::start();
    let daemon = Daemon::start(&format!("{}presign_ttl = \"5s\"\n", bucket.config()));
    let client = daemon.client();
    let job = client.uploaded(&client.submit(&client.photo(&eyes::small_eye(26))), JOB);
    let url = client.absolute(&job["result_url"]);
    eventually("the presigned address expires", Duration::from_secs(60), || (daemon.anonymous().get(&url).status == 403).then_some(()));
}
