#!/bin/sh
# The paper's study: every method on every LM, then the report.
#   benchmarks/paper.sh                  the three embedded LMs, on a CPU
#   benchmarks/paper.sh gpt2 pythia      files of configs/paper, on a GPU
# STUDY (a folder in logs), METHODS (files of configs/paper) and LENGTHS (of soft prompts, on the first LM) say what.
# What was interrupted goes on when it is started again; a run that has results is not repeated.
set -eu
PATH="$PWD/.venv/bin:$PATH"
[ $# -gt 0 ] || set -- tales-llama tales-neox tales-gpt2
study=logs/${STUDY:-paper}

runs=
run() { # LM NAME CONFIG...: a run in $study/LM/NAME, which its last config is named for
    lm=$1 name=$2
    shift 2
    folder=$study/$lm/$name/version_0
    runs="$runs $folder"
    [ ! -f "$folder/results.parquet" ] || return 0
    echo "== $folder"
    if [ -d "$folder/chunks" ]; then
        lit_prompt fit --run "$folder"
    else
        rm -rf "$folder" # interrupted before its search began
        configs="--config configs/paper/$lm.yaml"
        for config in "$@"; do
            configs="$configs --config $config"
        done
        # shellcheck disable=SC2086
        lit_prompt fit $configs --logs "$study/$lm"
    fi
    lit_prompt predict --run "$folder" > /dev/null
    lit_prompt test --run "$folder"
}

for lm in "$@"; do
    for method in ${METHODS-soft lift hotflip hard}; do
        run "$lm" "$method" "configs/paper/$method.yaml"
    done
done
for length in ${LENGTHS-1 2 10}; do # on one LM: what do more tokens bring?
    config=$study/soft-$length.yaml
    mkdir -p "$study" && echo "model: {init_args: {length: $length}}" > "$config"
    run "$1" "soft-$length" configs/paper/soft.yaml "$config"
done
# shellcheck disable=SC2086
lit_prompt report $runs --out "$study/report"
