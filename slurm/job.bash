# What the templates of this folder share. Sourced by a batch script, on the first node of its job.
#
# The batch shell owns the requeue: a task that asked for it itself would lose the job where a signal comes before it
# listens. The tasks start deaf to signals (`trap ""` outlives exec) until Python listens, and the shell repeats what it
# was told until they end.

readonly VWMM_EXIT_INVALID=2 VWMM_EXIT_STOPPED=75
readonly VWMM_REPEAT_S=5

# Of an array, one task has the array's own number as its job's: named by it, all of them would be put back.
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    vwmm_job="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
else
    vwmm_job="$SLURM_JOB_ID"
fi

vwmm_say() { printf '%(%Y-%m-%d %H:%M:%S)T job %s: %s\n' -1 "$vwmm_job" "$*"; }

# Reads site.env, finds Python, and sets what all tasks need.
vwmm_prepare_job() {
    # A signal may come at once; until the tasks run it is only noted.
    vwmm_asked=""
    trap 'vwmm_asked=USR1' USR1
    trap 'vwmm_asked=TERM' TERM
    VWMM_HOME="${VWMM_HOME:-$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)}"
    local site="${VWMM_SITE_ENV:-$VWMM_HOME/slurm/site.env}"
    # shellcheck source=/dev/null
    if [ -f "$site" ]; then source "$site"; fi
    local name
    for name in VWMM_MAX_PREEMPTIONS VWMM_MAX_FAILURES VWMM_PROCESSES_PER_NODE; do
        if [[ -n "${!name:-}" && ! "${!name}" =~ ^[0-9]+$ ]]; then
            vwmm_say "$name=${!name}: expected a whole number"
            exit "$VWMM_EXIT_INVALID"
        fi
    done
    if [ -n "${VWMM_MODULES:-}" ]; then
        # shellcheck disable=SC2086  # a list of modules
        module load $VWMM_MODULES || exit 1
    fi
    if [ -z "${VWMM_PYTHON:-}" ]; then
        VWMM_PYTHON=python3
        if [ -z "${VWMM_CONTAINER:-}" ] && [ -x "$VWMM_HOME/.venv/bin/python" ]; then
            VWMM_PYTHON="$VWMM_HOME/.venv/bin/python"
        fi
    fi
    vwmm_python=("$VWMM_PYTHON")
    if [ -n "${VWMM_CONTAINER:-}" ]; then
        vwmm_python=(apptainer exec --nv --bind "$PWD${VWMM_CONTAINER_BIND:+,$VWMM_CONTAINER_BIND}" "$VWMM_CONTAINER" "$VWMM_PYTHON")
    fi
    export PYTHONPATH="$VWMM_HOME${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
    # NCCL: a hang becomes an error, whose process is then named. On a cluster with several networks the first one it
    # finds may be the slow one: export NCCL_SOCKET_IFNAME and NCCL_IB_HCA (see `ip link`, `ibstat`) in site.env;
    # NCCL_DEBUG=INFO says what it chose.
    export TORCH_NCCL_ASYNC_ERROR_HANDLING="${TORCH_NCCL_ASYNC_ERROR_HANDLING:-1}"
    vwmm_state="$SLURM_SUBMIT_DIR/.vwmm-job-$vwmm_job"
}

# Where the tasks meet, how many processes there are on each node, and the launch file that fits them.
vwmm_describe_allocation() {
    local first gpus
    first="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
    VWMM_NUM_MACHINES="$SLURM_JOB_NUM_NODES"
    # Slurm's own address of the node: its name need not resolve everywhere.
    VWMM_MAIN_ADDRESS="$(scontrol show node -o "$first" | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')"
    # This script runs on the first node, so a port that is free here is free where the tasks meet.
    VWMM_MAIN_PORT="$("${vwmm_python[@]}" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')" || return 1
    gpus="${SLURM_GPUS_ON_NODE:-0}"
    gpus="${gpus##*:}"
    if [ "$gpus" -gt 0 ]; then
        VWMM_NUM_PROCESSES=$((gpus * VWMM_NUM_MACHINES))
    else
        VWMM_NUM_PROCESSES=$((${VWMM_PROCESSES_PER_NODE:-1} * VWMM_NUM_MACHINES))
    fi
    vwmm_launch="${VWMM_LAUNCH:-}"
    if [ -n "$vwmm_launch" ]; then
        if [ "$gpus" = 0 ]; then export ACCELERATE_USE_CPU=true; fi
    elif [ "$gpus" -gt 0 ]; then
        if [ "$VWMM_NUM_PROCESSES" = 1 ]; then vwmm_launch=launch/one_gpu.yaml; else vwmm_launch=launch/multi_gpu.yaml; fi
    elif [ "$VWMM_NUM_PROCESSES" = 1 ]; then
        vwmm_launch=launch/cpu.yaml
    else
        vwmm_launch=launch/cpu_two_processes.yaml
    fi
    export VWMM_NUM_MACHINES VWMM_MAIN_ADDRESS VWMM_MAIN_PORT VWMM_NUM_PROCESSES
    vwmm_say "$VWMM_NUM_PROCESSES process(es) on $VWMM_NUM_MACHINES node(s) ($SLURM_JOB_NODELIST), $gpus GPU(s) on each; $vwmm_launch; start $((${SLURM_RESTART_COUNT:-0} + 1))"
}

