//! Deliveries, as rows: what the broker and the bucket are still to be told. `crate::outbox` drains them.

use std::{collections::HashSet, time::Duration};

use super::{
    Store, StoreError,
    commit::Tx,
    rows::{self, Subject, UploadRecord},
    types::{Events, First, UploadCounts, UploadRow, UploadTask},
    view::UploadEntry,
};
use crate::{
    domain::{
        event::JobEvent,
        ids::{JobId, Seq},
        job::{Job, UploadStatus},
        photo::Photo,
        transition::Command,
    },
    ports::PutObject,
};

/// Events that SSE can replay: what the contract promises. Each costs the index some 40 bytes of memory, beside its row on the disk.
const EVENTS_KEPT: u64 = 10_000;
/// Events that wait for a broker that stays away: some 100 MB. Older ones are dropped; the broker's clients then see a gap in `seq`.
const EVENTS_OWED: u64 = 200_000;
/// Dropped at once, so that trimming is one transaction in a thousand.
const TRIM: u64 = 1_000;

impl Store {
    /// Events after `after`, oldest first, none left out that is there.
    pub fn events_after(&self, after: Seq, limit: usize) -> Result<Events, StoreError> {
        let events = unbroken(after, || self.reader.rows(b'e', &rows::event(Seq(after.0 + 1)), limit))?;
        let first = self.view().first_event.unwrap_or(Seq(1));
        Ok(Events { events, gap: after.0 + 1 < first.0 })
    }

    /// The last event that the broker confirmed.
    pub fn mqtt_cursor(&self) -> Seq {
        self.view().cursor
    }

    pub async fn mqtt_confirmed(&self, up_to: Seq) -> Result<(), StoreError> {
        self.commit(move |tx| {
            tx.put(rows::CURSOR.to_vec(), &up_to)?;
            Ok(())
        })
        .await
    }

    /// Jobs whose retained MQTT state is due to be cleared (an hour after their end, or at once after a delete), and whose last
    /// state was published.
    pub fn mqtt_clears(&self) -> Vec<JobId> {
        let now = self.options.clock.mono();
        let view = self.view();
        view.clears.iter().filter(|c| c.after <= view.cursor && c.due <= now).map(|c| c.id).collect()
    }

    /// Jobs whose retained state should stand at the broker: the unfinished ones, and those that ended less than an hour ago.
    pub fn mqtt_standing(&self) -> HashSet<JobId> {
        let now = self.options.clock.mono();
        let view = self.view();
        let ended = view.clears.iter().filter(|c| c.due > now).map(|c| c.id);
        let waiting = view.waiting.values().map(|w| w.id);
        waiting.chain(view.running.iter().copied()).chain(ended).collect()
    }

    pub async fn mqtt_cleared(&self, id: JobId) -> Result<(), StoreError> {
        self.commit(move |tx| {
            tx.delete(rows::clear(id));
            Ok(())
        })
        .await
    }

    /// Rows that are due now (their backoff has passed).
    pub fn due_uploads(&self, limit: usize, first: First) -> Vec<UploadRow> {
        let now = self.options.clock.mono();
        let seqs: Vec<Seq> = {
            let view = self.view();
            // A delete must not overtake an upload of the same object that is on its way.
            let overtakes = |u: &UploadEntry| u.subject == Subject::Deleted && view.busy.values().any(|key| *key == u.s3_key);
            let due = view.uploads.iter().filter(|(_, u)| u.due <= now && !u.in_flight && !overtakes(u));
            match first {
                First::Oldest => due.map(|(seq, _)| *seq).take(limit).collect(),
                First::Newest => due.rev().map(|(seq, _)| *seq).take(limit).collect(),
                First::LeastTried => {
                    let mut due: Vec<(u32, Seq)> = due.map(|(seq, u)| (u.attempts, *seq)).collect();
                    due.sort_unstable();
                    due.into_iter().map(|(_, seq)| seq).take(limit).collect()
                }
            }
        };
        seqs.into_iter().filter_map(|seq| self.upload_row(seq)).collect()
    }

