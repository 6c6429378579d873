#!/usr/bin/env bash
# Trains on several GPUs of this machine, or in as many processes on the CPU where there is no GPU.
# usage: bash classification/dist_train.sh CONFIG GPUS [options of tools/train.py ...]
# Several machines: the same command on each with NNODES, NODE_RANK, MASTER_ADDR and PORT (29500) set.
exec bash "$(dirname "${BASH_SOURCE[0]}")/../tools/launch/launch.sh" dist train "${BASH_SOURCE[0]}" "$@"
