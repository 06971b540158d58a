//! glibc's allocator, told to give large blocks back to the system.
//!
//! By itself it raises, with each large block that is freed, the size from which a block gets pages of its own, up to 32 MiB; smaller ones
//! then come from heaps that only shrink from their end. A network that is loaded again and again leaves its tensors' holes there: the
//! daemon grew by 45 MB with each load after `idle_unload`, and no longer does with the size held still.

/// Blocks of this size and more get pages of their own, which go back when they are freed, bytes.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 1 << 20;

/// For the whole process; before it has threads that allocate much.
pub fn give_large_blocks_back() {
    #[cfg(target_env = "gnu")]
    {
        /// malloc.h
        const M_MMAP_THRESHOLD: i32 = -3;
        unsafe extern "C" {
            safe fn mallopt(parameter: i32, value: i32) -> i32;
        }
        if mallopt(M_MMAP_THRESHOLD, LARGE) == 0 {
            tracing::debug!("the allocator keeps its own mind; unloaded networks may leave some memory behind");
        }
    }
}
