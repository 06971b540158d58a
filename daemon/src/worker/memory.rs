//! How much memory a job may come to need: what two jobs at once are admitted by. Pure.
//!
//! Results are made row by row, so the photo itself is what counts: its pixels, the masks of its size, and the copies that the steps make of
//! it. While a photo that is merged is looked at, those before it are held with their masks; once its pixels are taken, it goes. Measured as the peak of `irisd process` (VmHWM) over photos of 0.3 to 60 MP in the default configuration, and rounded up; a
//! test holds a run of the daemon to it.

/// What a job needs whatever its photo: tensors, rows, buffers.
const FIXED: u64 = 48 << 20;
/// For each pixel of the photo that is looked at.
const EACH_PX: u64 = 12;
/// Of that, what is held of a photo while another one is looked at: its pixels, its mask, where it glares.
const HELD_PX: u64 = 6;

/// Bytes that a job over a photo of so many px, merged with `others`, may come to need, beside the program itself.
pub fn need(own: u64, others: &[u64]) -> u64 {
    let all: u64 = own + others.iter().sum::<u64>();
    let largest = others.iter().copied().fold(own, u64::max);
    FIXED + all * HELD_PX + largest * (EACH_PX - HELD_PX)
}

/// What two jobs together may need where the configuration says nothing: half of what the process can have. The other half is for the
/// networks, photos on their way in, and everybody else on the box.
pub fn share(available: u64) -> u64 {
    (available / 2).max(FIXED * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_photos_of_60_mp_share_a_box_of_8_gib_and_not_one_of_2_gib() {
        let both = 2 * need(60_000_000, &[]);
        assert!(both <= share(8 << 30));
        assert!(both > share(2 << 30));
    }

    #[test]
    fn a_photo_that_is_merged_counts_for_what_is_held_of_it_and_the_largest_for_all_that_is_made_of_it() {
        let alone = need(1_000_000, &[]);
        assert_eq!(alone, FIXED + 12_000_000);
        assert_eq!(need(1_000_000, &[1_000_000, 1_000_000]), alone + 12_000_000);
        assert_eq!(need(1_000_000, &[4_000_000]), FIXED + 6_000_000 + 48_000_000);
    }
}
