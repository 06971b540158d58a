//! Networks that somebody brings onto the device: taken by `weights add`, judged by what they make of a photo. (Needs the runtime library.)

use std::{fs, path::PathBuf, process::Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    common::{
        daemon::{irisd, text, write_config},
        eyes,
    },
    nets::{self, Answer},
};

/// A state folder, and commands that see it.
struct Device {
    dir: TempDir,
    config: PathBuf,
}

impl Device {
    /// None, with a word about it, where there is no runtime library.
    fn new(extra: &str) -> Option<Self> {
        if std::env::var("IRISD_TEST_ONNXRUNTIME").unwrap_or_default().is_empty() {
            eprintln!("skipped: IRISD_TEST_ONNXRUNTIME names no library");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let config = write_config(dir.path(), &dir.path().join("state"), extra);
        Some(Self { dir, config })
    }

    fn run(&self, args: &[&str]) -> Output {
        irisd().args(args).arg("--config").arg(&self.config).output().expect("irisd can be started")
    }

    /// As a technician does: the row into the state's manifest, the file by `weights add`, under any name.
    fn bring(&self, rows: &[String], networks: &[Vec<u8>]) {
        nets::state_manifest(&self.dir.path().join("state"), rows);
        for network in networks {
            let file = self.dir.path().join("download (1).bin");
            fs::write(&file, network).unwrap();
            let out = self.run(&["weights", "add", file.to_str().unwrap()]);
            assert!(out.status.success(), "{}", text(&out));
        }
    }

    /// One photo through the pipeline: its line, report and image.
    fn process(&self, photo: &[u8]) -> (Value, Value, image::RgbImage) {
        let file = self.dir.path().join("eye.jpg");
        fs::write(&file, photo).unwrap();
        let place = self.dir.path().join("out");
        let out = self.run(&["process", file.to_str().unwrap(), "--json", "--out", place.to_str().unwrap()]);
        assert!(out.status.success(), "{}", text(&out));
        let line: Value = serde_json::from_slice(&out.stdout).expect("one line of JSON");
        let report = serde_json::from_slice(&fs::read(place.join("eye.report.json")).unwrap()).unwrap();
        (line, report, image::open(place.join("eye.jpg")).unwrap().to_rgb8())
    }
}

#[test]
fn a_network_that_gives_no_picture_is_replaced_by_lanczos_with_the_reason_and_one_that_does_is_used() {
    for (answer, word) in [
        (Answer::Good, None),
        (Answer::Black, Some("black")),
        (Answer::Constant, Some("colour")),
        (Answer::Shifted, Some("51 of 255 levels")),
        (Answer::Undefined, Some("finite")),
    ] {
        let Some(device) = Device::new("[enhance]\nmodel = \"brought\"\n[quality]\nmode = \"report\"\n") else { return };
        let network = nets::upscaler(answer);
        device.bring(&[nets::upscaler_row("brought", &network)], &[network]);
        let (line, report, image) = device.process(&eyes::small_eye(301));
        let enhance = &report["enhance"];
        assert_eq!(line["status"], "completed", "{answer:?}");
        let side = |name: &str| report["crop"][name].as_u64().unwrap() as u32 * 4;
        assert_eq!(image.dimensions(), (side("width"), side("height")), "{answer:?}");
        match word {
            None => assert_eq!((&enhance["method"], &enhance["fallback_reason"]), (&"network".into(), &Value::Null), "{enhance:#}"),
            Some(word) => {
                assert_eq!(enhance["method"], "clahe_lanczos", "{answer:?}: {enhance:#}");
                let reason = enhance["fallback_reason"].as_str().unwrap_or_default();
                assert!(reason.contains("brought") && reason.contains(word), "{answer:?}: {reason}");
                // What is undefined may show in the trial run already.
                assert!(answer == Answer::Undefined || reason.contains("fp32"), "{answer:?}: no second try: {reason}");
            }
        }
    }
}

#[test]
fn a_filling_network_takes_the_lamp_out_and_is_named_and_one_that_leaves_it_is_replaced_by_the_classical_way() {
    let photo = eyes::small_eye(302);
    let Some(device) = Device::new("[quality]\nmode = \"report\"\n[enhance]\nmodel = \"lanczos\"\n") else { return };
    let classical = device.process(&photo).1["reflections"].clone();
    assert_eq!((&classical["method"], &classical["model"]), (&"radial".into(), &Value::Null));
    assert!(classical["area_px"].as_u64() > Some(0), "the photo has a lamp in it: {classical:#}");
    for (method, gain, word) in
        [("auto", 1.0, None), ("filler", 1.0, None), ("filler", 6.0, Some("of 255 levels")), ("classical", 1.0, None)]
    {
        let extra = format!("[quality]\nmode = \"report\"\n[enhance]\nmodel = \"lanczos\"\n[reflections]\nmethod = \"{method}\"\n");
        let Some(device) = Device::new(&extra) else { return };
        let network = nets::filler(256, gain);
        device.bring(&[nets::filler_row("filler", &network, 256)], &[network]);
        let facts = device.process(&photo).1["reflections"].clone();
        let reason = facts["fallback_reason"].as_str();
        if method == "classical" || word.is_some() {
            assert_eq!(facts["method"], "radial", "{facts:#}");
            assert_eq!(reason.is_some(), word.is_some());
            assert!(reason.unwrap_or_default().contains(word.unwrap_or_default()), "{facts:#}");
        } else {
            assert_eq!(
                (&facts["method"], &facts["model"], &facts["provider"]),
                (&"network".into(), &"filler".into(), &"cpu".into()),
                "{facts:#}"
            );
            assert_eq!(facts["model_sha256"].as_str().map(str::len), Some(64));
            assert_eq!(reason, None);
        }
        for same in ["count", "area_px", "synthetic_share"] {
            assert_eq!(facts[same], classical[same], "{method}: the same pixels are made up");
        }
    }
}

#[test]
fn a_network_that_ran_has_left_nothing_at_home_for_its_makers() {
    let Some(device) = Device::new("") else { return };
    let (photo, out, home) = (device.dir.path().join("eye.jpg"), device.dir.path().join("out"), device.dir.path().join("home"));
    fs::write(&photo, eyes::small_eye(305)).unwrap();
    fs::create_dir(&home).unwrap();
    // A bare environment: ONNX Runtime is silent by itself where a variable says that this is somebody's CI.
    let run = irisd()
        .env_clear()
        .env("HOME", &home)
        .args(["process", photo.to_str().unwrap(), "--config"])
        .arg(&device.config)
        .arg("--out")
        .arg(&out)
        .output();
    let run = run.expect("irisd can be started");
    assert!(run.status.success(), "{}", text(&run));
    let report: Value = serde_json::from_slice(&fs::read(out.join("eye.report.json")).unwrap()).unwrap();
    assert_eq!(report["iris"]["method"], "onnx", "{report:#}");
    let left: Vec<_> = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}
