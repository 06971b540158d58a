//! A job: one run of the pipeline over one photo, and where it stands.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    fault::Fault,
    ids::{JobId, PhotoId, Seq, UserId},
    photo::ClientInfo,
    quality::Quality,
    report::ReportFiles,
    stage::{Stage, StepMs},
};

/// The two priority lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    HighPriority,
    Default,
}

impl Lane {
    pub const fn name(self) -> &'static str {
        match self {
            Lane::HighPriority => "high_priority",
            Lane::Default => "default",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pending,
    Processing,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    pub const ALL: [Status; 5] = [Status::Pending, Status::Processing, Status::Completed, Status::Failed, Status::Cancelled];

    pub const fn is_final(self) -> bool {
        matches!(self, Status::Completed | Status::Failed | Status::Cancelled)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Processing => "processing",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }
}

/// Where the result's way to the bucket stands. `Off`: no bucket, or the job has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadStatus {
    Off,
    Pending,
    Uploading,
    Uploaded,
    Failed,
}

/// What a completed job left in `results/<job_id>/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifacts {
    pub files: ReportFiles,
    /// report.json: its own hash cannot stand inside it.
    pub report_sha256: super::ids::Sha256,
    pub report_bytes: u64,
    /// thumb.jpg, which the report does not name. 0: of a version that did not count it.
    #[serde(default)]
    pub thumb_bytes: u64,
    /// The files still lie on this device (false once evicted).
    pub on_disk: bool,
    /// The fingerprint of the pipeline that made them: a job of the same photo by the same pipeline may have them again. None: not
    /// to be offered again.
    #[serde(default)]
    pub made_by: Option<super::ids::Sha256>,
}

/// What a refused photo left in `refused/<job_id>/`: annotated.jpg alone, a small picture that shows why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotated {
    pub bytes: u64,
    /// It still lies on this device (false once evicted or deleted).
    pub on_disk: bool,
}

/// Photos that one job may take from, beside its own: from the fourth photo of an eye on, a lamp's place repeats.
pub const MAX_MERGED: usize = 2;

/// Other photos of the same eye: what a lamp hides in the job's own photo is taken from them, where they show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    /// 1 to [`MAX_MERGED`], each another one and none of them the job's own; asked in this order.
    pub with: Vec<PhotoId>,
    pub misfit: Misfit,
}

/// What becomes of the job where one of them does not fit: no iris in it, another eye, its original gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfit {
    /// Somebody named the photos: the job fails and says which one it is.
    Fails,
    /// A burst brought them: the job goes on without that one, and the report says so.
    LeftOut,
}

/// A job row. Status, step and counters change only through [`super::transition::apply`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    /// Place in the device's order; lanes and lists are sorted by it.
    pub seq: Seq,
    pub photo_id: PhotoId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Merge>,
    pub user_id: UserId,
    pub lane: Lane,
    pub status: Status,
    pub current_step: Option<Stage>,
    /// Percent, stored at each step's start; live figures come from the worker.
    pub progress: u8,
    /// Counts starts.
    pub attempt: u32,
    /// At most one (the automatic retry).
    pub transient_retries: u32,
    /// Deaths of the process while this job ran.
    pub crashes: u32,
    /// Deaths in a row of which none came in a later step than those before; `crash_limit` counts these.
    pub crashes_in_step: u32,
    /// The furthest step in which the process died.
    pub crashed_step: Option<Stage>,
    pub fault: Option<Fault>,
    pub artifacts: Option<Artifacts>,
    #[serde(default)]
    pub annotated: Option<Annotated>,
    pub upload: UploadStatus,
    pub quality: Option<Quality>,
    pub step_ms: StepMs,
    pub processing_time_ms: Option<u64>,
    pub cached: bool,
    /// A retry waits until this wall time (checked together with a monotonic bound: a clock that jumps cannot strand it).
    pub not_before: Option<Timestamp>,
    #[serde(flatten)]
    pub client: ClientInfo,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub reprocess_of: Option<JobId>,
}

impl Job {
    /// The photos that it merges, none of them its own.
    pub fn merged(&self) -> &[PhotoId] {
        self.merge.as_ref().map_or(&[], |merge| &merge.with)
    }

    /// Whether it cannot end without this photo's original.
    pub fn needs(&self, photo: PhotoId) -> bool {
        !self.status.is_final() && (self.photo_id == photo || self.merged().contains(&photo))
    }

    /// Whatever the job left in its folder is gone from this device.
    pub fn leave_disk(&mut self) {
        if let Some(artifacts) = &mut self.artifacts {
            artifacts.on_disk = false;
        }
        if let Some(annotated) = &mut self.annotated {
            annotated.on_disk = false;
        }
    }

    pub fn s3_key(&self, ending: &str) -> String {
        format!("processed/{}/{}{ending}", self.user_id, self.id)
    }
}
