//! Larger by whole factors, row by row ([`Lanczos`], [`LinearMask`]); smaller by area ([`shrink`]); and the network's square ([`square`]).
//!
//! Pixel centres lie at .5: pixel x of a picture covers x..x+1. All sides of a result are at least 1.

mod area;
mod square;
mod upscale;

pub use area::{quarter, shrink, shrink_gray};
pub use square::square;
pub use upscale::{Lanczos, LinearMask};
