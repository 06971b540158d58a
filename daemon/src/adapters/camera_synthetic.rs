//! A synthetic eye as a camera: the whole way of a photo without any hardware, for trying out and for tests. Each frame is another eye.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    imaging::synth,
    ports::{CameraError, CameraOpener, Frame, FramePixels, FrameSource},
};

#[derive(Debug, Clone)]
pub struct SyntheticOptions {
    /// Of the first eye; the n-th frame has seed + n.
    pub seed: u64,
    /// px; 0: [`SIZE`].
    pub width: u32,
    pub height: u32,
}

/// The size where none is configured, px: that of a small kiosk camera.
pub const SIZE: (u32, u32) = (1600, 1200);

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
        Ok(Box::new(SyntheticSource { next_seed: o.seed, width: or(o.width, SIZE.0), height: or(o.height, SIZE.1) }))
    }
}

struct SyntheticSource {
    next_seed: u64,
    width: u32,
    height: u32,
}

impl FrameSource for SyntheticSource {
    fn next(&mut self, _timeout: Duration) -> Result<Frame, CameraError> {
        let sample = synth::eye(self.next_seed, self.width as usize, self.height as usize);
        self.next_seed = self.next_seed.wrapping_add(1);
        Ok(Frame {
            width: self.width,
            height: self.height,
            pixels: FramePixels::Rgb(sample.photo.data),
            captured_at: Some(Timestamp::now()),
        })
    }
}
