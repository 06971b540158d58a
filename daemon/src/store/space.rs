//! Room on the disk: what may come in, and what goes when it gets tight.
//!
//! ```text
//! free bytes of the disk:  0 ........ reserve / 4 ............ reserve .....................
//!                          | store,   | + results of jobs that | + new photos
//!                          | alone    | were accepted before   |
//! ```
//! Intake stops at the reserve, long before sled or the journal could meet a full disk; the queue is held below a quarter of it. Only what
//! the bucket vouched for is ever evicted, and the small pictures of refused photos, which a reprocess makes again; oldest first, and no
//! more of it than is needed. Where that is not enough, new photos are refused and nothing that was acknowledged is touched.

use std::{
    io,
    sync::{PoisonError, atomic::Ordering},
};

use super::{
    Store, StoreError,
    blobs::{refused_name, result_name},
    commit::Tx,
    rows,
    types::Space,
};
use crate::domain::{
    ids::{JobId, PhotoId, Seq},
    job::{Job, UploadStatus},
    photo::Photo,
};

/// Things evicted in one transaction.
const EVICT_AT_ONCE: usize = 64;
/// The part of the reserve that is the store's own: journal, index, room to recover.
const STORES_SHARE: u64 = 4;

/// What was evicted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evicted {
    pub originals: u64,
    pub results: u64,
    pub bytes: u64,
}

/// What may go.
enum Uploaded {
    Original(PhotoId),
    Result(JobId),
}

impl Store {
    pub fn space(&self) -> Space {
        let free = rustix::fs::statvfs(&self.options.state).map_or(0, |s| s.f_bavail * s.f_frsize);
        Space { used: self.view().used_bytes(), cap: self.options.cap, free, reserve: self.options.reserve }
    }

    /// Whether a photo of `bytes` may come in beside `others` that are on their way; makes room where the policy allows it.
    pub async fn admit(&self, bytes: u64, others: u64) -> Result<(), StoreError> {
        let admitted = self.room(bytes.saturating_add(others)).await;
        match admitted {
            Ok(()) => self.refused.store(0, Ordering::Relaxed),
            Err(StoreError::DiskReserve { .. } | StoreError::OverCap { .. }) => drop(self.refused.fetch_max(bytes, Ordering::Relaxed)),
            Err(_) => {}
        }
        admitted
    }

    /// Why a photo like the last one would be refused again. None: it was taken, or one like it has room now, or something may go for it.
    pub fn lacks_room(&self) -> Option<StoreError> {
        let bytes = self.refused.load(Ordering::Relaxed).max(1);
        self.too_full(bytes).filter(|_| !self.may_evict()).map(|(why, _)| why)
    }

    fn may_evict(&self) -> bool {
        let view = self.view();
        self.options.evict_uploaded && (view.evictable_originals().next().is_some() || view.jobs.evictable().next().is_some())
    }

