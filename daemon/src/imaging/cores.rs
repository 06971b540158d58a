//! Work on a picture shared out over the cores.

use std::cell::Cell;

use rayon::{ThreadPoolBuildError, ThreadPoolBuilder, prelude::*};

thread_local! {
    static BY_ITSELF: Cell<bool> = const { Cell::new(false) };
}

/// Starts the threads that share the work, each of which calls `first` before all. Without it they start when they are first needed, with the name
/// and the priority of whoever needs them. Errors: they were started already, or the system gives none.
pub fn start(first: fn()) -> Result<(), ThreadPoolBuildError> {
    ThreadPoolBuilder::new().thread_name(|n| format!("pixels-{n}")).start_handler(move |_| first()).build_global()
}

/// Does `work` on this thread and no other: for whoever answers somebody, and must not wait for those who compute.
pub fn by_itself<T>(work: impl FnOnce() -> T) -> T {
    struct Restored(bool);
    impl Drop for Restored {
        fn drop(&mut self) {
            BY_ITSELF.set(self.0);
        }
    }
    let _restored = Restored(BY_ITSELF.replace(true));
    work()
}

/// Whether there is nobody to share with: the change to another thread and back would cost tens of microseconds, a thousand times a
/// picture.
pub fn alone() -> bool {
    BY_ITSELF.get() || rayon::current_num_threads() == 1
}

/// Both results; made at the same time where there are two cores.
pub fn both<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    if alone() { (a(), b()) } else { rayon::join(a, b) }
}

/// Calls `each(state, number, piece)` for every `size` items of `data`, the last of which may be fewer. `state` makes what a piece needs and
/// leaves to the next one; there may be as many as pieces.
pub fn pieces<T: Send, S>(
    data: &mut [T],
    size: usize,
    state: impl Fn() -> S + Send + Sync,
    each: impl Fn(&mut S, usize, &mut [T]) + Send + Sync,
) {
    if alone() || data.len() <= size {
        let mut state = state();
        data.chunks_mut(size).enumerate().for_each(|(number, piece)| each(&mut state, number, piece));
    } else {
        data.par_chunks_mut(size).enumerate().for_each_init(state, |state, (number, piece)| each(state, number, piece));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_done_however_many_cores_there_are() {
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| both(|| 1, || "b")), (1, "b"));
        }
    }

    #[test]
    fn work_that_is_done_by_itself_stays_on_its_thread_and_what_comes_after_it_is_shared_again() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.install(|| {
            let here = std::thread::current().id();
            let (a, b) = by_itself(|| both(|| std::thread::current().id(), || std::thread::current().id()));
            assert_eq!((a, b), (here, here));
            assert!(std::panic::catch_unwind(|| by_itself(|| panic!("a decoder's"))).is_err());
            assert!(!alone());
        });
    }

    #[test]
    fn every_piece_is_seen_once_with_its_number_however_many_cores_there_are() {
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for length in [0, 1, 4, 5, 23] {
                let mut data = vec![0; length];
                pool.install(|| pieces(&mut data, 5, || 1, |one, number, piece| piece.iter_mut().for_each(|v| *v += *one + number)));
                assert!(data.iter().enumerate().all(|(i, v)| *v == 1 + i / 5), "{threads} threads: {data:?}");
            }
        }
    }
}
