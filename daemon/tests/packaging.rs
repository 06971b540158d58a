//! What is installed around the program fits it and the system.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::{fs, path::PathBuf, process::Command};

fn repo(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let unit = fs::read_to_string(repo("systemd/irisd.service")).unwrap();
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("SKIPPED: systemd-analyze is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("irisd.service");
    // systemd asks that the program exists; here it lies where cargo put it.
    fs::write(&copy, unit.replace("/usr/bin/irisd", env!("CARGO_BIN_EXE_irisd"))).unwrap();
    let said = Command::new("systemd-analyze").arg("verify").arg(&copy).output().unwrap();
    let words = String::from_utf8_lossy(&said.stderr);
    // Known since systemd 254; an older one says so and goes on without.
    let newer = |l: &str| l.contains("Unknown") && (l.contains("'RestartSteps'") || l.contains("'RestartMaxDelaySec'"));
    // Other units of this machine are none of our business.
    let ours: Vec<&str> = words.lines().filter(|l| l.contains("irisd") && !newer(l)).collect();
    assert!(said.status.success() && ours.is_empty(), "{words}");
}

#[test]
fn the_unit_is_told_about_the_watchdog_restarts_without_end_and_does_not_restart_a_wrong_configuration() {
    let unit = fs::read_to_string(repo("systemd/irisd.service")).unwrap();
    for line in [
        "Type=notify",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "RestartPreventExitStatus=78",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "StateDirectory=irisd",
    ] {
        assert!(unit.lines().any(|l| l == line), "{line}");
    }
    assert!(unit.contains("WatchdogSec="));
    assert!(!unit.lines().any(|l| l.starts_with("ExecStartPre=")), "RestartPreventExitStatus= does not look at what runs before");
}

#[test]
fn scripts_are_programs_that_a_shell_can_read() {
    for script in ["daemon/scripts/setup.sh", "daemon/scripts/run.sh", "daemon/scripts/test.sh", ".ci/run"] {
        let read = Command::new("bash").arg("-n").arg(repo(script)).output().unwrap();
        assert!(read.status.success(), "{script}: {}", String::from_utf8_lossy(&read.stderr));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert!(fs::metadata(repo(script)).unwrap().permissions().mode() & 0o111 != 0, "{script} cannot be run");
        }
    }
}

#[test]
fn the_cross_build_is_set_up_where_cross_and_cargo_read_it() {
    let cross: toml::Table = fs::read_to_string(repo("cross.toml")).unwrap().parse().unwrap();
    assert!(cross["target"]["aarch64-unknown-linux-gnu"]["image"].is_str());
    let cargo: toml::Table = fs::read_to_string(repo(".cargo/config.toml")).unwrap().parse().unwrap();
    assert_eq!(cargo["target"].as_table().unwrap().len(), 1, "native builds must not be touched");
    let deny: toml::Table = fs::read_to_string(repo("deny.toml")).unwrap().parse().unwrap();
    for advisory in deny["advisories"]["ignore"].as_array().unwrap() {
        assert!(advisory["reason"].as_str().unwrap().len() > 20, "{advisory} has no reason");
    }
}
