//! The policy with plain values and a clock that is a number: single cases, then random arrivals, work and memory.

use std::collections::HashMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::ids::Seq;

const AGEING: Duration = Duration::from_secs(60);
const MEMORY: u64 = 100;

fn job(n: u64) -> JobId {
    JobId(Uuid::from_u128(u128::from(n)))
}

fn waits(n: u64, lane: Lane, since: u64) -> Waiting {
    Waiting { id: job(n), seq: Seq(n), lane, since: at(since), not_before: None }
}

fn at(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn works(n: u64, lane: Lane, bytes: u64) -> InWork {
    InWork { id: job(n), lane, bytes, may_go_back: true }
}

/// Jobs of one byte, nothing beside.
fn next(policy: &Policy, in_work: &[InWork], waiting: &[Waiting], now: u64) -> Next {
    policy.next(in_work, 0, waiting, |_| 1, at(now))
}

fn policy() -> Policy {
    Policy::new(AGEING, MEMORY, at(0))
}

#[test]
fn ten_high_jobs_all_go_before_the_next_default_one() {
    let mut queue: Vec<_> = (1..=3).map(|n| waits(n, Lane::Default, 0)).collect();
    queue.extend((4..=13).map(|n| waits(n, Lane::HighPriority, 1)));
    for n in 4..=13 {
        assert_eq!(next(&policy(), &[], &queue, 2), Next::Start(job(n)));
        queue.retain(|w| w.seq != Seq(n));
    }
    assert_eq!(next(&policy(), &[], &queue, 2), Next::Start(job(1)));
}

#[test]
fn a_high_job_starts_beside_a_default_one_and_makes_it_stand_still_but_not_for_ever() {
    let queue = [waits(7, Lane::HighPriority, 5), waits(3, Lane::Default, 5)];
    assert_eq!(next(&policy(), &[works(1, Lane::Default, 1)], &queue, 5), Next::Start(job(7)));
    assert_eq!(next(&policy(), &[works(2, Lane::HighPriority, 1)], &queue, 5), Next::Nothing);
    assert_eq!(next(&policy(), &[works(1, Lane::Default, 1), works(2, Lane::HighPriority, 1)], &queue, 5), Next::Nothing);
    assert!(policy().gives_way(Lane::Default, true, at(29)));
    assert!(!policy().gives_way(Lane::Default, true, at(30)));
    assert!(!policy().gives_way(Lane::Default, false, at(0)));
    assert!(!policy().gives_way(Lane::HighPriority, true, at(0)));
}

#[test]
fn a_default_job_that_aged_starts_beside_a_high_one() {
    let queue = [waits(3, Lane::Default, 0), waits(7, Lane::HighPriority, 0)];
    let high = [works(2, Lane::HighPriority, 1)];
    assert_eq!(next(&policy(), &high, &queue, 56), Next::Nothing);
    assert_eq!(next(&policy(), &high, &queue, 57), Next::Start(job(3)));
    assert_eq!(policy().next_due(&queue, at(10)), Some(AGEING * 15 / 16));
}

#[test]
fn an_interactive_job_without_room_beside_a_default_one_has_it_put_back_once_and_waits_for_it_the_second_time() {
    let queue = [waits(7, Lane::HighPriority, 5)];
    let mut default = works(1, Lane::Default, 60);
    let ask = |default, need| policy().next(&[default], 0, &queue, |_| need, at(5));
    assert_eq!(ask(default, 40), Next::Start(job(7)));
    assert_eq!(ask(default, 41), Next::PutBack(job(1)));
    default.may_go_back = false;
    assert_eq!(ask(default, 41), Next::NoRoom);
    assert_eq!(policy().next(&[default], 1, &queue, |_| 40, at(5)), Next::NoRoom, "what is stuck counts too");
    // Alone it is worked on, however large it is: the door refuses what the device could not take at all.
    assert_eq!(policy().next(&[], 0, &queue, |_| 1000, at(5)), Next::Start(job(7)));
}

#[test]
fn a_job_that_waits_for_its_retry_is_passed_over_until_it_is_due() {
    let mut retry = waits(1, Lane::HighPriority, 0);
    retry.not_before = Some(at(10));
    let queue = [retry, waits(2, Lane::HighPriority, 0)];
    assert_eq!(next(&policy(), &[], &queue, 9), Next::Start(job(2)));
    assert_eq!(next(&policy(), &[], &queue, 10), Next::Start(job(1)));
    assert_eq!(policy().next_due(&queue, at(9)), Some(at(10)));
    assert_eq!(policy().next_due(&queue, at(10)), None);
}

#[test]
fn ten_photos_of_a_batch_keep_their_order_whatever_order_the_queue_is_given_in() {
    let mut queue: Vec<_> = (1..=10).rev().map(|n| waits(n, Lane::HighPriority, 0)).collect();
    for n in 1..=10 {
        assert_eq!(next(&policy(), &[], &queue, 0), Next::Start(job(n)));
        queue.retain(|w| w.seq != Seq(n));
    }
}

/// One job of a random afternoon.
#[derive(Debug, Clone)]
struct Arrival {
    at: u64,
    high: bool,
    /// Seconds of work.
    work: u64,
    bytes: u64,
}

fn afternoon(work: std::ops::Range<u64>, bytes: std::ops::Range<u64>) -> impl Strategy<Value = Vec<Arrival>> {
    let one = (0u64..600, prop::bool::weighted(0.6), work, bytes).prop_map(|(at, high, work, bytes)| Arrival { at, high, work, bytes });
    prop::collection::vec(one, 1..60).prop_map(|mut all| {
        all.sort_by_key(|a| a.at);
        all
    })
}

/// What became of the jobs: starts and ends in seconds, by number.
#[derive(Debug, Default)]
struct Day {
    started: HashMap<u64, u64>,
    ended: HashMap<u64, u64>,
    /// Default jobs before it when it came, itself included.
    place: HashMap<u64, u64>,
    put_back: HashMap<u64, u64>,
    most_bytes: u64,
    order: Vec<u64>,
}

/// Second by second, the worker's loop with this policy. `flood`: a high job of three seconds comes whenever none waits.
fn live_through(arrivals: &[Arrival], flood: bool) -> Day {
    let (mut policy, mut day) = (policy(), Day::default());
    let mut waiting: Vec<Waiting> = Vec::new();
    // Job, seconds that are left, seconds it stood still.
    let mut in_work: Vec<(InWork, u64, u64)> = Vec::new();
    let mut sizes: HashMap<JobId, (u64, u64)> = HashMap::new();
    let number = |id: JobId| id.0.as_u128() as u64;
    let (mut seq, mut now, mut coming) = (0, 0, arrivals.iter().peekable());
    while coming.peek().is_some() || waiting.iter().any(|w| !flood || w.lane == Lane::Default) {
        let mut come = |high: bool, work, bytes, waiting: &mut Vec<Waiting>, day: &mut Day| {
            seq += 1;
            let lane = if high { Lane::HighPriority } else { Lane::Default };
            sizes.insert(job(seq), (work, bytes));
            waiting.push(waits(seq, lane, now));
            day.place.insert(seq, waiting.iter().filter(|w| w.lane == Lane::Default).count() as u64);
        };
        while let Some(a) = coming.next_if(|a| a.at <= now) {
            come(a.high, a.work, a.bytes, &mut waiting, &mut day);
        }
        if flood && !waiting.iter().any(|w| w.lane == Lane::HighPriority) && now < 20_000 {
            come(true, 3, 1, &mut waiting, &mut day);
        }
        loop {
            let jobs: Vec<InWork> = in_work.iter().map(|j| j.0).collect();
            match policy.next(&jobs, 0, &waiting, |id| sizes[&id].1, at(now)) {
                Next::Start(id) => {
                    let place = waiting.iter().position(|w| w.id == id).expect("it waits");
                    let w = waiting.remove(place);
                    policy.started(w.lane, at(now));
                    let again = day.started.insert(number(id), now).is_some();
                    day.order.push(number(id));
                    in_work.push((InWork { id, lane: w.lane, bytes: sizes[&id].1, may_go_back: !again }, sizes[&id].0, 0));
                }
                Next::PutBack(id) => {
                    in_work.retain(|j| j.0.id != id);
                    *day.put_back.entry(number(id)).or_default() += 1;
                    waiting.push(waits(number(id), Lane::Default, now));
                }
                Next::Nothing | Next::NoRoom => break,
            }
        }
        if in_work.len() > 1 {
            day.most_bytes = day.most_bytes.max(in_work.iter().map(|j| j.0.bytes).sum());
        }
        let high = in_work.iter().any(|j| j.0.lane == Lane::HighPriority);
        for (one, left, paused) in &mut in_work {
            if policy.gives_way(one.lane, high, at(*paused)) {
                *paused += 1;
            } else {
                *left -= 1;
            }
        }
        now += 1;
        in_work.retain(|(one, left, _)| {
            if *left == 0 {
                day.ended.insert(number(one.id), now);
            }
            *left > 0
        });
        assert!(now < 100_000, "somebody waits for ever");
    }
    for (one, left, _) in in_work {
        day.ended.insert(number(one.id), now + left);
    }
    day
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_default_job_starts_within_its_place_times_the_age_limit_however_many_high_ones_come(arrivals in afternoon(1..30, 1..50)) {
        let day = live_through(&arrivals, false);
        for (n, a) in (1..).zip(&arrivals).filter(|(_, a)| !a.high) {
            let waited = day.started[&n] - a.at;
            prop_assert!(waited < AGEING.as_secs() * day.place[&n], "job {n} at place {} waited {waited} s", day.place[&n]);
        }
    }

    #[test]
    fn under_endless_high_load_the_default_lane_moves_once_in_each_age_limit(work in prop::collection::vec(1u64..30, 1..12)) {
        let arrivals: Vec<Arrival> = work.iter().map(|w| Arrival { at: 0, high: false, work: *w, bytes: 1 }).collect();
        let day = live_through(&arrivals, true);
        for n in 1..=arrivals.len() as u64 {
            prop_assert!(day.started[&n] < AGEING.as_secs() * n, "job {n} started at {} s", day.started[&n]);
        }
    }

    #[test]
    fn two_jobs_never_need_more_memory_than_there_is_and_each_job_is_put_back_once_at_most(arrivals in afternoon(1..30, 1..100)) {
        let day = live_through(&arrivals, false);
        prop_assert!(day.most_bytes <= MEMORY, "{} bytes in work", day.most_bytes);
        prop_assert!(day.put_back.values().all(|times| *times == 1), "{:?}", day.put_back);
        prop_assert_eq!(day.ended.len(), arrivals.len());
    }

    #[test]
    fn each_lane_is_served_in_the_order_of_its_arrivals(arrivals in afternoon(1..30, 1..50)) {
        let day = live_through(&arrivals, false);
        for high in [true, false] {
            let of_lane: Vec<u64> = day.order.iter().copied().filter(|n| arrivals[*n as usize - 1].high == high).collect();
            prop_assert!(of_lane.is_sorted(), "{of_lane:?}");
        }
    }

    #[test]
    fn a_high_job_waits_for_high_ones_alone_where_memory_is_no_matter(arrivals in afternoon(1..30, 1..50)) {
        let day = live_through(&arrivals, false);
        let mut free = 0;
        for (n, a) in (1..).zip(&arrivals).filter(|(_, a)| a.high) {
            prop_assert_eq!(day.started[&n], a.at.max(free), "high job {}", n);
            free = day.ended[&n];
        }
    }
}
