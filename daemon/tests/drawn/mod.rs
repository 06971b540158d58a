//! An eye drawn with a few circles: skin, an opening between two lids, sclera, a textured iris, a pupil and two lamps in it.

use irisd::imaging::raster::Rgb;

/// H x W x 3, sRGB. The iris has a third of the shorter side as its radius, its centre is the picture's.
pub fn eye(width: usize, height: usize) -> Rgb {
    let mut rgb = Rgb::new(width, height);
    let (cx, cy, r) = (width as f64 / 2.0, height as f64 / 2.0, width.min(height) as f64 / 3.0);
    let mix = |a: [f64; 3], b: [f64; 3], t: f64| [0, 1, 2].map(|i| a[i] + (b[i] - a[i]) * t.clamp(0.0, 1.0));
    for y in 0..height {
        for x in 0..width {
            let (dx, dy) = (x as f64 + 0.5 - cx, y as f64 + 0.5 - cy);
            let (d, angle) = (dx.hypot(dy), dy.atan2(dx));
            let grain = ((x * 7919 + y * 104_729) % 23) as f64 - 11.0;
            let skin = [203.0 + grain * 0.5, 158.0 + grain * 0.5, 136.0 + grain * 0.5];
            let sclera = [228.0 + grain * 0.3, 222.0 + grain * 0.3, 216.0 + grain * 0.3];
            let fibre = 14.0 * (angle * 40.0).sin() + 9.0 * (angle * 17.0 + d * 0.2).cos() + grain * 0.6;
            let iris = [86.0 + fibre, 104.0 + fibre, 112.0 + fibre];
            // Lids: two arcs, a little beyond the iris above and below.
            let lid = 1.02 * r * (1.0 - (dx / (2.1 * r)).powi(2)).max(0.0);
            let mut px = mix(sclera, skin, dy.abs() - lid);
            let eye_open = (lid - dy.abs()).clamp(0.0, 1.0);
            px = mix(px, iris, (r - d).clamp(0.0, 2.0) / 2.0 * eye_open);
            px = mix(px, [14.0, 12.0, 12.0], (0.38 * r - d).clamp(0.0, 1.5) / 1.5);
            for (lx, ly, size) in [(-0.2, -0.25, 0.07), (0.25, 0.5, 0.05)] {
                px = mix(px, [252.0; 3], (size * r - (dx - lx * r).hypot(dy - ly * r) + 0.5).clamp(0.0, 1.0));
            }
            rgb.set(x, y, px.map(|v| v.clamp(0.0, 255.0) as u8));
        }
    }
    rgb
}
