//! Pixels, pure: no I/O beyond byte slices and writers that are handed in, no clock, no store.

pub mod annotate;
pub mod clahe;
pub(crate) mod cores;
pub mod decode;
pub mod detail;
pub mod encode;
pub mod geometry;
pub mod highlights;
pub mod inpaint;
pub mod mask;
pub mod merge;
pub mod metadata;
pub mod quality;
pub mod raster;
pub mod register;
pub mod resize;
pub mod segment;
pub mod synth;
pub mod tile;
pub(crate) mod wide;
