"""Two results of one photo, by programs for two architectures: the same networks, and pictures that nobody could tell apart.

    aarch64.py HERE THERE NETWORK

HERE, THERE: folders with eye.jpg, eye.mask.png and eye.report.json. Exit code 1 where they differ by more than rounding: floating point is
added up in another order on another processor, and a level of 255 here and there is what that may cost.
"""

import json
import sys

import cv2
import numpy as np

here, there, network = sys.argv[1:]
wrong = []


def hold(what, value, holds):
    print(f"         {what}: {value}")
    if not holds:
        wrong.append(what)


a, b = (json.load(open(f"{folder}/eye.report.json")) for folder in (here, there))
ran = [(r["iris"]["model"], r["enhance"]["model"], r["enhance"]["provider"], r["enhance"]["precision"]) for r in (a, b)]
hold("networks, provider, precision", ran[1], ran[0] == ran[1] == ("iris", network, "cpu", "fp32"))
hold("tiles", b["enhance"]["tiles"], a["enhance"]["tiles"] == b["enhance"]["tiles"])
moved = max(abs(a["iris"]["limbus"][k] - b["iris"]["limbus"][k]) for k in ("cx", "cy", "rx", "ry"))
hold("largest difference of the limbus, px", round(moved, 3), moved <= 0.1)
sure = abs(a["iris"]["confidence"] - b["iris"]["confidence"])
hold("difference of the confidence", round(sure, 4), sure <= 0.01)

masks = [cv2.imread(f"{folder}/eye.mask.png", cv2.IMREAD_UNCHANGED) for folder in (here, there)]
images = [cv2.imread(f"{folder}/eye.jpg") for folder in (here, there)]
hold("size of the image", images[1].shape, images[0].shape == images[1].shape and masks[0].shape == masks[1].shape)
if not wrong:
    inside = [mask > 127 for mask in masks]
    iou = (inside[0] & inside[1]).sum() / max((inside[0] | inside[1]).sum(), 1)
    hold("IoU of the masks", round(float(iou), 5), iou >= 0.999)
    apart = np.abs(images[0].astype(int) - images[1])
    hold("difference of the images, levels of 255: mean", round(float(apart.mean()), 4), apart.mean() <= 0.1)
    hold("    the largest of any pixel", int(apart.max()), apart.max() <= 16)
if wrong:
    sys.exit("not the same: " + "; ".join(wrong))
