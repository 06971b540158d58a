//! A synthetic eye as a camera: the whole way of a photo without any hardware, for trying out and for tests.
//!
//! Each frame is another eye; or each capture is, and its frames show that eye under lamps that stand elsewhere in each, from a little
//! elsewhere, as a hand-held camera and switched lamps give them.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    imaging::{
        raster::Rgb,
        synth::{
            self,
            lamps::{self, Kind, Pose},
        },
    },
    ports::{CameraError, CameraOpener, Frame, FramePixels, FrameSource},
};

#[derive(Debug, Clone)]
pub struct SyntheticOptions {
    /// Of the first eye; the n-th has seed + n.
    pub seed: u64,
    /// px; 0: [`SIZE`].
    pub width: u32,
    pub height: u32,
    pub eyes: Eyes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eyes {
    OneAFrame,
    OneACapture,
}

/// The size where none is configured, px: that of a small kiosk camera.
pub const SIZE: (u32, u32) = (1600, 1200);
/// Half the extent of a lamp, limbus radii: a window or a softbox near by.
const LAMP: f32 = 0.12;
/// How the camera stands for each frame of a capture: what a hand moves in a second.
const POSES: [Pose; 4] = [
    Pose::STRAIGHT,
    Pose { scale: 1.01, turn_deg: 0.8, shift: (0.02, -0.015) },
    Pose { scale: 0.99, turn_deg: -0.6, shift: (-0.015, 0.02) },
    Pose { scale: 1.005, turn_deg: -1.0, shift: (0.01, 0.025) },
];

pub struct SyntheticCamera {
    options: SyntheticOptions,
}

impl SyntheticCamera {
    pub fn new(options: SyntheticOptions) -> Self {
        Self { options }
    }
}

impl CameraOpener for SyntheticCamera {
    fn open(&self) -> Result<Box<dyn FrameSource>, CameraError> {
        let o = &self.options;
        let or = |px: u32, default: u32| if px == 0 { default } else { px };
        let (width, height) = (or(o.width, SIZE.0), or(o.height, SIZE.1));
        Ok(match o.eyes {
            Eyes::OneAFrame => Box::new(EyeAFrame { next_seed: o.seed, width, height }),
            Eyes::OneACapture => Box::new(EyeACapture { seed: o.seed, captures: 0, frames: 0, width, height }),
        })
    }
}

struct EyeAFrame {
    next_seed: u64,
    width: u32,
    height: u32,
}

impl FrameSource for EyeAFrame {
    fn next(&mut self, _timeout: Duration) -> Result<Frame, CameraError> {
        let sample = synth::eye(self.next_seed, self.width as usize, self.height as usize);
        self.next_seed = self.next_seed.wrapping_add(1);
        Ok(frame(sample.photo))
    }
}

struct EyeACapture {
    /// Of the eye that sits before the camera.
    seed: u64,
    captures: u64,
    /// Of this capture.
    frames: u64,
    width: u32,
    height: u32,
}

impl FrameSource for EyeACapture {
    fn next(&mut self, _timeout: Duration) -> Result<Frame, CameraError> {
        let n = self.frames as usize;
        let (kind, pose) = (Kind::ALL[n % Kind::ALL.len()], POSES[n % POSES.len()]);
        let photo = lamps::shot(self.seed, self.frames + 1, kind, LAMP, pose, self.width as usize, self.height as usize);
        self.frames += 1;
        Ok(frame(photo))
    }

    fn capture_begins(&mut self) {
        // The first capture is of the first eye, whatever the preview showed of it.
        if self.captures > 0 {
            self.seed = self.seed.wrapping_add(1);
        }
        self.captures += 1;
        self.frames = 0;
    }
}

fn frame(photo: Rgb) -> Frame {
    let (width, height) = (photo.width as u32, photo.height as u32);
    Frame { width, height, pixels: FramePixels::Rgb(photo.data), captured_at: Some(Timestamp::now()) }
}
