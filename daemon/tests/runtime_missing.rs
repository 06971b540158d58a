//! A device without a usable ONNX Runtime. A process of its own: once a library is loaded, no other is looked at.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use irisd::{
    adapters::model_ort::{OrtOptions, OrtRuntime},
    domain::fault::Code,
};

#[test]
fn a_library_that_is_missing_or_is_none_is_an_error_and_no_hang() {
    let dir = tempfile::tempdir().expect("temp folder");
    let text = dir.path().join("libonnxruntime.so");
    std::fs::write(&text, "I am a text file").expect("write");
    let other = std::fs::read_dir("/lib64").into_iter().flatten().flatten().map(|e| e.path());
    let other = other.chain([text]).filter(|p| p.to_string_lossy().contains(".so")); // the C loader: a library, but not this one
    for library in other.chain([dir.path().join("nowhere.so"), dir.path().to_owned()]) {
        let error = OrtRuntime::open(OrtOptions { library: library.clone(), threads: 1 }).err().expect("it is no ONNX Runtime");
        assert_eq!(error.code, Code::RuntimeMissing);
        assert!(error.detail.contains(&*library.file_name().expect("name").to_string_lossy()), "{error}");
    }
}
