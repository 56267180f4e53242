#!/usr/bin/env bash
# The paper's other ablations on MT10 with the preset `small`: actions of half of the tasks, shorter video horizons at the
# same chunk of 32 actions, an action loss that trains the video model, too, or it alone. In the root of a clone.
set -euo pipefail
source experiments/gpu/mt10_common.sh
half="reach-v3 pick-place-v3 drawer-open-v3 button-press-topdown-v3 window-open-v3"

record data/mt10 $mt10
# With the video of all tasks, and with nothing of the others: the difference is what video without actions teaches.
measure mt10-half data/mt10 small --actions-for $half
record data/mt10-half $half
measure mt10-half-alone data/mt10-half small

for horizon in 16 0; do
    measure mt10-horizon-$horizon data/mt10 small --video-horizon $horizon
done
measure mt10-attached data/mt10 small --features attached
# The same network without its video objective.
measure mt10-end-to-end data/mt10 small --stage end_to_end
