//! Which job next, and who gives way to whom. Pure policy: no clock, no I/O, no synchronisation; `worker.rs` owns the loop.
//!
//! ```text
//! slots busy:   none              one, with a default job       one, with a high job      two
//! next job:     `pick`            a high job, if one waits      none                      none
//! ```
//!
//! A high job is served before default ones, each lane in the order of its seq. Ageing: once in every `ageing` a default job that
//! waited that long goes first, so the job at place n starts within n x ageing however many high ones come. A default job in work
//! pauses at its next checkpoint while a high one runs or waits, but for no longer than `ageing` altogether.

use std::time::Duration;

use crate::{
    domain::{ids::JobId, job::Lane},
    store::Waiting,
};

/// Jobs in work at once: one, and an interactive one that makes it pause.
pub const SLOTS: usize = 2;

#[derive(Debug, Clone)]
pub struct Policy {
    ageing: Duration,
    /// When the lane's last default job was started (monotonic).
    last_default: Duration,
}

impl Policy {
    pub fn new(ageing: Duration, now: Duration) -> Self {
        Self { ageing, last_default: now }
    }

    /// The job to start now, given the lanes of those in work.
    pub fn next(&self, running: &[Lane], waiting: &[Waiting], now: Duration) -> Option<JobId> {
        match running {
            [] => self.pick(waiting, now),
            [Lane::Default] => first(waiting, Lane::HighPriority, now).map(|w| w.id),
            _ => None,
        }
    }

    fn pick(&self, waiting: &[Waiting], now: Duration) -> Option<JobId> {
        let high = first(waiting, Lane::HighPriority, now);
        let default = first(waiting, Lane::Default, now);
        let aged = default.filter(|w| now.saturating_sub(w.since.max(self.last_default)) >= self.ageing);
        aged.or(high).or(default).map(|w| w.id)
    }

    pub fn started(&mut self, lane: Lane, now: Duration) {
        if lane == Lane::Default {
            self.last_default = now;
        }
    }

    /// Whether a job in work has to stand still at its checkpoint.
    pub fn gives_way(&self, lane: Lane, high_in_work_or_waiting: bool, paused_so_far: Duration) -> bool {
        lane == Lane::Default && high_in_work_or_waiting && paused_so_far < self.ageing
    }

    /// When a job that waits for its retry becomes due, if nothing else happens before.
    pub fn next_due(waiting: &[Waiting], now: Duration) -> Option<Duration> {
        waiting.iter().filter_map(|w| w.not_before).filter(|t| *t > now).min()
    }
}

fn first(waiting: &[Waiting], lane: Lane, now: Duration) -> Option<&Waiting> {
    waiting.iter().filter(|w| w.lane == lane && w.not_before.is_none_or(|t| t <= now)).min_by_key(|w| w.seq)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::ids::Seq;

    const AGEING: Duration = Duration::from_secs(60);

    fn waits(n: u64, lane: Lane, since: u64) -> Waiting {
        let id = JobId(Uuid::from_u128(u128::from(n)));
        Waiting { id, seq: Seq(n), lane, since: Duration::from_secs(since), not_before: None }
    }

    fn id(n: u64) -> Option<JobId> {
        Some(JobId(Uuid::from_u128(u128::from(n))))
    }

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn ten_high_jobs_all_go_before_the_next_default_one() {
        let policy = Policy::new(AGEING, at(0));
        let mut queue: Vec<_> = (1..=3).map(|n| waits(n, Lane::Default, 0)).collect();
        queue.extend((4..=13).map(|n| waits(n, Lane::HighPriority, 1)));
        for n in 4..=13 {
            assert_eq!(policy.next(&[], &queue, at(2)), id(n));
            queue.retain(|w| w.seq != Seq(n));
        }
        assert_eq!(policy.next(&[], &queue, at(2)), id(1));
    }

    #[test]
    fn a_default_job_is_served_within_its_place_times_the_age_limit_however_many_high_ones_come() {
        let mut policy = Policy::new(AGEING, at(0));
        let mut defaults: Vec<_> = (1..=5).map(|n| waits(n, Lane::Default, 0)).collect();
        let (mut now, mut next_high) = (0, 100);
        while !defaults.is_empty() {
            let mut queue = defaults.clone();
            queue.push(waits(next_high, Lane::HighPriority, now));
            next_high += 1;
            let picked = policy.next(&[], &queue, at(now)).expect("something waits");
            if let Some(place) = defaults.iter().position(|w| w.id == picked) {
                let waited = at(now);
                let n = defaults[place].seq.0;
                assert!(waited <= AGEING * n as u32 + at(2), "job {n} waited {waited:?}");
                policy.started(Lane::Default, at(now));
                defaults.remove(place);
            }
            now += 2; // each job takes two seconds
        }
    }

    #[test]
    fn a_high_job_starts_beside_a_default_one_and_makes_it_pause_but_not_for_ever() {
        let policy = Policy::new(AGEING, at(0));
        let queue = [waits(7, Lane::HighPriority, 5), waits(3, Lane::Default, 0)];
        assert_eq!(policy.next(&[Lane::Default], &queue, at(5)), id(7));
        assert_eq!(policy.next(&[Lane::HighPriority], &queue, at(5)), None);
        assert_eq!(policy.next(&[Lane::Default, Lane::HighPriority], &queue, at(5)), None);
        assert!(policy.gives_way(Lane::Default, true, at(59)));
        assert!(!policy.gives_way(Lane::Default, true, at(60)));
        assert!(!policy.gives_way(Lane::HighPriority, true, at(0)));
    }

    #[test]
    fn a_job_that_waits_for_its_retry_is_passed_over_until_it_is_due() {
        let policy = Policy::new(AGEING, at(0));
        let mut retry = waits(1, Lane::HighPriority, 0);
        retry.not_before = Some(at(10));
        let queue = [retry, waits(2, Lane::HighPriority, 0)];
        assert_eq!(policy.next(&[], &queue, at(9)), id(2));
        assert_eq!(policy.next(&[], &queue, at(10)), id(1));
        assert_eq!(Policy::next_due(&queue, at(9)), Some(at(10)));
        assert_eq!(Policy::next_due(&queue, at(10)), None);
    }

    #[test]
    fn ten_photos_of_a_batch_keep_their_order_whatever_order_the_queue_is_given_in() {
        let policy = Policy::new(AGEING, at(0));
        let mut queue: Vec<_> = (1..=10).rev().map(|n| waits(n, Lane::HighPriority, 0)).collect();
        for n in 1..=10 {
            assert_eq!(policy.next(&[], &queue, at(0)), id(n));
            queue.retain(|w| w.seq != Seq(n));
        }
    }
}
