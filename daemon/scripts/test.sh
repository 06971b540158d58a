#!/usr/bin/env bash
# Everything that must hold before a change goes in: formatting, lints, tests against real servers. Says what it had to skip.
set -euo pipefail
cd "$(dirname "$0")/../.."

daemon/scripts/setup.sh test
if library=$(daemon/scripts/onnxruntime.sh | tail -n 1) && [ -n "$library" ]; then
    export IRISD_TEST_ONNXRUNTIME=$library
else
    echo "test: SKIPPED what needs the ONNX Runtime library: it could not be fetched" >&2
fi
[ -e /dev/video0 ] || echo "test: no camera here; the V4L2 source is compiled, not run" >&2

cargo fmt --all --check
cargo clippy --locked --workspace --all-targets -- -D warnings
cargo test --locked --workspace
echo "test: all passed"
