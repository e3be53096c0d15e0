#!/usr/bin/env bash
# What has to be measured on a GPU, step by step into results/gpu: docs/gpu.md has each step's expected time.
#
#   scripts/gpu_session.sh                 # all steps
#   scripts/gpu_session.sh tests steps     # these
#
# A step whose record is there already is skipped, so that the same command goes on where a lease ended. Nothing is
# installed: PYTHON (python3) has torch, torchvision and rich. With OUT set, what a call has made is copied there.
# DROPACT_DATA names the folder of cifar10.npz; without that file, images are noise of its shape.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
export PYTHONPATH=$PWD/src PYTHONUNBUFFERED=1
into=results/gpu
mkdir -p "$into"
data=()
[ -f "${DROPACT_DATA:-/nowhere}/cifar10.npz" ] || data=(--noise)
failed=0

record() { # the record, then the command that makes it
    local file=$into/$1.json
    shift
    if [ -f "$file" ] && ! grep -q '"complete": false' "$file"; then
        echo "== $file is there"
        return
    fi
    echo "== $file: $*"
    if "$python" "$@" --json "$file"; then
        [ -z "${OUT:-}" ] || cp "$file" "$OUT/"
    else
        echo "== $file: FAILED"
        [ -z "${OUT:-}" ] || [ ! -f "$file" ] || cp "$file" "$OUT/"
        failed=1
    fi
}

bench() { record "$1" -m dropact bench --device cuda "${@:2}"; }
throughput() { record "$1" benchmarks/throughput.py --device cuda --network "$1" --rounds 8 --steps 20 --untimed 3 "${data[@]}"; }

step() {
    case $1 in
    extension) # for what the tests compute on the CPU; the definition serves without it
        "$python" setup.py build_ext --inplace >/dev/null 2>&1 || echo "== no C extension"
        ;;
    tests)
        local several=()
        "$python" -c "import xdist" 2>/dev/null && several=(-n 6)
        "$python" -m pytest -q "${several[@]}" -p no:cacheprovider tests/gpu 2>&1 | tee "$into/tests.txt" || failed=1
        [ -z "${OUT:-}" ] || cp "$into/tests.txt" "$OUT/"
        ;;
    operations) bench operations --no-step --no-compiled --seconds 8 ;;
    operations-compiled)
        bench operations-compiled --no-step --shape 1024x64x32x32 --dtype bfloat16 float32 --seconds 8 \
            --only drop_activation randomized_relu rrelu dropout mask_arithmetic
        ;;
    steps) bench steps --no-operations --seconds 20 --only drop_activation randomized_relu mask_arithmetic ;;
    steps-512) bench steps-512 --no-operations --no-compiled --batch 512 --seconds 20 --only drop_activation ;;
    resnet-164 | wrn-28-10 | densenet-bc-100-12 | resnext-29-8x64d | simple) throughput "$1" ;;
    many-runs) record many-runs benchmarks/many_runs.py --device cuda --seconds 6 "${data[@]}" ;;
    many-runs-graphs)
        record many-runs-graphs benchmarks/many_runs.py --device cuda --seconds 6 --mode "CUDA graphs" --rounds 1 \
            --runs 1 4 8 "${data[@]}"
        ;;
    *)
        echo "unknown step $1, accepted: ${all[*]}" >&2
        exit 2
        ;;
    esac
}

all=(extension tests operations steps resnet-164 wrn-28-10 operations-compiled many-runs steps-512 densenet-bc-100-12
    resnext-29-8x64d simple many-runs-graphs)
[ $# -gt 0 ] || set -- "${all[@]}"
for name in "$@"; do
    step "$name"
done
exit $failed