# Runs one command on every node, and puts the job back into the queue where that makes sense.
vwmm_run_and_requeue() {
    local command="$1" code
    shift
    vwmm_describe_allocation || exit 1
    local arguments=("$@") launcher=()
    if [ "$command" != prepare ]; then launcher=(--launch "$vwmm_launch"); fi  # it takes all cores by itself
    if [ -n "${VWMM_SCRATCH:-}" ] && [[ " $* " != *" cache.dir="* ]]; then arguments+=("cache.dir=$VWMM_SCRATCH"); fi
    # SLURM_NODEID is a task's own: expanded here, every node would be the first one.
    # shellcheck disable=SC2016
    srun --kill-on-bad-exit=0 --export=ALL bash -c \
        'trap "" USR1 TERM; export VWMM_MACHINE_RANK="$SLURM_NODEID"; exec "$@"' vwmm-task \
        "${vwmm_python[@]}" -m vwmm "$command" "${launcher[@]}" "${arguments[@]}" &
    vwmm_wait_for "$!"
    code=$?
    vwmm_end "$code"
}

# Waits for srun, which passes signals on to its tasks; what the job was told is repeated until they have ended.
vwmm_wait_for() {
    local step="$1" pause=0
    while kill -0 "$step" 2>/dev/null; do
        if [ -n "$vwmm_asked" ] && [ "$pause" -le 0 ]; then
            kill -s "$vwmm_asked" "$step" 2>/dev/null
            pause="$VWMM_REPEAT_S"
        fi
        pause=$((pause - 1))
        sleep 1 &
        wait "$!"  # unlike sleep itself, it ends when a signal comes
    done
    wait "$step"
}

vwmm_job_state() { scontrol show job -o "$vwmm_job" 2>/dev/null | sed -n '1s/.* JobState=\([A-Z_]*\).*/\1/p'; }

# What an exit code means for the job.
vwmm_end() {
    local code="$1" kind limit count
    case "$code" in
        0)
            rm -rf -- "$vwmm_state"
            exit 0
            ;;
        "$VWMM_EXIT_INVALID")
            vwmm_say "the input is wrong (see above); not put back into the queue"
            exit "$code"
            ;;
        "$VWMM_EXIT_STOPPED")
            kind=preemptions
            limit="${VWMM_MAX_PREEMPTIONS:-100}"
            ;;
        *)
            kind=failures
            limit="${VWMM_MAX_FAILURES:-2}"
            ;;
    esac
    # After `scancel JOB` Slurm would take it back all the same; after `scontrol requeue` it does so by itself. Where
    # the time limit was announced, and then reached, nobody but this does.
    if [ "$vwmm_asked" != USR1 ] && [[ "$(vwmm_job_state)" =~ ^(COMPLETING|CANCELLED)$ ]]; then
        vwmm_say "ended with code $code; Slurm ends this job: it is not put back from here"
        exit "$code"
    fi
    mkdir -p -- "$vwmm_state"
    count=$(cat -- "$vwmm_state/$kind" 2>/dev/null)
    count=$((${count:-0} + 1))
    if ! echo "$count" >"$vwmm_state/$kind" || [ "$(cat -- "$vwmm_state/$kind")" != "$count" ]; then
        vwmm_say "ended with code $code; $vwmm_state cannot be written, so it is not put back: nobody could count it"
        exit "$code"
    fi
    if [ "$count" -gt "$limit" ]; then
        vwmm_say "ended with code $code; the budget of $limit $kind is used up"
        rm -rf -- "$vwmm_state"
        exit "$code"
    fi
    vwmm_say "ended with code $code; $count of at most $limit $kind: back into the queue"
    if ! scontrol requeue "$vwmm_job"; then exit "$code"; fi
    sleep 60 &  # Slurm ends this script
    wait "$!"
    exit "$code"
}
