#!/usr/bin/env bash
# Latency of a trained checkpoint, and of the full-size model with random weights; its training steps. In the root of a
# clone.
set -euo pipefail
checkpoint=${1:-checkpoints/button-press-topdown-v3}
for precision in float32 bfloat16; do
    videopolicy bench --checkpoint "$checkpoint" --precision $precision --steps 1 3 10 --sampler euler one_pass
    python experiments/full_size/one_step.py $precision
done
python experiments/full_size/precision.py svd
for stage in video action; do
    python experiments/training/full_size_step.py $stage svd
done
python experiments/full_size/random_checkpoint.py runs/random-svd
videopolicy bench --checkpoint runs/random-svd --precision bfloat16 --steps 30 --repeats 2