    async fn room(&self, bytes: u64) -> Result<(), StoreError> {
        while let Some((refusal, lacking)) = self.too_full(bytes) {
            let evicted = if self.options.evict_uploaded { self.evict(lacking).await? } else { 0 };
            if evicted == 0 {
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// Makes room for what came in otherwise (results are not asked whether they may), where the policy allows it.
    pub async fn make_room(&self) -> Result<(), StoreError> {
        match self.room(0).await {
            Err(StoreError::DiskReserve { .. } | StoreError::OverCap { .. }) | Ok(()) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Whether jobs may write results. Accepted photos are worked on below the reserve, too, but not into the store's own last room.
    pub async fn has_room_to_work(&self) -> bool {
        let enough = |space: Space| space.free > space.reserve / STORES_SHARE;
        if enough(self.space()) {
            return true;
        }
        // Err: the disk is so full that not even this is taken down.
        self.make_room().await.is_ok() && enough(self.space())
    }

    /// Counted since the start.
    pub fn evicted(&self) -> Evicted {
        *self.evicted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why not, and how many bytes are lacking.
    fn too_full(&self, bytes: u64) -> Option<(StoreError, u64)> {
        let Space { used, cap, free, reserve } = self.space();
        if free.saturating_sub(bytes) < reserve {
            return Some((StoreError::DiskReserve { free, reserve }, reserve.saturating_add(bytes) - free));
        }
        (used + bytes > cap).then(|| (StoreError::OverCap { used, cap }, used + bytes - cap))
    }

    /// Evicts the oldest uploaded originals and results, and pictures of refused photos, until so many bytes are free or some went; how many went.
    async fn evict(&self, lacking: u64) -> Result<usize, StoreError> {
        let before = self.view().used_bytes();
        let (originals, results) = self.evict_some(lacking).await?;
        let bytes = before.saturating_sub(self.view().used_bytes());
        if originals + results > 0 {
            tracing::info!(originals, results, bytes, "evicted what the bucket has, to make room");
        }
        let mut sum = self.evicted.lock().unwrap_or_else(PoisonError::into_inner);
        sum.originals += originals as u64;
        sum.results += results as u64;
        sum.bytes += bytes;
        Ok(originals + results)
    }

    async fn evict_some(&self, lacking: u64) -> Result<(usize, usize), StoreError> {
        self.commit(move |tx| {
            let (photos, jobs) = tx.oldest_uploaded(lacking)?;
            for id in &photos {
                if let Some(mut photo) = tx.get::<Photo>(&rows::photo(*id))? {
                    photo.on_disk = false;
                    tx.put(rows::photo(*id), &photo)?;
                    tx.release_blob(photo.sha256);
                }
            }
            for id in &jobs {
                let mut job = tx.job(*id)?;
                job.leave_disk();
                tx.put_job(Some(job.status), &job)?;
                tx.remove_later(&if job.annotated.is_some() { refused_name(*id) } else { result_name(*id) });
            }
            Ok((photos.len(), jobs.len()))
        })
        .await
    }
}

impl Tx<'_> {
    /// Originals (uploaded, needed by no unfinished job, whose blob nobody else needs), results and pictures that may go: in the order in
    /// which they came to be, until `lacking` bytes are together.
    fn oldest_uploaded(&self, lacking: u64) -> Result<(Vec<PhotoId>, Vec<JobId>), StoreError> {
        let (mut originals, mut results, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (_, what, size) in self.may_be_evicted() {
            if bytes >= lacking.max(1) || originals.len() + results.len() >= EVICT_AT_ONCE {
                break;
            }
            // The view lags behind this group of transactions: the rows have the last word.
            match what {
                Uploaded::Original(id) if self.original_may_go(id)? => originals.push(id),
                Uploaded::Result(id) if self.result_may_go(id)? => results.push(id),
                _ => continue,
            }
            bytes += size;
        }
        Ok((originals, results))
    }

    /// By seq, with bytes. This group of transactions may need some of them: those go with the next.
    fn may_be_evicted(&self) -> Vec<(Seq, Uploaded, u64)> {
        let view = self.view();
        let photos = view.evictable_originals().map(|(seq, id, bytes)| (seq, Uploaded::Original(id), bytes));
        let jobs = view.jobs.evictable().map(|(seq, id, bytes)| (seq, Uploaded::Result(id), bytes));
        let mut all: Vec<_> = photos.take(EVICT_AT_ONCE).chain(jobs.take(EVICT_AT_ONCE)).collect();
        all.sort_by_key(|(seq, ..)| *seq);
        all
    }

    fn original_may_go(&self, id: PhotoId) -> Result<bool, StoreError> {
        let there = self.get::<Photo>(&rows::photo(id))?.is_some_and(|p| p.on_disk && p.uploaded);
        Ok(there && !self.is_needed(id)?)
    }

    fn result_may_go(&self, id: JobId) -> Result<bool, StoreError> {
        let job: Job = self.job(id)?;
        let result = job.upload == UploadStatus::Uploaded && job.artifacts.is_some_and(|a| a.on_disk);
        Ok(result || job.annotated.is_some_and(|a| a.on_disk))
    }
}

/// Whether an I/O error says that the disk is full.
pub fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
