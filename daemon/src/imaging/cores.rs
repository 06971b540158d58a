//! Work on a picture shared out over the cores.

use rayon::prelude::*;

/// Whether there is nobody to share with: the change to another thread and back would cost tens of microseconds, a thousand times a
/// picture.
pub fn alone() -> bool {
    rayon::current_num_threads() == 1
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
