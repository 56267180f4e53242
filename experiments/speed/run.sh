#!/bin/sh
# The whole study, from nothing: run it from the root of the repository; evaluations go to runs/speed.
set -eu
export OMP_NUM_THREADS=1
shipped=checkpoints/button-press-topdown-v3 task=button-press-topdown-v3 here=experiments/speed
mkdir -p runs/speed

videopolicy bench --checkpoint "$shipped" --reference 30 --mode exact --steps 3 30 \
    --env metaworld --task "$task" --episodes 40 --out runs/speed/bench --json "$here/bench.json"

# Other ways to sample, by time and distance alone.
videopolicy bench --checkpoint "$shipped" --reference 30 --mode exact --sampler euler one_pass --steps 3 30 \
    --json "$here/samplers.json"

# A checkpoint of the same weights that takes thirty steps, as one of the paper's kind does.
python "$here/thirty.py" "$shipped" runs/speed/checkpoint
videopolicy tune runs/speed/checkpoint --env metaworld --task "$task" --episodes 40 --out runs/speed/tune \
    --json "$here/tune.json"

python "$here/plot.py"
