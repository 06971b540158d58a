//! The iris, its pupil and the lamps on the cornea.
//!
//! The texture lives in polar coordinates: angle as a share of the circle, and t from the pupil's edge (0) to the limbus (1), so that
//! fibres run radially and stretch when the pupil closes, as real ones do.

use super::{
    maths::{bell, hash, mix, mix3, noise, pow, step, turn, unit, wrapped_noise},
    scene::{Glint, Scene, Shape},
};

/// Normalised distance from the iris centre: 1 on the limbus.
pub fn limbus_distance(s: &Scene, u: f32, v: f32) -> f32 {
    let eu = u / s.squeeze;
    (eu * eu + v * v).sqrt()
}

/// Colour of iris and pupil at (u, v), with the cornea's light but without lamps. 0..1.
pub fn colour(s: &Scene, u: f32, v: f32, rho: f32) -> [f32; 3] {
    let (pu, pv) = (u / s.squeeze - s.pupil_at.0, v - s.pupil_at.1);
    let from_pupil = (pu * pu + pv * pv).sqrt();
    let angle = turn(pv, pu);
    // The pupil's rim is not a perfect circle.
    let rim =
        s.pupil * (1.0 + 0.012 * wrapped_noise(angle * 9.0, 0.5, 9, s.seed ^ 1) + 0.006 * wrapped_noise(angle * 41.0, 0.5, 41, s.seed ^ 2));
    let (inside, outside) = ((from_pupil - rim).max(0.0), (1.0 - rho).max(0.0));
    let t = inside / (inside + outside + 1e-4);

    let mut c = texture(s, angle, t);
    // Darker towards the limbus and under the rim, lighter where the lamp's light gathers: opposite of the lamp.
    let limbal = step(1.0 - s.limbus_width * 4.5, 1.0, rho);
    let caustic = -(u * s.light.0 + v * s.light.1) * 0.42;
    let shade = (1.0 - 0.62 * limbal * limbal) * (1.0 + caustic) * (0.72 + 0.28 * step(0.0, 0.1, t));
    c = c.map(|v| v * shade);
    let edge = (1.2 / s.radius).max(0.012);
    let pupil = step(edge, -edge, from_pupil - rim);
    mix3(c, [0.018, 0.016, 0.018], pupil)
}

fn texture(s: &Scene, angle: f32, t: f32) -> [f32; 3] {
    // Fibres wander a little sideways on their way out.
    let wander =
        0.010 * wrapped_noise(angle * 14.0, t * 2.6, 14, s.seed ^ 3) + 0.004 * wrapped_noise(angle * 40.0, t * 5.0, 40, s.seed ^ 4);
    let a = angle + wander;
    let ring = |n: i32, along: f32, key: u32| wrapped_noise(a * n as f32, t * along, n, s.seed ^ key);

    // The collarette: a zigzag ring between the pupillary and the ciliary zone.
    let collarette = s.collarette + 0.045 * ring(11, 0.4, 5) + 0.028 * ring(34, 0.6, 6);
    let outside = step(-0.09, 0.11, t - collarette + 0.05 * ring(90, 1.2, 18));

    // Ridges of noise: bright strands with dark gaps, coarse to fine.
    let strand = |n: i32, along: f32, key: u32| 1.0 - 2.0 * ring(n, along, key).abs();
    let coarse = 0.55 * strand(58, 1.3, 7) + 0.45 * strand(103, 2.0, 8);
    let fine = 0.6 * strand(205, 3.0, 9) + 0.4 * ring(330, 5.0, 10);
    let patches = wrapped_noise(angle * 7.0, t * 2.2, 7, s.seed ^ 11);
    let fibres = mix(0.3 * coarse + 0.7 * fine, 0.65 * coarse + 0.35 * fine, outside) + 0.18 * patches;

    let ground = mix3(s.inner, s.outer, mix(0.12, 1.0, outside) * (0.9 + 0.1 * patches));
    let bright = (fibres * 0.5 + 0.12).clamp(0.0, 1.0);
    let mut c = mix3(ground, s.fibre, bright * bright * 1.05);
    let depth = 1.0 + 0.42 * fibres.min(0.4) + 0.08 * ring(500, 9.0, 12);
    c = c.map(|v| v * depth.max(0.25));

    // The collarette's crest catches the light.
    let crest = bell((t - collarette) / 0.035) * (0.6 + 0.4 * ring(50, 1.0, 13));
    c = mix3(c, s.fibre, 0.38 * crest.max(0.0));
    // Crypts: dark lens-shaped gaps, most of them just outside of the collarette.
    let crypt = crypts(s, a, t, collarette);
    c = mix3(c, ground.map(|v| v * 0.42), 0.62 * crypt);
    // Contraction furrows: arcs near the limbus.
    for (i, at) in [0.62f32, 0.74, 0.85].into_iter().enumerate() {
        let here = at + 0.018 * ring(6, 0.3, 20 + i as u32);
        let broken = step(-0.1, 0.4, wrapped_noise(angle * 5.0, i as f32 * 3.7, 5, s.seed ^ 14));
        let groove = bell((t - here) / 0.014) - 0.6 * bell((t - here - 0.022) / 0.014);
        c = c.map(|v| v * (1.0 - 0.16 * groove * broken));
    }
    freckles(s, angle, t, c)
}

