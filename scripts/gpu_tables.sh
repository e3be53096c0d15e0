#!/usr/bin/env bash
# The papers' tables at full schedule on a GPU that is lent for minutes: docs/gpu.md has the order.
#
#   scripts/gpu_tables.sh plan                # what each row would take there, into results/gpu/plan-ROW.json
#   scripts/gpu_tables.sh table1-resnet-164   # trains until LIMIT seconds (540) are over; again goes on from there
#   DEVICE=cpu MODE= scripts/gpu_tables.sh dry-run
#
# Runs stand in runs/gpu/ROW, or in INTO/ROW, PARALLEL (3) at a time on DEVICE (cuda), in MODE (--compiled). With OUT
# set, a row is packed there at the end, in pieces of at most 15 MiB, the newest checkpoint of each run with it where
# all stays below MOST MiB (60); the pieces, put into FROM (runs/gpu/carried), are unpacked by the next call that has no such row yet. PYTHON, DROPACT_DATA: as gpu_session.sh.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
export PYTHONPATH=$PWD/src PYTHONUNBUFFERED=1
device=${DEVICE:-cuda}
mode=${MODE---compiled}
into=${INTO:-runs/gpu}
from=${FROM:-runs/gpu/carried}

full_data="--methods baseline,drop-activation --epochs 6 --batch-size 125 --lr 0.1 --schedule one-cycle
    --weight-decay 0.0005 --augmentation crop+flip --train-on train+validation"
# row: verb and what it is asked for
declare -A rows=(
    [table1-resnet-164]="reproduce table1 --row resnet-164 --seeds 3"
    [figure2]="reproduce figure2"
    [table5-resnet-18]="reproduce table5 --row resnet-18 --seeds 3"
    [table2-resnet-110]="reproduce table2 --row resnet-110 --seeds 3"
    [table2-preresnet-164]="reproduce table2 --row preresnet-164 --seeds 3"
    [table1-wrn-28-10]="reproduce table1 --row wrn-28-10 --seeds 3"
    [wrn-28-10-without-dropout]="compare --dataset cifar100 --network wrn-28-10 --dropout 0 --seeds 3 --epochs 200
        --methods baseline,rrelu,drop-activation --schedule step --milestones 60,120,160 --lr-factor 0.2 --lr 0.1
        --weight-decay 0.0005 --batch-size 128 --augmentation crop+flip --train-on train+validation"
    [depth-profiles]="reproduce depth-profiles --seeds 3"
    # where it helps, at full data: the setting of data-rate and capacity, 2,400 steps of 125 images
    [full-data-simple]="compare --dataset cifar10 --network simple --seeds 8 $full_data"
    [full-data-wrn-16-4]="compare --dataset cifar10 --network wrn-16-4 --seeds 8 $full_data"
    [dry-run]="compare --dataset digits --methods baseline,drop-activation --seeds 2"
)
order=(full-data-simple full-data-wrn-16-4 table1-resnet-164 figure2 table5-resnet-18 table2-resnet-110 table2-preresnet-164 table1-wrn-28-10
    wrn-28-10-without-dropout depth-profiles)

plan() {
    mkdir -p results/gpu
    for row in "${order[@]}"; do
        read -ra words <<<"${rows[$row]//$'\n'/ }"
        [ "${words[0]}" = reproduce ] || continue
        "$python" -m dropact plan "${words[@]:1}" --device "$device" $mode \
            --json "results/gpu/plan-$row.json" || return 1
        [ -z "${OUT:-}" ] || cp "results/gpu/plan-$row.json" "$OUT/"
    done
}

unpack() { # what is there has gone on since it was packed
    [ ! -e "$into/$1" ] || return 0
    mkdir -p "$into"
    compgen -G "$from/$1.tar.*" >/dev/null || return 0
    cat "$from/$1.tar."* | tar -xf - -C "$into" && return
    rm -rf "${into:?}/$1" # the half of it
    exit 1
}

pack() { # all but weights, locks and what a newer checkpoint has made needless
    local leave=(--exclude=weights.pt --exclude=lock --exclude=.driver)
    while read -r run; do
        while read -r old; do
            leave+=(--exclude="$old")
        done < <(cd "$into" && ls "$1/runs/$run" | grep '\.checkpoint$' | sort | head -n -1 | sed "s|^|$1/runs/$run/|")
    done < <(ls "$into/$1/runs" 2>/dev/null)
    if (($(tar -C "$into" "${leave[@]}" -cf - "$1" | wc -c) > ${MOST:-60} << 20)); then
        echo "== $1: checkpoints left out, more than ${MOST:-60} MiB"
        leave+=(--exclude='*.checkpoint')
    fi
    tar -C "$into" "${leave[@]}" -cf - "$1" | split -b 15M - "$OUT/$1.tar."
}

train() {
    unpack "$1"
    read -ra words <<<"${rows[$1]//$'\n'/ }"
    # Interrupted, not killed: what is being written is finished. The state of a run is safe either way.
    timeout --foreground -s INT -k 15 "${LIMIT:-540}" "$python" -m dropact "${words[@]}" --device "$device" \
        --precision bfloat16 --memory-format channels_last $mode --checkpoint-seconds 60 --on "local:${PARALLEL:-3}" \
        --out "$into/$1" ${EPOCHS:+--epochs "$EPOCHS"}
    local status=$?
    [ -z "${OUT:-}" ] || pack "$1"
    return $status
}

[ $# -gt 0 ] || set -- plan
for name in "$@"; do
    if [ "$name" = plan ]; then
        plan || exit
    elif [ -n "${rows[$name]:-}" ]; then
        train "$name" || exit
    else
        echo "unknown row $name, accepted: plan ${order[*]} dry-run" >&2
        exit 2
    fi
done
