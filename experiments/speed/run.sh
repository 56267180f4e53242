#!/bin/sh
# The whole study, from a checkpoint of `videopolicy demo --seed 0 --out runs/demo`: run it from the root of the
# repository; evaluations go to runs/speed, and are gone on with when it is run again.
set -eu
export OMP_NUM_THREADS=1
checkpoint=${1:-runs/demo/checkpoint} task=button-press-topdown-v3 here=experiments/speed
mkdir -p runs/speed

videopolicy bench --checkpoint "$checkpoint" --reference 30 --mode exact --steps 3 30 \
    --env metaworld --task "$task" --episodes 40 --out runs/speed/bench --json "$here/bench.json"

# Other ways to sample, by time and distance alone.
videopolicy bench --checkpoint "$checkpoint" --reference 30 --mode exact --sampler euler one_pass --steps 3 30 \
    --json "$here/samplers.json"

# A checkpoint of the same weights that takes thirty steps, as one of the paper's kind does: what can be reused, and what
# `tune` finds.
python "$here/thirty.py" "$checkpoint" runs/speed/checkpoint
videopolicy bench --checkpoint runs/speed/checkpoint --mode exact --reuse 2 3 5 --json "$here/reuse.json"
videopolicy bench --checkpoint runs/speed/checkpoint --mode exact --warm-start 5 2 0.5 --json "$here/warm.json"
videopolicy tune runs/speed/checkpoint --env metaworld --task "$task" --episodes 40 --out runs/speed/tune \
    --json "$here/tune.json"

python "$here/plot.py"
