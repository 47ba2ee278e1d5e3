"""A real Slurm cluster on this machine: munge, slurmctld and two slurmd, from Debian's packages, as root.

    apt-get install slurmctld slurmd slurm-client munge
    python -m tests.slurm.cluster            # starts it, and a shell in which sbatch, srun and scontrol use it

Two nodes, n1 and n2, of more cores than there are, and of four GPUs that are files like /dev/null; no accounting, no
cgroups. Jobs of the partition `high` preempt those of `low` at once and those of `grace` after 20 s. It ends with the
shell.
"""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

NODES = ("n1", "n2")
NUM_GPUS = 4
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
_TIMEOUT_S = 60.0
CONFIGURATION = """\
ClusterName=vwmm
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmctldParameters=enable_configless
SlurmUser={user}
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdParameters=config_overrides
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,requeue_delay=1
ReturnToService=2
KillWait=30
MpiDefault=none
JobRequeue=1
MinJobAge=3600
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP
PartitionName=grace Nodes=ALL MaxTime=INFINITE State=UP GraceTime=20
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
"""


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs."""

    folder: Path
    """Its configuration, its state and its logs."""

    @property
    def environment(self) -> dict[str, str]:
        """With this, Slurm's commands talk to it."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str | Path, cwd: Path | None = None, **environment: str) -> str:
        """What one of Slurm's commands prints. Raises AssertionError where it fails."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_", "VWMM_"))}
        done = subprocess.run(
            list(map(str, command)), cwd=cwd, env={**clean, **self.environment, **environment}, capture_output=True,
            text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def job(self, number: str) -> dict[str, str]:
        """The fields of a job."""
        text = self.run("scontrol", "show", "job", "-o", number)
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def wait(self, number: str, *states: str, timeout_s: float = 300) -> dict[str, str]:
        """Until a job is in one of these states; its fields."""
        end = time.monotonic() + timeout_s
        while (job := self.job(number))["JobState"] not in states:
            assert time.monotonic() < end, f"job {number} is {job['JobState']}, not {states}: {self.logs()}"
            time.sleep(0.2)
        return job

    def logs(self) -> str:
        """The last lines of what the daemons wrote."""
        return "\n".join(
            f"{file.name}:\n" + "\n".join(file.read_text(errors="replace").splitlines()[-15:])
            for file in sorted((*self.folder.glob("*.log"), *self.folder.glob("*.out")))
        )


def missing_programs() -> list[str]:
    """What has to be installed before a cluster can be started, or why else it cannot."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    return missing + ([] if os.geteuid() == 0 else ["root's rights"])


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Starts a cluster in an empty folder, waits until both nodes are idle, and ends it with all its jobs."""
    folder.chmod(0o755)  # munge asks who could write to its socket's folder
    cluster = Cluster(folder)
    _write_configuration(folder)
    processes: list[subprocess.Popen[bytes]] = []
    environment = {**os.environ, **cluster.environment, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}

    def start(*command: str) -> None:
        output = (folder / f"{Path(command[0]).name}-{len(processes)}.out").open("wb")
        processes.append(
            subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        )

    try:
        socket_file = folder / "munge.socket"
        start(
            "munged", "--foreground", f"--socket={socket_file}", f"--key-file={folder}/munge.key",
            f"--log-file={folder}/munge.log", f"--pid-file={folder}/munge.pid", f"--seed-file={folder}/munge.seed",
        )  # fmt: skip
        _wait_for(socket_file.exists, cluster, processes)
        start("slurmctld", "-D", "-c")
        for node in NODES:
            start("slurmd", "-D", "-N", node)
        _wait_for(lambda: _num_idle(cluster) == len(NODES), cluster, processes)
        yield cluster
    finally:
        with contextlib.suppress(Exception):
            cluster.run("scancel", "--full", "--signal=KILL", "--user", getpass.getuser())
        for process in reversed(processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _write_configuration(folder: Path) -> None:
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    ports = _free_ports(len(NODES) + 1)
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} CPUs=32 "
        f"RealMemory=2000 Gres=gpu:{NUM_GPUS} State=UNKNOWN"
        for node, port in zip(NODES, ports[1:], strict=True)
    )
    text = CONFIGURATION.format(
        host=socket.gethostname(), controller_port=ports[0], folder=folder, user=getpass.getuser(), nodes=nodes
    )
    (folder / "slurm.conf").write_text(text)
    for number in range(NUM_GPUS):
        _make_device(folder / f"gpu{number}")
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-{NUM_GPUS - 1}]\n")


def _make_device(path: Path) -> None:
    """Slurm sets CUDA_VISIBLE_DEVICES for devices only; it counts plain files as well."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        path.touch()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _num_idle(cluster: Cluster) -> int:
    try:
        return cluster.run("sinfo", "-h", "-N", "-p", "all", "-o", "%N %T").count(" idle\n")
    except AssertionError:
        return 0


def _wait_for(holds: Callable[[], bool], cluster: Cluster, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + _TIMEOUT_S
    while not holds():
        ended = [process.args for process in processes if process.poll() is not None]
        assert not ended, f"{ended} ended:\n{cluster.logs()}"
        assert time.monotonic() < end, f"the cluster does not start:\n{cluster.logs()}"
        time.sleep(0.2)


def main() -> int:
    """A shell beside a cluster."""
    if missing := missing_programs():
        print(f"needs {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, running_cluster(Path(folder)) as cluster:
        print(f"cluster of {', '.join(NODES)} in {folder}; `exit` ends it")
        return subprocess.run([os.environ.get("SHELL", "bash")], env={**os.environ, **cluster.environment}).returncode


if __name__ == "__main__":
    sys.exit(main())
