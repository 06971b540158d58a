//! How long jobs take on this device: measured step times against those of a reference machine. Pure.
//!
//! A step's time grows with the photo: `fixed + each megapixel`, as measured on a 2-core x86-64 machine without GPU. Each lane keeps, for
//! each step, how many times slower (or faster) this device is: a running mean over its finished jobs. So one finished job is enough to
//! say something about a photo of another size, and before the first one there is at least a rough figure.

use crate::domain::{
    job::Lane,
    stage::{Stage, StepMs},
};

/// Milliseconds of each step on the reference machine: fixed, and for each megapixel (default configuration).
const REFERENCE: [(f64, f64); 5] = [(10.0, 40.0), (60.0, 40.0), (5.0, 10.0), (40.0, 110.0), (15.0, 20.0)];
/// Megapixels of a photo of which nothing is known.
const USUAL_MP: f64 = 3.0;
/// Weight of the newest job in the running means.
const NEWEST: f64 = 0.2;

/// Expected milliseconds of each step of one job.
pub type Estimate = [f64; 5];

/// What is left of a job, ms: the rest of its step by progress, and the steps behind it. It only falls while the progress rises.
pub fn left(estimate: &Estimate, stage: Stage, percent: u8) -> f64 {
    let (from, to) = stage.band();
    let done = f64::from(percent.saturating_sub(from)) / f64::from(to - from).max(1.0);
    let at = stage as usize;
    estimate[at] * (1.0 - done.clamp(0.0, 1.0)) + estimate[at + 1..].iter().sum::<f64>()
}

#[derive(Debug, Clone, Copy, Default)]
struct OfLane {
    /// This device / the reference machine, for each step.
    factor: [Option<f64>; 5],
    megapixels: Option<f64>,
}

/// The device's pace.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    high: OfLane,
    default: OfLane,
}

impl Pace {
    /// A job of this lane completed.
    pub fn learn(&mut self, lane: Lane, megapixels: f64, took: &StepMs) {
        let of_lane = match lane {
            Lane::HighPriority => &mut self.high,
            Lane::Default => &mut self.default,
        };
        blend(&mut of_lane.megapixels, megapixels);
        let took = [took.load, took.segment, took.reflections, took.enhance, took.save];
        for ((factor, took), reference) in of_lane.factor.iter_mut().zip(took).zip(reference(megapixels)) {
            if let Some(ms) = took {
                blend(factor, ms as f64 / reference);
            }
        }
    }

    /// What a job of this lane will take. Where its own lane has no history, the other's counts.
    pub fn estimate(&self, lane: Lane, megapixels: f64) -> Estimate {
        let (own, other) = self.lanes(lane);
        let mut ms = reference(megapixels);
        for (i, ms) in ms.iter_mut().enumerate() {
            *ms *= own.factor[i].or(other.factor[i]).unwrap_or(1.0);
        }
        ms
    }

    /// A job of this lane as it usually comes, ms.
    pub fn usual_ms(&self, lane: Lane) -> f64 {
        let (own, other) = self.lanes(lane);
        self.estimate(lane, own.megapixels.or(other.megapixels).unwrap_or(USUAL_MP)).iter().sum()
    }

    fn lanes(&self, lane: Lane) -> (&OfLane, &OfLane) {
        match lane {
            Lane::HighPriority => (&self.high, &self.default),
            Lane::Default => (&self.default, &self.high),
        }
    }
}

fn reference(megapixels: f64) -> Estimate {
    REFERENCE.map(|(fixed, each)| fixed + each * megapixels)
}

fn blend(mean: &mut Option<f64>, newest: f64) {
    *mean = Some(mean.map_or(newest, |m| m + NEWEST * (newest - m)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn took(factor: f64, megapixels: f64) -> StepMs {
        let mut ms = StepMs::default();
        for (stage, reference) in Stage::ALL.into_iter().zip(reference(megapixels)) {
            ms.set(stage, (reference * factor).round() as u64);
        }
        ms
    }

    #[test]
    fn one_finished_job_tells_the_time_of_a_photo_of_another_size_in_either_lane() {
        let mut pace = Pace::default();
        let before: f64 = pace.estimate(Lane::HighPriority, 12.0).iter().sum();
        assert!(before > 0.0, "an empty history gives the reference machine's figures");
        pace.learn(Lane::Default, 2.0, &took(3.0, 2.0));
        for lane in [Lane::Default, Lane::HighPriority] {
            let after: f64 = pace.estimate(lane, 12.0).iter().sum();
            assert!((after / before - 3.0).abs() < 0.05, "{after} ms, not three times {before} ms");
        }
    }

    #[test]
    fn a_lane_with_a_history_of_its_own_does_not_listen_to_the_other() {
        let mut pace = Pace::default();
        pace.learn(Lane::Default, 2.0, &took(4.0, 2.0));
        pace.learn(Lane::HighPriority, 2.0, &took(1.0, 2.0));
        assert!(pace.usual_ms(Lane::Default) > 3.0 * pace.usual_ms(Lane::HighPriority));
    }

    proptest! {
        #[test]
        fn what_is_left_falls_with_every_percent(estimate in prop::array::uniform5(1.0f64..10_000.0)) {
            let mut last = f64::INFINITY;
            for stage in Stage::ALL {
                let (from, to) = stage.band();
                for percent in from..=to {
                    let now = left(&estimate, stage, percent);
                    prop_assert!(now <= last * (1.0 + 1e-9) && now >= 0.0);
                    last = now;
                }
            }
            prop_assert!(last < 1e-6);
        }
    }
}
