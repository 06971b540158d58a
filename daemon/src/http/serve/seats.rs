//! Who may be connected. A connection has a seat; it is *busy* from a request's head to the last byte of its answer, else it *waits*. When
//! all seats are taken, a newcomer gets the seat of the one that waits longest.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::Notify;

pub struct Seats {
    limit: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    by_age: BTreeMap<u64, Sitting>,
}

struct Sitting {
    busy: bool,
    evict: Arc<Notify>,
}

/// Given back when dropped.
pub struct Seat {
    seats: Arc<Seats>,
    number: u64,
    evict: Arc<Notify>,
}

/// A request is under way; dropped at the end of its answer.
pub struct Busy {
    seats: Arc<Seats>,
    number: u64,
}

impl Seats {
    pub fn new(limit: usize) -> Self {
        Self { limit, taken: Mutex::default() }
    }

    /// None: all seats are taken and all are busy.
    pub fn take(self: &Arc<Self>) -> Option<Seat> {
        let mut taken = self.lock();
        if taken.by_age.len() >= self.limit {
            let waiting = taken.by_age.iter().find(|(_, s)| !s.busy).map(|(number, _)| *number)?;
            if let Some(evicted) = taken.by_age.remove(&waiting) {
                evicted.evict.notify_one();
            }
        }
        let number = taken.next;
        taken.next += 1;
        let evict = Arc::new(Notify::new());
        taken.by_age.insert(number, Sitting { busy: false, evict: evict.clone() });
        Some(Seat { seats: self.clone(), number, evict })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// A request begins. None: the seat was given away just now.
    pub fn enter(&self) -> Option<Busy> {
        self.seats.lock().by_age.get_mut(&self.number)?.busy = true;
        Some(Busy { seats: self.seats.clone(), number: self.number })
    }

    /// Resolves when the seat was given to somebody else.
    pub async fn evicted(&self) {
        self.evict.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().by_age.remove(&self.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        if let Some(sitting) = taken.by_age.get_mut(&self.number) {
            sitting.busy = false;
        }
    }
}

/// An answer's body that keeps its connection busy until it was sent.
pub struct Held {
    inner: Body,
    _busy: Busy,
}

impl Held {
    pub fn new(inner: Body, busy: Busy) -> Self {
        Self { inner, _busy: busy }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_newcomer_gets_the_seat_of_the_one_that_waits_longest_and_never_a_busy_ones() {
        let seats = Arc::new(Seats::new(3));
        let (first, second, third) = (seats.take().expect("a seat"), seats.take().expect("a seat"), seats.take().expect("a seat"));
        let busy = first.enter().expect("seated");
        let fourth = seats.take().expect("the second's seat");
        assert!(second.evicted().now_or_never().is_some());
        assert!(second.enter().is_none(), "an evicted connection begins no request");
        let _busy = (third.enter(), fourth.enter());
        assert!(seats.take().is_none(), "all are busy");
        drop(busy);
        assert!(seats.take().is_some(), "the first waits again");
        drop(second);
    }

    #[test]
    fn a_seat_that_was_given_back_is_free_again() {
        let seats = Arc::new(Seats::new(1));
        let seat = seats.take().expect("a seat");
        let busy = seat.enter();
        assert!(seats.take().is_none());
        drop((busy, seat));
        assert!(seats.take().is_some());
    }
}
