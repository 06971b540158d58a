#!/bin/sh
# Prints the path of a Python that has onnxruntime, the same version as the library of the tests (scripts/onnxruntime.sh), and numpy.
# Made once, in .tools/python-onnxruntime, from PyPI; the second time there is nothing to do.
set -eu

version=1.31.1
root=$(cd "$(dirname "$0")/../.." && pwd)
home=$root/.tools/python-onnxruntime
python=$home/bin/python
if ! "$python" -c "import numpy, onnxruntime as o; assert o.__version__ == '$version'" 2>/dev/null; then
    rm -rf "$home"
    python3 -m venv "$home" >&2
    "$python" -m pip install --quiet --disable-pip-version-check "onnxruntime==$version" numpy >&2
fi
echo "$python"
