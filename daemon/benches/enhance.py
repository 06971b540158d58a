"""The loop that one would write in Python: tiles through onnxruntime, one after another, into a picture.

    enhance.py MODEL TILES COUNT HEIGHT WIDTH SCALE THREADS ANSWERS

TILES: COUNT x HEIGHT x WIDTH x 3 bytes. For each line on stdin all tiles are run once, and a line comes back: seconds of the loop, and
the seconds of it inside run(). The first answers also go into ANSWERS, COUNT x 3 x (SCALE HEIGHT) x (SCALE WIDTH) f32.
"""

import sys
import time

import numpy as np
import onnxruntime as ort

model, tiles, count, height, width, scale, threads, answers = sys.argv[1:]
count, height, width, scale = int(count), int(height), int(width), int(scale)
tiles = np.fromfile(tiles, dtype=np.uint8).reshape(count, height, width, 3)

options = ort.SessionOptions()
options.intra_op_num_threads = int(threads)
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
picture = np.zeros((count, height * scale, width * scale, 3), dtype=np.uint8)


def loop(keep=None):
    inside = 0.0
    begin = time.perf_counter()
    for i, tile in enumerate(tiles):
        x = np.ascontiguousarray(tile.transpose(2, 0, 1)[None], dtype=np.float32) / 255
        at = time.perf_counter()
        y = session.run(None, {"input": x})[0]
        inside += time.perf_counter() - at
        picture[i] = (y[0].clip(0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
        if keep is not None:
            y.astype("<f4").tofile(keep)
    return time.perf_counter() - begin, inside


with open(answers, "wb") as keep:
    loop(keep)
print("ready", flush=True)
for _ in sys.stdin:
    print(*loop(), flush=True)
