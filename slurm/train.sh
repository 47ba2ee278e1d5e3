#!/usr/bin/env bash
# Trains on 1 to N nodes, with any number of GPUs on each, or none. All arguments are those of `vwmm train`:
#
#     sbatch slurm/train.sh --config configs/demo.yaml train.epochs=2
#     source slurm/site.env && sbatch --nodes=2 --gpus-per-node=4 --time=24:00:00 slurm/train.sh --config my.yaml
#
# What differs between clusters is in slurm/site.env (see site.env.example). 120 s before its time limit, and when it is
# preempted, the run saves and the job puts itself back into the queue, where the same job goes on. A mistake in the
# input ends it at once. `scancel --batch --signal=USR1 JOB` rehearses the first, `scancel JOB` ends it for good.
#SBATCH --job-name=vwmm
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

trap 'vwmm_asked="a signal"' USR1 USR2 TERM HUP INT XCPU  # one may come at once: job.bash passes it on

# Slurm runs a copy of this file; where it was submitted from, Slurm knows.
vwmm_told="$(scontrol show job -o "$SLURM_JOB_ID" 2>/dev/null)"
vwmm_told="${vwmm_told#* Command=}"
source "${VWMM_HOME:-${vwmm_told%%/slurm/train.sh*}}/slurm/job.bash" || exit 1

vwmm_prepare_job
vwmm_run_and_requeue train "$@"
