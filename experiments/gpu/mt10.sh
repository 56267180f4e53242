#!/usr/bin/env bash
# Meta-World's MT10 with the preset `small`, without tuning the video model, in two stages, and beside it the baseline
# without video from the same views. In the root of a clone.
set -euo pipefail
source experiments/gpu/mt10_common.sh

record data/mt10 $mt10
measure mt10 data/mt10 small
measure mt10-untuned data/mt10 small --stage action
videopolicy train --data data/mt10 --out runs/mt10-video --preset small --stage video
measure mt10-two-stage data/mt10 small --stage action --init runs/mt10-video/checkpoint
measure mt10-cloning data/mt10 cloning --views gripperPOV corner2 corner3 --steps 20000 --batch-size 64
videopolicy compare runs/mt10-cloning runs/mt10
