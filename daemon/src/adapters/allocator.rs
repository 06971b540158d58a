//! Where this program's memory comes from: docs/decisions/0011.
//!
//! jemalloc for what is Rust: two arenas, because a daemon of two dozen threads would else have several for each core and leave holes in all
//! of them; of blocks up to 1 KiB a thread keeps a few dozen of each size for itself, because a hundred small ones make an answer, and of
//! larger ones none, which thirty threads would by the megabyte; blocks up to 1 KiB of one size fill a page, not a run of up to seven, because
//! a run goes back only once all in it is free, and sled's rows are freed in no order; pages that were let go return to the system within a
//! second, by a thread of jemalloc's own, so that one large photo is not the daemon's size from then on. ONNX Runtime, a library of its own,
//! takes its memory from the system's allocator.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Read by jemalloc when it starts (jemalloc(3), TUNING).
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8] = b"narenas:2,tcache_max:1024,tcache_nslots_small_max:32,slab_sizes:1-1024:1,\
background_thread:true,max_background_threads:1,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

/// Blocks of this size and more get pages of their own from glibc, which go back when they are freed, bytes.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 1 << 20;

/// Holds glibc to [`LARGE`] for the whole process; to be called before a network is loaded.
///
/// By itself glibc raises, with each large block that is freed, the size from which a block gets pages of its own, up to 32 MiB; smaller
/// ones then come from heaps that only shrink from their end. A network that is loaded again and again leaves its tensors' holes there:
/// the daemon grew by 45 MB with each load after `idle_unload`, and no longer does with the size held still.
pub fn give_large_blocks_back() {
    #[cfg(target_env = "gnu")]
    {
        /// malloc.h
        const M_MMAP_THRESHOLD: i32 = -3;
        unsafe extern "C" {
            safe fn mallopt(parameter: i32, value: i32) -> i32;
        }
        if mallopt(M_MMAP_THRESHOLD, LARGE) == 0 {
            tracing::debug!("the system's allocator keeps its own mind; unloaded networks may leave some memory behind");
        }
    }
}
