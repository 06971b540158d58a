//! What the system does with this process.

/// Ends the process with 0, now that everything is on disk: exit(3) would run a library's C++ destructors while a network is still being
/// loaded on another thread, and a clean end became a crash.
pub fn leave() -> ! {
    unsafe extern "C" {
        safe fn _exit(status: i32) -> !;
    }
    _exit(0)
}
