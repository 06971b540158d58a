#!/usr/bin/env bash
# Builds irisd, starts it with its embedded defaults (no broker, no bucket, no camera), sends a synthetic eye through it, shows where the
# result lies, and stays up until Ctrl-C. State lies in .run/state and is found again the next time.
#
#   IRISD_PORT=9000 daemon/scripts/run.sh      another port than 8080 (a free one is taken where 8080 is not)
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
irisd=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/irisd

daemon/scripts/setup.sh
# Without the library irisd still works: classical segmenter, CLAHE and Lanczos.
library=$(daemon/scripts/onnxruntime.sh | tail -n 1) || { library=; echo "run: no ONNX Runtime; going on with the classical methods" >&2; }
cargo build --release --locked --package irisd --bin irisd

mkdir -p .run
[ -f .run/eye.jpg ] || "$irisd" sample --seed 7 --out .run/eye.jpg

export IRISD_PATHS__STATE=$root/.run/state IRISD_PATHS__WEIGHTS=$root/weights IRISD_PATHS__ONNXRUNTIME=$library
port=${IRISD_PORT:-8080}
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "run: port $port is taken, using a free one" >&2
    port=0
fi
export IRISD_HTTP__LISTEN=127.0.0.1:$port
# A configuration of this machine must not change what is shown here.
: >.run/none.toml

said=$root/.run/stdout
: >"$said"
# In a session of its own: Ctrl-C reaches this script alone, which asks once. A second signal would end the daemon without its drain.
setsid "$irisd" run --config .run/none.toml >"$said" 2>.run/irisd.log &
daemon=$!
trap 'trap - EXIT; kill "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null; exit' INT TERM HUP EXIT

# Two minutes: a store to rebuild takes seconds, more than this means that something is wrong.
for _ in $(seq 1200); do
    grep -q '^listening ' "$said" && break
    kill -0 "$daemon" 2>/dev/null || { echo "run: irisd ended; the end of .run/irisd.log:" >&2; tail -n 20 .run/irisd.log >&2; exit 1; }
    sleep 0.1
done
url=$(sed -n 's/^listening //p' "$said")
[ -n "$url" ] || { echo "run: irisd did not get ready within two minutes; see .run/irisd.log" >&2; exit 1; }

echo
echo "irisd listens at $url; a synthetic eye goes through it:"
echo
"$irisd" --config .run/none.toml submit .run/eye.jpg --wait || echo "run: the photo did not become a result; the reason stands above" >&2

cat <<TEXT

  the page         $url/#token=$(cat .run/state/local.token)
  the API          $url/docs
  state, results   .run/state
  the log          .run/irisd.log

  send your own    ${irisd#"$root"/} submit PHOTO --wait      (with IRISD_PATHS__STATE=.run/state)

Ctrl-C ends it.
TEXT
wait "$daemon"
