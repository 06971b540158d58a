"""The other side of `make bench-pixels`: the same operations by OpenCV, one at a time, as the Rust side asks for them.

A line "NAME THREADS" on stdin runs NAME once and answers "WALL_MS CPU_MS PEAK_MB", the peak of
the process since its start; "pipeline PHOTO SCOPE" runs the five stages of a pipeline that
has no weights (decode, a disc as the mask, highlights, Telea, CLAHE on L and Lanczos 4x, JPEG q95 and PNG) and the same.
"""
import sys
import time

import cv2
import numpy as np

RADIUS = 5


def timed(run):
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def holes(side=1024):
    hole = np.zeros((side, side), np.uint8)
    cv2.rectangle(hole, (300, 300), (374, 374), 255, -1)
    cv2.circle(hole, (700, 600), 30, 255, -1)
    cv2.circle(hole, (560, 760), 25, 255, -1)
    return hole


def operations(photo, mask):
    data = np.fromfile(photo, np.uint8)
    photo = cv2.imdecode(data, cv2.IMREAD_COLOR)
    h, w = photo.shape[:2]
    square = np.ascontiguousarray(photo[(h - 1024) // 2 :, (w - 1024) // 2 :][:1024, :1024])
    grey = cv2.resize(cv2.cvtColor(square, cv2.COLOR_BGR2GRAY), (4096, 4096), interpolation=cv2.INTER_CUBIC)
    mask = cv2.imread(mask, cv2.IMREAD_GRAYSCALE)
    clahe = cv2.createCLAHE(2.0, (8, 8))
    hole = holes()
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
    return {
        "clahe": lambda: clahe.apply(grey),
        "lanczos": lambda: cv2.resize(square, (4096, 4096), interpolation=cv2.INTER_LANCZOS4),
        "inpaint": lambda: cv2.inpaint(square, hole, RADIUS, cv2.INPAINT_TELEA),
        "decode": lambda: cv2.imdecode(data, cv2.IMREAD_COLOR),
        "encode": lambda: cv2.imencode(".jpg", photo, quality),
        "png": lambda: cv2.imencode(".png", mask),
    }


def pipeline(path, scope):
    photo = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    h, w = photo.shape[:2]
    cv2.resize(photo, (512, 512), interpolation=cv2.INTER_LINEAR)
    mask = np.zeros((h, w), np.uint8)
    cv2.circle(mask, (w // 2, h // 2), min(h, w) // 4, 255, -1)
    hsv, grey = cv2.cvtColor(photo, cv2.COLOR_BGR2HSV), cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)
    glare = cv2.bitwise_or(cv2.inRange(hsv, (0, 0, 220), (180, 60, 255)), cv2.threshold(grey, 230, 255, cv2.THRESH_BINARY)[1])
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    glare = cv2.dilate(cv2.bitwise_and(glare, mask), disc, iterations=2)
    if cv2.countNonZero(glare):
        photo = cv2.inpaint(photo, glare, RADIUS, cv2.INPAINT_TELEA)
    if scope == "iris":
        r = min(h, w) * 5 // 16  # the disc and a quarter of its radius around it
        photo = np.ascontiguousarray(photo[h // 2 - r : h // 2 + r, w // 2 - r : w // 2 + r])
    l, a, b = cv2.split(cv2.cvtColor(photo, cv2.COLOR_BGR2LAB))
    photo = cv2.cvtColor(cv2.merge((cv2.createCLAHE(2.0, (8, 8)).apply(l), a, b)), cv2.COLOR_LAB2BGR)
    large = cv2.resize(photo, None, fx=4, fy=4, interpolation=cv2.INTER_LANCZOS4)
    cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 95])
    cv2.imencode(".png", mask)


def main():
    known = operations(*sys.argv[1:]) if len(sys.argv) > 1 else {}
    print("ready", cv2.__version__, flush=True)
    for line in sys.stdin:
        name, *rest = line.split()
        if name == "pipeline":
            cv2.setNumThreads(1)
            wall, cpu = timed(lambda: pipeline(*rest))
        else:
            cv2.setNumThreads(int(rest[0]))
            wall, cpu = timed(known[name])
        peak = next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]
        print(wall, cpu, int(peak) * 1024 / 1e6, flush=True)


main()
