use std::fs;

use super::super::journal::{Journal, Op};

fn op(n: u8) -> Vec<Op> {
    vec![Op::Put { key: vec![b'x', n], value: vec![n; 40] }, Op::Delete { key: vec![b'y', n] }]
}

fn read(dir: &std::path::Path) -> (Vec<Vec<Op>>, Option<String>) {
    let mut seen = Vec::new();
    let (_, replay) = Journal::open(dir, None, |_, ops, _| {
        seen.push(ops);
        Ok(())
    })
    .expect("opens");
    (seen, replay.damage)
}

#[test]
fn a_tail_torn_at_any_byte_costs_only_the_frame_it_tears() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(dir.path(), None, |_, _, _| Ok(())).expect("opens");
    for n in 0..3 {
        journal.append(&[op(n)]).expect("appends");
    }
    drop(journal);
    let path = fs::read_dir(dir.path()).expect("lists").next().expect("a log").expect("reads").path();
    let whole = fs::read(&path).expect("reads");
    let frame = (whole.len() - 8) / 3;
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).expect("writes");
        let (seen, damage) = read(dir.path());
        assert_eq!(seen.len(), cut.saturating_sub(8) / frame, "cut at {cut}");
        assert_eq!(damage, None);
        // It must be possible to go on from there.
        let (mut journal, _) = Journal::open(dir.path(), None, |_, _, _| Ok(())).expect("opens");
        journal.append(&[op(9)]).expect("appends");
        drop(journal);
        assert_eq!(read(dir.path()).0.last(), Some(&op(9)), "cut at {cut}");
    }
}

#[test]
fn a_snapshot_takes_the_place_of_the_logs_before_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(dir.path(), None, |_, _, _| Ok(())).expect("opens");
    journal.append(&[op(1), op(2)]).expect("appends");
    let rows = [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())];
    journal.snapshot::<std::io::Error>(rows.into_iter().map(Ok)).expect("snapshots");
    journal.append(&[op(3)]).expect("appends");
    drop(journal);
    let mut seen = Vec::new();
    let (journal, _) = Journal::open(dir.path(), None, |lsn, ops, snapshot| {
        seen.push((lsn, ops.len(), snapshot));
        Ok(())
    })
    .expect("opens");
    assert_eq!(seen, [(3, 2, true), (3, 0, true), (3, 2, false)]);
    assert_eq!(journal.next_lsn(), 4);
}

fn put(n: u8) -> Vec<Op> {
    vec![Op::Put { key: vec![b'x', n], value: vec![n; 40] }]
}

fn fill(journal: &mut Journal, frames: std::ops::Range<u8>) {
    frames.for_each(|n| journal.append(&[put(n)]).expect("appends"));
}

fn frames(dir: &std::path::Path, known: Option<u64>) -> Vec<u64> {
    let mut seen = Vec::new();
    let (_, replay) = Journal::open(dir, known, |lsn, _, snapshot| {
        assert!(!snapshot, "the snapshot was read");
        seen.push(lsn);
        Ok(())
    })
    .expect("opens");
    assert_eq!(replay.damage, None);
    seen
}

#[test]
fn frames_that_are_known_are_not_read_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(dir.path(), None, |_, _, _| Ok(())).expect("opens");
    fill(&mut journal, 0..3);
    assert_eq!(journal.begin_snapshot().expect("begins"), 4);
    fill(&mut journal, 3..6);
    drop(journal);
    assert_eq!(frames(dir.path(), None), [1, 2, 3, 4, 5, 6]);
    for known in 0..=6 {
        assert_eq!(frames(dir.path(), Some(known)), (known + 1..=6).collect::<Vec<_>>(), "known up to {known}");
    }
}

