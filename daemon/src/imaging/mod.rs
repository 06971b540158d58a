//! Pixels, pure: no I/O beyond byte slices and writers that are handed in, no clock, no store.

pub mod geometry;
pub mod highlights;
pub mod inpaint;
pub mod mask;
pub mod quality;
pub mod raster;
pub mod segment;
