//! What the person reads when something went wrong with a photo: class, code, message, suggestion.
//!
//! A [`Fault`] knows what happened, not who asks. The detail is for the log and the support bundle; it holds no name and no secret.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The three classes of the Processing API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// The photo: take another one. Never retried.
    QualityIssue,
    /// The moment: retried once by itself.
    TransientError,
    /// The device or its programs: not retried, support is needed.
    ServerError,
}

/// Every way in which a job can fail. docs/errors.md lists each with its cause; a test holds the two together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    // quality_issue: the file
    EmptyFile,
    UnsupportedImage,
    ImageTruncated,
    ImageCorrupt,
    TooManyPixels,
    // quality_issue: the picture
    NoIris,
    LowConfidence,
    IrisTooSmall,
    IrisCutOff,
    IrisCovered,
    TooBlurred,
    MotionBlurred,
    TooDark,
    TooBright,
    TooMuchGlare,
    PupilOutOfRange,
    GazeOff,
    MergeMismatch,
    // transient_error
    DeviceBusy,
    ModelFailed,
    StorageBusy,
    JobTimeout,
    CameraUnavailable,
    // server_error
    PoisonPhoto,
    OriginalMissing,
    WeightsMissing,
    WeightsTampered,
    ModelMismatch,
    RuntimeMissing,
    DiskFull,
    Internal,
}

/// Class, message and suggestion of a code: one row of the catalogue.
pub struct Entry {
    pub code: Code,
    pub class: FaultClass,
    pub message: &'static str,
    pub suggestion: &'static str,
}

const fn entry(code: Code, class: FaultClass, message: &'static str, suggestion: &'static str) -> Entry {
    Entry { code, class, message, suggestion }
}

use FaultClass::{QualityIssue as Q, ServerError as S, TransientError as T};

