#!/bin/sh
# Lamps found and filled in, beside OpenCV on the same pictures. EYES=FOLDER adds a folder of real eyes (as for make eval).
set -eu
cd "$(dirname "$0")/../.."
out=target/reflections
venv=target/venv-opencv
rm -rf "$out" && mkdir -p "$out"
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import cv2' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet 'opencv-python-headless==4.13.*' numpy
fi
cargo bench --locked --package irisd --bench reflections -- "$PWD/$out" ${1:+"$1"}
"$venv/bin/python" daemon/benches/reflections.py "$out"
