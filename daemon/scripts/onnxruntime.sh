#!/bin/sh
# Brings libonnxruntime.so for this machine into .tools/onnxruntime/, from the PyPI wheel of onnxruntime, sha256 checked.
# Prints the library's path as its last line. The second time there is nothing to do: the library is hashed and the path printed.
#
#   daemon/scripts/onnxruntime.sh [x86_64|aarch64]      default: the host's architecture
#
# Needs python3 with pip (Debian: apt-get install python3 python3-pip). The wheel is named in full (cp311), so the host's Python version
# does not matter: only the C library inside is taken, which wants glibc 2.28 or later. It runs on the CPU; on a Jetson
# paths.onnxruntime names NVIDIA's build instead.
set -eu

version=1.31.1
arch=${1:-$(uname -m)}
case $arch in
x86_64)
    wheel_sha=5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f
    library_sha=fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3
    ;;
aarch64 | arm64)
    arch=aarch64
    wheel_sha=da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3
    library_sha=8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467
    ;;
*)
    echo "onnxruntime.sh: no library for $arch; irisd runs without it (classical segmenter, Lanczos)" >&2
    exit 1
    ;;
esac

root=$(cd "$(dirname "$0")/../.." && pwd)
home=$root/.tools/onnxruntime
if [ "$arch" = "$(uname -m)" ]; then library=$home/libonnxruntime.so; else library=$home/$arch/libonnxruntime.so; fi

matches() { [ -f "$2" ] && [ "$(sha256sum "$2" | cut -d' ' -f1)" = "$1" ]; }

if ! matches "$library_sha" "$library"; then
    mkdir -p "$(dirname "$library")"
    work=$(mktemp -d "$home/.new.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    echo "fetching onnxruntime $version for $arch from PyPI" >&2
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir --only-binary=:all: \
        --implementation cp --python-version 311 --platform "manylinux_2_28_$arch" --dest "$work" "onnxruntime==$version" >&2
    wheel=$(find "$work" -name '*.whl')
    matches "$wheel_sha" "$wheel" || { echo "onnxruntime.sh: $(basename "$wheel") is not the wheel that was checked in" >&2; exit 1; }
    (cd "$work" && python3 -m zipfile -e "$wheel" wheel)
    made=$work/wheel/onnxruntime/capi/libonnxruntime.so.$version
    matches "$library_sha" "$made" || { echo "onnxruntime.sh: the wheel holds another library than expected" >&2; exit 1; }
    for text in LICENSE ThirdPartyNotices.txt; do cp "$work/wheel/onnxruntime/$text" "$(dirname "$library")/"; done
    mv "$made" "$library" # a rename: whoever looks finds the whole library or none
fi
echo "$library"
