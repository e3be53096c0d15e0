#!/usr/bin/env bash
# dieharder on the stream of benchmarks/bits.py, one line per test and p-value: about half an hour of one core.
# Needs dieharder (a package of most distributions). Usage: benchmarks/battery.sh [PYTHON] > record.txt
# The tests 5, 6, 7 and 14 are left out: dieharder's own list calls them suspect or wrong.
set -u
python=${1:-.venv/bin/python}
here=$(dirname "$0")
for test in 0 1 2 3 4 8 9 10 11 12 13 15 16 17 100 101 204 205 206 207 208 209 \
    "102 -n 2" "102 -n 8" "102 -n 16" "200 -n 1" "200 -n 4" "200 -n 8" "200 -n 12" \
    "201 -n 2" "201 -n 3" "201 -n 4" "201 -n 5" "202 -n 2" "202 -n 3" "202 -n 4" "202 -n 5" \
    "203 -n 0" "203 -n 1" "203 -n 7" "203 -n 15" "203 -n 31"; do
    # shellcheck disable=SC2086
    "$python" "$here/bits.py" | dieharder -g 200 -D test_name -D ntuple -D tsamples -D psamples -D pvalues -D assessment -d $test
done
