#!/bin/bash
# Trains with torchrun on all GPUs of one or several machines.
#
#   bash examples/torchrun.sh configs/gan/scenes.yaml run_dir=runs/NAME
#   NODES=2 HOST=first.machine bash examples/torchrun.sh CONFIG.yaml run_dir=runs/NAME    # on each of the machines
#
# GPUS   processes on this machine; default: one for each GPU, or one without any
# NODES  machines; default 1. HOST is the name of one of them that all can reach, PORT a free port of it (29500)
#
# run_dir must be on a disk that all machines share. Repeat the command to resume where the run stopped.
set -euo pipefail

gpus=${GPUS:-$({ nvidia-smi --list-gpus 2>/dev/null || true; } | wc -l)}
gpus=$((gpus > 0 ? gpus : 1))
nodes=${NODES:-1}
case " $* " in
    *" run_dir="*) ;;
    *) echo "error: give run_dir=runs/NAME, the same for each start" >&2; exit 1 ;;
esac
if [ "$nodes" -gt 1 ]; then
    rendezvous=(--nnodes="$nodes" --rdzv-backend=c10d --rdzv-endpoint="${HOST:?the name of one machine}:${PORT:-29500}"
        --rdzv-id=cgan)
else
    rendezvous=(--standalone)
fi

exec torchrun "${rendezvous[@]}" --nproc-per-node="$gpus" "$(dirname "$0")/../train.py" "$@" \
    resume=auto trainer.num_nodes="$nodes" trainer.devices="$gpus"
