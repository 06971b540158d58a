//! Room on the disk: what may come in, and what goes when it gets tight.
//!
//! Intake stops at the reserve, long before sled or the journal could meet a full disk. Only what the bucket vouched for is ever
//! evicted, oldest first; where that is not enough, new photos are refused and nothing that was acknowledged is touched.

use std::io;

use super::{Store, StoreError, blobs::result_name, commit::Tx, rows, types::Space};
use crate::domain::{
    ids::{JobId, PhotoId},
    job::{Job, UploadStatus},
    photo::Photo,
};

/// Things evicted in one transaction.
const EVICT_AT_ONCE: usize = 64;

impl Store {
    pub fn space(&self) -> Space {
        let free = rustix::fs::statvfs(&self.options.state).map_or(0, |s| s.f_bavail * s.f_frsize);
        Space { used: self.view().used_bytes(), cap: self.options.cap, free, reserve: self.options.reserve }
    }

    /// Whether `bytes` more may come in; makes room where the policy allows it. Asked before any byte is taken.
    pub async fn admit(&self, bytes: u64) -> Result<(), StoreError> {
        while let Some(refusal) = self.too_full(bytes) {
            let evicted = if self.options.evict_uploaded { self.evict().await? } else { 0 };
            if evicted == 0 {
                return Err(refusal);
            }
        }
        Ok(())
    }

    fn too_full(&self, bytes: u64) -> Option<StoreError> {
        let Space { used, cap, free, reserve } = self.space();
        if free.saturating_sub(bytes) < reserve {
            return Some(StoreError::DiskReserve { free, reserve });
        }
        (used + bytes > cap).then_some(StoreError::OverCap { used, cap })
    }

    /// Evicts some of the oldest uploaded originals and results; how many went.
    async fn evict(&self) -> Result<usize, StoreError> {
        self.commit(|tx| {
            let (photos, jobs) = tx.oldest_uploaded()?;
            for id in &photos {
                if let Some(mut photo) = tx.get::<Photo>(&rows::photo(*id))? {
                    photo.on_disk = false;
                    tx.put(rows::photo(*id), &photo)?;
                    tx.release_blob(photo.sha256);
                }
            }
            for id in &jobs {
                let mut job = tx.job(*id)?;
                if let Some(artifacts) = &mut job.artifacts {
                    artifacts.on_disk = false;
                }
                tx.put_job(Some(job.status), &job)?;
                tx.remove_later(&result_name(*id));
            }
            if !photos.is_empty() || !jobs.is_empty() {
                tracing::info!(originals = photos.len(), results = jobs.len(), "evicted what the bucket has, to make room");
            }
            Ok(photos.len() + jobs.len())
        })
        .await
    }
}

impl Tx<'_> {
    /// Originals (uploaded, without an unfinished job, whose blob nobody else needs) and results that may go, oldest first.
    fn oldest_uploaded(&self) -> Result<(Vec<PhotoId>, Vec<JobId>), StoreError> {
        let (photos, jobs): (Vec<_>, Vec<_>) = {
            let view = self.view();
            let (photos, jobs) = (view.photos.evictable(), view.jobs.evictable());
            let (photos, jobs) = (photos.take(8 * EVICT_AT_ONCE), jobs.take(EVICT_AT_ONCE));
            (photos.collect(), jobs.collect())
        };
        let mut originals = Vec::new();
        for id in photos {
            if self.get::<Photo>(&rows::photo(id))?.is_none_or(|p| !p.on_disk) {
                continue;
            }
            if originals.len() < EVICT_AT_ONCE && self.jobs_of(id)?.iter().all(|j| j.status.is_final()) {
                originals.push(id);
            }
        }
        let mut results = Vec::new();
        for id in jobs {
            let job: Job = self.job(id)?;
            if job.upload == UploadStatus::Uploaded && job.artifacts.as_ref().is_some_and(|a| a.on_disk) {
                results.push(id);
            }
        }
        Ok((originals, results))
    }
}

/// Whether an I/O error says that the disk is full.
pub fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
