# What the templates of this folder share. Sourced by a batch script, on the first node of its job.
#
# The batch shell owns the requeue: a task that asked for it itself would lose the job where a signal comes before it
# listens. Whatever signal the shell is told, the tasks are told USR1, again and again until they end: srun passes it on,
# where TERM or HUP would have it kill its tasks at once. They start deaf to it (a child inherits `trap ""`) until Python
# listens. What each of them ended with is in a file for each node: srun has the highest code alone, and 75 of one task
# would hide 1 of another.

readonly VWMM_EXIT_INVALID=2 VWMM_EXIT_STOPPED=75
readonly VWMM_REPEAT_S=5
vwmm_asked="${vwmm_asked:-}"  # a signal may have come already: the templates note it in their first line

# Of an array, one task has the array's own number as its job's: named by it, all of them would be put back.
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    vwmm_job="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
else
    vwmm_job="$SLURM_JOB_ID"
fi

vwmm_say() { printf '%(%Y-%m-%d %H:%M:%S)T job %s: %s\n' -1 "$vwmm_job" "$*"; }

# Reads site.env, finds Python, and sets what all tasks need.
vwmm_prepare_job() {
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
    if [ "${SLURM_HET_SIZE:-1}" -gt 1 ]; then
        vwmm_say "a job of $SLURM_HET_SIZE parts: the template would use the first alone; ask for nodes that are alike"
        exit "$VWMM_EXIT_INVALID"
    fi
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

# What a task sees on its node: `NODEID NAME GPUS`. The batch shell may be told of GPUs that no task is given (--exclusive
# without asking for any), and a variable of the submitting shell is no GPU.
# shellcheck disable=SC2016  # expanded by each task
readonly vwmm_look='
    seen=0
    if [ -n "${SLURM_GPUS_ON_NODE:-}${SLURM_STEP_GPUS:-}" ]; then
        given="${CUDA_VISIBLE_DEVICES-${ROCR_VISIBLE_DEVICES-${SLURM_STEP_GPUS:-}}}"
        case "$given" in
            "") if [ -z "${CUDA_VISIBLE_DEVICES+set}" ]; then seen="${SLURM_GPUS_ON_NODE##*:}"; fi ;;
            NoDevFiles | -1) ;;
            *) IFS=, read -ra given <<<"$given" && seen="${#given[@]}" ;;
        esac
    fi
    echo "vwmm-saw $SLURM_NODEID ${SLURMD_NODENAME:-$SLURM_NODEID} $seen"'

# What a task does: deaf to signals until its program listens, it leaves behind what that ended with.
# shellcheck disable=SC2016  # SLURM_NODEID is a task's own: expanded here, every node would be the first one
readonly vwmm_task='
    trap "" USR1 TERM
    trap : HUP INT USR2
    export VWMM_MACHINE_RANK="$SLURM_NODEID"
    "$@"
    code=$?
    echo "$code" 2>/dev/null >"$VWMM_CODES/$SLURM_NODEID"
    exit "$code"'

# Starts a task on every node. --wait: a cluster may have srun kill those that still save when the first has ended.
readonly vwmm_srun=(srun --kill-on-bad-exit=0 --wait=0 --export=ALL bash -c)

# The nodes' names and how many GPUs a task has there; ends the job where training cannot be divided among them.
vwmm_see_nodes() {
    local command="$1" line name gpus seen="" uneven=""
    vwmm_nodes=() vwmm_gpus=0
    line="$("${vwmm_srun[@]}" "$vwmm_look" vwmm-look </dev/null)" || return 1
    while read -r _ _ name gpus; do
        vwmm_nodes+=("$name")
        if [ "${#vwmm_nodes[@]}" = 1 ]; then vwmm_gpus="$gpus"; fi
        if [ "$gpus" != "$vwmm_gpus" ]; then uneven=yes; fi
        seen+="${seen:+, }$name $gpus"
    done < <(grep '^vwmm-saw ' <<<"$line" | sort -n -k 2,2)
    if [ "${#vwmm_nodes[@]}" != "$SLURM_JOB_NUM_NODES" ]; then
        vwmm_say "${#vwmm_nodes[@]} task(s) on $SLURM_JOB_NUM_NODES node(s): one starts all processes of its node;" \
            "submit with --ntasks-per-node=1 and without --ntasks"
        vwmm_end "$VWMM_EXIT_INVALID"
    fi
    if [ "$command" = prepare ]; then return; fi
    if [ -n "$uneven" ]; then
        vwmm_say "the nodes have different numbers of GPUs ($seen), and every node has to have as many;" \
            "submit with --gpus-per-node=N, which says so, in the place of --gpus=N"
        vwmm_end "$VWMM_EXIT_INVALID"
    fi
    if [ "$vwmm_gpus" = 0 ] && [ -n "${SLURM_GPUS_ON_NODE:-}" ]; then
        vwmm_say "this job holds ${SLURM_GPUS_ON_NODE##*:} GPU(s) on ${vwmm_nodes[0]}, but did not ask for any, so" \
            "that its tasks have none (--exclusive alone gives none): it runs on the CPU; --gpus-per-node=N asks"
    fi
}

