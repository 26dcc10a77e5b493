#!/usr/bin/env bash
# One training on several nodes, one process a node:
#
#   sbatch --nodes 4 docs/cluster/slurm.sh configs/atari.yaml --env.game Breakout
#
# in a folder that all nodes share and whose .venv has jaxpg. Two minutes or more before its time is over Slurm sends
# SIGTERM, every process saves, and the job is put into the queue again, where it goes on. So it does after a node failed
# or another job needed the nodes. To end it for good: scancel.
#
# JAXPG_RUN_DIR=runs/mine sbatch ... names the run folder, PYTHON=python another interpreter.
#SBATCH --job-name=jaxpg
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=jaxpg-%j.log
# For GPUs add: #SBATCH --gpus-per-node=1
set -euo pipefail

python=${PYTHON:-.venv/bin/python}
run=${JAXPG_RUN_DIR:-runs/slurm-$SLURM_JOB_ID} # the job's number stays when it is queued again

if [[ -e $run/config.yaml ]]; then
  arguments=(--resume "$run") # its own configuration is the recipe
else
  arguments=("$@" --run.dir "$run")
fi

code=0
# A process that has saved must not end the others, which may still be at it.
srun --kill-on-bad-exit=0 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
  "$python" -m jaxpg.train "${arguments[@]}" --distributed.auto || code=$?

if ((code == 143)); then # saved because of SIGTERM, and not done yet
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
