//! Clients that hold connections, send by the drop or go away in the middle: the others are served all the same.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::common::{
    SOON,
    daemon::Daemon,
    eventually, eyes,
    files::{kept, listing},
    raw,
};

const HELD: usize = 300;

/// The server has hung up on this connection (an answer may come before).
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => return false,
            Err(_) => return true,
        }
    }
}

#[test]
fn three_hundred_idle_connections_keep_nobody_from_being_served() {
    let daemon = Daemon::start("");
    let idle: Vec<TcpStream> = (0..HELD).map(|_| raw::connect(&daemon.base)).collect();
    let client = daemon.client();
    client.completed(&client.submit(&client.photo(&eyes::small_eye(101))));
    drop(idle);
    client.get("/queue").expect(200);
}

#[test]
fn half_sent_heads_are_given_up_in_the_end_and_hurt_nobody_meanwhile() {
    let daemon = Daemon::start("");
    let mut slow: Vec<TcpStream> = (0..HELD)
        .map(|n| {
            let mut stream = raw::connect(&daemon.base);
            // Beyond the limit the oldest that wait are hung up on: a write that fails is that.
            let _ = write!(stream, "GET /api/v1/queue HTTP/1.1\r\nHost: {}\r\nX-Slow-{n}: ", raw::address(&daemon.base));
            stream
        })
        .collect();
    let client = daemon.client();
    client.completed(&client.submit(&client.photo(&eyes::small_eye(102))));
    eventually("the slow ones are hung up on", Duration::from_secs(120), || {
        for stream in &mut slow {
            let _ = stream.write_all(b"x"); // a byte now and then is not progress
        }
        slow.retain_mut(|s| !is_closed(s));
        slow.is_empty().then_some(())
    });
}

#[test]
fn an_upload_that_stalls_is_given_up_and_leaves_nothing() {
    let daemon = Daemon::start("");
    let before = kept(&daemon.state);
    let photo = eyes::small_eye(103);
    let mut stalled: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = raw::connect(&daemon.base);
            let head = raw::head("POST", "/api/v1/photos", &daemon.base, &daemon.token);
            write!(stream, "{head}Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", photo.len()).unwrap();
            stream.write_all(&photo[..photo.len() / 2]).unwrap();
            stream
        })
        .collect();
    let client = daemon.client();
    client.get("/queue").expect(200);
    eventually("the stalled uploads are given up", Duration::from_secs(180), || {
        stalled.retain_mut(|s| !is_closed(s));
        stalled.is_empty().then_some(())
    });
    eventually("nothing of them is left", SOON, || (kept(&daemon.state) == before).then_some(()));
    client.upload("image/jpeg", photo).expect(201);
}

#[test]
fn an_upload_cut_off_in_the_middle_leaves_nothing() {
    let daemon = Daemon::start("");
    let before = kept(&daemon.state);
    let photo = eyes::small_eye(104);
    for part in [1, photo.len() / 3, photo.len() - 1] {
        let mut stream = raw::connect(&daemon.base);
        let head = raw::head("POST", "/api/v1/photos", &daemon.base, &daemon.token);
        write!(stream, "{head}Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", photo.len()).unwrap();
        stream.write_all(&photo[..part]).unwrap();
        drop(stream);
    }
    // Something the daemon does after it has seen the ends: a photo of its own.
    let id = daemon.client().photo(&eyes::plain(104, 64, 64));
    daemon.client().delete(&format!("/photos/{id}")).expect(204);
    eventually("nothing of them is left", SOON, || (kept(&daemon.state) == before).then_some(()));
    assert_eq!(daemon.client().get("/photos").expect(200).json()["items"].as_array().map(Vec::len), Some(0));
}

#[test]
fn readers_of_the_live_doors_that_never_read_hold_nothing_up() {
    let daemon = Daemon::start("");
    let deaf: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = raw::connect(&daemon.base);
            write!(stream, "{}Accept: text/event-stream\r\n\r\n", raw::head("GET", "/api/v1/events", &daemon.base, &daemon.token)).unwrap();
            stream
        })
        .collect();
    let client = daemon.client();
    for seed in 0..10 {
        client.finished(&client.submit(&client.photo(&eyes::plain(1050 + seed, 64, 64))));
    }
    drop(deaf);
    client.get("/queue").expect(200);
}

#[test]
fn heads_and_lines_beyond_measure_are_refused() {
    let daemon = Daemon::start("");
    let long = "x".repeat(200_000);
    for request in [
        format!("GET /{long} HTTP/1.1\r\nHost: {}\r\n\r\n", raw::address(&daemon.base)),
        format!("GET / HTTP/1.1\r\nHost: {}\r\nX-Long: {long}\r\n\r\n", raw::address(&daemon.base)),
        "\u{16}\u{3}\u{1}\u{2}\0\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("POST /api/v1/photos HTTP/1.1\r\nHost: {}\r\nContent-Length: -5\r\n\r\n", raw::address(&daemon.base)),
    ] {
        let mut stream = raw::connect(&daemon.base);
        let _ = stream.write_all(request.as_bytes()); // the server may hang up before all is said
        if let Some((status, _)) = raw::read_answer(&mut stream, SOON) {
            assert!((400..500).contains(&status), "{status} for {:.40}", request);
        }
    }
    daemon.client().get("/queue").expect(200);
    assert!(listing(&daemon.state.join("blobs")).is_empty());
}

