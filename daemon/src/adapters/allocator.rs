//! jemalloc as this program's memory: docs/decisions/0011.
//!
//! Two arenas, because a daemon of two dozen threads would else have one for each core and leave holes in all of them; pages that were let go
//! return to the system within a second, by a thread of jemalloc's own, so that one large photo is not the daemon's size from then on.
//! ONNX Runtime, a library of its own, goes on with the system's malloc.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Read by jemalloc when it starts (jemalloc(3), TUNING).
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8] = b"narenas:2,background_thread:true,max_background_threads:1,dirty_decay_ms:1000,muzzy_decay_ms:0\0";
