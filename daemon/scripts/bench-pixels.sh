#!/bin/sh
# The pixel operations and the whole pipeline beside OpenCV, turn by turn in one run.
set -eu
cd "$(dirname "$0")/../.."
venv=target/venv-opencv
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import cv2' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet 'opencv-python-headless==4.13.*' numpy
fi
library=$(daemon/scripts/onnxruntime.sh | tail -n 1) || library=
[ -z "$library" ] || export IRISD_TEST_ONNXRUNTIME="$library"
IRISD_BENCH_PYTHON="$PWD/$venv/bin/python" exec cargo bench --locked --package irisd --bench pixels
