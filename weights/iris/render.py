#!/usr/bin/env python3
"""Draws eyes and non-eyes with their truth: shards for training, or a contact sheet to look at.

    python render.py --count 60 --seed 1 --size 192 --sheet sheet.png
    python render.py --count 8000 --seed 1 --size 160 --jobs 2 --out data/a

A shard is three arrays: NAME_x.npy N x S x S x 3 bytes (RGB), NAME_b.npy N x S x S truth bits (see eye.py), NAME_m.npy N x 10 (limbus and
pupil: cx, cy, rx, ry, degrees; zeros where there is no eye). No photo, no texture and no statistics of photos go in.
"""
import argparse
import multiprocessing
import os
import time

import cv2
import numpy as np

import camera
import eye
import other

SHARD = 250


def sample(r, S, others=0.12):
    """(S x S x 3 bytes, S x S bits, 10 numbers)."""
    if r.random() < others:
        return camera.shoot(r, other.draw(r, S), S), np.zeros((S, S), np.uint8), np.zeros(10, np.float32)
    im, bits, (limbus, pupil), _ = eye.draw(r, S)
    return camera.shoot(r, im, S), bits, np.array(limbus + pupil, np.float32)


def shard(job):
    seed, count, S, out, others = job
    r = np.random.default_rng(seed)
    x, b, m = np.empty((count, S, S, 3), np.uint8), np.empty((count, S, S), np.uint8), np.empty((count, 10), np.float32)
    for i in range(count):
        x[i], b[i], m[i] = sample(r, S, others)
    for name, array in (("x", x), ("b", b), ("m", m)):  # m last: the trainer takes a shard when m is there
        np.save(f"{out}_{name}.tmp.npy", array)
        os.replace(f"{out}_{name}.tmp.npy", f"{out}_{name}.npy")
    return count


def sheet(r, count, S, others, path, columns=10):
    """Every second row with the visible iris outlined."""
    rows, row = [], []
    for k in range(count):
        im, bits, _ = sample(r, S, others)
        if k // columns % 2:
            found, _ = cv2.findContours(bits & 1, 0, 2)
            im = cv2.drawContours(np.ascontiguousarray(im), found, -1, (0, 255, 0), 1)
        row.append(im)
        if len(row) == columns:
            rows.append(np.hstack(row))
            row = []
    cv2.imwrite(path, np.vstack(rows)[..., ::-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--others", type=float, default=0.12, help="share of pictures without an iris")
    parser.add_argument("--out", default="")
    parser.add_argument("--sheet", default="")
    a = parser.parse_args()
    start = time.time()
    if a.sheet:
        sheet(np.random.default_rng(a.seed), a.count, a.size, a.others, a.sheet)
    if a.out:
        os.makedirs(os.path.dirname(a.out) or ".", exist_ok=True)
        jobs = [(a.seed * 100003 + k, min(SHARD, a.count - k * SHARD), a.size, f"{a.out}_{k:03d}", a.others) for k in range(-(-a.count // SHARD))]
        with multiprocessing.Pool(a.jobs) as pool:
            sum(pool.imap_unordered(shard, jobs))
    print(f"{a.count} pictures, {a.count / (time.time() - start):.1f} a second")