    fn upload_row(&self, seq: Seq) -> Option<UploadRow> {
        // Err: the daemon is about to end for it.
        let row: UploadRecord = self.reader.row(&rows::upload(seq)).ok()??;
        let task = match row.file {
            None => UploadTask::Delete(row.s3_key),
            Some(f) => UploadTask::Put(PutObject {
                key: row.s3_key,
                path: self.options.state.join(f.path),
                content_type: f.content_type,
                sha256: f.sha256,
                bytes: f.bytes,
            }),
        };
        Some(UploadRow { seq, task, attempts: row.attempts })
    }

    /// When the next row that backs off becomes due (monotonic).
    pub fn next_upload_due(&self) -> Option<Duration> {
        self.view().uploads.values().filter(|u| !u.in_flight).map(|u| u.due).min()
    }

    pub fn uploads(&self) -> UploadCounts {
        let view = self.view();
        UploadCounts {
            pending: view.uploads.len(),
            bytes: view.uploads.values().map(|u| u.bytes).sum(),
            last_confirmed: view.last_confirmed,
        }
    }

    /// An attempt begins: the job shows `uploading`.
    pub async fn upload_started(&self, row: Seq) -> Result<(), StoreError> {
        self.view_mut().set_in_flight(row, true);
        self.commit(move |tx| {
            let Some(upload) = tx.get::<UploadRecord>(&rows::upload(row))? else { return Ok(()) };
            let Subject::Job(id) = upload.subject else { return Ok(()) };
            if tx.job(id)?.upload == UploadStatus::Pending {
                tx.transition(id, Command::UploadStarted)?;
            }
            Ok(())
        })
        .await
    }

    /// The server vouched. The job's last row makes it `uploaded` and announces that, in the same transaction.
    pub async fn upload_confirmed(&self, row: Seq) -> Result<(), StoreError> {
        self.view_mut().set_in_flight(row, false);
        self.commit(move |tx| {
            // Taken back by a delete in the meantime: the object's own delete row stands behind it.
            let Some(upload) = tx.get::<UploadRecord>(&rows::upload(row))? else { return Ok(()) };
            tx.delete(rows::upload(row));
            match upload.subject {
                Subject::Deleted => Ok(()),
                Subject::Job(id) => arrived(tx, id, row),
                Subject::Original(id) => {
                    if let Some(mut photo) = tx.get::<Photo>(&rows::photo(id))? {
                        photo.uploaded = true;
                        tx.put(rows::photo(id), &photo)?;
                    }
                    for job in tx.jobs_of(id)? {
                        arrived(tx, job.id, row)?;
                    }
                    Ok(())
                }
            }
        })
        .await
    }

    /// Tried and failed: again after `backoff`.
    pub async fn upload_deferred(&self, row: Seq, backoff: Duration) -> Result<(), StoreError> {
        self.view_mut().set_in_flight(row, false);
        self.commit(move |tx| {
            let Some(mut upload) = tx.get::<UploadRecord>(&rows::upload(row))? else { return Ok(()) };
            upload.attempts = upload.attempts.saturating_add(1);
            upload.not_before = jiff::SignedDuration::try_from(backoff).ok().and_then(|d| tx.now.wall.checked_add(d).ok());
            tx.put(rows::upload(row), &upload)
        })
        .await
    }

    /// The endpoint is away, which says nothing about the row: it stays due.
    pub fn upload_released(&self, row: Seq) {
        self.view_mut().set_in_flight(row, false);
    }

    /// The local file is gone for good: the row goes, its job shows `failed`.
    pub async fn upload_given_up(&self, row: Seq) -> Result<(), StoreError> {
        self.view_mut().set_in_flight(row, false);
        self.commit(move |tx| {
            let Some(upload) = tx.get::<UploadRecord>(&rows::upload(row))? else { return Ok(()) };
            tx.delete(rows::upload(row));
            let waiting: Vec<JobId> = match upload.subject {
                Subject::Deleted => Vec::new(),
                Subject::Job(id) => vec![id],
                Subject::Original(id) => tx.jobs_of(id)?.into_iter().map(|j| j.id).collect(),
            };
            for id in waiting {
                let awaited: Vec<Seq> = tx.get(&rows::awaited(id))?.unwrap_or_default();
                if awaited.contains(&row) {
                    tx.transition(id, Command::UploadFailed)?;
                    tx.delete(rows::awaited(id));
                }
            }
            Ok(())
        })
        .await
    }

