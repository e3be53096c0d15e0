#!/usr/bin/env bash
# A GPU that is lent for fifteen minutes, in two calls into results/gpu: docs/gpu.md has how to give them.
#
#   scripts/gpu_session.sh check                  # 5 minutes: right? operations, steps
#   scripts/gpu_session.sh train                  # 7 minutes: a study at full data, ResNet-164 beside the usual recipe
#   DEVICE=cpu scripts/gpu_session.sh check       # either as a dry run: tiny, into build/gpu
#
# Each step ends at its limit and what it has measured by then is kept; with OUT set it is copied there. Nothing is
# installed: PYTHON (python3) has torch, torchvision, Triton, timm, rich and pytest. CIFAR-10 comes in the two parcels of
# gpu_data.py, PARCELS/1 with the first call and PARCELS/2 with the second (build/gpu-data), which go to DROPACT_DATA;
# where they are not both, images are noise of its shape and the study is left out.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
parcels=${PARCELS:-build/gpu-data}
export DROPACT_DATA=${DROPACT_DATA:-/tmp/dropact-data} PYTHONPATH=$PWD/src PYTHONUNBUFFERED=1
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-/tmp/dropact-inductor} # one for all processes
into=results/gpu
tiny=()
[ "$device" = cuda ] || { into=build/gpu tiny=(--rounds 1) && export DROPACT_GPU_TESTS_ON=$device; }
mkdir -p "$into" "$DROPACT_DATA"
failed=0
begun=$SECONDS

step() { # name, seconds, what is kept of it, command
    local name=$1 limit=$2 kept=$3
    shift 3
    echo "== $name, at most $limit s: $*"
    timeout -s INT -k 15 "$limit" "$@" || { echo "== $name: stopped or failed" && failed=1; }
    echo "== $name: $((SECONDS - begun)) s since the beginning"
    [ -z "${OUT:-}" ] || [ ! -f "$kept" ] || cp "$kept" "$OUT/"
}

bench() { # name, seconds, words
    local file=$into/$1.json
    step "$1" "$2" "$file" "$python" -m dropact bench --device "$device" --json "$file" "${@:3}" "${tiny[@]}"
}

tests() {
    local several=()
    "$python" -c "import xdist" 2>/dev/null && several=(-n 8)
    "$python" -m pytest -v "${several[@]}" -p no:cacheprovider -k "not max-autotune" "$@" tests/gpu 2>&1 | tee -i "$into/tests.txt"
}

images() { # what has been carried so far
    cp "$parcels"/[12]/* "$DROPACT_DATA/" 2>/dev/null
    [ -f "$DROPACT_DATA/cifar10.npz" ] || "$python" scripts/gpu_data.py join "$DROPACT_DATA" "$DROPACT_DATA/cifar10.npz"
}

check() {
    images 2>/dev/null # half of them: nothing is joined yet
    step extension 60 - "$python" setup.py -q build_ext --inplace # for what the tests compute on the CPU
    export -f tests
    export python into
    if [ "$device" = cuda ]; then
        step tests 110 "$into/tests.txt" bash -o pipefail -c tests
        bench operations 70 --no-step --no-compiled --seconds 5
        bench steps 100 --no-operations --seconds 6 --only drop_activation
    else
        step tests 300 "$into/tests.txt" bash -o pipefail -c "tests -x -k 'drop_relu or autocast'"
        bench operations 60 --no-step --no-compiled --seconds 1 --shape 70000 --only copy drop_activation drop_activation_silu silu
        bench steps 120 --no-operations --no-compiled --seconds 1 --batch 4 --only drop_activation
    fi
}

throughput() { # name of its record, seconds, words
    local file=$into/$1.json data=()
    [ -f "$DROPACT_DATA/cifar10.npz" ] || data=(--noise)
    step "$1" "$2" "$file" "$python" benchmarks/throughput.py --device "$device" --json "$file" "${data[@]}" "${@:3}"
}

study() { # row of gpu_tables.sh, seconds
    echo "== $1, at most $2 s"
    DEVICE=$device MODE="" PARALLEL=${PARALLEL:-8} MOST=28 LIMIT=$2 scripts/gpu_tables.sh "$1" || failed=1
    echo "== $1: $((SECONDS - begun)) s since the beginning"
}

train() {
    images || echo "== CIFAR-10 is not whole: noise, and no study"
    if [ "$device" = cuda ]; then
        # Compiling takes minutes of the host and next to nothing of the GPU: it is done beside the study.
        "$python" benchmarks/throughput.py --device cuda --network resnet-164 --noise --modes "CUDA graphs" --rounds 1 \
            --steps 1 >"$into/compiling.txt" 2>&1 &
        local compiling=$!
        [ ! -f "$DROPACT_DATA/cifar10.npz" ] || { study full-data-simple 95 && study full-data-wrn-16-4 125; }
        timeout 60 tail --pid=$compiling -f /dev/null || kill $compiling
        throughput resnet-164 130 --network resnet-164 --modes eager "CUDA graphs" --rounds 6 --steps 20 --untimed 3
    else
        PARALLEL=2 EPOCHS=2 INTO=build/gpu study dry-run 120
        throughput resnet-20 240 --network resnet-20 --modes eager --rounds 1 --steps 1 --untimed 1
    fi
}

case ${1:-} in
check | train) "$1" ;;
*)
    echo "got '${1:-}', accepted: check, train" >&2
    exit 2
    ;;
esac
exit $failed
