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
run() { # LM LOGS METHOD [options]: a run in LOGS/METHOD/version_0
    lm=$1 logs=$2 method=$3
    shift 3
    folder=$logs/$method/version_0
    runs="$runs $folder"
    [ ! -f "$folder/results.parquet" ] || return 0
    echo "== $folder"
    if [ -f "$folder/checkpoints/last.ckpt" ]; then
        lit_prompt fit --run "$folder"
    else
        rm -rf "$folder" # interrupted before its first checkpoint
        lit_prompt fit --config "configs/paper/$lm.yaml" --config "configs/paper/$method.yaml" --logs "$logs" "$@"
    fi
    lit_prompt predict --run "$folder" > /dev/null
    lit_prompt test --run "$folder"
}

for lm in "$@"; do
    for method in ${METHODS-soft lift hotflip hard}; do
        run "$lm" "$study/$lm" "$method"
    done
done
for length in ${LENGTHS-1 2 10}; do # on one LM: what do more tokens bring?
    run "$1" "$study/$1/length_$length" soft --model.length "$length"
done
# shellcheck disable=SC2086
lit_prompt report $runs --out "$study/report"
