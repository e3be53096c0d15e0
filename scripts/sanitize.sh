#!/usr/bin/env bash
# The kernels' tests with the extension under AddressSanitizer and UndefinedBehaviorSanitizer: `make sanitize`; needs gcc.
# Writes results/platforms/sanitizers.txt. A report ends the run.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
there=$PWD/build/sanitized
log=results/platforms/sanitizers.txt
revision=$(git rev-parse --short HEAD)$(git diff --quiet HEAD -- src tests || echo +changes)
rm -rf "$there"
mkdir -p "$there" "$(dirname $log)"
cp -r src/dropact "$there/dropact"
rm -f "$there"/dropact/kernels/_cpu*.so
include=$("$python" -c "import sysconfig; print(sysconfig.get_path('include'))")
flags=(-O1 -g -std=c11 -ffp-contract=off -D_GNU_SOURCE -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all)
gcc "${flags[@]}" -shared -fPIC -I"$include" "$there/dropact/kernels/_cpu.c" -o "$there/dropact/kernels/_cpu.abi3.so" -lm

export PYTHONPATH=$there ASAN_OPTIONS=detect_leaks=0 # Python's own memory is never given back
export LD_PRELOAD=$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)
{
    echo "tests/kernels and tests/contract on the C kernels of revision $revision,"
    echo "$(LD_PRELOAD= gcc --version | head -1) ${flags[*]}. Made by \`make sanitize\`."
    echo
    "$python" -c "import dropact; assert dropact.__file__.startswith('$there'); print(dropact.kernels.backend())"
    "$python" -m pytest -q -p no:cacheprovider -m "not slow" -k "not triton and not compile and not export" tests/kernels tests/contract 2>&1 |
        tail -n 3
} | tee "$log"
