//! A V4L2 camera (`/dev/videoN`) through crate `v4l`: MJPEG or YUYV over mapped buffers.
//!
//! ```text
//! open: formats and sizes asked -> best chosen -> set -> what the driver really set is read back -> stream
//! next: ready (old) frames given back -> wait for the next one, at most `timeout` -> copy `bytesused` bytes
//! ```
//!
//! What is known to bite: `poll` has no time-out unless one is set; a buffer is larger than its frame (`bytesused` counts); up to
//! [`BUFFERS`] old frames wait in the queue; after a replug the driver may start with another format, so it is negotiated at each open;
//! after a time-out the crate's stream cannot be used again (it would queue a buffer twice), so every error but a damaged frame means:
//! open again.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use v4l::{
    Device, FourCC,
    buffer::{Flags, Type},
    framesize::FrameSizeEnum,
    io::{mmap::Stream, traits::CaptureStream},
    video::{Capture, capture::Parameters},
};

use crate::ports::{CameraError, CameraOpener, Frame, FramePixels, FrameSource};

/// One with us, one being filled, two in between: fewer lose frames, more only grow older.
const BUFFERS: u32 = 4;
/// `poll(2)`: data to read.
const POLLIN: i16 = 1;
/// errno of a device that was unplugged.
const ENODEV: i32 = 19;
/// Damaged frames in a row before the camera is given up (a bad cable makes many).
const MOST_DAMAGED: u32 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelFormat {
    Mjpeg,
    Yuyv,
}

