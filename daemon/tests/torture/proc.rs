//! What the system says about a process, and what lies in a folder: the figures that must not grow.

use std::{fs, path::Path};

/// Ticks a second in /proc/PID/stat: USER_HZ, 100 on every Linux we run on.
const TICKS: f64 = 100.0;

#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub rss_kib: u64,
    pub threads: u64,
    pub files: u64,
    /// User and system time since the start of the process.
    pub cpu_s: f64,
}

/// None: the process is gone.
pub fn figures(pid: u32) -> Option<Figures> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold spaces; utime and stime are the 14th and 15th fields of proc(5), the 12th and 13th after it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(Figures {
        rss_kib: number("VmRSS:")?,
        threads: number("Threads:")?,
        files: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64,
        cpu_s: ticks / TICKS,
    })
}

/// Bytes of all files below.
pub fn bytes_below(dir: &Path) -> u64 {
    crate::common::files::listing(dir).values().sum()
}

/// Slope of the line of least squares through (x, y); 0 where there is none.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (sx, sy) = points.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
    let (mx, my) = (sx / n, sy / n);
    let (above, below) = points.iter().fold((0.0, 0.0), |s, (x, y)| (s.0 + (x - mx) * (y - my), s.1 + (x - mx).powi(2)));
    if below > 0.0 { above / below } else { 0.0 }
}
