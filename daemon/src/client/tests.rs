use axum::{Json, Router, body::Bytes, http::HeaderMap, routing};
use serde_json::json;
use tokio::sync::oneshot;

use super::*;
use crate::http::serve::{self, tls};

/// A server of our own kind; stops when the sender is dropped.
fn start(router: Router, tls: Option<tokio_rustls::TlsAcceptor>) -> (u16, oneshot::Sender<()>) {
    let listener = serve::bind(([127, 0, 0, 1], 0).into()).expect("binds");
    let port = listener.local_addr().expect("bound").port();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(serve::serve(listener, tls, router, async move {
        let _ = stopped.await;
    }));
    (port, stop)
}

fn echo() -> Router {
    let told = |headers: &HeaderMap, name: &str| headers.get(name).map(|v| v.to_str().expect("text").to_owned());
    let photo = move |headers: HeaderMap, body: Bytes| async move {
        Json(json!({ "bytes": body.len(), "type": told(&headers, "content-type"), "auth": told(&headers, "authorization") }))
    };
    let refuse = async || {
        (StatusCode::CONFLICT, Json(json!({ "code": "job_finished", "message": "It ended.", "suggestion": "Rest.", "detail": "d" })))
    };
    Router::new().route("/api/v1/photos", routing::post(photo)).route("/refuse", routing::get(refuse))
}

#[tokio::test]
async fn a_photo_is_streamed_with_its_type_and_the_token() {
    let (port, _stop) = start(echo(), None);
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("photo.bin");
    let mut bytes = vec![0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A];
    bytes.resize(300_000, 7);
    std::fs::write(&path, &bytes).expect("written");
    let client = Client::new(&format!("http://127.0.0.1:{port}"), Some("irisd_x".into()), None).expect("valid");
    let answer = client.upload(&path, None).await.expect("taken");
    assert_eq!(answer, json!({ "bytes": 300_000, "type": "image/png", "auth": "Bearer irisd_x" }));
    std::fs::write(&path, b"").expect("written");
    assert_eq!(client.upload(&path, None).await.expect("taken")["bytes"], 0);
    assert!(matches!(client.upload(&dir.path().join("none"), None).await, Err(ClientError::File { .. })));
}

#[tokio::test]
async fn a_refusal_comes_out_as_the_daemons_own_sentence() {
    let (port, stop) = start(echo(), None);
    let client = Client::new(&format!("http://127.0.0.1:{port}/"), None, None).expect("valid");
    let e = client.get("/refuse").await.expect_err("refused");
    assert_eq!(e.to_string(), "It ended. Rest. (job_finished, 409: d)");
    drop(stop);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let e = Client::new(&format!("http://127.0.0.1:{closed}"), None, None).expect("valid").get("/").await.expect_err("nobody there");
    assert!(e.to_string().contains("is `irisd run` running there"), "{e}");
}

#[test]
fn an_address_that_is_none_is_refused_with_how_to_write_it() {
    for bad in ["", "localhost", "ftp://x", "http://"] {
        assert!(Client::new(bad, None, None).is_err(), "{bad:?} was taken");
    }
}

/// Self-signed EC P-256 pairs, valid for 100 years, made once with `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes`. They guard nothing.
#[tokio::test]
async fn over_tls_only_the_very_certificate_is_trusted() {
    let data = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("src/client/testdata").join(name);
    let acceptor = tls::acceptor(&data("one.crt"), &data("one.key")).expect("a pair");
    assert!(tls::acceptor(&data("one.crt"), &data("two.key")).is_err(), "not a pair");
    let (port, _stop) = start(echo(), Some(acceptor));
    let url = format!("https://127.0.0.1:{port}");
    let e = Client::new(&url, None, Some(&data("one.crt"))).expect("valid").get("/refuse").await.expect_err("refused");
    assert!(matches!(e, ClientError::Refused { status: 409, .. }), "{e}");
    let e = Client::new(&url, None, Some(&data("two.crt"))).expect("valid").get("/refuse").await.expect_err("a stranger");
    assert!(matches!(e, ClientError::Connect { .. }), "{e}");
}