/// The catalogue. Messages say what happened, suggestions what to do now.
pub const CATALOGUE: &[Entry] = &[
    entry(Code::EmptyFile, Q, "The photo file is empty.", "Take the photo again and send it once it is saved."),
    entry(Code::UnsupportedImage, Q, "The file is not a JPEG, PNG or WebP picture.", "Send the photo as JPEG, PNG or WebP."),
    entry(Code::ImageTruncated, Q, "The photo ends in the middle of the picture.", "Send the photo again; the transfer was cut off."),
    entry(Code::ImageCorrupt, Q, "The photo is damaged and cannot be read.", "Take a new photo, or send the file again."),
    entry(Code::TooManyPixels, Q, "The photo has more pixels than this device takes.", "Set the camera to a smaller picture size."),
    entry(Code::NoIris, Q, "No iris was found in the photo.", "Bring the eye closer, open it wide, and look straight into the camera."),
    entry(Code::LowConfidence, Q, "It is not certain that this is an eye.", "Take a new close-up photo of one open eye in even light."),
    entry(
        Code::IrisTooSmall,
        Q,
        "The iris is too small in the photo.",
        "Move the camera closer, until the iris fills a third of the picture's height.",
    ),
    entry(Code::IrisCutOff, Q, "The iris is cut off at the edge of the photo.", "Centre the eye in the picture and take a new photo."),
    entry(
        Code::IrisCovered,
        Q,
        "Lids or lashes cover too much of the iris.",
        "Ask the person to open the eye wide, or hold the lids gently.",
    ),
    entry(Code::TooBlurred, Q, "The iris is not sharp.", "Hold the camera still, wait for the focus, and take a new photo."),
    entry(
        Code::MotionBlurred,
        Q,
        "The camera or the eye moved while the photo was taken.",
        "Rest camera and chin, ask the person to look at one point, and take a new photo in more light.",
    ),
    entry(Code::TooDark, Q, "The iris is too dark.", "Take a new photo in better light."),
    entry(Code::TooBright, Q, "The iris is overexposed.", "Dim or move the lamp and take a new photo."),
    entry(
        Code::TooMuchGlare,
        Q,
        "Reflections cover too much of the iris or its pupil.",
        "Turn the lamp or the head a little and take a new photo.",
    ),
    entry(
        Code::PupilOutOfRange,
        Q,
        "The pupil is too wide or too small for this photo.",
        "Change the room's light, wait a moment, and take a new photo.",
    ),
    entry(Code::GazeOff, Q, "The eye looks to the side.", "Ask the person to look straight into the camera."),
    entry(
        Code::MergeMismatch,
        Q,
        "The photos do not show the same eye, or not the same part of it.",
        "Take them again in one go, only the lamp moved in between, or process each on its own.",
    ),
    entry(Code::DeviceBusy, T, "The device was busy.", "Nothing to do: it is tried again by itself. If it stays so, press Reprocess."),
    entry(
        Code::ModelFailed,
        T,
        "The network stopped while it worked on this photo.",
        "Nothing to do: it is tried again by itself. If it stays so, press Reprocess.",
    ),
    entry(
        Code::StorageBusy,
        T,
        "The disk did not answer in time.",
        "Nothing to do: it is tried again by itself. If it stays so, press Reprocess.",
    ),
    entry(Code::JobTimeout, T, "The photo took longer than the time limit.", "Press Reprocess; if it happens again, send a smaller photo."),
    entry(Code::CameraUnavailable, T, "The camera does not answer.", "Check the camera's cable and try again."),
    entry(
        Code::PoisonPhoto,
        S,
        "This photo stopped the program several times and was set aside.",
        "The photo is kept. Contact support with the job's id.",
    ),
    entry(
        Code::OriginalMissing,
        S,
        "The original of this photo is no longer on the device.",
        "Send the photo again, or contact support with the job's id.",
    ),
    entry(
        Code::WeightsMissing,
        S,
        "A network that the configuration names is not installed.",
        "Contact support: `irisd weights list` shows what is missing.",
    ),
    entry(
        Code::WeightsTampered,
        S,
        "A network's file is not the one that was installed.",
        "Contact support: `irisd weights verify` names the file.",
    ),
    entry(Code::ModelMismatch, S, "A network's file does not fit this program.", "Contact support: `irisd weights verify` names the file."),
    entry(Code::RuntimeMissing, S, "The library that runs the networks could not be loaded.", "Contact support: `irisd doctor` says why."),
    entry(
        Code::DiskFull,
        S,
        "There is no room left on the device's disk.",
        "The photo is kept. Make room on the disk, then press Reprocess.",
    ),
    entry(
        Code::Internal,
        S,
        "Something went wrong inside the device.",
        "The photo is kept. Press Reprocess, or contact support with the job's id.",
    ),
];

impl Code {
    pub fn entry(self) -> &'static Entry {
        CATALOGUE.iter().find(|e| e.code == self).expect("every code has its row: a test looks")
    }

    pub fn class(self) -> FaultClass {
        self.entry().class
    }

    /// The name that clients see.
    pub fn name(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(s)) => s,
            _ => unreachable!("a unit variant serialises as a string"),
        }
    }
}

/// What went wrong with one photo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub class: FaultClass,
    pub code: Code,
    /// For the person.
    pub message: String,
    pub suggestion: String,
    /// For the log.
    pub detail: String,
}

impl Fault {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let e = code.entry();
        Self { class: e.class, code, message: e.message.to_owned(), suggestion: e.suggestion.to_owned(), detail: detail.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.code.name(), self.message, self.detail)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_stands_once_in_the_catalogue_and_tells_the_person_what_to_do() {
        let seen: BTreeSet<Code> = CATALOGUE.iter().map(|e| e.code).collect();
        assert_eq!(seen.len(), CATALOGUE.len(), "a code stands twice");
        for e in CATALOGUE {
            assert!(e.message.ends_with('.') && e.suggestion.len() > 10, "{:?}", e.code);
            assert_eq!(Fault::new(e.code, "").class, e.class);
        }
        // Internal is the last variant: the catalogue is complete when it has as many rows as there are variants.
        assert_eq!(CATALOGUE.len(), Code::Internal as usize + 1);
    }
}
