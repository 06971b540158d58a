#!/usr/bin/env bash
# The long forms of tests/torture, in release builds: what docs/reliability.md reports.
#
#   torture.sh kill  [--seed N] [--kills N]      SIGKILL under load; 2,000 kills take about an hour
#   torture.sh pixels [--seed N] [--pictures N]  pictures that no camera makes, through the pipeline; a million take about 40 minutes
#   torture.sh power [--seed N] [--cuts N]       the plug of a virtual machine; 50 cuts take about a quarter of an hour
#   torture.sh disk  [--every N]                 full, broken, read-only and damaged disks (as root: real small filesystems, too)
#   torture.sh soak  [--seed N] [--seconds N]    hours of load; nothing may grow
#
# The work folder is .torture/<what>, or --work. kill, pixels and power go on where they were ended; delete the folder to begin anew.
# --program tries another irisd than the one that is built here.
set -euo pipefail
cd "$(dirname "$0")/../.."
what=${1:?kill, pixels, power, disk or soak}
shift

daemon/scripts/setup.sh test
if [ "$what" = power ]; then
    daemon/scripts/setup.sh guest
    daemon/scripts/guest.sh kernel >/dev/null
fi
library=$(daemon/scripts/onnxruntime.sh | tail -n 1) || { library=; echo "torture: no ONNX Runtime; going on with the classical methods" >&2; }
case " $* " in
*" --work "*) ;;
*) set -- "$@" --work "$PWD/.torture/$what" ;;
esac
IRISD_TEST_ONNXRUNTIME=$library exec cargo bench --locked --package irisd --bench torture -- "$what" "$@"
