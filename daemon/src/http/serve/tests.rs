use std::time::Duration;

use axum::{body::Bytes, routing};
use tokio::{sync::oneshot, task::JoinHandle};

use super::*;

struct Server {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

fn start(router: Router) -> Server {
    let listener = bind(([127, 0, 0, 1], 0).into()).expect("binds");
    let addr = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(serve(listener, None, router, async move {
        let _ = stopped.await;
    }));
    Server { addr, stop: Some(stop), task }
}

async fn dial(server: &Server) -> TcpStream {
    TcpStream::connect(server.addr).await.expect("connects")
}

/// Everything until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await.expect("the server closes");
    String::from_utf8_lossy(&bytes).into_owned()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn silent_connections_beyond_the_limit_lock_nobody_out() {
    let server = start(Router::new().route("/", routing::get(async || "hello")));
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS + 20 {
        let mut stream = dial(&server).await;
        stream.write_all(b"GET / HTTP/1.1\r\nX: ").await.expect("a part of a head");
        silent.push(stream);
    }
    let mut stream = dial(&server).await;
    stream.write_all(GET).await.expect("sent");
    assert!(rest(&mut stream).await.ends_with("hello"));
}

#[tokio::test]
async fn when_every_connection_is_busy_a_newcomer_is_told_at_once_when_to_come_back() {
    let (release, held) = watch::channel(false);
    let wait = move || {
        let mut held = held.clone();
        async move {
            let _ = held.wait_for(|h| *h).await;
            "done"
        }
    };
    let (entered, mut count) = tokio::sync::mpsc::unbounded_channel();
    let router = Router::new().route(
        "/",
        routing::get(move || {
            let _ = entered.send(());
            wait()
        }),
    );
    let server = start(router);
    let mut busy = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = dial(&server).await;
        stream.write_all(GET).await.expect("sent");
        count.recv().await.expect("its handler runs");
        busy.push(stream);
    }
    let mut stream = dial(&server).await;
    stream.write_all(GET).await.expect("sent");
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 5") && answer.contains("\"code\":\"busy\""), "{answer}");
    release.send_replace(true);
    for mut stream in busy {
        assert!(rest(&mut stream).await.ends_with("done"));
    }
}

#[tokio::test]
async fn who_sends_a_body_that_is_refused_still_hears_why() {
    let server = start(
        Router::new().route("/", routing::post(async || super::super::error::ApiError::new(super::super::error::Kind::TooLarge, "no"))),
    );
    let mut stream = dial(&server).await;
    let body = vec![7u8; 8 << 20];
    stream.write_all(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes()).await.expect("sent");
    // Sends everything before it looks, as many HTTP clients do.
    stream.write_all(&body).await.expect("the server takes it to the end");
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("\"code\":\"too_large\""), "{answer}");
}

#[tokio::test]
async fn a_request_under_way_is_finished_before_the_server_stops_and_idle_connections_are_not_waited_for() {
    let router = Router::new().route("/", routing::post(async |body: Bytes| body));
    let mut server = start(router);
    let idle = dial(&server).await;
    let mut stream = dial(&server).await;
    stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").await.expect("sent");
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.expect("the handler reads");
    server.stop.take().expect("once").send(()).expect("running");
    stream.write_all(b"ping").await.expect("sent");
    assert!(rest(&mut stream).await.ends_with("ping"));
    timeout(DRAIN, server.task).await.expect("stops").expect("no panic");
    drop(idle);
}
