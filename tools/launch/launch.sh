#!/usr/bin/env bash
# What the launch scripts of all tasks share: bash tools/launch/launch.sh dist|slurm train|test SCRIPT ARGUMENTS...
# SCRIPT is the path of the calling script; its comment lines are the help.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# $PYTHON wins; then the repository's own environment; then whatever python is active.
if [ -z "${PYTHON:-}" ]; then
    PYTHON=$root/.venv/bin/python
    [ -x "$PYTHON" ] || PYTHON=$(command -v python || echo python3)
fi
# An installed package is found without it.
[ ! -d "$root/backbones" ] || export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

main() {
    local how=$1 tool=$2
    script=$3
    shift 3
    local wanted=2 # CONFIG GPUS or, for Slurm, PARTITION JOB_NAME CONFIG; testing with a config adds CHECKPOINT
    local first=${1-}
    [ "$how" = slurm ] && wanted=3 first=${3-}
    [ "$tool" = test ] && ! is_weights "$first" && wanted=$((wanted + 1))
    [ $# -ge $wanted ] || usage "$wanted arguments are needed, $# given"
    "$how" "$tool" "$@"
}

dist() {
    local tool=$1 files=("$2") # CONFIG
    shift 2
    if [ "$tool" = test ] && ! is_weights "${files[0]}"; then
        files+=("$1") # CHECKPOINT
        shift
    fi
    local gpus=$1
    shift
    [[ $gpus =~ ^[1-9][0-9]*$ ]] || usage "GPUS must be a number from 1 up, not '$gpus'"
    exec "$PYTHON" "$root/tools/launch/launch.py" "$gpus" "$root/tools/$tool.py" "${files[@]}" "$@" --launcher pytorch
}

# Weights are tested without a config.
is_weights() {
    [[ -n $1 && ! $1 =~ \.(py|json|yaml|yml)$ ]]
}

slurm() {
    local tool=$1 partition=$2 job=$3
    shift 3
    local gpus=${GPUS:-8}
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    local name
    for name in gpus per_node; do
        [[ ${!name} =~ ^[1-9][0-9]*$ ]] || usage "GPUS and GPUS_PER_NODE must be numbers from 1 up, not '${!name}'"
    done
    # The processes find the first node and a common port by the job's number; PORT fixes the port.
    [ -z "${PORT:-}" ] || export MASTER_PORT=$PORT
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    # shellcheck disable=SC2086  # SRUN_ARGS holds several arguments
    exec srun -p "$partition" --job-name="$job" --gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
        "$PYTHON" -u "$root/tools/$tool.py" "$@" --launcher slurm
}

usage() {
    echo "error: $1" >&2
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$script" >&2
    exit 2
}

main "$@"
