use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn db() -> sled::Db {
    sled::Config::new().temporary(true).open().expect("opens")
}

/// Applies the changes to both and compares what is said about each row.
fn apply(db: &sled::Db, model: &mut Model, changes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
    let borrowed = changes.iter().map(|(key, new)| (key.as_slice(), new.as_deref())).collect();
    let mut batch = sled::Batch::default();
    let mut told = 0;
    write(db, &borrowed, &mut batch, |key, old, new| {
        told += 1;
        assert_eq!(old, model.get(key).map(Vec::as_slice), "the row before");
        assert_eq!(new, changes[key].as_deref());
    })
    .expect("is made");
    assert_eq!(told, changes.len());
    db.apply_batch(batch).expect("is written");
    for (key, new) in changes {
        match new {
            Some(value) => _ = model.insert(key.clone(), value.clone()),
            None => _ = model.remove(key),
        }
    }
}

fn all(db: &sled::Db, from: Bound<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
    range(db, from, |_, _| Ok(())).map(|row| row.expect("reads")).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(b"jpe".to_vec()), 0u8..60, 0usize..3).prop_map(|(kind, n, more)| [vec![kind, n], vec![7; more]].concat())
}

/// As the store writes them: the first byte is a version below that of a block.
fn value() -> impl Strategy<Value = Vec<u8>> {
    (1u8..3, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(version, rest)| [vec![version], rest].concat())
}

proptest! {
    #[test]
    fn rows_in_blocks_are_those_of_a_sorted_map(
        before in prop::collection::btree_map(key(), value(), 0..20),
        batches in prop::collection::vec(prop::collection::btree_map(key(), prop::option::weighted(0.7, value()), 0..60), 1..8),
        asked in prop::collection::vec(key(), 8),
    ) {
        let (db, mut model) = (db(), Model::new());
        db.insert(META, &[BLOCK, 0, 0]).expect("is written");
        // Rows as programs before blocks left them.
        for (key, value) in before {
            db.insert(&key, value.clone()).expect("is written");
            model.insert(key, value);
        }
        for changes in batches {
            apply(&db, &mut model, &changes);
            let rows: Vec<_> = model.clone().into_iter().collect();
            prop_assert_eq!(all(&db, Bound::Unbounded), rows);
            for key in &asked {
                prop_assert_eq!(find(&beside(&db, key, |_, _| Ok(())).expect("reads"), key).map(|v| v.to_vec()), model.get(key).cloned());
                for from in [Bound::Included(key.as_slice()), Bound::Excluded(key.as_slice())] {
                    let rows: Vec<_> = model.range::<[u8], _>((from, Bound::Unbounded)).map(|(k, v)| (k.clone(), v.clone())).collect();
                    prop_assert_eq!(all(&db, from), rows);
                }
            }
        }
    }
}

fn put(n: u64) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    BTreeMap::from([([b"p".as_slice(), &n.to_be_bytes()].concat(), Some(vec![1; 30]))])
}

#[test]
fn rows_whose_keys_rise_fill_their_blocks_and_those_in_no_order_half_of_them_at_least() {
    let rising: Vec<u64> = (0..800).collect();
    let scattered: Vec<u64> = (0..800u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    for (numbers, most) in [(rising, 100), (scattered, 200)] {
        let (db, mut model) = (db(), Model::new());
        numbers.iter().for_each(|n| apply(&db, &mut model, &put(*n)));
        let blocks = db.iter().count();
        assert!(blocks <= most, "{blocks} blocks");
    }
}

#[test]
fn a_block_that_is_cut_short_is_an_error_and_no_missing_row() {
    let (db, mut model) = (db(), Model::new());
    (0..4).for_each(|n| apply(&db, &mut model, &put(n)));
    let (fence, block) = db.iter().next().expect("one block").expect("reads");
    for zeroed in [0, 1] {
        let zeros = [&block[..zeroed], &vec![0; block.len() - zeroed]].concat();
        db.insert(&fence, zeros).expect("is written");
        assert!(beside(&db, &fence, |_, _| Ok(())).is_err(), "zeros from byte {zeroed}");
    }
    for cut in [block.len() - 1, block.len() - 29, 12] {
        db.insert(&fence, &block[..cut]).expect("is written");
        assert!(beside(&db, &fence, |_, _| Ok(())).is_err(), "cut to {cut} bytes");
        assert!(range(&db, Bound::Unbounded, |_, _| Ok(())).any(|row| row.is_err()));
    }
}

#[test]
fn half_a_split_is_seen_by_the_scan() {
    let (db, mut model) = (db(), Model::new());
    (0..8).for_each(|n| apply(&db, &mut model, &put(2 * n)));
    let (fence, before) = db.iter().next().expect("one block").expect("reads");
    apply(&db, &mut model, &put(5));
    assert_eq!(db.iter().count(), 2, "it was split");
    db.insert(&fence, before).expect("is written");
    assert!(range(&db, Bound::Unbounded, |_, _| Ok(())).any(|row| row.is_err()));
}
