//! The bucket's adapter against a real S3 server that checks signatures.
#![allow(clippy::unwrap_used)]

mod servers;

use std::{path::Path, time::Duration};

use irisd::{
    adapters::s3::{Options, S3Bucket},
    domain::ids::Sha256,
    ports::{ObjectStore, ObjectStoreError, PutObject},
};
use servers::{
    ca::TestCa,
    proxy::Spoiler,
    s3::{ACCESS, BUCKET, S3Server, SECRET},
    within,
};
use sha2::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const KEY: &str = "processed/local/0190-job.jpg";

/// A folder for notes that nobody reads again.
fn notes() -> std::path::PathBuf {
    tempfile::tempdir().unwrap().keep()
}

fn options(endpoint: String) -> Options {
    Options {
        open_uploads: notes(),
        endpoint,
        region: "us-east-1".to_owned(),
        bucket: BUCKET.to_owned(),
        path_style: true,
        access_key: ACCESS.to_owned(),
        secret_key: SECRET.to_owned(),
        ca_pem: None,
        part_size: 5 << 20,
        max_rate: None,
    }
}

fn bucket(server: &S3Server) -> S3Bucket {
    S3Bucket::new(options(server.endpoint())).unwrap()
}

fn through(proxy: &Spoiler) -> S3Bucket {
    S3Bucket::new(options(format!("http://127.0.0.1:{}", proxy.port))).unwrap()
}

fn object(dir: &Path, bytes: &[u8]) -> PutObject {
    let path = dir.join("file");
    std::fs::write(&path, bytes).unwrap();
    let sha256 = Sha256(sha2::Sha256::digest(bytes).into());
    PutObject { key: KEY.to_owned(), path, content_type: "image/jpeg".to_owned(), sha256, bytes: bytes.len() as u64 }
}

/// No two parts alike.
fn noise(len: usize) -> Vec<u8> {
    let mut x = 1u32;
    let step = move |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    };
    (0..len).map(step).collect()
}

#[tokio::test]
async fn a_small_file_is_put_with_its_type_and_hash_and_a_second_put_changes_nothing() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let (bucket, file) = (bucket(&server), object(dir.path(), b"the bytes of a picture"));
    for _ in 0..2 {
        within("put", bucket.put(&file)).await.unwrap();
        assert_eq!(std::fs::read(server.file(KEY)).unwrap(), b"the bytes of a picture");
    }
    let answer = reqwest::get(bucket.presign_get(KEY, Duration::from_secs(60)).await.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "image/jpeg");
    assert_eq!(answer.headers()["x-amz-meta-sha256"], file.sha256.to_string());
    bucket.probe().await.unwrap();
}

#[tokio::test]
async fn a_file_larger_than_a_part_arrives_whole_with_its_type_and_hash() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let bytes = noise((11 << 20) + 123);
    let (bucket, file) = (bucket(&server), object(dir.path(), &bytes));
    within("put", bucket.put(&file)).await.unwrap();
    assert!(std::fs::read(server.file(KEY)).unwrap() == bytes);
    let answer = reqwest::get(bucket.presign_get(KEY, Duration::from_secs(60)).await.unwrap()).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "image/jpeg");
    assert_eq!(answer.headers()["x-amz-meta-sha256"], file.sha256.to_string());
}

#[tokio::test]
async fn an_empty_file_and_the_deletion_of_nothing_are_fine() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let bucket = bucket(&server);
    bucket.put(&object(dir.path(), b"")).await.unwrap();
    assert!(server.file(KEY).exists());
    bucket.delete(KEY).await.unwrap();
    assert!(!server.file(KEY).exists());
    bucket.delete(KEY).await.unwrap();
}

#[tokio::test]
async fn a_wrong_secret_and_an_unknown_bucket_are_refusals_not_outages() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let file = object(dir.path(), b"x");
    let wrong = S3Bucket::new(Options { secret_key: "another".to_owned(), ..options(server.endpoint()) }).unwrap();
    assert!(matches!(wrong.put(&file).await, Err(ObjectStoreError::Denied(_))));
    assert!(matches!(wrong.probe().await, Err(ObjectStoreError::Denied(_))));
    let unknown = S3Bucket::new(Options { bucket: "nobodys".to_owned(), ..options(server.endpoint()) }).unwrap();
    let outcome = unknown.probe().await; // this server makes a missing bucket when something is put into it
    assert!(matches!(outcome, Err(ObjectStoreError::Denied(_))), "{outcome:?}");
    assert!(!wrong.put(&file).await.unwrap_err().to_string().contains("another"));
}

