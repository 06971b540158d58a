"""What is no eye with an iris: closed lids, skin, mouths, nostrils, hair, discs, text, clouds."""
import cv2
import numpy as np

from eye import strands
from field import (background, blurred, chance, curve, ellipse, f4, fractal, hair, line, noise, over, pick, polygon, random_colour, rgb, share,
                   sigmoid, skin, skin_colour, step, uniform, vary)


def draw(r, S):
    kinds = [(skin_alone, 0.09), (closed_eye, 0.2), (discs, 0.27), (mouth, 0.08), (white_eye, 0.06), (writing, 0.05), (strokes, 0.1), (clouds, 0.06),
             (background, 0.09)]
    p = np.array([w for _, w in kinds])
    return pick(r, [k for k, _ in kinds], p / p.sum())(r, S)


def grid(S):
    yy, xx = np.mgrid[0:S, 0:S].astype(f4)
    return xx + 0.5, yy + 0.5


def skin_alone(r, S):
    im = skin(r, S, skin_colour(r), S * uniform(r, 0.1, 0.4))
    if chance(r, 0.5):  # nostrils, shadows, folds
        for _ in range(r.integers(1, 3)):
            dark = np.zeros((S, S), f4)
            size = S * uniform(r, 0.05, 0.3)
            ellipse(dark, uniform(r, 0, S), uniform(r, 0, S), size, size * uniform(r, 0.2, 0.7), uniform(r, 0, 180), 1)
            im = im * (1 - blurred(dark, size * 0.15) * uniform(r, 0.3, 0.97))[..., None]
    return im


def lid_frame(r, S):
    R = S * uniform(r, 0.08, 0.4)
    xx, yy = grid(S)
    cx, cy, a = S * uniform(r, 0.3, 0.7), S * uniform(r, 0.35, 0.65), r.normal(0, 0.25)
    c, s = np.cos(a), np.sin(a)
    u, v = (c * (xx - cx) + s * (yy - cy)) / R, (-s * (xx - cx) + c * (yy - cy)) / R
    place = lambda t: np.array([cx, cy]) + R * (np.asarray(t) @ np.array([[c, s], [-s, c]]))
    return R, u, v, place


def closed_eye(r, S):
    R, u, v, place = lid_frame(r, S)
    base = skin_colour(r)
    im, W, A = skin(r, S, base, R), uniform(r, 2, 2.8), uniform(r, -0.3, 0.8)
    slit = A * np.maximum(1 - (u / W) ** 2, 0)
    im = im * (1 + uniform(r, -0.1, 0.3) * np.exp(-((v + 0.5) ** 2 + (u / 1.5) ** 2)))[..., None]
    if chance(r, 0.35):  # painted lid: a dark or coloured disc without an iris
        paint = step(1.1, 0.5, np.hypot(u / W, (v - slit + 0.6) / 0.9))
        im = over(im, paint * uniform(r, 0.2, 0.85), random_colour(r) * uniform(r, 0.05, 0.8))
    im = im * (1 - uniform(r, 0.4, 0.95) * np.exp(-((v - slit) / uniform(r, 0.03, 0.12)) ** 2) * (np.abs(u) < W))[..., None]
    for o in (uniform(r, -1.4, -0.6), uniform(r, 0.3, 0.9)):
        im = im * (1 - uniform(r, 0, 0.4) * np.exp(-((v - slit - o) / 0.08) ** 2) * (np.abs(u) < W))[..., None]
    layer = np.zeros((S, S), np.uint8)
    for _ in range(r.integers(10, 100)):
        a = uniform(r, -W, W)
        b, turn, length = A * max(1 - (a / W) ** 2, 0), np.pi / 2 - a / W * 0.7 + r.normal(0, 0.2), uniform(r, 0.2, 0.9)
        line(layer, place(curve(a, b, a + length * np.cos(turn), b + length * np.sin(turn), r.normal(0, 0.1), 5)), int(r.integers(120, 255)), round(R * 0.03))
    return over(im, share(layer), rgb(25, 18, 14))


def opening(r, u, v):
    W, up, down = uniform(r, 1.6, 2.8), uniform(r, 0.25, 1), uniform(r, 0.25, 1)
    bow = np.maximum(1 - np.abs(np.clip(u / W, -1, 1)) ** uniform(r, 1.7, 2.6), 0)
    return np.minimum(v + up * bow, down * bow - v) * (np.abs(u) < W) - 5 * (np.abs(u) >= W)


def mouth(r, S):
    """Lips around a dark gap with teeth: an opening as an eye has one, white and all."""
    R, u, v, _ = lid_frame(r, S)
    base = skin_colour(r)
    im, inside = skin(r, S, base, R), opening(r, u, v)
    lips = sigmoid((inside + uniform(r, 0.2, 0.6)) * R / 1.5)
    im = over(im, lips, vary(r, base * rgb(255, 150, 150), 0.15) * np.exp(0.1 * noise(r, S, S / 4, aspect=0.3))[..., None])
    gap = np.ones((S, S, 3), f4) * rgb(50, 20, 20) * uniform(r, 0.2, 1)
    if chance(r, 0.7):
        teeth = 0.9 - uniform(r, 0.1, 0.5) * (np.abs(np.sin(u * uniform(r, 3, 7))) < uniform(r, 0.05, 0.2))
        gap = over(gap, step(uniform(r, 0.4, 1.2), 0.1, np.abs(v)), rgb(235, 225, 205) * teeth[..., None])
    return over(im, sigmoid(inside * R / 1.2), gap)


