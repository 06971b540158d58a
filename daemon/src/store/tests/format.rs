//! A store that the program before packed rows wrote (format_1.tar.gz: its journal and its index, of a process killed in the middle of a
//! job; three photos, one of them deleted, five jobs).

use std::process::Command;

use super::*;

fn unpacked(parts: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/tests/format_1.tar.gz");
    let tar = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(dir.path()).args(parts).status().expect("tar runs");
    assert!(tar.success());
    dir
}

/// What follows the date in each job's id, and how it stands, newest first.
const JOBS: [(&str, Status); 5] = [
    ("8c0e-71e0-98d3-5e41e524d076", Status::Pending),
    ("8c0e-71e0-98d3-5e40807c39ff", Status::Pending),
    ("8016-7697-988c-eab178d893c8", Status::Completed),
    ("602e-7409-85c5-798a952726c0", Status::Completed),
    ("5ffe-7749-b350-a11d74ede3eb", Status::Completed),
];

fn rows(store: &Store) -> (usize, Vec<Job>) {
    let photos = store.photos(&Filter::default(), ALL).expect("lists").items;
    (photos.len(), store.jobs(&Filter::default(), ALL).expect("lists").items)
}

#[tokio::test]
async fn a_store_of_the_format_before_opens_whole_from_both_its_halves_or_either_and_is_turned_over_once() {
    for parts in [&["journal", "store"][..], &["journal"], &["store"]] {
        let dir = unpacked(parts);
        let (store, report) = open(dir.path());
        assert_eq!(report.rebuilt.is_some(), !parts.contains(&"store"), "{parts:?} {report:?}");
        assert_eq!(report.journal_damage.is_some(), !parts.contains(&"journal"), "{parts:?} {report:?}");
        assert_eq!(report.recovered_jobs, 1, "{parts:?}: one job was in work");
        let mut upgraded = report.upgraded;
        let (photos, found) = rows(&store);
        let told: Vec<(String, Status)> = found.iter().map(|j| (j.id.to_string(), j.status)).collect();
        let wanted = JOBS.map(|(id, status)| (format!("01a21631-{id}"), status));
        assert_eq!((photos, told), (2, wanted.to_vec()), "{parts:?}");
        assert_eq!(found[4].artifacts.as_ref().map(|a| a.report_bytes), Some(3457), "{parts:?}");
        assert_eq!(store.uploads().pending, 12, "{parts:?}: three files of three results, two originals, and one that is to be deleted");
        store.close().await;
        drop(store); // it reads from sled, whose lock is free once nobody can
        // An index that was made anew has the journal's rows as they were, and turns them over at the next start.
        let (store, report) = open(dir.path());
        assert_eq!(report.rebuilt, None, "{parts:?}: the second start");
        upgraded += report.upgraded;
        store.close().await;
        drop(store);
        let (store, report) = open(dir.path());
        assert!(upgraded > 0 && report.upgraded == 0, "{parts:?}: {upgraded} rows, then {}", report.upgraded);
        assert_eq!(rows(&store).1, found, "{parts:?}");
        store.close().await;
    }
}
