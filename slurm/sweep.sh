#!/usr/bin/env bash
# Searches for hyper-parameters: each task of the array is a worker that trains trials, on the GPUs that it is given,
# until there are as many as asked for. All arguments are those of `vwmm sweep`:
#
#     sbatch slurm/sweep.sh --config my.yaml run.name=search --space space.yaml --trials 40
#     sbatch --array=0-15%8 --gpus-per-node=1 slurm/sweep.sh --config my.yaml run.name=search --trials 200
#
# The workers share one journal in runs/NAME. A task that is stopped goes on with its trial, or another one does. More
# workers may be submitted at any time. A worker is on one node.
#SBATCH --job-name=vwmm-sweep
#SBATCH --array=0-7
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log

trap 'vwmm_asked="a signal"' USR1 USR2 TERM HUP INT XCPU  # one may come at once: job.bash passes it on

# Slurm runs a copy of this file; where it was submitted from, Slurm knows.
vwmm_told="$(scontrol show job -o "$SLURM_JOB_ID" 2>/dev/null)"
vwmm_told="${vwmm_told#* Command=}"
source "${VWMM_HOME:-${vwmm_told%%/slurm/sweep.sh*}}/slurm/job.bash" || exit 1

vwmm_prepare_job
vwmm_run_and_requeue sweep "$@"
