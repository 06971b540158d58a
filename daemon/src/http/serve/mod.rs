//! From socket to router: our own loop over hyper, because its limits are what keeps one bad client from being everybody's problem.
//!
//! ```text
//! accept -> seat -> [TLS] -> wait for a request head -> busy: handler, answer -> wait ... -> linger -> close
//!            |                 ^  10 s, then closed        |  body: 20 s silence, 10 min whole (body.rs): 408
//!            |                 +---------------------------+  answer: 30 s without the client taking a byte: closed
//!            +-- all seats taken: the oldest that waits gives up its seat; all busy: 503 at once
//! ```
//!
//! Connections that are held open and say nothing therefore cost nobody a seat; busy ones are bounded by the limits of uploads and streams
//! ([`super::MAX_UPLOADS`], [`super::MAX_STREAMS`]) and of time. On shutdown nothing new is accepted, requests under way may finish within
//! [`DRAIN`]. Heads that are no HTTP, or too large, are answered by hyper itself (400, 414, 431, without a body).

use std::{convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use self::{
    seats::{Held, Seat, Seats},
    steady::Steady,
};

mod seats;
mod steady;
pub mod tls;

/// Connections at once. A kiosk's page keeps up to seven; each costs about 40 kB.
pub const MAX_CONNECTIONS: usize = 256;

/// Connections that are being told that there is no seat; beyond these they are closed without a word.
const MAX_TURNED_AWAY: usize = 64;

/// From a connection's start, or the end of an answer, to the end of the next request's head. Also ends idle connections.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Bytes of a request's head; browsers stay below 8 kB.
const MAX_HEAD: usize = 32 << 10;

/// Headers of a request.
const MAX_HEADERS: usize = 64;

/// What a shutdown grants to requests under way.
pub const DRAIN: Duration = Duration::from_secs(10);

/// Out of file descriptors: wait instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 1024;

/// How long somebody who is turned away has to take the answer.
const TURN_AWAY_TIME: Duration = Duration::from_secs(2);

const TURNED_AWAY: &str = r#"{"type":"/docs#busy","title":"Service Unavailable","status":503,"detail":"all connections are in use","code":"busy","error_type":"transient_error","message":"The device is busy.","suggestion":"Wait a moment and try again.","request_id":""}"#;

/// SO_REUSEADDR: a daemon that restarts must not wait for the old one's connections to be forgotten.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves until `shutdown` resolves, then lets requests under way finish. Returns when the last connection is closed or [`DRAIN`] is over.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, shutdown: impl Future<Output = ()>) {
    let seats = Arc::new(Seats::new(MAX_CONNECTIONS));
    let turned_away = Arc::new(Semaphore::new(MAX_TURNED_AWAY));
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::warn!("accept: {e}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true); // only a matter of speed
        match seats.take() {
            Some(seat) => drop(tasks.spawn(connection(stream, tls.clone(), router.clone(), seat, stopping.clone()))),
            None => {
                if let (None, Ok(permit)) = (&tls, turned_away.clone().try_acquire_owned()) {
                    tasks.spawn(async move {
                        let _ = timeout(TURN_AWAY_TIME, turn_away(stream)).await;
                        drop(permit);
                    });
                }
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    let _ = timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    tasks.shutdown().await;
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router, seat: Seat, stopping: watch::Receiver<bool>) {
    match tls {
        None => speak(stream, router, seat, stopping).await,
        Some(tls) => {
            let handshake = tokio::select! {
                done = timeout(HEAD_TIME, tls.accept(stream)) => done,
                () = seat.evicted() => return,
            };
            if let Ok(Ok(stream)) = handshake {
                speak(stream, router, seat, stopping).await;
            }
        }
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    seat: Seat,
    mut stopping: watch::Receiver<bool>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (router, busy) = (router.clone(), seat.enter());
        async move {
            // Evicted in this very moment: better no answer than half a request.
            let busy = busy.ok_or(io::ErrorKind::ConnectionAborted)?;
            let response = router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never: Infallible| match never {});
            Ok::<_, io::Error>(response.map(|body| Held::new(body, busy)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        // A client that has said all it has to say may close its side and wait for the answer. One that is gone fails the next write.
        .half_close(true)
        .serve_connection(TokioIo::new(Steady::new(stream)), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut told = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(e) = ended {
                    tracing::trace!("connection: {e}");
                }
                return;
            }
            () = seat.evicted() => return,
            _ = stopping.wait_for(|s| *s), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Says that there is no seat, and waits for the client to have read it: closing on unread bytes would reset the connection.
async fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nretry-after: {}\r\nconnection: close\r\n\r\n",
        TURNED_AWAY.len(),
        super::error::RETRY_AFTER_S
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(TURNED_AWAY.as_bytes()).await?;
    stream.shutdown().await?;
    let mut scratch = [0; 1024];
    while stream.read(&mut scratch).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests;
