#!/usr/bin/env bash
# Tests on several GPUs of this machine, or in as many processes on the CPU where there is no GPU.
# usage: bash classification/dist_test.sh [CONFIG] CHECKPOINT GPUS [options of tools/test.py ...]
# Several machines: the same command on each with NNODES, NODE_RANK, MASTER_ADDR and PORT (29500) set.
exec bash "$(dirname "${BASH_SOURCE[0]}")/../tools/launch/launch.sh" dist test "${BASH_SOURCE[0]}" "$@"