# Where the tasks meet, how many processes there are on each node, and the launch file that fits them.
vwmm_describe_allocation() {
    local first
    first="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
    VWMM_NUM_MACHINES="$SLURM_JOB_NUM_NODES"
    # Slurm's own address of the node: its name need not resolve everywhere.
    VWMM_MAIN_ADDRESS="$(scontrol show node -o "$first" | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')"
    # This script runs on the first node, so a port that is free here is free where the tasks meet.
    VWMM_MAIN_PORT="$("${vwmm_python[@]}" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')" || return 1
    if [ "$vwmm_gpus" -gt 0 ]; then
        VWMM_NUM_PROCESSES=$((vwmm_gpus * VWMM_NUM_MACHINES))
    else
        VWMM_NUM_PROCESSES=$((${VWMM_PROCESSES_PER_NODE:-1} * VWMM_NUM_MACHINES))
    fi
    vwmm_launch="${VWMM_LAUNCH:-}"
    if [ -n "$vwmm_launch" ]; then
        if [ "$vwmm_gpus" = 0 ]; then export ACCELERATE_USE_CPU=true; fi
    elif [ "$vwmm_gpus" -gt 0 ]; then
        if [ "$VWMM_NUM_PROCESSES" = 1 ]; then vwmm_launch=launch/one_gpu.yaml; else vwmm_launch=launch/multi_gpu.yaml; fi
    elif [ "$VWMM_NUM_PROCESSES" = 1 ]; then
        vwmm_launch=launch/cpu.yaml
    else
        vwmm_launch=launch/cpu_two_processes.yaml
    fi
    export VWMM_NUM_MACHINES VWMM_MAIN_ADDRESS VWMM_MAIN_PORT VWMM_NUM_PROCESSES
    vwmm_say "$VWMM_NUM_PROCESSES process(es) on $VWMM_NUM_MACHINES node(s) ($SLURM_JOB_NODELIST), $vwmm_gpus GPU(s) on each; $vwmm_launch; start $((${SLURM_RESTART_COUNT:-0} + 1))"
}

# Runs one command on every node, and puts the job back into the queue where that makes sense.
vwmm_run_and_requeue() {
    local command="$1"
    shift
    export VWMM_CODES="$vwmm_state/codes"
    rm -rf -- "$VWMM_CODES"  # of an earlier start
    mkdir -p -- "$VWMM_CODES" || vwmm_say "$VWMM_CODES cannot be written: this job will not be put back"
    if ! vwmm_see_nodes "$command" || ! vwmm_describe_allocation; then
        vwmm_end "$([ -n "$vwmm_asked" ] && echo "$VWMM_EXIT_STOPPED" || echo 1)"
    fi
    local arguments=("$@") launcher=()
    if [ "$command" != prepare ]; then launcher=(--launch "$vwmm_launch"); fi  # it takes all cores by itself
    if [ -n "${VWMM_SCRATCH:-}" ] && [[ " $* " != *" cache.dir="* ]]; then arguments+=("cache.dir=$VWMM_SCRATCH"); fi
    if [ -n "$vwmm_asked" ]; then  # nothing has begun
        vwmm_say "told to stop ($vwmm_asked) before the tasks began"
        vwmm_end "$VWMM_EXIT_STOPPED"
    fi
    # A signal that comes before srun waits for signals would end it.
    (
        trap "" USR1
        exec "${vwmm_srun[@]}" "$vwmm_task" vwmm-task \
            "${vwmm_python[@]}" -m vwmm "$command" "${launcher[@]}" "${arguments[@]}"
    ) &
    vwmm_wait_for "$!"
    vwmm_judge "$?"
    vwmm_end "$vwmm_code"
}

