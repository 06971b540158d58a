//! The retained states beside those that go out with their events: told again to a broker that may have lost them, told anew where a job
//! went back to wait, cleared at their end.

use std::{collections::BTreeMap, time::Duration};

use super::{BATCH, Task, publish_all};
use crate::{
    domain::{
        event::{EventKind, JobEvent},
        ids::{JobId, Seq},
        job::Status,
    },
    ports::{Message, SinkError},
    store::Store,
};

/// Events of the log that are looked through for states to tell again: what SSE keeps, too.
const STATES_FROM: u64 = 20_000;
/// A clearing that the broker refused is offered again after this: its rules and quotas change by hand or with the hour, and one more
/// refusal each time costs nothing.
const CLEAR_AGAIN: Duration = Duration::from_secs(5 * 60);

impl Task {
    /// A broker that lost its retained messages (or another one under the same name) learns again the states that should stand: each job's
    /// last announced event says it. The log's older part is not read for them: those states are on their way out.
    pub(super) async fn tell_states_again(&mut self) -> Result<(), SinkError> {
        let standing = self.store.mqtt_standing();
        let mut last: BTreeMap<JobId, JobEvent> = BTreeMap::new();
        let mut at = Seq(self.cursor.0.saturating_sub(STATES_FROM));
        while !standing.is_empty() && at < self.cursor {
            let Ok(page) = self.store.events_after(at, BATCH) else { break };
            let Some(newest) = page.events.last() else { break };
            at = newest.seq;
            let of_interest = |e: &JobEvent| e.seq <= self.cursor && e.event != EventKind::Uploaded && standing.contains(&e.job_id);
            last.extend(page.events.into_iter().filter(of_interest).map(|e| (e.job_id, e)));
            tokio::task::yield_now().await;
        }
        let live = |e: &JobEvent| self.running.get(&e.job_id).and_then(|r| r.live);
        // A job may have gone back to wait before this connection, or before this process.
        let state = |e: &JobEvent| match put_back(&self.store, e) {
            Some(waits) => self.options.topics.job_state(&waits, None),
            None => self.options.topics.job_state(e, live(e)),
        };
        let states: Vec<Message> = last.values().map(state).collect();
        // One that the broker refuses is left out, as in `say`.
        let connected = self.sink.connected();
        publish_all(&*self.sink, states, |_, outcome| if *connected.borrow() { Ok(()) } else { outcome }).await
    }

    /// Going back to wait (for a retry, for room on the disk, after the end of the daemon) announces no event, yet the state that stands
    /// would say `processing` all that time. To be called when every event was announced.
    pub(super) async fn tell_put_back(&mut self) -> Result<(), SinkError> {
        let waiting: Vec<JobEvent> = self.running.values().filter_map(|running| put_back(&self.store, &running.event)).collect();
        for job in waiting {
            self.say(self.options.topics.job_state(&job, None)).await?;
            // Its late ticks are no news any more; the next start of the job is an event.
            self.running.remove(&job.job_id);
        }
        Ok(())
    }

    pub(super) async fn clear_states(&mut self) -> Result<(), SinkError> {
        let now = self.clock.mono();
        self.stuck.retain(|_, again| *again > now);
        for job in self.store.mqtt_clears() {
            if self.stuck.contains_key(&job) {
                continue;
            }
            // Noted only when it was taken: nobody would clear that state any more.
            if !self.offer(self.options.topics.job_cleared(job)).await? {
                self.stuck.insert(job, now + CLEAR_AGAIN);
                continue;
            }
            if let Err(error) = self.store.mqtt_cleared(job).await {
                tracing::warn!(%error, %job, "a cleared state could not be noted; it is cleared again later");
                break;
            }
        }
        Ok(())
    }
}

/// The job as it waits now, under the number and time of its last event, which says that it runs; None: it does run, or goes on to an
/// event that is still to be announced.
fn put_back(store: &Store, last: &JobEvent) -> Option<JobEvent> {
    if last.status != Status::Processing {
        return None;
    }
    // A row that cannot be read has been said elsewhere; the last event stands.
    let job = store.job(last.job_id).ok().flatten()?;
    (job.status == Status::Pending).then(|| JobEvent::of(&job, last.event, last.seq, last.ts))
}
