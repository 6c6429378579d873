#!/usr/bin/env bash
# Trains on a Slurm cluster.
# usage: [GPUS=8] bash classification/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py ...]
# Also read: GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS (more options for srun), PORT.
exec bash "$(dirname "${BASH_SOURCE[0]}")/../tools/launch/launch.sh" slurm train "${BASH_SOURCE[0]}" "$@"
