use std::fs;

use super::super::journal::{Journal, Op};

fn op(n: u8) -> Vec<Op> {
    vec![Op::Put { key: vec![b'x', n], value: vec![n; 40] }, Op::Delete { key: vec![b'y', n] }]
}

fn read(dir: &std::path::Path) -> (Vec<Vec<Op>>, Option<String>) {
    let mut seen = Vec::new();
    let (_, replay) = Journal::open(dir, |_, ops, _| {
        seen.push(ops);
        Ok(())
    })
    .expect("opens");
    (seen, replay.damage)
}

#[test]
fn a_tail_torn_at_any_byte_costs_only_the_frame_it_tears() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(dir.path(), |_, _, _| Ok(())).expect("opens");
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
        let (mut journal, _) = Journal::open(dir.path(), |_, _, _| Ok(())).expect("opens");
        journal.append(&[op(9)]).expect("appends");
        drop(journal);
        assert_eq!(read(dir.path()).0.last(), Some(&op(9)), "cut at {cut}");
    }
}

#[test]
fn a_snapshot_takes_the_place_of_the_logs_before_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(dir.path(), |_, _, _| Ok(())).expect("opens");
    journal.append(&[op(1), op(2)]).expect("appends");
    let rows = [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())];
    journal.snapshot::<std::io::Error>(rows.into_iter().map(Ok)).expect("snapshots");
    journal.append(&[op(3)]).expect("appends");
    drop(journal);
    let mut seen = Vec::new();
    let (journal, _) = Journal::open(dir.path(), |lsn, ops, snapshot| {
        seen.push((lsn, ops.len(), snapshot));
        Ok(())
    })
    .expect("opens");
    assert_eq!(seen, [(3, 2, true), (3, 0, true), (3, 2, false)]);
    assert_eq!(journal.next_lsn(), 4);
}