/// The process dies after it found damage and before the snapshot that takes the damaged log's place.
#[test]
fn mending_that_was_cut_short_is_begun_again_and_loses_no_good_frame() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(dir.path(), None, |_, _, _| Ok(())).expect("opens");
    fill(&mut journal, 0..5);
    drop(journal);
    let log = dir.path().join(format!("{:016x}.log", 1));
    let mut bytes = fs::read(&log).expect("reads");
    let frame = (bytes.len() - 8) / 5;
    bytes[8 + 2 * frame + 30] ^= 1;
    fs::write(&log, &bytes).expect("writes");
    let wanted: Vec<Vec<Op>> = [0, 1, 3, 4].map(put).to_vec();
    for start in 0..3 {
        let (seen, damage) = read(dir.path());
        assert_eq!(seen, wanted, "start {start}");
        assert!(damage.is_some(), "start {start}");
    }
    let (mut journal, _) = Journal::open(dir.path(), None, |_, _, _| Ok(())).expect("opens");
    let rows = (0..4u8).map(|n| Ok::<_, std::io::Error>((vec![b'x', n], vec![n; 40])));
    journal.snapshot(rows).expect("snapshots");
    fill(&mut journal, 5..6);
    drop(journal);
    let (seen, damage) = read(dir.path());
    assert_eq!((seen.len(), damage), (3, None), "the snapshot, its end, and the frame behind it");
    let kept = log.with_extension("log.damaged");
    assert_eq!(fs::read(kept).expect("it is kept"), bytes);
}

/// A disk that is full when the log is to change: the old one goes on, and the half-begun one hides nothing of it.
#[test]
fn a_log_that_could_not_be_begun_hides_no_frame_of_the_old_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(dir.path(), None, |_, _, _| Ok(())).expect("opens");
    fill(&mut journal, 0..3);
    let next = dir.path().join(format!("{:016x}.log", 4));
    std::os::unix::fs::symlink("/dev/full", &next).expect("links");
    journal.begin_snapshot().expect_err("the disk is full");
    fill(&mut journal, 3..6);
    drop(journal);
    // At worst the file stays, empty.
    fs::write(&next, b"irisdj01").expect("writes");
    for known in [None, Some(0), Some(3), Some(5), Some(6)] {
        assert_eq!(frames(dir.path(), known), (known.unwrap_or(0) + 1..=6).collect::<Vec<_>>(), "known up to {known:?}");
    }
    let (mut journal, _) = Journal::open(dir.path(), Some(6), |_, _, _| Ok(())).expect("opens");
    fill(&mut journal, 6..8);
    drop(journal);
    assert_eq!(frames(dir.path(), Some(4)), [5, 6, 7, 8]);
}

#[test]
fn a_snapshot_on_a_full_disk_leaves_no_trace_and_the_logs_as_they_were() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(dir.path(), None, |_, _, _| Ok(())).expect("opens");
    fill(&mut journal, 0..3);
    let tmp = dir.path().join(format!("{:016x}.tmp", 4));
    std::os::unix::fs::symlink("/dev/full", &tmp).expect("links");
    let rows = (0..4u8).map(|n| Ok::<_, std::io::Error>((vec![b'x', n], vec![n; 1 << 20])));
    let error = journal.snapshot(rows).expect_err("the disk is full");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(!tmp.exists() && fs::symlink_metadata(&tmp).is_err(), "half a snapshot stays");
    fill(&mut journal, 3..4);
    drop(journal);
    assert_eq!(frames(dir.path(), None), [1, 2, 3, 4]);
}

#[test]
fn an_append_that_fails_and_cannot_be_taken_back_is_the_last_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(dir.path(), None, |_, _, _| Ok(())).expect("opens");
    fill(&mut journal, 0..2);
    journal.write_to(fs::OpenOptions::new().write(true).open("/dev/full").expect("opens"));
    let error = journal.append(&[put(2)]).expect_err("the disk is full");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(journal.is_broken(), "a device has no length to cut back to");
    journal.append(&[put(3)]).expect_err("nobody is told yes any more");
    drop(journal);
    assert_eq!(frames(dir.path(), None), [1, 2]);
}