#[tokio::test]
async fn a_server_that_is_away_is_unreachable_and_works_again_when_it_is_back() {
    let (mut server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let (bucket, file) = (bucket(&server), object(dir.path(), b"x"));
    bucket.probe().await.unwrap();
    server.down().await;
    assert!(matches!(bucket.put(&file).await, Err(ObjectStoreError::Unreachable(_))));
    assert!(matches!(bucket.probe().await, Err(ObjectStoreError::Unreachable(_))));
    server.up().await;
    bucket.put(&file).await.unwrap();
}

#[tokio::test]
async fn a_server_that_takes_the_connection_and_never_answers_does_not_hold_the_probe() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bucket = S3Bucket::new(options(format!("http://{}", listener.local_addr().unwrap()))).unwrap();
    assert!(matches!(within("probe", bucket.probe()).await, Err(ObjectStoreError::Unreachable(_))));
}

#[tokio::test]
async fn a_presigned_url_opens_and_a_tampered_one_does_not() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let bucket = bucket(&server);
    bucket.put(&object(dir.path(), b"signed")).await.unwrap();
    let url = bucket.presign_get(KEY, Duration::from_secs(60)).await.unwrap();
    assert_eq!(reqwest::get(&url).await.unwrap().bytes().await.unwrap(), "signed");
    for tampered in
        [url.replace(".jpg?", ".png?"), url.replace("X-Amz-Expires=60", "X-Amz-Expires=99"), format!("{}0", &url[..url.len() - 1])]
    {
        if tampered != url {
            assert_eq!(reqwest::get(&tampered).await.unwrap().status(), 403, "{tampered}");
        }
    }
}

const NO_CHECKSUM: (&[u8], &[u8]) = (b"x-amz-checksum-sha256", b"x-xxx-checksum-sha256");
const NO_ETAG: (&[u8], &[u8]) = (b"\netag: ", b"\nxtag: ");

#[tokio::test]
async fn without_a_checksum_the_etag_vouches_and_without_both_the_object_is_read_back() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let file = object(dir.path(), b"the bytes of a picture");
    for down in [vec![NO_CHECKSUM], vec![NO_CHECKSUM, NO_ETAG]] {
        let proxy = Spoiler::before(server.port, vec![], down).await;
        through(&proxy).put(&file).await.unwrap();
    }
    // A server that keeps other bytes than it was sent, and gives no sum of them.
    let spoilt: (&[u8], &[u8]) = (b"bytes of a picture", b"bytes of a painter");
    let proxy = Spoiler::before(server.port, vec![], vec![NO_CHECKSUM, NO_ETAG, spoilt]).await;
    assert!(matches!(through(&proxy).put(&file).await, Err(ObjectStoreError::Mismatch(_))));
}

#[tokio::test]
async fn bytes_that_are_damaged_on_the_way_never_count_as_uploaded() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let proxy = Spoiler::before(server.port, vec![(b"of a picture", b"of a painter")], vec![]).await;
    let outcome = through(&proxy).put(&object(dir.path(), b"the bytes of a picture")).await;
    // This server says 500 where AWS says 400 BadDigest (classified in the adapter's own tests).
    assert!(matches!(outcome, Err(ObjectStoreError::Mismatch(_) | ObjectStoreError::Unreachable(_))), "{outcome:?}");
    assert!(!server.file(KEY).exists());
}

#[tokio::test]
async fn a_file_that_changed_on_the_disk_is_not_sent_as_what_it_was() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let bucket = bucket(&server);
    for len in [100, (6 << 20) + 1] {
        let file = object(dir.path(), &noise(len));
        let mut changed = noise(len);
        changed[len / 2] ^= 1;
        std::fs::write(&file.path, changed).unwrap();
        assert!(matches!(bucket.put(&file).await, Err(ObjectStoreError::Local(_))));
        std::fs::remove_file(&file.path).unwrap();
        assert!(matches!(bucket.put(&file).await, Err(ObjectStoreError::Local(_))));
    }
    assert!(!server.file(KEY).exists());
    let left: Vec<_> = std::fs::read_dir(server.root.path()).unwrap().map(|e| e.unwrap().file_name()).filter(|n| n != BUCKET).collect();
    assert!(left.is_empty(), "the multipart was not aborted: {left:?}");
}

