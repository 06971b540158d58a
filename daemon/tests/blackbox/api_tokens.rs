//! Who may do what: tokens, scopes, owners, the browser's session.

use std::process::Stdio;

use reqwest::Method;
use serde_json::json;

use crate::common::{
    SOON,
    client::{Answer, Client},
    daemon::{Daemon, irisd, text, write_config},
    eventually, eyes, live, raw,
};

#[test]
fn without_a_good_token_nothing_but_the_open_doors_answers() {
    let daemon = Daemon::start("");
    let wrong = [daemon.anonymous(), Client::new(&daemon.base, Some("wrong")), Client::new(&daemon.base, Some(&daemon.token[1..]))];
    for client in &wrong {
        for path in ["/photos", "/processing/jobs", "/device", "/queue", "/uploads", "/cameras", "/events", "/ws", "root:/metrics"] {
            client.get(path).refused(401);
        }
        client.upload("image/jpeg", eyes::plain(111, 64, 64)).refused(401);
        client.post("/processing/submit", json!({"photo_id": "x"})).refused(401);
        client.post("/capture", json!({})).refused(401);
    }
    let answer = daemon.anonymous().get("/photos");
    assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer}");
    assert!(!daemon.state.join("blobs").exists() || crate::common::files::listing(&daemon.state.join("blobs")).is_empty());
}

#[test]
fn a_kiosk_sees_its_own_a_viewer_sees_all_and_changes_nothing_an_admin_does_all() {
    let daemon = Daemon::start("");
    let [anna, ben] = ["anna", "ben"].map(|owner| daemon.client_of(owner, "kiosk"));
    let (viewer, admin) = (daemon.client_of("tv", "viewer"), daemon.client_of("boss", "admin"));
    let photo = anna.photo(&eyes::plain(112, 64, 64));
    let job = anna.submit(&photo);
    anna.finished(&job);
    let (photo_path, job_path) = (format!("/photos/{photo}"), format!("/processing/jobs/{job}"));

    // Ben: as if it were not there.
    for path in [&photo_path, &format!("{photo_path}/image"), &job_path] {
        ben.get(path).refused(404);
        anna.get(path).expect(200);
        viewer.get(path).expect(200);
        admin.get(path).expect(200);
    }
    ben.delete(&photo_path).refused(404);
    ben.post("/processing/submit", json!({"photo_id": photo})).refused(404);
    ben.post(&format!("{job_path}/reprocess"), json!({})).refused(404);
    ben.post(&format!("{job_path}/cancel"), json!({})).refused(404);
    for list in ["/photos", "/processing/jobs"] {
        let items = |client: &Client| client.get(list).expect(200).json()["items"].as_array().map(Vec::len);
        assert_eq!((items(&ben), items(&anna), items(&viewer), items(&admin)), (Some(0), Some(1), Some(1), Some(1)), "{list}");
    }
    assert_eq!((ben.total_jobs(), anna.total_jobs()), (0, 1));

    // The viewer: 403 before 404, for what is there and what is not.
    for id in [photo.as_str(), "01890000-0000-7000-8000-000000000000"] {
        viewer.delete(&format!("/photos/{id}")).refused(403);
        viewer.post("/processing/submit", json!({"photo_id": id})).refused(403);
        viewer.post("/processing/batch", json!({"photo_ids": [id]})).refused(403);
    }
    viewer.upload("image/jpeg", eyes::plain(113, 64, 64)).refused(403);
    viewer.post("/capture", json!({})).refused(403);
    viewer.post(&format!("{job_path}/reprocess"), json!({})).refused(403);
    viewer.post(&format!("{job_path}/cancel"), json!({})).refused(403);

    // The admin works on anybody's photo; the job stays its owner's.
    let again = admin.post(&format!("{job_path}/reprocess"), json!({})).expect(202).id();
    assert_eq!(admin.finished(&again)["user_id"], "anna");
    anna.get(&format!("/processing/jobs/{again}")).expect(200);
    admin.delete(&photo_path).expect(204);
}

#[test]
fn a_new_token_counts_at_once_and_a_revoked_one_no_more() {
    let daemon = Daemon::start("");
    let client = daemon.client_of("kiosk-7", "kiosk");
    client.get("/photos").expect(200);
    let list = daemon.cli(&["token", "list"]);
    assert!(list.status.success(), "{}", text(&list));
    let table = String::from_utf8_lossy(&list.stdout).into_owned();
    let row = table.lines().find(|l| l.contains("kiosk-7")).unwrap_or_else(|| panic!("not in the list: {table}"));
    assert!(!table.contains(client.token.as_deref().unwrap()), "the list shows a token");
    let id = row.split_whitespace().next().expect("a row begins with the id").to_owned();
    let seen = live::sse(&client, None);
    let first = client.submit(&client.photo(&eyes::plain(77, 64, 64)));
    seen.wait_kind(&first, "submitted", SOON);
    let out = daemon.cli(&["token", "revoke", &id]);
    assert!(out.status.success(), "{}", text(&out));
    eventually("the revoked token is refused", SOON, || (client.get("/photos").status == 401).then_some(()));
    daemon.client().get("/photos").expect(200);
    // What was open before sees nothing more, either.
    let admin = daemon.client();
    let own = admin.get("/photos").expect(200).json()["items"][0]["id"].as_str().unwrap().to_owned();
    let later = admin.submit(&own);
    admin.finished(&later);
    assert!(seen.of_job(&later).is_empty(), "a revoked token hears of jobs");
    assert!(!daemon.cli(&["token", "revoke", &id]).status.success(), "there is nothing left to revoke");
    for (owner, scope) in [("Anna", "kiosk"), ("a b", "kiosk"), ("", "kiosk"), ("../x", "kiosk"), ("anna", "king")] {
        let out = daemon.cli(&["token", "create", "--owner", owner, "--scope", scope]);
        assert!(!out.status.success(), "{owner:?} {scope:?}: {}", text(&out));
    }
}

