//! Embedded colour profiles (ICC.1) to sRGB, through moxcms.

use moxcms::{ColorProfile, DataColorSpace, Layout, TransformOptions};
use rayon::prelude::*;

use super::super::{encode::srgb_profile, raster::Rgb};

/// Pixels a thread turns at a time: its copy stays in the cache.
const CHUNK_PX: usize = 16 * 1024;

/// Converts in place. A profile that cannot be read, or is for another kind of pixel, changes nothing: the picture is then taken as sRGB.
pub(super) fn to_srgb(rgb: &mut Rgb, icc: &[u8]) {
    // What irisd writes itself: making a transform to find out that it does nothing takes as long as decoding a small photo's colours.
    if icc == srgb_profile() {
        return;
    }
    let Ok(profile) = ColorProfile::new_from_slice(icc) else { return };
    match profile.color_space {
        DataColorSpace::Rgb => rgb_profile(rgb, &profile),
        DataColorSpace::Gray => grey_profile(rgb, &profile),
        _ => {}
    }
}

fn rgb_profile(rgb: &mut Rgb, profile: &ColorProfile) {
    let srgb = ColorProfile::new_srgb();
    let Ok(transform) = profile.create_transform_8bit(Layout::Rgb, &srgb, Layout::Rgb, TransformOptions::default()) else { return };

    // Most profiles are sRGB under one of many names: what it does to a few colours tells, and a rounding step is not worth a pass.
    let level = |step: usize| [0u8, 32, 64, 128, 192, 255][step % 6];
    let probe: Vec<u8> = (0..216).flat_map(|i| [level(i), level(i / 6), level(i / 36)]).collect();
    let mut turned = vec![0; probe.len()];
    if transform.transform(&probe, &mut turned).is_err() || probe.iter().zip(&turned).all(|(a, b)| a.abs_diff(*b) <= 1) {
        return;
    }

    rgb.data.par_chunks_mut(CHUNK_PX * 3).for_each_init(Vec::new, |copy, chunk| {
        copy.clear();
        copy.extend_from_slice(chunk);
        // Lengths are equal, the only thing that it can refuse; the pixels then stay as they were.
        let _ = transform.transform(copy, chunk);
    });
}

/// A grey picture (r = g = b): 256 levels are turned once, then looked up.
fn grey_profile(rgb: &mut Rgb, profile: &ColorProfile) {
    let srgb = ColorProfile::new_srgb();
    let Ok(transform) = profile.create_transform_8bit(Layout::Gray, &srgb, Layout::Rgb, TransformOptions::default()) else { return };
    let levels: Vec<u8> = (0..=255).collect();
    let mut turned = vec![0; 256 * 3];
    if rgb.data.chunks_exact(3).any(|p| p[0] != p[1] || p[1] != p[2]) || transform.transform(&levels, &mut turned).is_err() {
        return;
    }
    for px in rgb.data.chunks_exact_mut(3) {
        let level = usize::from(px[0]) * 3;
        px.copy_from_slice(&turned[level..level + 3]);
    }
}
