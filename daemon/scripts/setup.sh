#!/usr/bin/env bash
# Installs the system packages that are missing, and only those: the second run asks no package server and works offline.
#
#   setup.sh         what building and running needs
#   setup.sh test    and the servers and the browser that the tests talk to
#   setup.sh guest   and a virtual machine to pull the plug of
#   setup.sh aarch64 and a linker and an emulator for the Jetson's architecture: arm64 becomes a second architecture of this system
set -euo pipefail

# clang and libclang: the camera bindings are generated from the kernel's headers. python3-pip: brings the ONNX Runtime library.
needed=(clang libclang-dev libc6-dev pkg-config python3 python3-pip python3-venv curl ca-certificates)
# mosquitto: a real broker and clients that are not ours. chromium: the page is tested in a real browser. libfaketime: a wall clock that jumps.
for_tests=(mosquitto mosquitto-clients chromium libfaketime)
# The machine, and what its first filesystem is made with.
for_guest=(qemu-system-x86 busybox-static cpio kmod e2fsprogs)
# A linker and a C library to build with, an emulator and a C library to run with. Rust's own part: scripts/aarch64.sh.
for_aarch64=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static libc6:arm64 libstdc++6:arm64)

installed() { [ "$(dpkg-query -W -f='${Status}' "$1" 2>/dev/null)" = "install ok installed" ]; }

missing() {
    local name
    for name in "$@"; do installed "$name" || printf '%s ' "$name"; done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@" >/dev/null
}

if ! command -v dpkg-query >/dev/null; then
    echo "setup: no Debian packages on this system; it must bring itself: ${needed[*]}" >&2
else
    wanted=("${needed[@]}")
    [ "${1:-}" = test ] && wanted+=("${for_tests[@]}")
    [ "${1:-}" = guest ] && wanted+=("${for_guest[@]}")
    if [ "${1:-}" = aarch64 ]; then
        dpkg --print-foreign-architectures | grep -qx arm64 || as_root dpkg --add-architecture arm64
        wanted+=("${for_aarch64[@]}")
    fi
    # Node drives the browser; one that was installed in another way is welcome, too.
    [ "${1:-}" != test ] || command -v npm >/dev/null || wanted+=(nodejs npm)
    read -ra lacking <<<"$(missing "${wanted[@]}")"
    if [ "${#lacking[@]}" -gt 0 ]; then
        echo "setup: installing ${lacking[*]}" >&2
        as_root apt-get update --quiet=2
        install "${lacking[@]}"
    fi
fi

command -v cargo >/dev/null || {
    echo "setup: Rust is missing; https://rustup.rs brings it" >&2
    exit 1
}
