//! The life of a job, as pure values.
//!
//! ```text
//!   submit            Claim              Complete
//!  ------> Pending ---------> Processing ---------> Completed --Uploaded--> (upload: uploaded)
//!             ^  \             |  |  |
//!             |   \ Cancel     |  |  | Fail, no retry left / Crash at the limit
//!     Fail    |    \           |  |  +-------------> Failed
//!     (retry),|     \          |  | Cancel
//!     Crash,  +------\---------+  |
//!     PutBack         +-----------+----------------> Cancelled
//! ```
//!
//! [`apply`] takes a job and a command and gives the next job and the event to announce, or why not. It reads no clock and does
//! no I/O: the store runs it inside a transaction. A cancel is final at once; the worker finds out at its next checkpoint.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    event::EventKind,
    fault::{Code, Fault, FaultClass},
    job::{Annotated, Artifacts, Job, Status, UploadStatus},
    quality::Quality,
    stage::{Stage, StepMs},
};

/// Where the progress of an attempt without a result ends at the most, percent.
const ALL_BUT_DONE: u8 = 99;

/// What a finished pipeline hands over.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub artifacts: Artifacts,
    pub quality: Quality,
    pub step_ms: StepMs,
    pub processing_time_ms: u64,
    pub cached: bool,
}

/// What the quality gate hands over: why the photo is refused, and the size of the picture that shows it.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// A quality_issue.
    pub fault: Fault,
    /// None: no iris was found, there is nothing to measure.
    pub quality: Option<Quality>,
    pub annotated_bytes: u64,
}

#[derive(Debug, Clone)]
pub enum Command {
    /// A worker takes the job. Stored before it runs, so that a job that kills the process is counted.
    Claim,
    /// A step begins.
    Step {
        stage: Stage,
        step_ms: StepMs,
    },
    /// `upload`: there is a bucket to bring the result to.
    Complete {
        outcome: Box<Outcome>,
        upload: bool,
    },
    /// `retry_in`: how long to wait before the one automatic retry, should the fault allow it.
    Fail {
        fault: Fault,
        step_ms: StepMs,
        retry_in: Duration,
    },
    /// The gate refused the photo; its picture is on disk.
    Refuse {
        refusal: Box<Refusal>,
        step_ms: StepMs,
    },
    Cancel,
    /// The process died while the job ran (seen at the next start). `limit`: deaths in a row in one step.
    Crash {
        limit: u32,
    },
    /// A clean shutdown interrupted the job.
    PutBack,
    UploadStarted,
    /// Every object of the job, and its original where wanted, was vouched for.
    Uploaded,
    /// The bucket refused for good (not: could not be reached).
    UploadFailed,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the job is already {}", .0.name())]
    Already(Status),
    #[error("the job is {}, not processing", .0.name())]
    NotRunning(Status),
    #[error("the job has no result to upload")]
    NothingToUpload,
}

