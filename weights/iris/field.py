"""Random numbers, smooth noise and strokes: what every part of the renderer draws with.

Pictures are float32, H x W x 3, sRGB-like values where 1 is white; light may go above 1 until the camera clips it. `S` is the side of
the picture in px, `r` a numpy Generator: the only source of chance, so a seed gives the same picture on the same versions.
"""
import cv2
import numpy as np

cv2.setNumThreads(1)
f4 = np.float32
SUB = 4  # bits of sub-pixel positions that OpenCV draws with


def uniform(r, low, high):
    return float(r.uniform(low, high))


def chance(r, p):
    return r.random() < p


def pick(r, values, p=None):
    return values[int(r.choice(len(values), p=p))]


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.clip(x, -30, 30)))


def step(low, high, x):
    """Smooth step from 0 at `low` to 1 at `high`; falls where low > high."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def noise(r, S, cells, channels=None, aspect=1.0):
    """S x S smooth noise of deviation about 1 with `cells` cells across (`aspect` times as many down)."""
    kx, ky = (max(2, min(S, int(round(k)))) for k in (cells, cells * aspect))
    a = r.standard_normal((ky, kx) if channels is None else (ky, kx, channels)).astype(f4)
    return cv2.resize(a, (S, S), interpolation=cv2.INTER_CUBIC)


def fractal(r, S, cells, octaves=4, gain=0.55):
    out, weight = np.zeros((S, S), f4), 1.0
    for _ in range(octaves):
        out += weight * noise(r, S, cells)
        weight, cells = weight * gain, cells * 2.1
    return out / 1.3


def rgb(*c):
    return np.array(c, f4) / 255


def vary(r, colour, spread):
    """The colour, a little lighter or darker and of a little other hue."""
    return np.clip(colour * np.exp(r.normal(0, spread, 3)) * np.exp(r.normal(0, spread)), 0.004, 1).astype(f4)


def random_colour(r):
    return r.random(3).astype(f4)


def over(im, alpha, colour):
    """`colour` laid over `im` where alpha (H x W) is 1."""
    a = alpha[..., None]
    return im * (1 - a) + colour * a


def shade(im, amount):
    """Darkened by `amount` (H x W, 0..1)."""
    return im * (1 - amount)[..., None]


def curve(x0, y0, x1, y1, bend, n=7):
    """n points from one end to the other, bowed sideways by `bend` lengths."""
    t = np.linspace(0, 1, n)
    dx, dy, b = x1 - x0, y1 - y0, bend * 4 * t * (1 - t)
    return np.stack([x0 + dx * t - dy * b, y0 + dy * t + dx * b], 1)


def line(layer, points, value, width):
    cv2.polylines(layer, [fixed(points)], False, value, int(max(1, width)), cv2.LINE_AA, SUB)


def polygon(layer, points, value):
    cv2.fillPoly(layer, [fixed(points)], value, cv2.LINE_AA, SUB)


def ellipse(layer, x, y, a, b, degrees, value, width=-1):
    centre, axes = fixed([x, y]), np.maximum(fixed([a, b]), 4)
    cv2.ellipse(layer, tuple(map(int, centre)), tuple(map(int, axes)), degrees, 0, 360, value, int(width), cv2.LINE_AA, SUB)


def fixed(points):
    return np.round(np.asarray(points, float) * (1 << SUB)).astype(np.int32)


def blurred(layer, sigma):
    return cv2.GaussianBlur(layer, (0, 0), max(0.3, float(sigma)))


def share(layer):
    """A layer of bytes as 0..1."""
    return layer.astype(f4) / 255


SKIN = [rgb(*c) for c in (
    (250, 226, 212), (244, 208, 188), (236, 190, 166), (224, 172, 140), (205, 150, 115), (182, 126, 92),
    (150, 100, 70), (116, 76, 54), (84, 54, 40), (54, 36, 28), (246, 214, 205), (222, 160, 140))]


def skin_colour(r):
    if chance(r, 0.5):
        return vary(r, pick(r, SKIN), 0.06)
    t = r.random()
    return vary(r, pick(r, SKIN[:10]) * (1 - t) + pick(r, SKIN[:10]) * t, 0.06)


def skin(r, S, base, R):
    """Skin of a face on which an iris is R px in radius: shading, pores, blotches, freckles, grease."""
    k = max(2, S / max(R, 6) * 1.2)
    tone = fractal(r, S, uniform(r, 1.5, 3.5), 3) * uniform(r, 0.02, 0.16)
    fine = noise(r, S, k * uniform(r, 6, 14)) * uniform(r, 0, 0.07) + noise(r, S, k * 25) * uniform(r, 0, 0.06)
    im = base * np.exp(tone + fine)[..., None]
    im = im * np.exp(noise(r, S, k * 0.6, 3) * np.array([0.02, 0.04, 0.045], f4) * uniform(r, 0, 1.4))
    if chance(r, 0.3):
        spots = np.zeros((S, S), np.uint8)
        for _ in range(r.integers(2, 60)):
            size = R * uniform(r, 0.02, 0.07)
            ellipse(spots, r.uniform(0, S), r.uniform(0, S), size, size, 0, int(r.integers(40, 160)))
        im = im * (1 - share(spots)[..., None] * np.array([0.4, 0.6, 0.7], f4))
    if chance(r, 0.35):
        shine = np.maximum(noise(r, S, k * uniform(r, 3, 10)) + noise(r, S, 4) - uniform(r, 1, 2), 0)
        im = im + (shine * uniform(r, 0.02, 0.2))[..., None]
    return im.astype(f4)


def hair(r, S):
    a = noise(r, S, r.integers(25, 110), aspect=uniform(r, 0.03, 0.12)) * 0.6
    a = a + noise(r, S, r.integers(8, 30), aspect=uniform(r, 0.05, 0.2)) * 0.5 + noise(r, S, 4) * 0.3
    turn = cv2.getRotationMatrix2D((S / 2, S / 2), uniform(r, 0, 360), uniform(r, 1.45, 2))
    a = cv2.warpAffine(a, turn, (S, S), borderMode=cv2.BORDER_REFLECT_101)
    tone = pick(r, [(20, 15, 12), (45, 30, 20), (90, 60, 36), (150, 110, 66), (200, 165, 110), (150, 75, 40), (130, 128, 125)])
    return np.clip(vary(r, rgb(*tone), 0.12) * np.exp(a * uniform(r, 0.2, 0.8))[..., None], 0, 1.2).astype(f4)


def background(r, S):
    """What is no face: hair, one colour, clouds of colour, texture."""
    kind = pick(r, ["hair", "flat", "clouds", "texture", "grey"], [0.4, 0.15, 0.15, 0.15, 0.15])
    if kind == "hair":
        return hair(r, S)
    if kind == "flat":
        return np.ones((S, S, 3), f4) * random_colour(r)
    if kind == "clouds":
        return np.clip(0.5 + noise(r, S, r.integers(2, 6), 3) * uniform(r, 0.05, 0.3), 0, 1)
    if kind == "texture":
        return np.clip(random_colour(r) * np.exp(fractal(r, S, uniform(r, 3, 20)) * uniform(r, 0.1, 0.5))[..., None], 0, 1)
    return np.clip(np.ones((S, S, 3), f4) * uniform(r, 0, 1) * np.exp(r.normal(0, 0.1, 3)).astype(f4), 0, 1)