def white_eye(r, S):
    """Lids and white, the iris turned away under the lid."""
    R, u, v, _ = lid_frame(r, S)
    im, inside = skin(r, S, skin_colour(r), R), opening(r, u, v)
    white = vary(r, rgb(225, 215, 208), 0.06) * (1 - 0.3 * np.hypot(u / 2.5, v))[..., None] * np.exp(noise(r, S, S / R, 3) * 0.04)
    im = im * (1 - 0.7 * np.exp(-(inside / 0.1) ** 2))[..., None]
    return over(im, sigmoid(inside * R / 1.2), white)


def strokes(r, S):
    im = background(r, S) if chance(r, 0.5) else skin(r, S, skin_colour(r), S * uniform(r, 0.1, 0.4))
    layer = np.zeros((S, S), np.uint8)
    for _ in range(r.integers(1, 4)):
        strands(r, layer, int(r.integers(5, 80)), uniform(r, 0.1, 1), int(r.integers(1, 3)))
    return over(im, share(layer), rgb(30, 20, 15) * uniform(r, 0.3, 4))


def writing(r, S):
    im = np.ascontiguousarray(np.clip(background(r, S), 0, 1) * 255).astype(np.uint8)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    for _ in range(r.integers(1, 9)):
        text = "".join(letters[int(k)] for k in r.integers(0, len(letters), r.integers(2, 9)))
        at = int(r.integers(-10, S // 2)), int(r.integers(10, S))
        cv2.putText(im, text, at, int(r.integers(0, 8)), uniform(r, 0.3, 2), tuple(map(int, r.integers(0, 256, 3))), int(r.integers(1, 4)), cv2.LINE_AA)
    return share(im)


def clouds(r, S):
    layers = sum(noise(r, S, k, 3) * 0.35 / (i + 1) for i, k in enumerate((2, 5, 12, 30, 70)))
    return np.clip(0.5 + layers * uniform(r, 0.2, 1), 0, 1).astype(f4)


def discs(r, S):
    """Coins, cups, balls, buttons, wheels, moons: round things without an eye's structure."""
    im = np.ascontiguousarray(np.clip(background(r, S), 0, 1), f4)
    if chance(r, 0.5):
        for _ in range(r.integers(1, 9)):
            colour = tuple(map(float, random_colour(r) if chance(r, 0.5) else skin_colour(r)))
            p = r.integers(-S // 4, S + S // 4, (5, 2))
            if chance(r, 0.5):
                polygon(im, p[:r.integers(3, 6)], colour)
            else:
                ellipse(im, *p[0], r.integers(3, S // 2), r.integers(3, S // 3), uniform(r, 0, 180), colour)
        im = im * np.exp(fractal(r, S, 4) * uniform(r, 0, 0.25))[..., None]
    xx, yy = grid(S)
    for _ in range(r.integers(1, 4)):
        cx, cy, a, flat, turn = uniform(r, 0.2, 0.8) * S, uniform(r, 0.2, 0.8) * S, S * uniform(r, 0.08, 0.55), uniform(r, 0.45, 1), r.normal(0, 0.4)
        colour = random_colour(r) if chance(r, 0.6) else vary(r, rgb(*pick(r, [(150, 50, 25), (235, 230, 225), (120, 75, 45), (20, 20, 22), (180, 150, 90)])), 0.1)
        for _ in range(pick(r, [1, 2, 3, 4], [0.45, 0.25, 0.15, 0.15])):
            x, y = np.cos(turn) * (xx - cx) + np.sin(turn) * (yy - cy), -np.sin(turn) * (xx - cx) + np.cos(turn) * (yy - cy)
            d = np.sqrt(x ** 2 + (y / flat) ** 2) / a
            fill = colour * np.exp(fractal(r, S, uniform(r, 3, 25), 3) * uniform(r, 0, 0.3))[..., None] * (1 + uniform(r, -0.7, 0.7) * x[..., None] / a)
            if chance(r, 0.35):
                fill = fill * np.sqrt(np.maximum(1.02 - d * d, 0))[..., None]
            for _ in range(r.integers(0, 3)):
                fill = fill * (1 + uniform(r, -0.5, 0.6) * np.exp(-((d - uniform(r, 0.5, 0.97)) / uniform(r, 0.01, 0.06)) ** 2))[..., None]
            if chance(r, 0.4):
                hx, hy, w = cx + a * uniform(r, -0.5, 0.5), cy + a * flat * uniform(r, -0.6, 0.3), a * uniform(r, 0.05, 0.3)
                fill = fill + (uniform(r, 0.2, 1) * np.exp(-((xx - hx) ** 2 + (yy - hy) ** 2) / w ** 2))[..., None]
            im = over(im, sigmoid((1 - d) * a / uniform(r, 0.5, 1.5)), fill)
            cx, cy, a = cx + r.normal(0, 0.04) * a, cy + r.normal(0, 0.05) * a, a * uniform(r, 0.55, 0.95)
            colour = vary(r, colour, 0.5) if chance(r, 0.5) else random_colour(r)
        if chance(r, 0.2):  # button holes
            for k in range(4):
                ellipse(im := np.ascontiguousarray(im, f4), cx + a * 0.3 * (k % 2 * 2 - 1), cy + a * 0.3 * (k // 2 * 2 - 1), a * 0.12, a * 0.12, 0, (0.05, 0.05, 0.05))
    return im
