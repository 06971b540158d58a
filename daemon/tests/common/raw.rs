//! HTTP by hand, for requests that no HTTP library would send: half ones, slow ones, wrong ones.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::Value;

/// The address behind `http://HOST:PORT`.
pub fn address(base: &str) -> &str {
    base.trim_start_matches("http://")
}

pub fn connect(base: &str) -> TcpStream {
    let stream = TcpStream::connect(address(base)).expect("the daemon takes connections");
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Head of a request; the caller ends it with an empty line.
pub fn head(method: &str, path: &str, base: &str, token: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n", address(base))
}

/// Status and body of what comes back, or `None` when the connection is closed without an answer.
#[track_caller]
pub fn read_answer(stream: &mut TcpStream, within: Duration) -> Option<(u16, String)> {
    let end = Instant::now() + within;
    let mut got = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        if let Some(answer) = whole_answer(&got) {
            return Some(answer);
        }
        assert!(Instant::now() < end, "no whole answer within {within:?}: {:?}", String::from_utf8_lossy(&got));
        match stream.read(&mut chunk) {
            Ok(0) => return whole_answer(&got).or_else(|| status_of(&got).map(|s| (s, String::new()))),
            Ok(n) => got.extend_from_slice(&chunk[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(_) => return whole_answer(&got).or_else(|| status_of(&got).map(|s| (s, String::new()))),
        }
    }
}

fn status_of(got: &[u8]) -> Option<u16> {
    String::from_utf8_lossy(got).strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

fn whole_answer(got: &[u8]) -> Option<(u16, String)> {
    let at = got.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&got[..at]).to_ascii_lowercase();
    let length: usize = head.lines().find_map(|l| l.strip_prefix("content-length:"))?.trim().parse().ok()?;
    let body = got.get(at + 4..at + 4 + length)?;
    Some((status_of(got)?, String::from_utf8_lossy(body).into_owned()))
}

/// Sends a request with a body of `chunks` x `chunk`, ends early when an answer comes, gives the answer.
/// `chunked`: without a declared length.
#[track_caller]
pub fn send_big(base: &str, head: &str, chunk: &[u8], chunks: usize, chunked: bool) -> Option<(u16, String)> {
    let mut stream = connect(base);
    let mut out = stream.try_clone().unwrap();
    let length = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {}", chunk.len() * chunks) };
    let (head, chunk) = (format!("{head}{length}\r\n\r\n"), chunk.to_vec());
    let writer = std::thread::spawn(move || {
        // A write that fails is the server's early answer, which is what we came for.
        let mut send = || -> std::io::Result<()> {
            out.write_all(head.as_bytes())?;
            for _ in 0..chunks {
                if chunked {
                    out.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
                }
                out.write_all(&chunk)?;
                if chunked {
                    out.write_all(b"\r\n")?;
                }
            }
            if chunked { out.write_all(b"0\r\n\r\n") } else { Ok(()) }
        };
        let _ = send();
    });
    let answer = read_answer(&mut stream, Duration::from_secs(60));
    let _ = stream.shutdown(std::net::Shutdown::Both);
    let _ = writer.join();
    answer
}

/// One whole request as text, one answer.
#[track_caller]
pub fn ask(base: &str, request: &str) -> Option<(u16, Option<Value>)> {
    let mut stream = connect(base);
    stream.write_all(request.as_bytes()).unwrap();
    read_answer(&mut stream, Duration::from_secs(30)).map(|(status, body)| (status, serde_json::from_str(&body).ok()))
}