    /// Drops events that nobody can be owed any more. Called now and then; cheap when there is nothing to do.
    pub async fn trim_events(&self) -> Result<(), StoreError> {
        while self.trim_some().await? {}
        Ok(())
    }

    async fn trim_some(&self) -> Result<bool, StoreError> {
        let (first, last, cursor) = {
            let view = self.view();
            (view.first_event.unwrap_or(Seq(1)).0, view.last_event.0, view.cursor.0)
        };
        let wanted = last.saturating_sub(EVENTS_KEPT);
        let owed = if self.options.mqtt { cursor.max(last.saturating_sub(EVENTS_OWED)) } else { last };
        let drop_to = wanted.min(owed);
        if first + TRIM > drop_to {
            return Ok(false);
        }
        self.commit(move |tx| {
            (first..first + TRIM).for_each(|seq| tx.delete(rows::event(Seq(seq))));
            Ok(true)
        })
        .await
    }
}

/// Events behind `after` as `read` finds them, without a hole that is none. A group that sled is told of while its pages are walked may show its later rows and
/// not its earlier ones, which the overlay did not have yet when the walk began: at the second look they are there. What is missing then, too,
/// was dropped for its age or went with a damaged journal.
fn unbroken(after: Seq, mut read: impl FnMut() -> Result<Vec<JobEvent>, StoreError>) -> Result<Vec<JobEvent>, StoreError> {
    // The event before the first hole.
    let hole = |events: &[JobEvent]| {
        let before = std::iter::once(after).chain(events.iter().map(|e| e.seq));
        before.zip(events).find(|(before, event)| event.seq.0 != before.0 + 1).map(|(before, _)| before)
    };
    let events = read()?;
    let Some(first) = hole(&events) else { return Ok(events) };
    let mut again = read()?;
    if let Some(at) = hole(&again).filter(|at| *at != first) {
        // A newer group: its turn is the next time.
        again.retain(|event| event.seq <= at);
    }
    Ok(again)
}

/// One of the things that a job waited for has arrived.
fn arrived(tx: &mut Tx<'_>, id: JobId, row: Seq) -> Result<(), StoreError> {
    let Some(mut awaited) = tx.get::<Vec<Seq>>(&rows::awaited(id))? else { return Ok(()) };
    awaited.retain(|seq| *seq != row);
    if !awaited.is_empty() {
        return tx.put(rows::awaited(id), &awaited);
    }
    tx.delete(rows::awaited(id));
    let job: Job = tx.job(id)?;
    if job.upload != UploadStatus::Off {
        tx.transition(id, Command::Uploaded)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{event::EventKind, transition::tests::pending};

    fn events(seqs: &[u64]) -> Vec<JobEvent> {
        let job = pending();
        seqs.iter().map(|seq| JobEvent::of(&job, EventKind::Submitted, Seq(*seq), job.created_at)).collect()
    }

    #[test]
    fn a_hole_that_is_gone_at_the_second_look_was_none_and_one_that_stays_is_passed() {
        for (looks, found) in [
            (vec![vec![4, 5, 6]], vec![4, 5, 6]),
            (vec![vec![4, 7, 8], vec![4, 5, 6, 7, 8]], vec![4, 5, 6, 7, 8]),
            (vec![vec![4, 7, 8], vec![4, 7, 8, 9]], vec![4, 7, 8, 9]),
            (vec![vec![4, 7, 8], vec![4, 5, 6, 7, 8, 11]], vec![4, 5, 6, 7, 8]),
            (vec![vec![5, 6], vec![4, 5, 6]], vec![4, 5, 6]),
            (vec![vec![9, 10], vec![9, 10]], vec![9, 10]),
        ] {
            let mut looks = looks.into_iter();
            let read = unbroken(Seq(3), || Ok(events(&looks.next().expect("two looks at most")))).expect("reads");
            assert_eq!(read.iter().map(|e| e.seq.0).collect::<Vec<_>>(), found);
            assert_eq!(looks.next(), None, "each look was asked for");
        }
    }
}