impl PixelFormat {
    fn of(fourcc: FourCC) -> Option<Self> {
        match &fourcc.repr {
            b"MJPG" | b"JPEG" => Some(PixelFormat::Mjpeg),
            b"YUYV" => Some(PixelFormat::Yuyv),
            _ => None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct V4lOptions {
    /// `/dev/video0`, or a stable name below `/dev/v4l/by-id`.
    pub device: PathBuf,
    /// None: MJPEG where the camera has it (more pixels over the same cable), else YUYV.
    pub format: Option<PixelFormat>,
    /// px; 0: the camera's largest.
    pub width: u32,
    pub height: u32,
    /// 0: the camera's own.
    pub fps: u32,
}

pub struct V4lCamera {
    options: V4lOptions,
}

impl V4lCamera {
    pub fn new(options: V4lOptions) -> Self {
        Self { options }
    }
}

/// One thing that the camera can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offer {
    fourcc: FourCC,
    format: PixelFormat,
    width: u32,
    height: u32,
}

/// The offer nearest to the wish: an asked-for format is kept to; then the size (nearest area, or the largest), then MJPEG before YUYV.
fn choose(offers: &[Offer], options: &V4lOptions) -> Option<Offer> {
    let area = |w: u32, h: u32| u64::from(w) * u64::from(h);
    let off = |o: &Offer| match area(options.width, options.height) {
        0 => u64::MAX - area(o.width, o.height),
        _ => u64::from(o.width.abs_diff(options.width)) + u64::from(o.height.abs_diff(options.height)),
    };
    let fits = |o: &&Offer| options.format.is_none_or(|f| f == o.format);
    // Without a size, MJPEG's largest: YUYV offers the same sizes at a frame in many seconds.
    let mjpeg_first = |o: &Offer| o.format != PixelFormat::Mjpeg;
    let any_size = area(options.width, options.height) == 0;
    offers
        .iter()
        .filter(fits)
        .min_by_key(|o| if any_size { (u64::from(mjpeg_first(o)), off(o)) } else { (off(o), u64::from(mjpeg_first(o))) })
        .copied()
}

fn offers(device: &Device, options: &V4lOptions) -> io::Result<Vec<Offer>> {
    let mut all = Vec::new();
    for description in device.enum_formats()? {
        let fourcc = description.fourcc;
        let Some(format) = PixelFormat::of(fourcc) else { continue };
        for size in device.enum_framesizes(fourcc)? {
            let sizes = match size.size {
                FrameSizeEnum::Discrete(d) => vec![(d.width, d.height)],
                // Any size in between: the wish itself, moved into the range, and the largest.
                FrameSizeEnum::Stepwise(s) => vec![
                    (s.max_width, s.max_height),
                    (
                        options.width.clamp(s.min_width, s.max_width.max(s.min_width)),
                        options.height.clamp(s.min_height, s.max_height.max(s.min_height)),
                    ),
                ],
            };
            all.extend(sizes.into_iter().map(|(width, height)| Offer { fourcc, format, width, height }));
        }
    }
    Ok(all)
}

impl CameraOpener for V4lCamera {
    fn open(&self) -> Result<Box<dyn FrameSource>, CameraError> {
        let o = &self.options;
        let device = Device::with_path(&o.device).map_err(|e| CameraError::Gone(format!("{}: {e}", o.device.display())))?;
        let offers = offers(&device, o).map_err(fault)?;
        let chosen = choose(&offers, o)
            .ok_or_else(|| CameraError::Unsupported(format!("{} offers no MJPEG or YUYV as asked", o.device.display())))?;
        let mut wish = device.format().map_err(fault)?;
        (wish.fourcc, wish.width, wish.height) = (chosen.fourcc, chosen.width, chosen.height);
        let got = device.set_format(&wish).map_err(fault)?;
        let format = PixelFormat::of(got.fourcc)
            .ok_or_else(|| CameraError::Unsupported(format!("the driver set {} instead of MJPEG or YUYV", got.fourcc)))?;
        if o.fps > 0
            && let Err(e) = device.set_params(&Parameters::with_fps(o.fps))
        {
            tracing::debug!(error = %e, fps = o.fps, "the camera keeps its own frame rate");
        }
        let stream = Stream::with_buffers(&device, Type::VideoCapture, BUFFERS).map_err(fault)?;
        tracing::info!(width = got.width, height = got.height, format = ?format, "camera open");
        Ok(Box::new(V4lSource {
            stream,
            format,
            width: got.width,
            height: got.height,
            stride: (got.stride as usize).max(got.width as usize * 2),
            running: false,
        }))
    }
}

struct V4lSource {
    stream: Stream<'static>,
    format: PixelFormat,
    width: u32,
    height: u32,
    /// Bytes a row (YUYV).
    stride: usize,
    running: bool,
}

impl V4lSource {
    /// Frames that are ready now were taken before anybody asked.
    fn drop_old(&mut self) -> io::Result<()> {
        let handle = self.stream.handle();
        for _ in 0..BUFFERS {
            if handle.poll(POLLIN, 0)? == 0 {
                break;
            }
            self.stream.next()?;
        }
        Ok(())
    }
}

impl FrameSource for V4lSource {
    fn next(&mut self, timeout: Duration) -> Result<Frame, CameraError> {
        let end = Instant::now() + timeout;
        if self.running {
            self.drop_old().map_err(fault)?;
        }
        for _ in 0..MOST_DAMAGED {
            // At least 1 ms: the driver's poll takes whole milliseconds, and 0 would ask without waiting.
            self.stream.set_timeout(end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
            let (buffer, meta) = self.stream.next().map_err(|e| match e.kind() {
                io::ErrorKind::TimedOut => CameraError::TimedOut(timeout),
                _ => fault(e),
            })?;
            self.running = true;
            let bytes = &buffer[..(meta.bytesused as usize).min(buffer.len())];
            if meta.flags.contains(Flags::ERROR) || !is_whole(bytes, self.format, self.stride, self.height) {
                continue;
            }
            let pixels = match self.format {
                PixelFormat::Mjpeg => FramePixels::File(bytes.to_vec()),
                PixelFormat::Yuyv => FramePixels::Yuyv { data: bytes.to_vec(), stride: self.stride },
            };
            return Ok(Frame { width: self.width, height: self.height, pixels, captured_at: Some(Timestamp::now()) });
        }
        Err(CameraError::Io(format!("{MOST_DAMAGED} damaged frames in a row; check the cable")))
    }
}

/// A frame that was cut off on the cable: a JPEG without its end, a raw picture with rows missing.
fn is_whole(bytes: &[u8], format: PixelFormat, stride: usize, height: u32) -> bool {
    match format {
        PixelFormat::Mjpeg => bytes.starts_with(&[0xFF, 0xD8]) && bytes.windows(2).rev().any(|w| w == [0xFF, 0xD9]),
        PixelFormat::Yuyv => bytes.len() >= stride * height as usize,
    }
}

fn fault(e: io::Error) -> CameraError {
    match e.raw_os_error() {
        Some(ENODEV) => CameraError::Gone("it was unplugged".to_owned()),
        _ => CameraError::Io(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(fourcc: &[u8; 4], width: u32, height: u32) -> Offer {
        let fourcc = FourCC::new(fourcc);
        Offer { fourcc, format: PixelFormat::of(fourcc).expect("ours"), width, height }
    }

    fn wish(format: Option<PixelFormat>, width: u32, height: u32) -> V4lOptions {
        V4lOptions { device: "/dev/video0".into(), format, width, height, fps: 0 }
    }

    fn camera() -> Vec<Offer> {
        vec![
            offer(b"YUYV", 640, 480),
            offer(b"YUYV", 2592, 1944),
            offer(b"MJPG", 1920, 1080),
            offer(b"MJPG", 640, 480),
            offer(b"MJPG", 2592, 1944),
        ]
    }

    #[test]
    fn without_a_wish_the_largest_mjpeg_is_taken() {
        assert_eq!(choose(&camera(), &wish(None, 0, 0)), Some(offer(b"MJPG", 2592, 1944)));
    }

    #[test]
    fn an_asked_for_format_is_kept_to_or_refused() {
        assert_eq!(choose(&camera(), &wish(Some(PixelFormat::Yuyv), 0, 0)), Some(offer(b"YUYV", 2592, 1944)));
        assert_eq!(choose(&[offer(b"YUYV", 640, 480)], &wish(Some(PixelFormat::Mjpeg), 0, 0)), None);
    }

    #[test]
    fn the_nearest_size_is_taken_and_mjpeg_where_both_have_it() {
        assert_eq!(choose(&camera(), &wish(None, 640, 480)), Some(offer(b"MJPG", 640, 480)));
        assert_eq!(choose(&camera(), &wish(None, 1900, 1000)), Some(offer(b"MJPG", 1920, 1080)));
        let only_raw_has_it = [offer(b"MJPG", 320, 240), offer(b"YUYV", 640, 480)];
        assert_eq!(choose(&only_raw_has_it, &wish(None, 640, 480)), Some(offer(b"YUYV", 640, 480)));
    }

    #[test]
    fn a_frame_that_was_cut_off_is_not_whole() {
        assert!(is_whole(&[0xFF, 0xD8, 1, 2, 0xFF, 0xD9, 0, 0], PixelFormat::Mjpeg, 0, 0));
        assert!(!is_whole(&[0xFF, 0xD8, 1, 2], PixelFormat::Mjpeg, 0, 0));
        assert!(is_whole(&[0; 16], PixelFormat::Yuyv, 8, 2));
        assert!(!is_whole(&[0; 15], PixelFormat::Yuyv, 8, 2));
    }

    #[test]
    fn a_camera_that_is_not_there_is_gone() {
        let camera = V4lCamera::new(V4lOptions { device: "/dev/no-such-camera".into(), ..wish(None, 0, 0) });
        assert!(matches!(camera.open(), Err(CameraError::Gone(_))));
    }
}
