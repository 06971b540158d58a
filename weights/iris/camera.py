"""Light, lens, sensor and file: from a drawn scene (1 is white, more is light) to bytes."""
import cv2
import numpy as np

from field import blurred, chance, f4, noise, sigmoid, step, uniform, vary


def shoot(r, im, S):
    """H x W x 3 float to H x W x 3 bytes."""
    im = lighting(r, im.astype(f4), S)
    im = colours(r, im)
    im = lens(r, im, S)
    return develop(r, im, S)


def lighting(r, im, S):
    yy, xx = np.mgrid[0:S, 0:S].astype(f4) / S - 0.5
    if chance(r, 0.5):
        a = uniform(r, 0, 6.28)
        im = im * np.exp(uniform(r, 0, 1.1) * (xx * np.cos(a) + yy * np.sin(a)))[..., None]
    if chance(r, 0.25):  # the edge of a shadow, with its own colour
        a = uniform(r, 0, 6.28)
        w = sigmoid((xx * np.cos(a) + yy * np.sin(a) + 0.06 * noise(r, S, 4) - uniform(r, -0.3, 0.3)) * uniform(r, 5, 60))[..., None]
        im = im * (1 + w * (vary(r, np.ones(3, f4), 0.12) * uniform(r, 0.2, 2.4) - 1))
    if chance(r, 0.15):
        spot = ((xx - uniform(r, -0.6, 0.6)) ** 2 + (yy - uniform(r, -0.6, 0.6)) ** 2) / uniform(r, 0.05, 0.4)
        im = im * (1 + uniform(r, 0.3, 2.0) * np.exp(-spot))[..., None]
    if chance(r, 0.3):
        im = im * (1 - uniform(r, 0.1, 0.9) * step(0.35, 0.9, np.hypot(xx, yy)))[..., None]
    return im


def colours(r, im):
    im = im * np.exp(r.normal(0, 0.07, 3)).astype(f4)
    if chance(r, 0.2):  # coloured light
        im = im * np.exp(r.normal(0, 0.2, 3)).astype(f4)
    if chance(r, 0.08):  # warm clinic flash
        im = im * np.array([1.25, uniform(r, 0.45, 0.85), uniform(r, 0.4, 0.85)], f4)
    im = np.clip(im * float(np.exp(r.normal(0, 0.28))), 0, None)
    if chance(r, 0.5):
        im = im ** float(np.exp(r.normal(0, 0.22)))
    if chance(r, 0.3):
        grey = im.mean(2, keepdims=True)
        im = grey + (im - grey) * uniform(r, 0.2, 1.6)
    if chance(r, 0.06):
        im = np.repeat(im.mean(2, keepdims=True), 3, 2)
    if chance(r, 0.1):  # flare, faded film
        im = im * uniform(r, 0.4, 0.9) + uniform(r, 0.05, 0.4) * vary(r, np.ones(3, f4), 0.1)
    if chance(r, 0.3):
        t, k = np.clip(im, 0, 1), uniform(r, 0, 0.8)
        im = im * (1 - k) + k * t * t * (3 - 2 * t)
    return np.clip(im, 0, 1.3).astype(f4)


def lens(r, im, S):
    if chance(r, 0.06):
        im = im * 0.75 + blurred(im, S * 0.03) * 0.3
    k = r.random()
    if k < 0.45:
        im = blurred(im, uniform(r, 0.3, 1.0))
    elif k < 0.65:
        im = blurred(im, uniform(r, 0.8, 2.2) * S / 192)
    elif k < 0.71:
        im = blurred(im, uniform(r, 2, 3.8) * S / 192)
    if chance(r, 0.07):
        n, a = int(r.integers(3, 10)) | 1, uniform(r, 0, 3.14)
        kernel, c, d = np.zeros((n, n), f4), n // 2, n / 2 * np.array([np.cos(a), np.sin(a)])
        cv2.line(kernel, (int(c - d[0]), int(c - d[1])), (int(c + d[0]), int(c + d[1])), 1, 1)
        im = cv2.filter2D(im, -1, kernel / kernel.sum())
    if chance(r, 0.12):
        q = uniform(r, 1.5, 4)
        small = cv2.resize(im, None, fx=1 / q, fy=1 / q, interpolation=cv2.INTER_AREA)
        im = cv2.resize(small, (S, S), interpolation=(cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)[r.integers(3)])
    return im


def develop(r, im, S):
    if chance(r, 0.3):
        im = im + (im - blurred(im, uniform(r, 0.6, 2))) * uniform(r, 0.3, 2)
    if chance(r, 0.5):
        grain = r.standard_normal((S, S, 1 if chance(r, 0.5) else 3)).astype(f4)
        im = im + grain * uniform(r, 0.003, 0.04) * (0.4 + np.sqrt(np.clip(im, 0, 1)))
    im = (np.clip(im, 0, 1) * 255 + 0.5).astype(np.uint8)
    if chance(r, 0.4):
        im = cv2.imdecode(cv2.imencode(".jpg", im, [cv2.IMWRITE_JPEG_QUALITY, int(r.integers(30, 95))])[1], 1)
    return im