# Waits for srun, which passes USR1 on to its tasks; it is repeated until they have ended.
vwmm_wait_for() {
    local step="$1" again_at=0 nap=0.1 began="$SECONDS"
    while kill -0 "$step" 2>/dev/null; do
        if [ -n "$vwmm_asked" ] && [ "$SECONDS" -ge "$again_at" ]; then
            kill -s USR1 "$step" 2>/dev/null
            again_at=$((SECONDS + VWMM_REPEAT_S))
            vwmm_leave_in_time
        fi
        if [ $((SECONDS - began)) -gt 1 ]; then nap=1; fi
        sleep "$nap" &
        wait "$!"  # unlike sleep itself, it ends when a signal comes
    done
    wait "$step"
}

# Where the time limit is over and tasks still save, Slurm kills them after KillWait, and this shell with them: it puts the
# job back before. They lose what they have not saved by then.
vwmm_leave_in_time() {
    if [ "$(vwmm_job_state)" != "COMPLETING TimeLimit" ]; then return; fi
    if [ -z "${vwmm_leaves_at:-}" ]; then
        local kill_wait
        kill_wait="$(scontrol show config 2>/dev/null | sed -n 's/^KillWait *= *\([0-9]*\).*/\1/p')"
        vwmm_leaves_at=$((SECONDS + ${kill_wait:-30} - 2 * VWMM_REPEAT_S))
    fi
    if [ "$SECONDS" -ge "$vwmm_leaves_at" ]; then vwmm_end "$VWMM_EXIT_STOPPED"; fi
}

# What the tasks ended with: a mistake in the input first, else a failure, else a stop. A task that left no code was
# killed with all that it had started, or could not write: then srun's code counts as well.
vwmm_judge() {
    local srun_code="$1" node code said="" codes=() different=""
    for node in "${!vwmm_nodes[@]}"; do
        code="$(cat -- "$VWMM_CODES/$node" 2>/dev/null)"
        code="${code:-$srun_code}"
        # Signals to all that a job has started (scancel --full) reach srun, which then kills its tasks: no failure.
        if [ -n "$vwmm_asked" ] && [[ "$code" =~ ^(137|138|143)$ ]]; then code="$VWMM_EXIT_STOPPED"; fi
        codes+=("$code")
        said+="${said:+, }${vwmm_nodes[node]} $code"
    done
    vwmm_code=0
    for code in "${codes[@]}"; do
        if [ "$code" != "${codes[0]}" ]; then different=yes; fi
        if [ "$(vwmm_weight "$code")" -gt "$(vwmm_weight "$vwmm_code")" ]; then vwmm_code="$code"; fi
    done
    if [ -n "$different" ]; then vwmm_say "the nodes' tasks ended with different codes: $said"; fi
}

vwmm_weight() {
    case "$1" in
        0) echo 0 ;;
        "$VWMM_EXIT_STOPPED") echo 1 ;;
        "$VWMM_EXIT_INVALID") echo 1000 ;;
        *) echo $((1 + $1)) ;;
    esac
}

# `RUNNING None`, or what Slurm does with the job and why.
vwmm_job_state() {
    scontrol show job -o "$vwmm_job" 2>/dev/null | sed -n '1s/.* JobState=\([A-Z_]*\) Reason=\([A-Za-z_]*\).*/\1 \2/p'
}

# What an exit code means for the job.
vwmm_end() {
    local code="$1" kind limit count state
    rm -rf -- "$vwmm_state/codes"
    rmdir -- "$vwmm_state" 2>/dev/null  # unless it counts something
    case "$code" in
        0)
            rm -rf -- "$vwmm_state"
            exit 0
            ;;
        "$VWMM_EXIT_INVALID")
            vwmm_say "the input is wrong (see above); not put back into the queue"
            rm -rf -- "$vwmm_state"
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
    # After `scancel JOB` it has to stay away; after `scontrol requeue` Slurm puts it back by itself. Where the time limit
    # was reached, nobody but this does.
    state="$(vwmm_job_state)"
    if [[ "$state" =~ ^(COMPLETING|CANCELLED)\  && "$state" != *" TimeLimit" ]]; then
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
