//! Whether a network's run fits into the memory that is left: asked before it begins, so that nothing is killed for it. Pure.
//!
//! A row of the manifest states how far the process grew while the network ran, measured over one input ([`MEASURED`]). Weights and what
//! the library makes of them count whatever the input; the rest grows with its pixels.

use super::{manifest::ModelRow, trial};

/// Side of the input that a row's `memory_mb` was measured with where the input's size is free, px.
const MEASURED: usize = 256;
/// Weights and what the library makes of them, share of `memory_mb`.
const FIXED: f64 = 0.125;
/// Stays free for whoever else wants some in the meantime, bytes.
const SPARE: u64 = 64 << 20;
/// From one tile to the next smaller one, px.
const STEP: usize = 32;

/// What a run over an input of this shape makes the process grow by, bytes.
pub fn need(row: &ModelRow, shape: &[usize]) -> u64 {
    let measured = f64::from(row.memory_mb) * 1e6;
    let ([_, _, 0, _] | [_, _, _, 0], [n, _, h, w]) = (row.input.shape, shape) else { return measured as u64 };
    let area = (n * h * w) as f64 / (MEASURED * MEASURED) as f64;
    (measured * (FIXED + (1.0 - FIXED) * area)) as u64
}

/// What may be used of what is free, bytes. `cap`: what the configuration gives one network; `held`: what this one has already.
pub fn can_have(free: u64, cap: Option<u64>, held: u64) -> u64 {
    (free.saturating_sub(SPARE) + held).min(cap.unwrap_or(u64::MAX))
}

/// The largest side of a tile up to the wanted one that fits, px; None: not even the smallest does.
pub fn tile(row: &ModelRow, wanted: usize, batch: usize, can_have: u64) -> Option<usize> {
    let least = trial::window(row, 0);
    let fits = |side: &usize| {
        let window = trial::window(row, *side);
        need(row, &[batch, 3, window, window]) <= can_have
    };
    std::iter::once(wanted).chain((least..wanted).rev().filter(|side| side.is_multiple_of(STEP))).chain([least.min(wanted)]).find(fits)
}

/// Free bytes of a machine and of a control group, the smaller. Each text is that of the file of the same name; empty: there is none.
pub struct Texts<'a> {
    pub meminfo: &'a str,
    /// memory.max, memory.high: bytes, or "max".
    pub limits: [&'a str; 2],
    /// memory.current
    pub current: &'a str,
    /// memory.stat
    pub stat: &'a str,
}

impl Texts<'_> {
    /// None: neither says.
    pub fn free(&self) -> Option<u64> {
        let machine =
            self.meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        let used = self.current.trim().parse::<u64>().unwrap_or(0);
        // Files that nobody holds open are counted as used, and given up when somebody needs the room.
        let cached = self.stat.lines().find_map(|l| l.strip_prefix("inactive_file ")?.trim().parse::<u64>().ok()).unwrap_or(0);
        let group = self.limits.iter().filter_map(|l| l.trim().parse::<u64>().ok()).min();
        let group = group.map(|limit| limit.saturating_sub(used.saturating_sub(cached)));
        machine.map(|kib| kib << 10).into_iter().chain(group).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::manifest::Manifest;

    fn row(name: &str, memory_mb: u32) -> ModelRow {
        let manifest = Manifest::load("/nonexistent".as_ref(), "/nonexistent".as_ref()).expect("the built-in one");
        ModelRow { memory_mb, ..manifest.get(name).expect("row").clone() }
    }

    const MB: u64 = 1_000_000;

    #[test]
    fn a_run_needs_what_was_measured_and_more_or_less_with_its_pixels() {
        let free = row("realesrgan-x4plus", 1000);
        assert_eq!(need(&free, &[1, 3, 256, 256]), 1000 * MB);
        assert_eq!(need(&free, &[1, 3, 512, 256]), 1875 * MB);
        assert_eq!(need(&free, &[4, 3, 128, 128]), 1000 * MB);
        assert!(need(&free, &[1, 3, 64, 64]) < 200 * MB);
        assert_eq!(need(&row("iris", 15), &[1, 3, 128, 128]), 15 * MB);
    }

    #[test]
    fn a_tile_that_does_not_fit_becomes_smaller_until_it_does_or_there_is_none() {
        let row = row("realesrgan-x4plus", 1000);
        assert_eq!(tile(&row, 256, 1, 2000 * MB), Some(256));
        assert_eq!(tile(&row, 250, 1, 2000 * MB), Some(250), "as configured, where it fits");
        assert_eq!(tile(&row, 256, 1, 999 * MB), Some(224));
        assert_eq!(tile(&row, 256, 1, 350 * MB), Some(128));
        assert_eq!(tile(&row, 256, 1, 200 * MB), Some(64));
        assert_eq!(tile(&row, 256, 1, 100 * MB), None);
        assert_eq!(tile(&row, 256, 4, 1000 * MB), Some(128), "a batch counts");
    }

    #[test]
    fn what_is_left_is_the_smaller_of_machine_and_group_and_some_of_it_stays_free() {
        let meminfo = "MemTotal:  8000000 kB\nMemAvailable:  4000000 kB\n";
        let texts = |limits, current, stat| Texts { meminfo, limits, current, stat };
        assert_eq!(texts(["", ""], "", "").free(), Some(4_000_000 << 10));
        assert_eq!(texts(["max\n", "900\n"], "500\n", "anon 1\ninactive_file 100\n").free(), Some(500));
        assert_eq!(texts(["900", "max"], "2000", "").free(), Some(0));
        assert_eq!(Texts { meminfo: "", limits: ["", ""], current: "", stat: "" }.free(), None);
        assert_eq!(can_have(100 << 20, None, 0), 36 << 20);
        assert_eq!(can_have(10 << 20, None, 7), 7);
        assert_eq!(can_have(u64::MAX, Some(5), 9), 5);
    }
}