/// 0..1: how deep in a crypt the point lies. One candidate a cell, seen from its neighbours too.
fn crypts(s: &Scene, angle: f32, t: f32, collarette: f32) -> f32 {
    const AROUND: i32 = 22;
    const OUT: f32 = 5.5;
    let (x, y) = (angle * AROUND as f32, (t - collarette) * OUT);
    let (cx, cy) = (x.floor() as i32, y.floor() as i32);
    let mut deepest = 0f32;
    for j in cy - 1..=cy + 1 {
        for i in cx - 1..=cx + 1 {
            let h = hash(i.rem_euclid(AROUND), j, s.seed ^ 15);
            let likely = s.crypts
                * match j {
                    0 => 0.75,
                    1 => 0.3,
                    -1 => 0.25,
                    _ => 0.08,
                };
            if unit(h) > likely {
                continue;
            }
            let (px, py) = (i as f32 + 0.25 + 0.5 * unit(hash(i, j, h)), j as f32 + 0.25 + 0.5 * unit(hash(j, i, h)));
            let (rx, ry) = (0.14 + 0.24 * unit(hash(h as i32, 1, 1)), 0.42 + 0.6 * unit(hash(h as i32, 2, 2)));
            let (dx, dy) = ((x - px) / rx, (y - py) / ry);
            let d = dx.abs() + dy * dy + 0.22 * noise(x * 4.0, y * 3.0, s.seed ^ 16);
            deepest = deepest.max(step(1.0, 0.15, d) * (0.35 + 0.65 * unit(hash(h as i32, 3, 3))));
        }
    }
    deepest
}

fn freckles(s: &Scene, angle: f32, t: f32, c: [f32; 3]) -> [f32; 3] {
    let (x, y) = (angle * 26.0, t * 5.0);
    let (cx, cy) = (x.floor() as i32, y.floor() as i32);
    let h = hash(cx.rem_euclid(26), cy, s.seed ^ 17);
    if unit(h) > s.freckles {
        return c;
    }
    let (dx, dy) = (x - cx as f32 - 0.5, (y - cy as f32 - 0.5) * 0.8);
    let size = 0.18 + 0.2 * unit(hash(cx, cy, h));
    let spot = step(size, size * 0.45, (dx * dx + dy * dy).sqrt() + 0.1 * noise(x * 4.0, y * 4.0, s.seed));
    mix3(c, [0.30, 0.19, 0.10], spot * 0.42)
}

/// Light of all lamps on the wet cornea, 0..1.
pub fn lamps(s: &Scene, u: f32, v: f32) -> f32 {
    s.glints.iter().map(|g| lamp(g, u, v, 1.0 / s.radius)).fold(0.0, f32::max)
}

/// Light of one lamp, 0..1; `px`: a pixel's side, limbus radii.
pub fn lamp(g: &Glint, u: f32, v: f32, px: f32) -> f32 {
    let (x, y) = (u - g.at.0, v - g.at.1);
    let soft = (1.5 * px).max(0.014);
    // The cornea is a ball: straight lines bow a little.
    let boxed = |half: (f32, f32), lean: f32, round: f32| {
        let (bx, by) = (x + lean * y + 0.35 * x * y * y, y + 0.5 * y * x * x);
        let (ox, oy) = ((bx.abs() - half.0 + round).max(0.0), (by.abs() - half.1 + round).max(0.0));
        (step(soft, -soft, (ox * ox + oy * oy).sqrt() - round), bx, by)
    };
    let light = match g.shape {
        Shape::Window { half, lean } => {
            let (pane, bx, by) = boxed(half, lean, 0.012);
            let bars = step(0.006, 0.006 + soft, bx.abs()) * step(0.006, 0.006 + soft, (by + half.1 * 0.15).abs());
            // Sky above, a darker street below.
            pane * (0.25 + 0.75 * bars) * mix(0.72, 1.0, step(half.1, -half.1 * 0.6, by))
        }
        Shape::Softbox { half, lean } => {
            let (face, bx, by) = boxed(half, lean, 0.03);
            face * (0.86 + 0.14 * bell((bx * bx + by * by).sqrt() / half.0))
        }
        Shape::Ring { radius, band } => step(soft, -soft, ((x * x + y * y).sqrt() - radius).abs() - band),
        Shape::Dot { radius } => step(soft, -soft, (x * x + y * y).sqrt() - radius),
    };
    let glow = match g.shape {
        Shape::Window { half, .. } | Shape::Softbox { half, .. } => half.0.max(half.1),
        Shape::Ring { radius, .. } => radius,
        Shape::Dot { radius } => radius,
    };
    let halo = g.halo * pow(1.0 + (x * x + y * y) / (glow * glow), -2.0);
    (g.strength * light).max(halo * g.strength)
}
