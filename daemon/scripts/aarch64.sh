#!/usr/bin/env bash
# The daemon for the Jetson's architecture, run here: cross-built, then `doctor` and one photo under qemu-user, with the aarch64 ONNX Runtime
# library of the PyPI wheel. What comes out is compared with what this machine's own program makes of the same photo.
#
#   daemon/scripts/aarch64.sh [IRISD]      IRISD: this machine's program, where it is built already
#
# Minutes: a cold cross build compiles every dependency, and qemu runs a network many times slower than a real core. No part of
# `make test`. What it shows and what it cannot: docs/cross.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=aarch64-unknown-linux-gnu
network=realesr-animevideov3-x4

# Runs a command; its output goes into a log that is shown if it fails, its time to stdout.
step() {
    local what=$1 begun=$SECONDS
    shift
    "$@" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        echo "aarch64: $what failed" >&2
        exit 1
    }
    printf '%5d s  %s\n' $((SECONDS - begun)) "$what"
}

daemon/scripts/setup.sh aarch64
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ] && ! { command -v rustup >/dev/null && rustup target add "$target"; }; then
    echo "aarch64: this Rust has no standard library for $target, and there is no rustup to bring it (docs/cross.md names Debian's)" >&2
    exit 1
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/irisd-aarch64.XXXXXX")
trap 'rm -rf "$work"' EXIT
library=$(daemon/scripts/onnxruntime.sh | tail -n 1)
foreign_library=$(daemon/scripts/onnxruntime.sh aarch64 | tail -n 1)
venv=target/venv-opencv
if ! "$venv/bin/python" -c 'import cv2' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet 'opencv-python-headless==4.13.*' numpy
fi

step "the cross build" cargo build --locked --package irisd --bin irisd --target "$target"
here=${1:-$PWD/target/debug/irisd}
[ -n "${1:-}" ] || step "this machine's build" cargo build --locked --package irisd --bin irisd
# A core of Orin's family. The library looks into /proc/cpuinfo while it is opened, and dies of one that describes an x86: qemu shows
# it this one instead (what is not below -L is the host's own).
mkdir -p "$work/root/proc" "$work/weights"
for ((core = 0; core < $(nproc); core++)); do
    printf 'processor\t: %d\nBogoMIPS\t: 62.50\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\n' "$core"
    printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd42\nCPU revision\t: 1\n\n'
done >"$work/root/proc/cpuinfo"
there=(qemu-aarch64-static -cpu cortex-a76 -L "$work/root" "$PWD/target/$target/debug/irisd")
# What ships; a large network that was fetched would not come back from its trial in time.
cp weights/manifest.toml weights/iris.onnx "weights/$network.onnx" "$work/weights/"

# A configuration for each: they differ in the library alone.
configuration() {
    cat <<TOML
[paths]
state = "$work/state-$1"
weights = "$work/weights"
onnxruntime = "$2"
[inference]
providers = ["cpu"]
[enhance]
model = "$network"
[quality]
mode = "off"
[reflections]
method = "classical"
TOML
}
configuration here "$library" >"$work/here.toml"
configuration there "$foreign_library" >"$work/there.toml"

step "a sample, under qemu" "${there[@]}" sample --seed 3 --size 160x120 --out "$work/eye.jpg"
step "the same sample, here" "$here" sample --seed 3 --size 160x120 --out "$work/eye-here.jpg"
if cmp -s "$work/eye.jpg" "$work/eye-here.jpg"; then echo "         the two samples are the same file"; else echo "         the two samples differ"; fi
step "doctor, under qemu" "${there[@]}" doctor --config "$work/there.toml"
grep -E '^(ok|warn|FAIL) +(runtime|network)' "$work/log"
for name in iris "$network"; do
    grep -qE "^ok +network $name +runs on cpu, fp32" "$work/log" || {
        echo "aarch64: doctor does not say that $name ran on the cpu" >&2
        exit 1
    }
done
step "the photo, under qemu" "${there[@]}" process "$work/eye.jpg" --out "$work/there" --config "$work/there.toml"
step "the photo, here" "$here" process "$work/eye.jpg" --out "$work/here" --config "$work/here.toml"
"$venv/bin/python" daemon/scripts/aarch64.py "$work/here" "$work/there" "$network"
echo "aarch64: all the same"
