#!/usr/bin/env bash
# Meta-World's MT10 with the preset `small`, then without tuning the video model and in two stages. In the root of a clone.
set -euo pipefail
source experiments/gpu/mt10_common.sh

record data/mt10 $mt10
measure mt10 data/mt10
measure mt10-untuned data/mt10 --stage action
videopolicy train --data data/mt10 --out runs/mt10-video --preset small --stage video
measure mt10-two-stage data/mt10 --stage action --init runs/mt10-video/checkpoint