/// The next state of `job`, and what to announce (giving back and step changes announce nothing).
pub fn apply(mut job: Job, command: Command, now: Timestamp) -> Result<(Job, Option<EventKind>), Refused> {
    use Status::{Cancelled, Completed, Failed, Pending, Processing};
    let running = |job: &Job| if job.status == Processing { Ok(()) } else { Err(Refused::NotRunning(job.status)) };
    let event = match command {
        Command::Claim => {
            if job.status != Pending {
                return Err(Refused::Already(job.status));
            }
            let again = job.attempt > 0;
            job.status = Processing;
            job.attempt += 1;
            job.current_step = Some(Stage::Load);
            job.progress = 0;
            job.step_ms = StepMs::default();
            job.not_before = None;
            job.fault = None;
            job.started_at = Some(now);
            Some(if again { EventKind::Retried } else { EventKind::Started })
        }
        Command::Step { stage, step_ms } => {
            running(&job)?;
            job.current_step = Some(stage);
            job.progress = job.progress.max(stage.band().0);
            job.step_ms = step_ms;
            None
        }
        Command::Complete { outcome, upload } => {
            running(&job)?;
            job.status = Completed;
            job.current_step = None;
            job.progress = 100;
            job.artifacts = Some(outcome.artifacts);
            job.quality = Some(outcome.quality);
            job.step_ms = outcome.step_ms;
            job.processing_time_ms = Some(outcome.processing_time_ms);
            job.cached = outcome.cached;
            job.fault = None;
            job.crashes_in_step = 0;
            job.crashed_step = None;
            job.upload = if upload { UploadStatus::Pending } else { UploadStatus::Off };
            job.completed_at = Some(now);
            Some(EventKind::Completed)
        }
        Command::Fail { fault, step_ms, retry_in } => {
            running(&job)?;
            // A run that was given up says nothing of its steps: what was stored stands.
            if step_ms != StepMs::default() {
                job.step_ms = step_ms;
            }
            if fault.class == FaultClass::TransientError && job.transient_retries == 0 {
                job.transient_retries = 1;
                back_to_pending(&mut job);
                job.not_before = now.checked_add(SignedDuration::try_from(retry_in).unwrap_or(SignedDuration::from_secs(60))).ok();
                job.fault = Some(fault); // shown while it waits: the person sees why
                None
            } else {
                finish(&mut job, Failed, Some(fault), now);
                Some(EventKind::Failed)
            }
        }
        Command::Refuse { refusal, step_ms } => {
            running(&job)?;
            job.step_ms = step_ms;
            job.quality = refusal.quality;
            job.annotated = Some(Annotated { bytes: refusal.annotated_bytes, on_disk: true });
            finish(&mut job, Failed, Some(refusal.fault), now);
            Some(EventKind::Failed)
        }
        Command::Cancel => {
            if job.status.is_final() {
                return Err(Refused::Already(job.status));
            }
            finish(&mut job, Cancelled, None, now);
            Some(EventKind::Cancelled)
        }
        Command::Crash { limit } => {
            running(&job)?;
            job.crashes += 1;
            // Only a step that was never reached before is a new checkpoint: a photo that kills now in one step, now in an earlier one
            // would never come to the limit otherwise.
            let got_further = job.crashed_step.is_none() || job.current_step > job.crashed_step;
            job.crashes_in_step = if got_further { 1 } else { job.crashes_in_step + 1 };
            job.crashed_step = job.crashed_step.max(job.current_step);
            if job.crashes_in_step >= limit {
                let detail = format!("{} deaths of the process, none of them beyond step {:?}", job.crashes_in_step, job.crashed_step);
                finish(&mut job, Failed, Some(Fault::new(Code::PoisonPhoto, detail)), now);
                Some(EventKind::Failed)
            } else {
                back_to_pending(&mut job);
                None
            }
        }
        Command::PutBack => {
            running(&job)?;
            // A clean end breaks the row of deaths.
            job.crashes_in_step = 0;
            job.crashed_step = None;
            back_to_pending(&mut job);
            None
        }
        Command::UploadStarted => {
            if job.upload == UploadStatus::Pending {
                job.upload = UploadStatus::Uploading;
            }
            None
        }
        Command::Uploaded => {
            if job.status != Completed || job.upload == UploadStatus::Off {
                return Err(Refused::NothingToUpload);
            }
            let first = job.upload != UploadStatus::Uploaded;
            job.upload = UploadStatus::Uploaded;
            first.then_some(EventKind::Uploaded)
        }
        Command::UploadFailed => {
            if job.status != Completed || job.upload == UploadStatus::Off {
                return Err(Refused::NothingToUpload);
            }
            job.upload = UploadStatus::Failed;
            None
        }
    };
    Ok((job, event))
}

fn finish(job: &mut Job, status: Status, fault: Option<Fault>, now: Timestamp) {
    job.status = status;
    leave_step(job);
    job.fault = fault;
    job.upload = UploadStatus::Off;
    job.not_before = None;
    job.completed_at = Some(now);
    job.processing_time_ms = Some(job.step_ms.total());
}

fn back_to_pending(job: &mut Job) {
    job.status = Status::Pending;
    leave_step(job);
}

