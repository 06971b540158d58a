//! How much memory a job may come to need: what two jobs at once are admitted by. Pure.
//!
//! Results are made row by row, so the photo itself is what counts: its pixels, the masks of its size, and the copies that the steps make of
//! it. Measured as the peak of `irisd process` (VmHWM) over photos of 0.3 to 60 MP in the default configuration, and rounded up; a
//! test holds a run of the daemon to it.

/// What a job needs whatever its photo: tensors, rows, buffers.
const FIXED: u64 = 48 << 20;
/// For each pixel of the photo.
const EACH_PX: u64 = 12;

/// Bytes that a job over a photo of this size may come to need, beside the program itself.
pub fn need(width: u32, height: u32) -> u64 {
    FIXED + u64::from(width) * u64::from(height) * EACH_PX
}

/// What two jobs together may need where the configuration says nothing: half of what the process can have. The other half is for the
/// networks, photos on their way in, and everybody else on the box.
pub fn share(available: u64) -> u64 {
    (available / 2).max(need(0, 0) * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_photos_of_60_mp_share_a_box_of_8_gib_and_not_one_of_2_gib() {
        let both = 2 * need(10_000, 6_000);
        assert!(both <= share(8 << 30));
        assert!(both > share(2 << 30));
    }
}
