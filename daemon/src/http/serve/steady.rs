//! A stream that gives up on clients that do not read, and says goodbye so that the last answer is heard.
//!
//! **Stall.** When nothing can be written for [`STALL`], writing fails: a client that asks for a large picture and reads none of it would
//! hold its connection for ever.
//!
//! **Linger.** After an answer that came before the request's end (413, 401), bytes of the request are still on their way. Closing the socket
//! on them resets the connection, and the client may never see the answer. So the writing side is closed first, and what comes in is
//! read and thrown away until the client closes, or [`LINGER_SILENCE`], or [`LINGER`].

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

const STALL: Duration = Duration::from_secs(30);
/// A client that sends its 64 MiB before it looks at the answer needs this long at 2 MB/s.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_SILENCE: Duration = Duration::from_secs(2);
const SCRATCH: usize = 32 << 10;

pub struct Steady<S> {
    inner: S,
    /// Set while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    linger: Option<Linger>,
}

struct Linger {
    end: Instant,
    silence: Pin<Box<Sleep>>,
    scratch: Vec<u8>,
}

impl<S> Steady<S> {
    pub fn new(inner: S) -> Self {
        Self { inner, stalled: None, linger: None }
    }

    /// Passes on what came of a write, and keeps the time while it waits.
    fn timed<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Steady<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Steady<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.timed(cx, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.timed(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.timed(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            let closed = Pin::new(&mut this.inner).poll_shutdown(cx);
            ready!(this.timed(cx, closed))?;
            this.linger =
                Some(Linger { end: Instant::now() + LINGER, silence: Box::pin(sleep(LINGER_SILENCE)), scratch: vec![0; SCRATCH] });
        }
        let Some(linger) = &mut this.linger else { return Poll::Ready(Ok(())) };
        loop {
            let mut buf = ReadBuf::new(&mut linger.scratch);
            match Pin::new(&mut this.inner).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && Instant::now() < linger.end => {
                    let next = linger.end.min(Instant::now() + LINGER_SILENCE);
                    linger.silence.as_mut().reset(next);
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return linger.silence.as_mut().poll(cx).map(Ok),
            }
        }
    }
}
