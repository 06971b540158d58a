//! A file that only takes room, given up when the disk is full: then the journal can still say how jobs ended and what was deleted,
//! sled opens (it does not on a full disk), and whoever comes to help can work. The reserve (`space.rs`) keeps our own intake far from
//! here; this is for the disk that something else filled.

use std::{fs::File, path::Path};

use super::blobs;

/// Several thousand transactions of the journal, and sled's own need at its opening.
const BYTES: u64 = 16 << 20;
/// It is only put back where this much stays free beside it.
const ROOM: u64 = 4 * BYTES;

fn path(state: &Path) -> std::path::PathBuf {
    state.join("store/ballast")
}

/// Frees the room; false where there was none to free.
pub fn give_up(state: &Path) -> bool {
    let path = path(state);
    if !path.exists() {
        return false;
    }
    match blobs::remove(&path) {
        Ok(()) => {
            tracing::warn!("the disk is full; the ballast is given up, make room");
            true
        }
        Err(e) => {
            tracing::error!(error = %e, "the disk is full and the ballast does not go");
            false
        }
    }
}

/// Puts it there where it is missing and the disk has room for it. Without one the store works, and meets a full disk less well.
pub fn take(state: &Path) {
    let path = path(state);
    if path.exists() || free(state) < BYTES + ROOM {
        return;
    }
    let reserve = |file: File| Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BYTES)?);
    // A filesystem that cannot set room aside (tmpfs on old kernels, some network ones) has no ballast.
    if let Err(e) = File::create(&path).and_then(reserve).inspect_err(|_| drop(blobs::remove(&path))) {
        tracing::debug!(error = %e, "no ballast");
    }
}

/// Before the index is opened or written to: on a disk this full it would not open, and would not forget the failed write.
pub fn give_up_if_full(state: &Path) {
    if free(state) < BYTES / 2 {
        give_up(state);
    }
}

fn free(state: &Path) -> u64 {
    rustix::fs::statvfs(state).map_or(0, |s| s.f_bavail * s.f_frsize)
}
