//! The world outside, one third-party crate a file. They import `domain`, `ports` (and `imaging`, for the synthetic camera) alone,
//! never each other or `config`: app.rs hands them small option structs.

pub mod allocator;
pub mod camera_folder;
pub mod camera_synthetic;
#[cfg(target_os = "linux")]
pub mod camera_v4l;
pub mod clock;
pub mod model_ort;
pub mod mqtt;
pub mod process;
pub mod s3;
pub mod systemd;