#[test]
fn strangers_who_begin_sessions_by_the_drop_take_nobodys_place() {
    let daemon = Daemon::start("");
    let mut slow: Vec<TcpStream> = (0..HELD)
        .map(|_| {
            let mut stream = raw::connect(&daemon.base);
            let host = raw::address(&daemon.base);
            // Beyond the limit they are told so, or hung up on.
            let _ = write!(
                stream,
                "POST /api/v1/session HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
            );
            stream
        })
        .collect();
    let client = daemon.client();
    client.get("/queue").expect(200);
    client.send(client.request(reqwest::Method::POST, "/session").json(&serde_json::json!({}))).expect(200);
    client.completed(&client.submit(&client.photo(&eyes::small_eye(106))));
    eventually("all of them were given up", SOON, || {
        slow.retain_mut(|stream| !is_closed(stream));
        slow.is_empty().then_some(())
    });
    client.send(client.request(reqwest::Method::POST, "/session").json(&serde_json::json!({}))).expect(200);
}

#[test]
fn an_answer_before_the_end_of_the_body_says_that_the_connection_closes_and_one_after_it_keeps_it() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let large = vec![7; 1 << 20];
    let early = |path: &str, kind: &str| {
        let request = daemon.anonymous().request(reqwest::Method::POST, path).header("content-type", kind);
        daemon.anonymous().send(request.body(large.clone()))
    };
    for (path, kind) in [("/photos", "image/jpeg"), ("/processing/submit", "application/json"), ("/no/such/path", "image/jpeg")] {
        let answer = early(path, kind);
        assert_eq!(answer.header("connection"), "close", "{path}: {answer}");
        answer.refused_with(&[401, 404]);
    }
    for answer in
        [client.upload("image/jpeg", eyes::plain(107, 64, 64)), client.upload("image/jpeg", &b"no picture"[..]), client.get("/queue")]
    {
        assert!(answer.headers.get("connection").is_none(), "{answer}");
    }
}

/// `nc -N` and its like: all is said, the answer is waited for.
#[test]
fn a_client_that_closes_its_side_after_the_request_hears_the_answer() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photo = client.photo(&eyes::small_eye(107));
    let body = format!("{{\"photo_id\": \"{photo}\"}}");
    let token = client.token.as_deref().unwrap_or("");
    let submit = raw::head("POST", "/api/v1/processing/submit", &daemon.base, token);
    let submit = format!("{submit}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let list = raw::head("GET", "/api/v1/processing/jobs", &daemon.base, token) + "\r\n";
    for (request, status) in [(submit, 202), (list, 200)] {
        let mut stream = raw::connect(&daemon.base);
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(raw::read_answer(&mut stream, SOON).map(|(status, _)| status), Some(status));
    }
    assert_eq!(client.total_jobs(), 1);
}

#[test]
fn a_probe_that_speaks_http_1_0_and_names_no_host_is_answered() {
    let daemon = Daemon::start("");
    let mut stream = raw::connect(&daemon.base);
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    eventually("the connection is closed behind the answer", SOON, || match stream.read_to_string(&mut answer) {
        Ok(_) => Some(()),
        Err(e) => (!matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)).then_some(()),
    });
    assert!(answer.contains(" 200 "), "{answer}");
}

/// Nothing of a form that never comes to its field may gather in memory, whether its length was said or not.
#[test]
fn a_form_without_a_field_is_refused_long_before_its_end() {
    let daemon = Daemon::start("[http]\nmax_upload = \"32MiB\"\n");
    let client = daemon.client();
    let head = raw::head("POST", "/api/v1/photos", &daemon.base, client.token.as_deref().unwrap_or(""));
    let head = format!("{head}Content-Type: multipart/form-data; boundary=eye\r\n");
    let header = format!("--eye\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}", "x".repeat(64 << 10));
    for (chunk, chunked) in [(vec![b'x'; 64 << 10], true), (vec![b'x'; 64 << 10], false), (header.into_bytes(), true)] {
        let (status, problem) = raw::send_big(&daemon.base, &head, &chunk, 400, chunked).expect("an answer");
        assert_eq!(status, 413, "{problem}");
    }
    assert!(listing(&daemon.state.join("blobs/in")).is_empty());
    // A form as browsers send it still comes in.
    let eye = eyes::small_eye(108);
    let form =
        [&b"--eye\r\nContent-Disposition: form-data; name=\"file\"; filename=\"eye.jpg\"\r\n\r\n"[..], &eye, b"\r\n--eye--\r\n"].concat();
    let request = client.request(reqwest::Method::POST, "/photos").header("content-type", "multipart/form-data; boundary=eye");
    client.send(request.body(form)).expect(201);
}

#[test]
fn methods_that_somebody_invents_make_no_figures_of_their_own() {
    let daemon = Daemon::start("");
    for n in 0..20 {
        let mut stream = raw::connect(&daemon.base);
        write!(stream, "BREW{n} / HTTP/1.1\r\nHost: {}\r\n\r\n", raw::address(&daemon.base)).unwrap();
        assert!(raw::read_answer(&mut stream, SOON).is_some_and(|(status, _)| status >= 400));
    }
    let figures = daemon.client().get("root:/metrics").expect(200).body;
    let figures = String::from_utf8_lossy(&figures).into_owned();
    assert!(!figures.contains("BREW") && figures.contains("method=\"other\""), "{figures}");
}
