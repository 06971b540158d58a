//! Everything around the iris: the eyeball's white, the lids, the skin.

use super::{
    maths::{bell, exp, fbm, mix, mix3, noise, step},
    scene::Scene,
};

/// The white of the eye at (u, v); `vessel`: 0..1, how much of a vessel lies there; `rho`: 1 on the limbus.
pub fn sclera(s: &Scene, u: f32, v: f32, rho: f32, vessel: f32) -> [f32; 3] {
    let across = (u - s.middle) / s.half;
    let ball = (1.0 - (across * across * 0.72 + v * v * 0.12)).max(0.0).sqrt();
    let mottle = fbm(u * 1.7, v * 1.7, 3, s.seed ^ 31);
    let mut c = [0.93, 0.895, 0.86].map(|w| w * (0.38 + 0.62 * ball) * (1.0 + 0.04 * mottle));
    // Pink towards the corners, and along the lids.
    let pink = (step(0.35, 1.05, across.abs()) * 0.85 + 0.12 * mottle.max(0.0)) * s.redness;
    c = mix3(c, [0.80 * c[0] / 0.83, 0.56 * c[0] / 0.83, 0.53 * c[0] / 0.83], (pink * 0.55).clamp(0.0, 1.0));
    let blood = vessel * (0.18 + 0.32 * s.redness) * step(1.02, 1.3, rho);
    c = [c[0] * (1.0 - 0.16 * blood), c[1] * (1.0 - 0.62 * blood), c[2] * (1.0 - 0.58 * blood)];
    // The limbus shines grey-blue through the white next to it.
    let haze = exp(-(rho - 1.0).max(0.0) / 0.07) * 0.38;
    mix3(c, mix3(s.outer, [0.55, 0.55, 0.56], 0.6), haze)
}

/// The pink knob in the inner corner; 0..1 share and its colour.
pub fn caruncle(s: &Scene, u: f32, v: f32, middle_v: f32) -> (f32, [f32; 3]) {
    let (du, dv) = ((u - s.middle - s.mirror * s.half * 0.93) / 0.30, (v - middle_v) / 0.17);
    let bumps = fbm(u * 7.0, v * 9.0, 3, s.seed ^ 32);
    let share = bell((du * du + dv * dv).sqrt()) * 1.15;
    let tone = 1.0 + 0.14 * bumps + 0.3 * step(0.35, 0.8, bumps);
    (share.min(1.0), [0.74 * tone, 0.47 * tone, 0.43 * tone])
}

/// How much light the lids let through onto the ball.
pub fn lid_shadow(v: f32, top: f32, bottom: f32) -> f32 {
    (1.0 - 0.62 * exp(-(v - top).max(0.0) / 0.20)) * (1.0 - 0.28 * exp(-(bottom - v).max(0.0) / 0.09))
}

/// The tear film's bright line on the lower lid.
pub fn tear_line(s: &Scene, u: f32, v: f32, bottom: f32) -> f32 {
    let broken = step(0.0, 0.5, noise(u * 2.3, 1.5, s.seed ^ 33)) * (0.6 + 0.4 * noise(u * 17.0, 3.5, s.seed ^ 34));
    0.5 * bell((bottom - v - 0.028) / 0.014) * broken.max(0.0)
}

