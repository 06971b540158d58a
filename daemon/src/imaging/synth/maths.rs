//! Numbers for the synthetic eye that come out the same on every machine: only +, -, *, /, sqrt and bit operations, which IEEE 754
//! fixes to the last bit. The platform's own exp and sin differ in the last place, and a reference picture would differ with them.

/// SplitMix64 (Steele, Lea, Flood 2014): fixed for ever, unlike a library's default generator.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// low..high, evenly.
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.bits() >> 40) as f32 / (1u32 << 24) as f32)
    }

    /// Around 0 with a deviation of 1 and no long tails (sum of four).
    pub fn normal(&mut self) -> f32 {
        (0..4).map(|_| self.range(-1.0, 1.0)).sum::<f32>() * 0.866
    }

    pub fn chance(&mut self, p: f32) -> bool {
        self.range(0.0, 1.0) < p
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }
}

/// 32 well-mixed bits of a lattice point.
pub fn hash(x: i32, y: i32, seed: u32) -> u32 {
    let mut h = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77) ^ seed;
    h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
    h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
    h ^ (h >> 15)
}

/// A hash as a number in 0..1.
pub fn unit(h: u32) -> f32 {
    (h >> 8) as f32 / (1u32 << 24) as f32
}

/// Value noise, -1..1, one cell a unit.
pub fn noise(x: f32, y: f32, seed: u32) -> f32 {
    wrapped_noise(x, y, i32::MAX, seed)
}

/// Value noise that repeats every `period` cells of x: seamless around a circle.
pub fn wrapped_noise(x: f32, y: f32, period: i32, seed: u32) -> f32 {
    let (fx, fy) = (x.floor(), y.floor());
    let (ix, iy) = (fx as i32, fy as i32);
    let (tx, ty) = (ease(x - fx), ease(y - fy));
    let (x0, x1) = if period == i32::MAX { (ix, ix + 1) } else { (ix.rem_euclid(period), (ix + 1).rem_euclid(period)) };
    let at = |x, y| unit(hash(x, y, seed));
    let (a, b) = (mix(at(x0, iy), at(x1, iy), tx), mix(at(x0, iy + 1), at(x1, iy + 1), tx));
    mix(a, b, ty) * 2.0 - 1.0
}

/// Octaves of noise, each twice as fine and half as strong; about -1..1.
pub fn fbm(x: f32, y: f32, octaves: u32, seed: u32) -> f32 {
    let (mut sum, mut scale, mut strength) = (0.0, 1.0, 0.6);
    for octave in 0..octaves {
        sum += noise(x * scale, y * scale, seed.wrapping_add(octave * 7919)) * strength;
        scale *= 2.03;
        strength *= 0.5;
    }
    sum
}

fn ease(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// 0 below `a`, 1 above `b`, smooth between; a > b falls instead.
pub fn step(a: f32, b: f32, x: f32) -> f32 {
    ease(((x - a) / (b - a)).clamp(0.0, 1.0))
}

pub fn mix(a: f32, b: f32, share: f32) -> f32 {
    a + (b - a) * share
}

pub fn mix3(a: [f32; 3], b: [f32; 3], share: f32) -> [f32; 3] {
    [mix(a[0], b[0], share), mix(a[1], b[1], share), mix(a[2], b[2], share)]
}

/// The bell exp(-x^2).
pub fn bell(x: f32) -> f32 {
    exp(-x * x)
}

/// exp(x), relative error below 1e-6; 0 far below.
pub fn exp(x: f32) -> f32 {
    if x < -80.0 {
        return 0.0;
    }
    let n = (x.min(80.0) * std::f32::consts::LOG2_E + 0.5).floor();
    let r = x.min(80.0) - n * std::f32::consts::LN_2;
    let series = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r / 720.0)))));
    series * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

/// Natural logarithm of a positive number.
fn ln(x: f32) -> f32 {
    let exponent = (x.to_bits() >> 23) as i32 - 127;
    let m = f32::from_bits((x.to_bits() & 0x007F_FFFF) | 0x3F80_0000);
    let z = (m - 1.0) / (m + 1.0);
    let z2 = z * z;
    exponent as f32 * std::f32::consts::LN_2 + 2.0 * z * (1.0 + z2 * (1.0 / 3.0 + z2 * (0.2 + z2 * (1.0 / 7.0 + z2 / 9.0))))
}

/// x^p for x >= 0.
pub fn pow(x: f32, p: f32) -> f32 {
    if x < 1e-20 { 0.0 } else { exp(p * ln(x)) }
}

/// The angle of (x, y) as a share of the full circle, 0..1 from the -x axis on; error below 1e-5.
pub fn turn(y: f32, x: f32) -> f32 {
    let (ax, ay) = (x.abs(), y.abs());
    let a = ax.min(ay) / ax.max(ay).max(1e-12);
    let s = a * a;
    let poly = 0.999_977_3 + s * (-0.332_623_5 + s * (0.193_543_5 + s * (-0.116_432_9 + s * (0.052_653_3 - s * 0.011_721_2))));
    let mut angle = a * poly / std::f32::consts::TAU;
    if ay > ax {
        angle = 0.25 - angle;
    }
    if x < 0.0 {
        angle = 0.5 - angle;
    }
    0.5 + if y < 0.0 { -angle } else { angle }
}

/// (sin, cos) of an angle in radians.
pub fn sin_cos(angle: f32) -> (f32, f32) {
    let wave = |turns: f32| {
        // Sine of a full turn, folded to a quarter.
        let t = turns - (turns + 0.5).floor();
        let folded = if t > 0.25 {
            0.5 - t
        } else if t < -0.25 {
            -0.5 - t
        } else {
            t
        };
        let a = folded * std::f32::consts::TAU;
        let s = a * a;
        a * (1.0 + s * (-1.0 / 6.0 + s * (1.0 / 120.0 + s * (-1.0 / 5040.0 + s / 362_880.0))))
    };
    let turns = angle / std::f32::consts::TAU;
    (wave(turns), wave(turns + 0.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_are_what_they_are_called() {
        for i in -400..400 {
            let x = i as f32 / 40.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-5, "exp {x}");
            let (s, c) = sin_cos(x);
            assert!((s - x.sin()).abs() < 1e-4 && (c - x.cos()).abs() < 1e-4, "sin {x}");
            if x > 0.0 {
                assert!((pow(x, 1.7) / x.powf(1.7) - 1.0).abs() < 1e-4, "pow {x}");
            }
            let (sin, cos) = (x.sin(), x.cos());
            let want = (sin.atan2(cos) / std::f32::consts::TAU + 0.5).rem_euclid(1.0);
            let gap = (turn(sin, cos) - want).abs();
            assert!(gap.min(1.0 - gap) < 1e-4, "turn {x}");
        }
    }
}
