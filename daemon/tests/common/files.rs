//! What lies in a folder: to show that nothing is left behind, and that nothing is missing.

use std::{collections::BTreeMap, fs, path::Path};

/// Every file below `root`, by its path from there, with its size in bytes. A folder that is not there has no files.
pub fn listing(root: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

fn walk(root: &Path, at: &Path, found: &mut BTreeMap<String, u64>) {
    let Ok(entries) = fs::read_dir(at) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.metadata() {
            Ok(m) if m.is_dir() => walk(root, &path, found),
            Ok(m) => {
                found.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned(), m.len());
            }
            Err(_) => {} // gone while we looked
        }
    }
}

/// Photos and results of a state folder and every temporary file: what a refused request must leave as it was.
pub fn kept(state: &Path) -> BTreeMap<String, u64> {
    let of_interest = |p: &str| ["blobs/", "results/", "refused/"].iter().any(|folder| p.starts_with(folder)) || is_temporary(p);
    listing(state).into_iter().filter(|(path, _)| of_interest(path)).collect()
}

/// Temporary files anywhere in the state.
pub fn temporary(state: &Path) -> Vec<String> {
    listing(state).into_keys().filter(|p| is_temporary(p)).collect()
}

fn is_temporary(path: &str) -> bool {
    path.split('/').any(|part| part.contains(".tmp") || part == "tmp" || part.ends_with(".part"))
}

/// The result folders there are.
pub fn result_folders(state: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(state.join("results")) else { return Vec::new() };
    entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}
