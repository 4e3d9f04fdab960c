#!/bin/bash
# Submits a training run to SLURM; configs/slurm/train.sbatch is the job, which requeues itself until it is finished.
#
#   bash examples/slurm.sh configs/gan/coco.yaml data.root=train2017 data.annotations=captions_train2017.json
#   NODES=1 GPUS=8 HOURS=12 PARTITION=gpu NAME=coco bash examples/slurm.sh CONFIG.yaml [key=value ...]
#
# NODES (1), GPUS per node (4), CPUS per GPU (8), HOURS until the job is requeued (4), NAME of the job (cgan),
# PARTITION and ACCOUNT if the cluster needs them. DRY_RUN=1 prints the command and submits nothing. Relative paths
# start at the project root, where the job runs.
set -euo pipefail

gpus=${GPUS:-4}
options=(
    --job-name="${NAME:-cgan}"
    --nodes="${NODES:-1}"
    --gpus-per-node="$gpus"
    --ntasks-per-node="$gpus"
    --cpus-per-task="${CPUS:-8}"
    --time="${HOURS:-4}:00:00"
)
[ -z "${PARTITION:-}" ] || options+=(--partition="$PARTITION")
[ -z "${ACCOUNT:-}" ] || options+=(--account="$ACCOUNT")

cd "$(dirname "$0")/.."
if [ -n "${DRY_RUN:-}" ]; then
    printf '%q ' sbatch "${options[@]}" configs/slurm/train.sbatch "$@"
    echo
else
    exec sbatch "${options[@]}" configs/slurm/train.sbatch "$@"
fi
