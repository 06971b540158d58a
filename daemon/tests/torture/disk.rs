//! Faults of the disk, one after the other, as a table: what was done, what was seen, and whether anything was lost.

use std::{fmt::Write as _, path::PathBuf};

use super::{damage, full, scene::Row, writes};

pub struct Plan {
    pub work: PathBuf,
    /// 1: every write of a job; n: each n-th.
    pub every: usize,
}

pub fn run(plan: &Plan) -> Vec<String> {
    let mut rows = writes::run(&plan.work.join("writes"), plan.every);
    match full::run(&plan.work.join("full")) {
        Some(more) => rows.extend(more),
        None => println!("SKIPPED: a full and a read-only disk (root and loop devices are needed)"),
    }
    rows.extend(damage::run(&plan.work.join("damage")));
    let table = table(&rows);
    std::fs::write(plan.work.join("table.md"), &table).unwrap();
    println!("{table}");
    rows.into_iter().flat_map(|r| r.faults).collect()
}

fn table(rows: &[Row]) -> String {
    let mut text = "| what happens to the disk | how it was made | what was seen | answered for and lost |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        let lost = if row.faults.is_empty() { "0".to_owned() } else { format!("FAULT: {}", row.faults.join("; ").replace('\n', " / ")) };
        _ = writeln!(text, "| {} | {} | {} | {lost} |", row.what, row.how, row.seen);
    }
    text
}
