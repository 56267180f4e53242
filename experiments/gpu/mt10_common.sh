# To be sourced in the root of a clone: Meta-World's MT10, and how a way of training on it is measured.
mt10="reach-v3 push-v3 pick-place-v3 door-open-v3 drawer-open-v3 drawer-close-v3 button-press-topdown-v3
    peg-insert-side-v3 window-open-v3 window-close-v3"

record() { # FOLDER TASKS...
    local folder=$1
    shift
    [[ -d $folder ]] || videopolicy record --out "$folder" --views gripperPOV corner2 corner3 --task "$@"
}

measure() { # NAME DATA PRESET OPTIONS...
    local name=$1 data=$2 preset=$3
    shift 3
    videopolicy train --data "$data" --out "runs/$name" --preset "$preset" "$@"
    videopolicy evaluate --checkpoint "runs/$name/checkpoint" --workers "$(nproc)" --protocol mt10
    videopolicy report "runs/$name"
}