/// Skin at (u, v); `top`, `bottom`: the lids' edges at u.
pub fn skin(s: &Scene, u: f32, v: f32, top: f32, bottom: f32) -> [f32; 3] {
    let t = (u - s.middle) / s.half;
    let above = top - v;
    let below = v - bottom;
    let upper = v < (top + bottom) * 0.5;
    let over_eye = step(1.25, 0.75, t.abs());

    let mut light = 1.0 + 0.09 * fbm(u * 0.8, v * 0.8, 3, s.seed ^ 35) + 0.03 * fbm(u * 6.0, v * 6.0, 2, s.seed ^ 47);
    // Light falls from the lamp's side and from above.
    light *= 1.0 + 0.05 * u * s.light.0 - 0.035 * v;
    // Beyond the corners the two run into each other.
    let share = step(0.16, -0.16, v - (top + bottom) * 0.5);
    light *= match share {
        1.0 => upper_lid(s, u, above, t, over_eye),
        0.0 => lower_lid(s, u, below, over_eye),
        _ => mix(lower_lid(s, u, below, over_eye), upper_lid(s, u, above, t, over_eye), share),
    };
    // Beside the nose lies shade.
    light *= 1.0 - 0.24 * step(0.85, 1.5, t * s.mirror) * step(1.6, -0.6, v);
    light *= 1.0 + relief(s, u, v, above.max(below));

    let blotch = fbm(u * 2.4, v * 2.4, 2, s.seed ^ 36);
    let near = exp(-above.max(below).max(0.0) / 0.16) * step(1.15, 0.95, t.abs());
    let red = 0.035 * blotch + 0.10 * near;
    let mut c = [s.skin[0] * light * (1.0 + red * 0.3), s.skin[1] * light * (1.0 - red), s.skin[2] * light * (1.0 - red * 1.1)];

    // The lids' wet rims: a pale pink band below, a dark root line above.
    if upper {
        let root = exp(-above.max(0.0) / 0.045) * step(1.04, 0.9, t.abs());
        c = c.map(|v| v * (1.0 - 0.58 * root));
    } else {
        let rim = step(0.105, 0.06, below) * step(1.03, 0.86, t.abs());
        let wet = 0.92 + 0.1 * noise(u * 9.0, below * 30.0, s.seed ^ 37);
        c = mix3(c, [(s.skin[0] * 0.45 + 0.46) * wet, (s.skin[1] * 0.45 + 0.29) * wet, (s.skin[2] * 0.45 + 0.27) * wet], 0.72 * rim);
        c = c.map(|v| v * (1.0 - 0.2 * bell((below - 0.115) / 0.03) * over_eye));
    }
    // Bright skin bends towards white slowly: cut off at 1, its red would end first and leave a green cast.
    c.map(|v| if v > 0.8 { 0.8 + 0.18 * (1.0 - exp((0.8 - v) / 0.18)) } else { v })
}

/// Lid plate, crease and brow bone.
fn upper_lid(s: &Scene, u: f32, above: f32, t: f32, over_eye: f32) -> f32 {
    let crease = s.crease * (1.0 - 0.42 * t * t).max(0.5) + 0.02 * noise(u * 1.6, 7.5, s.seed ^ 38);
    let from_crease = above - crease;
    let second = from_crease - 0.17 - 0.03 * noise(u * 1.1, 2.5, s.seed ^ 39);
    let fold = 0.40 * bell(from_crease / 0.035) + 0.24 * bell((from_crease - 0.03) / 0.12) + 0.09 * bell(second / 0.05);
    let brow = if from_crease > 0.0 { 0.17 * exp(-from_crease / 0.5) } else { 0.0 };
    let plate = 0.09 * bell((above - crease * 0.5) / (crease * 0.33));
    let fade = step(1.2, 0.7, t.abs());
    (1.0 - fold * fade) * (1.0 - brow * fade) * (1.0 + plate * over_eye) * (1.0 - 0.22 * exp(-above.max(0.0) / 0.09) * over_eye)
}

/// The lower lid's bulge, its crease and the fine lines under it.
fn lower_lid(s: &Scene, u: f32, below: f32, over_eye: f32) -> f32 {
    let crease = 0.55 + 0.05 * noise(u * 0.9, 4.5, s.seed ^ 40) + 0.05 * u * s.mirror;
    let fold = 0.16 * bell((below - crease) / 0.07) + 0.10 * bell((below - crease * 1.7) / 0.12);
    let bulge = 0.08 * bell((below - 0.3) / 0.14);
    let lines = noise(u * 0.9 + 3.0, below * 17.0 + 1.6 * noise(u * 1.3, below * 2.0, s.seed ^ 41), s.seed ^ 42);
    let fine = 0.05 * (lines.abs() - 0.4) * bell((below - 0.5) / 0.38);
    (1.0 - fold * over_eye) * (1.0 + bulge * over_eye) * (1.0 + fine * over_eye)
}

/// Pores and the net of fine furrows between them, lit from above: a difference of heights.
fn relief(s: &Scene, u: f32, v: f32, from_lid: f32) -> f32 {
    const STEP: f32 = 0.009;
    let height = |u: f32, v: f32| {
        let bend = 0.3 * noise(u * 3.0, v * 3.0, s.seed ^ 43);
        let net = noise(u * 17.0 + bend, v * 23.0 - bend, s.seed ^ 44).abs()
            + 0.8 * noise(u * 31.0 - v * 9.0, v * 27.0 + u * 11.0, s.seed ^ 45).abs();
        net + 0.5 * noise(u * 52.0, v * 52.0, s.seed ^ 46)
    };
    let slope = height(u, v + STEP) - height(u - STEP * 0.5, v - STEP);
    // Smoother on the lid itself.
    slope * mix(0.02, 0.042, step(0.05, 0.7, from_lid))
}
