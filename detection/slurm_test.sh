#!/usr/bin/env bash
# Tests on a Slurm cluster.
# usage: [GPUS=8] bash detection/slurm_test.sh PARTITION JOB_NAME [CONFIG] CHECKPOINT [options of tools/test.py ...]
# Also read: GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS (more options for srun), PORT.
exec bash "$(dirname "${BASH_SOURCE[0]}")/../tools/launch/launch.sh" slurm test "${BASH_SOURCE[0]}" "$@"
