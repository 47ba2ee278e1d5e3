#!/usr/bin/env bash
# Trains one fold of every model in each task, on as many nodes and GPUs as each task is given. All arguments are those of
# `vwmm compare`:
#
#     sbatch slurm/compare.sh --config my.yaml data.csv=cohort.csv
#     sbatch --array=0-9%4 --gpus-per-node=4 slurm/compare.sh --config my.yaml split.folds=10
#
# The array's numbers are those of the folds: 0 to 4, or what --array says. A task that is stopped goes on as one of
# train.sh does; finished folds are not trained again. The task that ends last compares the models.
#SBATCH --job-name=vwmm-compare
#SBATCH --array=0-4
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
source "${VWMM_HOME:-${vwmm_told%%/slurm/compare.sh*}}/slurm/job.bash" || exit 1

vwmm_prepare_job
vwmm_run_and_requeue compare "$@" "split.fold=${SLURM_ARRAY_TASK_ID:?this is a job array: sbatch --array=0-4}"
