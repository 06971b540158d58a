//! One listener's view of the event log: replay, then live, without a hole and without a double.
//!
//! ```text
//!            subscribe first, then read the log after `last`
//!  Replay ------------------------------------------------> Live
//!     ^      chunk by chunk, up to the newest event           |
//!     +-------------------------------------------------------+
//!        the live channel overflowed: read the log again
//! ```
//!
//! `last` is the newest seq that was considered; whatever is not above it was sent (or was somebody else's) and is dropped. The live channel
//! is opened before the log is read, so an event that is committed in between is seen in both and sent once.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast, watch},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::super::{
    Api,
    auth::Caller,
    error::{ApiError, ApiResult, Kind},
};
use crate::{
    domain::{
        event::{JobEvent, ProgressTick},
        ids::Seq,
        job::Status,
    },
    store::StoreError,
};

/// Proxies and wireless routers forget silent connections after 30 s and more.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events read from the log at once.
const CHUNK: usize = 256;

/// What a listener is told.
#[derive(Debug, Clone)]
pub enum Item {
    Event(Arc<JobEvent>),
    Progress(ProgressTick),
    /// Events were missed for good; what follows comes after this seq.
    Reset(Seq),
    /// Nothing happened.
    Alive,
}

impl Item {
    pub fn name(&self) -> &'static str {
        match self {
            Item::Event(e) => e.event.name(),
            Item::Progress(_) => "progress",
            Item::Reset(_) => "reset",
            Item::Alive => "alive",
        }
    }

    /// What a listener brings back as Last-Event-ID.
    pub fn seq(&self) -> Option<Seq> {
        match self {
            Item::Event(e) => Some(e.seq),
            Item::Reset(seq) => Some(*seq),
            Item::Progress(_) | Item::Alive => None,
        }
    }

    /// One object with `type` first.
    pub fn json(&self) -> Value {
        let mut object = json!({ "type": self.name() });
        let fields = match self {
            Item::Event(e) => json!(**e),
            Item::Progress(t) => json!(t),
            Item::Reset(seq) => json!({ "seq": seq }),
            Item::Alive => json!({}),
        };
        if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
            object.extend(fields);
        }
        object
    }
}

async fn raised(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|d| *d).await; // a sender that is gone means the same
}

pub struct Feed {
    api: Arc<Api>,
    caller: Caller,
    last: Seq,
    /// Read from the log, not sent yet.
    replay: VecDeque<JobEvent>,
    /// The log may hold more after `replay`.
    behind: bool,
    /// Tell of a reset first.
    reset: bool,
    live: broadcast::Receiver<Arc<JobEvent>>,
    ticks: broadcast::Receiver<ProgressTick>,
    alive: Interval,
    draining: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Feed {
    /// `since`: the last id that the listener saw; None: from now on. An id that is not ours (newer than our newest, or no number) means
    /// that the listener knew another store: reset.
    pub fn open(api: Arc<Api>, caller: Caller, since: Option<&str>) -> ApiResult<Self> {
        let permit = api.streams.clone().try_acquire_owned().map_err(|_| ApiError::new(Kind::Busy, "too many streams are open"))?;
        if api.is_draining() {
            return Err(ApiError::new(Kind::ShuttingDown, "no new streams"));
        }
        let (live, ticks, draining) = (api.store.subscribe(), api.live.subscribe(), api.draining.clone());
        let newest = api.store.last_event();
        let asked = since.map(|s| s.parse().map(Seq).ok().filter(|s| *s <= newest));
        let (last, behind, reset) = match asked {
            None => (newest, false, false),
            Some(Some(seq)) => (seq, true, false),
            Some(None) => (newest, false, true),
        };
        let mut alive = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { api, caller, last, replay: VecDeque::new(), behind, reset, live, ticks, alive, draining, _permit: permit })
    }

    /// The next thing to tell; None: the feed has ended (the daemon stops, the token was revoked, the store is gone).
    pub async fn next(&mut self) -> Option<Item> {
        let item = self.upcoming().await?;
        // Asked for each: a token that was revoked sees nothing more.
        self.api.door.still_admits(&self.caller).then_some(item)
    }

    async fn upcoming(&mut self) -> Option<Item> {
        loop {
            if std::mem::take(&mut self.reset) {
                return Some(Item::Reset(self.last));
            }
            while let Some(event) = self.replay.pop_front() {
                if let Some(item) = self.pass(Arc::new(event)) {
                    return Some(item);
                }
            }
            if self.behind {
                self.read_log().inspect_err(|e| tracing::error!("event stream: {e}")).ok()?;
                continue;
            }
            tokio::select! {
                biased; // a job's end before its last tick
                () = raised(&mut self.draining) => return None,
                event = self.live.recv() => match event {
                    Ok(event) => if let Some(item) = self.pass(event) { return Some(item) },
                    Err(broadcast::error::RecvError::Lagged(_)) => self.behind = true,
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                tick = self.ticks.recv() => match tick {
                    Ok(tick) if self.is_news(&tick) => return Some(Item::Progress(tick)),
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                _ = self.alive.tick() => return Some(Item::Alive),
            }
        }
    }

    fn read_log(&mut self) -> Result<(), StoreError> {
        let newest = self.api.store.last_event();
        let read = self.api.store.events_after(self.last, CHUNK)?;
        if read.gap {
            self.last = self.api.store.last_event();
            (self.reset, self.behind) = (true, false);
        } else {
            // A chunk may also end early, before a group that is just being written: the live channel may have dropped that one.
            self.behind = read.events.last().is_some_and(|event| event.seq < newest);
            self.replay = read.events.into();
        }
        Ok(())
    }

    /// The event, unless it was seen before or is not this caller's.
    fn pass(&mut self, event: Arc<JobEvent>) -> Option<Item> {
        if event.seq <= self.last {
            return None;
        }
        self.last = event.seq;
        self.caller.may_see(&event.user_id).then_some(Item::Event(event))
    }

    /// A tick that comes after its job's end would turn the bar back on.
    fn is_news(&self, tick: &ProgressTick) -> bool {
        self.caller.may_see(&tick.user_id)
            && self.api.store.job(tick.job_id).is_ok_and(|job| job.is_some_and(|j| j.status == Status::Processing))
    }
}
