//! The page at `/`, driven by a real browser: `tests/page/page.mjs` against a running daemon.

use std::{path::Path, process::Command};

use crate::common::{daemon::Daemon, eyes};

/// Why the browser cannot be driven here; None: it can.
fn lacking() -> Option<String> {
    let version = Command::new("node").arg("--version").output().ok().map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    let major = version.as_deref().and_then(|v| v.trim().strip_prefix('v')?.split('.').next()?.parse::<u32>().ok());
    if major.is_none_or(|m| m < 20) {
        return Some(format!("Node.js 20 or newer is needed, here is {version:?}"));
    }
    (!Path::new("/usr/bin/chromium").exists()).then(|| "chromium is not installed".to_owned())
}

/// Brings playwright-core once; the second time nothing is fetched.
fn bring_driver(folder: &Path) {
    if folder.join("node_modules/playwright-core/package.json").is_file() {
        return;
    }
    let said = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(folder).output().expect("npm runs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn a_nurse_signs_in_sends_photos_and_sees_the_result_or_the_reason_in_a_real_browser() {
    if let Some(why) = lacking() {
        eprintln!("skipped: {why}");
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    bring_driver(&folder);
    let daemon = Daemon::start("");
    let photo = daemon.dir.path().join("eye.jpg");
    std::fs::write(&photo, eyes::eye(91, "1200x900").bytes).unwrap();
    let said = Command::new("node")
        .arg("page.mjs")
        .current_dir(&folder)
        .env("BASE_URL", &daemon.base)
        .env("TOKEN", &daemon.token)
        .env("PHOTO", &photo)
        .env("OUT_DIR", daemon.dir.path().join("shots"))
        .output()
        .expect("node runs");
    assert!(said.status.success(), "{}\n{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
}