#[test]
fn a_token_that_could_not_be_printed_does_not_count_and_without_a_state_folder_none_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let config = write_config(dir.path(), &state, "");
    let token = |args: &[&str], to: Stdio| {
        let mut command = irisd();
        command.arg("token").args(args).arg("--config").arg(&config).stdout(to).stderr(Stdio::piped());
        command.spawn().expect("irisd can be started").wait_with_output().unwrap()
    };
    let create = ["create", "--owner", "anna", "--scope", "kiosk"];
    let out = token(&create, Stdio::piped());
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert!(text(&out).contains("there is no state folder") && text(&out).contains(state.to_str().unwrap()), "{}", text(&out));
    assert!(!state.exists());

    std::fs::create_dir(&state).unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let out = token(&create, full.into());
    assert!(out.status.code() == Some(1) && text(&out).contains("revoked again"), "{}", text(&out));
    let (closed, pipe) = std::io::pipe().unwrap();
    drop(closed);
    assert_eq!(token(&create, pipe.into()).status.code(), Some(1), "nobody reads it");
    assert_eq!(String::from_utf8(token(&["list"], Stdio::piped()).stdout).unwrap(), "", "no token is left");
}

#[test]
fn tokens_are_kept_as_hashes_in_files_that_only_the_owner_reads() {
    use std::os::unix::fs::PermissionsExt as _;
    let daemon = Daemon::start("");
    let token = daemon.make_token("anna", "kiosk");
    let mode = |name: &str| std::fs::metadata(daemon.state.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("tokens.toml"), mode("local.token")), (0o600, 0o600));
    let file = std::fs::read_to_string(daemon.state.join("tokens.toml")).unwrap();
    assert!(!file.contains(&token) && !file.contains(&daemon.token));
    assert!(!daemon.log().contains(&token) && !daemon.log().contains(&daemon.token));
}

#[test]
fn a_token_survives_a_restart() {
    let mut daemon = Daemon::start("");
    let token = daemon.make_token("anna", "kiosk");
    daemon.kill9();
    daemon.restart();
    Client::new(&daemon.base, Some(&token)).get("/photos").expect(200);
}

/// Opens a session; the cookie as `NAME=VALUE`, and its attributes in small letters.
fn session(daemon: &Daemon) -> (String, String) {
    let anyone = daemon.anonymous();
    let request = anyone.request(Method::POST, "/session").header("Origin", &daemon.base).bearer_auth(&daemon.token);
    let answer = anyone.send(request.json(&json!({"token": daemon.token})));
    assert!([200, 201, 204].contains(&answer.status), "{answer}");
    let cookie = answer.header("set-cookie").to_owned();
    let (pair, attributes) = cookie.split_once(';').unwrap_or_else(|| panic!("no attributes: {cookie:?}"));
    (pair.to_owned(), attributes.to_lowercase())
}

#[test]
fn a_browser_gets_a_cookie_that_scripts_and_other_sites_cannot_use() {
    let daemon = Daemon::start("");
    let (cookie, attributes) = session(&daemon);
    assert!(attributes.contains("httponly") && attributes.contains("samesite=strict"), "{attributes}");
    assert!(!cookie.contains(&daemon.token), "the cookie is not the token");
    let anyone = daemon.anonymous();
    let with = |method: Method, path: &str, origin: Option<&str>| -> Answer {
        let mut request = anyone.request(method, path).header("Cookie", &cookie);
        if let Some(origin) = origin {
            request = request.header("Origin", origin);
        }
        anyone.send(request)
    };
    with(Method::GET, "/photos", None).expect(200);
    let upload = |origin: &str| {
        let request = anyone.request(Method::POST, "/photos").header("Cookie", &cookie).header("Origin", origin);
        anyone.send(request.header("content-type", "image/jpeg").body(eyes::plain(114, 64, 64)))
    };
    upload("http://evil.example").refused(403);
    upload("null").refused(403);
    upload(&daemon.base).expect(201);
    with(Method::DELETE, "/session", Some("http://evil.example")).refused(403);
    let ended = with(Method::DELETE, "/session", Some(&daemon.base));
    assert!([200, 204].contains(&ended.status), "{ended}");
    with(Method::GET, "/photos", None).refused(401);

    let request = anyone.request(Method::POST, "/session").header("Origin", &daemon.base).json(&json!({"token": "wrong"}));
    let problem = anyone.send(request);
    assert!([400, 401].contains(&problem.status), "{problem}");
}

#[test]
fn requests_for_another_host_are_refused_in_open_mode_too() {
    let daemon = Daemon::start("[auth]\nmode = \"open\"\n");
    daemon.anonymous().get("/photos").expect(200);
    for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example"] {
        let request = format!("GET /api/v1/photos HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let (status, _) = raw::ask(&daemon.base, &request).expect("an answer");
        assert!([400, 403, 421].contains(&status), "Host {host}: {status}");
    }
    let anyone = daemon.anonymous();
    let request = anyone.request(Method::POST, "/photos").header("Origin", "http://evil.example").header("content-type", "image/jpeg");
    anyone.send(request.body(eyes::plain(115, 64, 64))).refused(403);
    assert_eq!(anyone.get("/photos").json()["items"].as_array().map(Vec::len), Some(0));
}

#[test]
fn open_mode_on_an_address_of_the_network_is_a_wrong_configuration() {
    let daemon = Daemon::prepare("[auth]\nmode = \"open\"\n[http]\nlisten = \"0.0.0.0:0\"\n");
    let out = daemon.cli(&["run", "--config", daemon.config_path().to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(78), "{}", text(&out));
}