#[tokio::test]
async fn a_multipart_that_a_dead_process_left_open_is_aborted_by_the_next_one_and_nobody_elses_is() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let notes = dir.path().join("multiparts");
    let with = |max_rate| Options { max_rate, open_uploads: notes.clone(), ..options(server.endpoint()) };
    let open_at_the_server = || {
        let all = std::fs::read_dir(server.root.path()).unwrap().map(|e| e.unwrap().file_name());
        all.filter(|n| n != BUCKET).count()
    };
    // Two devices share the bucket; both are cut off in the middle of a part.
    let file = object(dir.path(), &noise((6 << 20) + 1));
    let begin = async |options: Options| {
        let bucket = S3Bucket::new(options).unwrap();
        let before = open_at_the_server();
        tokio::select! {
            _ = bucket.put(&file) => panic!("the cap makes this put last"),
            () = servers::until("a multipart is open", || async { open_at_the_server() > before }) => {}
        }
    };
    begin(with(Some(64 << 10))).await;
    begin(Options { max_rate: Some(64 << 10), ..options(server.endpoint()) }).await;
    let theirs = open_at_the_server();
    let again = S3Bucket::new(with(None)).unwrap();
    within("sweep", again.sweep()).await.unwrap();
    assert!((1..theirs).contains(&open_at_the_server()), "ours is gone, the other device's is not");
    assert_eq!(std::fs::read_dir(&notes).unwrap().count(), 0, "the note went with it");
    within("put", again.put(&file)).await.unwrap();
    assert_eq!(std::fs::read_dir(&notes).unwrap().count(), 0, "a finished put leaves no note");
}

#[tokio::test]
async fn a_rate_cap_only_slows_an_upload() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let bytes = noise(300 << 10);
    let capped = S3Bucket::new(Options { max_rate: Some(1 << 20), ..options(server.endpoint()) }).unwrap();
    within("put", capped.put(&object(dir.path(), &bytes))).await.unwrap();
    assert!(std::fs::read(server.file(KEY)).unwrap() == bytes);
}

#[tokio::test]
async fn endpoints_are_path_style_virtual_style_or_amazons_own() {
    let url = |endpoint: &str, path_style| {
        let bucket = S3Bucket::new(Options { path_style, ..options(endpoint.to_owned()) }).unwrap();
        async move { bucket.presign_get("processed/a/b.jpg", Duration::from_secs(60)).await.unwrap() }
    };
    for (endpoint, path_style, start) in [
        ("https://s3.lan:9000/", true, "https://s3.lan:9000/iris/processed/a/b.jpg?"),
        ("https://s3.lan:9000", false, "https://iris.s3.lan:9000/processed/a/b.jpg?"),
        ("", false, "https://iris.s3.us-east-1.amazonaws.com/processed/a/b.jpg?"),
    ] {
        let url = url(endpoint, path_style).await;
        assert!(url.starts_with(start), "{url}");
    }
    for bad in ["s3.lan", "ftp://s3.lan", "http://", "https://user:secret@s3.lan"] {
        let refused = S3Bucket::new(options(bad.to_owned())).err().unwrap_or_else(|| panic!("{bad} was taken"));
        assert!(!refused.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn a_clinics_own_ca_is_trusted_when_it_is_given_and_only_then() {
    let ca = TestCa::new();
    let (server, dir) = (S3Server::with_tls(Some(&ca)).await, tempfile::tempdir().unwrap());
    let file = object(dir.path(), b"over TLS");
    let ours = S3Bucket::new(Options { ca_pem: Some(ca.ca.into_bytes()), ..options(server.endpoint()) }).unwrap();
    ours.put(&file).await.unwrap();
    assert!(matches!(bucket(&server).put(&file).await, Err(ObjectStoreError::Unreachable(_))));
    let stranger = S3Bucket::new(Options { ca_pem: Some(TestCa::new().ca.into_bytes()), ..options(server.endpoint()) }).unwrap();
    assert!(matches!(stranger.put(&file).await, Err(ObjectStoreError::Unreachable(_))));
    assert!(S3Bucket::new(Options { ca_pem: Some(b"no certificate".to_vec()), ..options(server.endpoint()) }).is_err());
}

/// Answers like a server whose clock is two hours ahead: refuses what is signed with another time.
#[tokio::test]
async fn the_servers_clock_is_learnt_from_its_refusal_and_signed_with() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let ahead = jiff::SignedDuration::from_hours(2);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
            let now = jiff::Timestamp::now() + ahead;
            let hour = now.strftime("x-amz-date: %Y%m%dT%H").to_string();
            let status = if String::from_utf8_lossy(&head).contains(&hour) { "200 OK" } else { "403 Forbidden" };
            let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT");
            let answer = format!("HTTP/1.1 {status}\r\ndate: {date}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let bucket = S3Bucket::new(options(format!("http://127.0.0.1:{port}"))).unwrap();
    bucket.probe().await.unwrap();
    let url = bucket.presign_get(KEY, Duration::from_secs(60)).await.unwrap();
    let server_day = (jiff::Timestamp::now() + ahead).strftime("X-Amz-Date=%Y%m%dT%H").to_string();
    assert!(url.contains(&server_day), "{url}");
}
