#!/usr/bin/env bash
# Every run of this study, two at a time, each training on one thread: about 55 minutes on two cores. Run it in the
# root of a clone; the figures land in experiments/demo/results.json.
set -euo pipefail
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
press=button-press-topdown-v3 shut=window-close-v3

demo() { # NAME OPTIONS...
    local name=$1
    shift
    make --silent demo ARGS="--out runs/$name $*" >"runs/$name.log" 2>&1
}

mkdir -p runs
make --silent .venv/demo.stamp
demo press-0 --seed 0 & demo press-1 --seed 1 & wait
demo press-2 --seed 2 & demo press-0-untuned --seed 0 --stage action & wait
demo shut-0 --seed 0 --task $shut & demo both-0 --seed 0 --task $press $shut & wait
demo both-0-untuned --seed 0 --stage action --task $press $shut
.venv/bin/python experiments/demo/collect.py \
    runs/press-0 runs/press-1 runs/press-2 runs/press-0-untuned runs/shut-0 runs/both-0 runs/both-0-untuned >experiments/demo/results.json
