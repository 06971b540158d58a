//! What is announced: the transitions of jobs, durable and in one order, and progress ticks, which are neither.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    fault::{Code, FaultClass},
    ids::{JobId, PhotoId, Seq, UserId},
    job::{Job, Lane, Status},
    stage::Stage,
    time,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Submitted,
    Started,
    Retried,
    Completed,
    Failed,
    Cancelled,
    Uploaded,
}

impl EventKind {
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::Submitted => "submitted",
            EventKind::Started => "started",
            EventKind::Retried => "retried",
            EventKind::Completed => "completed",
            EventKind::Failed => "failed",
            EventKind::Cancelled => "cancelled",
            EventKind::Uploaded => "uploaded",
        }
    }
}

/// One transition, with the job as it was then: what MQTT and SSE show needs no second look at the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobEvent {
    /// Device-wide, given in the transaction, unchanged on resend; the SSE id.
    pub seq: Seq,
    #[serde(with = "time")]
    pub ts: Timestamp,
    pub event: EventKind,
    pub job_id: JobId,
    pub photo_id: PhotoId,
    /// For filtering by owner; never on MQTT.
    pub user_id: UserId,
    pub lane: Lane,
    pub status: Status,
    pub current_step: Option<Stage>,
    pub progress: u8,
    pub attempt: u32,
    pub error_type: Option<FaultClass>,
    pub error_code: Option<Code>,
    pub message: Option<String>,
    pub suggestion: Option<String>,
    pub processing_time_ms: Option<u64>,
}

impl JobEvent {
    pub fn of(job: &Job, event: EventKind, seq: Seq, ts: Timestamp) -> Self {
        let f = job.fault.as_ref();
        Self {
            seq,
            ts,
            event,
            job_id: job.id,
            photo_id: job.photo_id,
            user_id: job.user_id.clone(),
            lane: job.lane,
            status: job.status,
            current_step: job.current_step,
            progress: job.progress,
            attempt: job.attempt,
            error_type: f.map(|f| f.class),
            error_code: f.map(|f| f.code),
            message: f.map(|f| f.message.clone()),
            suggestion: f.map(|f| f.suggestion.clone()),
            processing_time_ms: job.processing_time_ms,
        }
    }
}

/// Where a running job is just now. Not stored, not resent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressTick {
    pub job_id: JobId,
    pub user_id: UserId,
    pub current_step: Stage,
    pub progress: u8,
}
