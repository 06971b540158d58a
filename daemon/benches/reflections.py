"""Second half of `make bench-reflections`: fills the same holes with OpenCV's two methods and compares, in the same run.

Each side gets the same picture and the same hole. PSNR over the three channels of the hole's pixels; SSIM (Wang 2004, Gaussian window
of 1.5 px) of luma, averaged over the hole's pixels. OpenCV runs at each radius of RADII, and the better one counts for it.
"""
import csv
import math
import sys
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

RADII = (3, 5)
METHODS = {"telea": cv2.INPAINT_TELEA, "ns": cv2.INPAINT_NS}


def psnr(a, b, hole):
    error = (a[hole].astype(float) - b[hole].astype(float)) ** 2
    return 10 * math.log10(255**2 / max(error.mean(), 0.25))


def ssim(a, b, hole):
    a, b = (cv2.cvtColor(p, cv2.COLOR_BGR2GRAY).astype(float) for p in (a, b))
    mean = lambda p: cv2.GaussianBlur(p, (11, 11), 1.5)
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return (((2 * ma * mb + c1) * (2 * cov + c2)) / ((ma * ma + mb * mb + c1) * (va + vb + c2)))[hole].mean()


def main(out):
    figures = defaultdict(list)
    outside = 0
    for row in csv.DictReader((out / "index.tsv").open(), delimiter="\t"):
        clean, photo, ours = (cv2.imread(str(out / f"{row['case']}.{what}.png")) for what in ("clean", "photo", "ours"))
        hole = cv2.imread(str(out / f"{row['case']}.hole.png"), cv2.IMREAD_GRAYSCALE) > 0
        outside += int(row["changed_outside"])
        score = {"ours": (psnr(ours, clean, hole), ssim(ours, clean, hole), float(row["ms"]))}
        for name, method in METHODS.items():
            tries = []
            for radius in RADII:
                start = time.perf_counter()
                filled = cv2.inpaint(photo, hole.astype(np.uint8), radius, method)
                ms = (time.perf_counter() - start) * 1e3
                tries.append((psnr(filled, clean, hole), ssim(filled, clean, hole), ms))
            score[name] = max(tries)
        for key in ("all", f"{row['kind']} {row['size']}"):
            figures[row["set"], key].append(score)
    for name in dict.fromkeys(s for s, _ in figures):
        print(f"\n{name}: PSNR dB / SSIM inside the hole; OpenCV {cv2.__version__}, better of radius {RADII}")
        print(f"  {'':<14} {'n':>4} {'ours':>14} {'telea':>14} {'ns':>14} {'gain dB':>8}")
        for key in sorted((k for s, k in figures if s == name), key=lambda k: k == "all"):
            scores = figures[name, key]
            mean = {m: np.mean([s[m] for s in scores], axis=0) for m in ("ours", "telea", "ns")}
            cells = "".join(f" {mean[m][0]:>7.2f}/{mean[m][1]:.3f} " for m in ("ours", "telea", "ns"))
            print(f"  {key:<14} {len(scores):>4}{cells} {mean['ours'][0] - max(mean['telea'][0], mean['ns'][0]):>+8.2f}")
            if key == "all":
                print("  ms a hole     " + "".join(f"  {m} {mean[m][2]:.2f}" for m in mean))
    print(f"\npixels outside the holes that changed: {outside}")


main(Path(sys.argv[1]))