/// The attempt ends in the middle of a step. What was shown of it lay anywhere up to the step's end and must not fall: the next attempt
/// begins at 0.
fn leave_step(job: &mut Job) {
    if let Some(step) = job.current_step.take() {
        job.progress = job.progress.max(step.band().1.min(ALL_BUT_DONE));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        ids::{JobId, PhotoId, Seq, UserId},
        job::Lane,
        photo::ClientInfo,
    };

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).expect("in range")
    }

    pub(crate) fn pending() -> Job {
        Job {
            id: JobId(Uuid::from_u128(1)),
            seq: Seq(1),
            photo_id: PhotoId(Uuid::from_u128(2)),
            merge: None,
            user_id: UserId::local(),
            lane: Lane::HighPriority,
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
            client: ClientInfo::default(),
            created_at: at(0),
            started_at: None,
            completed_at: None,
            reprocess_of: None,
        }
    }

    fn run(job: Job, command: Command) -> (Job, Option<EventKind>) {
        apply(job, command, at(10)).expect("allowed")
    }

    fn fail(code: Code) -> Command {
        Command::Fail { fault: Fault::new(code, "test"), step_ms: StepMs::default(), retry_in: Duration::from_secs(2) }
    }

    #[test]
    fn a_transient_fault_is_retried_once_and_then_fails() {
        let (job, event) = run(pending(), Command::Claim);
        assert_eq!((event, job.attempt), (Some(EventKind::Started), 1));
        let (job, event) = run(job, fail(Code::DeviceBusy));
        assert_eq!((event, job.status, job.not_before), (None, Status::Pending, Some(at(12))));
        let (job, event) = run(job, Command::Claim);
        assert_eq!((event, job.attempt), (Some(EventKind::Retried), 2));
        let (job, event) = run(job, fail(Code::DeviceBusy));
        assert_eq!((event, job.status), (Some(EventKind::Failed), Status::Failed));
    }

    #[test]
    fn a_quality_issue_is_never_retried() {
        let (job, _) = run(pending(), Command::Claim);
        let (job, event) = run(job, fail(Code::NoIris));
        assert_eq!((event, job.status, job.transient_retries), (Some(EventKind::Failed), Status::Failed, 0));
    }

    #[test]
    fn a_refusal_ends_the_job_with_its_figures_and_its_picture() {
        let (job, _) = run(pending(), Command::Claim);
        let quality = Quality { verdict: crate::domain::quality::Verdict::Fail, metrics: [].into() };
        let refusal = Box::new(Refusal { fault: Fault::new(Code::TooDark, "test"), quality: Some(quality.clone()), annotated_bytes: 9 });
        let refuse = Command::Refuse { refusal, step_ms: StepMs::default() };
        let (job, event) = run(job, refuse.clone());
        assert_eq!((event, job.status, job.upload), (Some(EventKind::Failed), Status::Failed, UploadStatus::Off));
        assert_eq!((job.quality.as_ref(), job.annotated), (Some(&quality), Some(Annotated { bytes: 9, on_disk: true })));
        assert_eq!(apply(job, refuse, at(11)), Err(Refused::NotRunning(Status::Failed)));
    }

    #[test]
    fn a_crash_does_not_use_up_the_automatic_retry() {
        let (job, _) = run(pending(), Command::Claim);
        let (job, event) = run(job, Command::Crash { limit: 3 });
        assert_eq!((event, job.status, job.crashes, job.transient_retries), (None, Status::Pending, 1, 0));
    }

    #[test]
    fn deaths_in_one_step_end_as_poison_and_a_death_in_a_later_step_starts_the_count_anew() {
        let mut job = pending();
        for stage in [Stage::Load, Stage::Enhance, Stage::Enhance] {
            job = run(job, Command::Claim).0;
            job = run(job, Command::Step { stage, step_ms: StepMs::default() }).0;
            job = run(job, Command::Crash { limit: 3 }).0;
            assert_eq!(job.status, Status::Pending);
        }
        job = run(job, Command::Claim).0;
        job = run(job, Command::Step { stage: Stage::Enhance, step_ms: StepMs::default() }).0;
        let (job, event) = run(job, Command::Crash { limit: 3 });
        assert_eq!((event, job.status), (Some(EventKind::Failed), Status::Failed));
        assert_eq!(job.fault.map(|f| f.code), Some(Code::PoisonPhoto));
    }

    #[test]
    fn a_photo_that_kills_now_in_one_step_and_now_in_an_earlier_one_is_poison_too() {
        let mut job = pending();
        for stage in [Stage::Enhance, Stage::Segment, Stage::Enhance] {
            assert_eq!(job.status, Status::Pending);
            job = run(job, Command::Claim).0;
            job = run(job, Command::Step { stage, step_ms: StepMs::default() }).0;
            job = run(job, Command::Crash { limit: 3 }).0;
        }
        assert_eq!((job.status, job.crashes), (Status::Failed, 3));
    }

    #[test]
    fn a_clean_end_breaks_the_row_of_deaths() {
        let mut job = pending();
        for _ in 0..10 {
            job = run(run(job, Command::Claim).0, Command::Crash { limit: 2 }).0;
            job = run(run(job, Command::Claim).0, Command::PutBack).0;
        }
        assert_eq!((job.status, job.crashes), (Status::Pending, 10));
    }

    #[test]
    fn a_cancelled_job_takes_no_result() {
        let (job, _) = run(pending(), Command::Claim);
        let (job, event) = run(job, Command::Cancel);
        assert_eq!(event, Some(EventKind::Cancelled));
        assert_eq!(apply(job.clone(), fail(Code::NoIris), at(11)).err(), Some(Refused::NotRunning(Status::Cancelled)));
        assert_eq!(apply(job, Command::Cancel, at(11)).err(), Some(Refused::Already(Status::Cancelled)));
    }

    #[test]
    fn progress_never_falls_within_an_attempt() {
        let (mut job, _) = run(pending(), Command::Claim);
        let mut last = 0;
        for stage in Stage::ALL {
            job = run(job, Command::Step { stage, step_ms: StepMs::default() }).0;
            assert!(job.progress >= last);
            last = job.progress;
        }
    }
}
