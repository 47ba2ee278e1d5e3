#!/usr/bin/env bash
# Fills the cache ahead of training: each task of the array transforms its share of the cohort's images, on all cores
# that it is given and no GPU. All arguments are those of `vwmm prepare`:
#
#     sbatch slurm/prepare.sh --config my.yaml data.csv=cohort.csv
#     sbatch --array=1-16 --cpus-per-task=8 slurm/prepare.sh --config my.yaml
#     sbatch --dependency=afterok:JOB slurm/train.sh --config my.yaml
#
# cache.dir (or VWMM_SCRATCH in slurm/site.env) has to be a folder that the training's nodes see. What is there already
# is not made again, so a task that was stopped goes on where it was.
#SBATCH --job-name=vwmm-prepare
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
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
source "${VWMM_HOME:-${vwmm_told%%/slurm/prepare.sh*}}/slurm/job.bash" || exit 1

vwmm_prepare_job
vwmm_run_and_requeue prepare "$@"
