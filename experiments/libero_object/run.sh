#!/usr/bin/env bash
# Two tasks of libero_object, from 50 scripted demonstrations each: the video policy and the cloning baseline, trained for as
# long (a step of cloning takes 0.73 of the time), then played from LIBERO's official initial states 0 to 19, which no
# demonstration began in. About two hours on two cores, most of it recording and playing. In the root of a clone:
#     bash experiments/libero_object/run.sh
# What is finished is not done again; the figures land in experiments/libero_object/results.json.
set -euo pipefail
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
study=experiments/libero_object runs=${RUNS:-runs/libero_object}
salad=pick_up_the_salad_dressing_and_place_it_in_the_basket bbq=pick_up_the_bbq_sauce_and_place_it_in_the_basket

train() { # NAME OPTIONS...
    [[ -d $runs/$1/checkpoint ]] || videopolicy train --data "$runs/data" --out "$runs/$1" "${@:2}" >"$runs/$1.log" 2>&1
}

mkdir -p "$runs"
[[ -d $runs/data ]] || videopolicy record --world libero --task $salad $bbq --views agentview eye_in_hand --size 64 --out "$runs/data"
train video --preset tiny_libero --steps 2400 & train cloning --preset cloning_libero --steps 3400 & wait
for policy in video cloning; do
    videopolicy evaluate --checkpoint "$runs/$policy/checkpoint" --protocol $study/two_tasks.toml --record 20
    videopolicy report "$runs/$policy"
done
videopolicy compare "$runs/cloning" "$runs/video"
