//! Jobs: submit, the transitions that workers ask for, and what they leave for the outbox.

use std::time::Duration;

use uuid::Uuid;

use super::{
    Store, StoreError,
    blobs::result_name,
    commit::Tx,
    idempotency::{remember, replayed},
    rows,
    types::{Answer, Idempotency, NewJobs},
    uploads::queue_result,
};
use crate::domain::{
    event::EventKind,
    fault::Fault,
    ids::{JobId, PhotoId, UserId},
    job::{Job, Status, UploadStatus},
    photo::Photo,
    stage::{Stage, StepMs},
    transition::{Command, Outcome, Refusal},
};

impl Store {
    /// All or none: every photo must be there, and the queue must have room for all.
    pub async fn submit(&self, new: NewJobs, idempotency: Option<Idempotency>) -> Result<Vec<Job>, StoreError> {
        self.submit_as(new, idempotency, Answer::Jobs).await
    }

    /// The same, where the key is answered with more than the jobs.
    pub async fn submit_as(
        &self,
        new: NewJobs,
        idempotency: Option<Idempotency>,
        answer: impl FnOnce(Vec<JobId>) -> Answer + Send + 'static,
    ) -> Result<Vec<Job>, StoreError> {
        let ids: Vec<JobId> = new.photo_ids.iter().map(|_| JobId(Uuid::now_v7())).collect();
        self.commit(move |tx| {
            if let Some(answer) = replayed(tx, idempotency.as_ref())? {
                return jobs_of_answer(tx, answer);
            }
            let limit = tx.options().max_pending;
            if tx.pending() + ids.len() > limit {
                return Err(StoreError::QueueFull { pending: tx.pending(), limit });
            }
            let mut jobs = Vec::new();
            for (id, photo) in ids.iter().zip(&new.photo_ids) {
                jobs.push(submit_one(tx, *id, *photo, &new)?);
            }
            remember(tx, idempotency, answer(ids))?;
            Ok(jobs)
        })
        .await
    }

    /// Whether so many more jobs may wait. For those who must know before they do what cannot be taken back; `submit` looks again.
    pub fn room_for(&self, jobs: usize) -> Result<(), StoreError> {
        let (pending, limit) = (self.view().waiting.len(), self.options.max_pending);
        if pending + jobs > limit { Err(StoreError::QueueFull { pending, limit }) } else { Ok(()) }
    }

    /// Under a key that cancelled it before: the job as it is now.
    pub async fn cancel(&self, id: JobId, idempotency: Option<Idempotency>) -> Result<Job, StoreError> {
        self.commit(move |tx| {
            let job = tx.job(id)?;
            if replayed(tx, idempotency.as_ref())?.is_some() {
                return Ok(job);
            }
            remember(tx, idempotency, Answer::Jobs(vec![id]))?;
            let job = tx.transition(id, Command::Cancel)?;
            tx.remove_later(&result_name(id));
            Ok(job)
        })
        .await
    }

    pub async fn claim(&self, id: JobId) -> Result<Job, StoreError> {
        self.commit(move |tx| tx.transition(id, Command::Claim)).await
    }

    pub async fn step(&self, id: JobId, stage: Stage, step_ms: StepMs) -> Result<Job, StoreError> {
        self.commit(move |tx| tx.transition(id, Command::Step { stage, step_ms })).await
    }

    /// The result is on disk: the job's last state, its announcement and its uploads are one transaction.
    pub async fn complete(&self, id: JobId, outcome: Outcome) -> Result<Job, StoreError> {
        self.commit(move |tx| {
            let upload = tx.options().uploads;
            let artifacts = outcome.artifacts.clone();
            let job = tx.transition(id, Command::Complete { outcome: Box::new(outcome), upload })?;
            if upload {
                queue_result(tx, &job, &artifacts)?;
            }
            Ok(job)
        })
        .await
    }

    pub async fn fail(&self, id: JobId, fault: Fault, step_ms: StepMs, retry_in: Duration) -> Result<Job, StoreError> {
        self.commit(move |tx| tx.transition(id, Command::Fail { fault, step_ms, retry_in })).await
    }

    /// The photo is refused, and the picture that shows why is on disk.
    pub async fn refuse(&self, id: JobId, refusal: Refusal, step_ms: StepMs) -> Result<Job, StoreError> {
        self.commit(move |tx| tx.transition(id, Command::Refuse { refusal: Box::new(refusal), step_ms })).await
    }

    pub async fn put_back(&self, id: JobId) -> Result<Job, StoreError> {
        self.commit(move |tx| tx.transition(id, Command::PutBack)).await
    }

    /// Remembers a capture's answer under its key.
    pub async fn remember(&self, idempotency: Idempotency, answer: Answer) -> Result<(), StoreError> {
        self.commit(move |tx| remember(tx, Some(idempotency), answer)).await
    }
}

fn submit_one(tx: &mut Tx<'_>, id: JobId, photo: PhotoId, new: &NewJobs) -> Result<Job, StoreError> {
    let photo = original(tx, photo, &new.user_id)?;
    for other in new.merge.iter().flat_map(|merge| &merge.with) {
        original(tx, *other, &new.user_id)?;
    }
    let client = new.client.clone().filled_by(photo.client);
    let job = Job {
        id,
        seq: tx.next_row(),
        photo_id: photo.id,
        merge: new.merge.clone(),
        user_id: new.user_id.clone(),
        lane: new.lane,
        status: Status::Pending,
        current_step: None,
        progress: 0,
        attempt: 0,
        transient_retries: 0,
        crashes: 0,
        crashes_in_step: 0,
        crashed_step: None,
        fault: None,
        artifacts: None,
        annotated: None,
        upload: UploadStatus::Off,
        quality: None,
        step_ms: StepMs::default(),
        processing_time_ms: None,
        cached: false,
        not_before: None,
        client,
        created_at: tx.now.wall,
        started_at: None,
        completed_at: None,
        reprocess_of: new.reprocess_of,
    };
    tx.put_job(None, &job)?;
    tx.announce(&job, EventKind::Submitted)?;
    Ok(job)
}

/// A photo of this owner that can be worked on.
fn original(tx: &Tx<'_>, id: PhotoId, owner: &UserId) -> Result<Photo, StoreError> {
    let photo: Option<Photo> = tx.get(&rows::photo(id))?;
    let photo = photo.filter(|p| p.user_id == *owner).ok_or(StoreError::NotFound("photo"))?;
    if photo.on_disk { Ok(photo) } else { Err(StoreError::OriginalEvicted) }
}

fn jobs_of_answer(tx: &Tx<'_>, answer: Answer) -> Result<Vec<Job>, StoreError> {
    match answer {
        Answer::Jobs(ids) => ids.into_iter().map(|id| tx.job(id)).collect(),
        Answer::Capture { job, .. } => job.into_iter().map(|id| tx.job(id)).collect(),
        // The body's hash covers method and path: a photo's key cannot come back here with the same one.
        Answer::Photo(_) | Answer::KnownPhoto(_) => Err(StoreError::IdempotencyMismatch),
    }
}
