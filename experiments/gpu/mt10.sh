#!/usr/bin/env bash
# Meta-World's MT10 with the preset `small`, then without tuning the video model and in two stages. In the root of a clone.
set -euo pipefail
mt10="reach-v3 push-v3 pick-place-v3 door-open-v3 drawer-open-v3 drawer-close-v3 button-press-topdown-v3
    peg-insert-side-v3 window-open-v3 window-close-v3"
workers=$(nproc)

measure() { # NAME OPTIONS...
    local name=$1
    shift
    videopolicy train --data data/mt10 --out "runs/$name" --preset small "$@"
    videopolicy evaluate --checkpoint "runs/$name/checkpoint" --workers "$workers" --task $mt10
    videopolicy report "runs/$name"
}

videopolicy record --out data/mt10 --views gripperPOV corner2 corner3 --task $mt10
measure mt10
measure mt10-untuned --stage action
videopolicy train --data data/mt10 --out runs/mt10-video --preset small --stage video
measure mt10-two-stage --stage action --init runs/mt10-video/checkpoint
