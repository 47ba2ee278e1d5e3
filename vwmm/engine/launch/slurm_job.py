"""The sbatch request of `vwmm slurm`.

slurm/job.bash decides in the job itself, from what it was given. This module predicts that decision.
"""

import difflib
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vwmm.config.loading import find_shipped
from vwmm.system.errors import UserError

_VARIABLES = {
    "SBATCH_PARTITION": "partition",
    "SBATCH_ACCOUNT": "account",
    "SBATCH_QOS": "qos",
    "SBATCH_TIMELIMIT": "time",
    "SBATCH_GPUS": "gpus",
    "SBATCH_GPUS_PER_NODE": "gpus-per-node",
    "SBATCH_GPUS_PER_TASK": "gpus-per-task",
    "SBATCH_GPUS_PER_SOCKET": "gpus-per-socket",
    "SBATCH_GRES": "gres",
    "SBATCH_EXCLUSIVE": "exclusive",
    "SBATCH_ARRAY_INX": "array",
}
_RANGE = r"(\d+)(?:-(\d+)(?::(\d+))?)?"
_SHORT = {"N": "nodes", "p": "partition", "A": "account", "t": "time", "G": "gpus", "a": "array", "c": "cpus-per-task"}
_NUMBERS = ("VWMM_MAX_PREEMPTIONS", "VWMM_MAX_FAILURES", "VWMM_PROCESSES_PER_NODE")


@dataclass(frozen=True)
class Request:
    """What a template is submitted with; what is not known here is None, and left to Slurm."""

    template: str
    """Such as `train`: slurm/train.sh."""
    script: Path
    """The template's file."""
    options: tuple[str, ...]
    """Of the command line, for sbatch."""
    values: Mapping[str, str]
    """Of each long option the value that holds: command line, else the site's variable, else the template's line."""
    site: Path | None
    """The site's file."""
    environment: Mapping[str, str]
    """Variables with which it is submitted."""

    @property
    def num_nodes(self) -> int:
        """The most nodes that it may get."""
        return int(self.values.get("nodes", "1").rpartition("-")[2])

    @property
    def gpus_per_node(self) -> int:
        """GPUs on each node; 0: none."""
        values = self.values
        for name in ("gpus-per-node", "gpus-per-task"):  # one task a node
            if name in values:
                return _last_number(values[name])
        if "gpus" in values:
            return _last_number(values["gpus"])
        parts = [part for part in values.get("gres", "").split(",") if part.split(":")[0] == "gpu"]
        return sum(_last_number(part.partition("(")[0]) for part in parts)  # gpu:a100:2(S:0-1)

    @property
    def num_processes(self) -> int:
        """Processes of each job, or of each task of an array."""
        return self.num_nodes * (self.gpus_per_node or int(self.environment.get("VWMM_PROCESSES_PER_NODE", "1")))

    @property
    def launch_file(self) -> str:
        """The launch file of its processes."""
        if chosen := self.environment.get("VWMM_LAUNCH"):
            return chosen
        kinds = ("one_gpu", "multi_gpu") if self.gpus_per_node else ("cpu", "cpu_two_processes")
        return f"launch/{kinds[self.num_processes > 1]}.yaml"

    @property
    def array(self) -> list[int] | None:
        """The numbers of an array's tasks."""
        if "array" not in self.values:
            return None
        numbers: list[int] = []
        for part in self.values["array"].partition("%")[0].split(","):
            first, last, step = re.fullmatch(_RANGE, part).groups()  # type: ignore[union-attr]
            numbers += range(int(first), int(last or first) + 1, int(step or 1))
        return numbers

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The words to type."""
        return ["sbatch", *self.options, str(self.script), *arguments]


# What can be read here; Slurm knows more ways, which the person has to write in one of these.
_FORMS = {
    "nodes": (r"[1-9]\d*(-[1-9]\d*)?", "2 or 1-4"),
    "gpus": (r"([\w.-]+:)?\d+", "8 or a100:8"),
    "gpus-per-node": (r"([\w.-]+:)?\d+", "4 or a100:4"),
    "gpus-per-task": (r"([\w.-]+:)?\d+", "4 or a100:4"),
    "array": (rf"{_RANGE}(,{_RANGE})*(%\d+)?", "0-4, 1,3,5 or 0-9%4"),
}


def read_request(template: str, options: Sequence[str], environment: Mapping[str, str]) -> Request:
    """Reads template and site.env as Slurm and the job will. Raises UserError with every problem."""
    script = find_shipped(f"slurm/{template}.sh")
    assert script is not None, "the templates are part of vwmm"
    site, variables, problems = _read_site(script.with_name("site.env"), environment)
    values = _directives(script)
    values |= {name: variables[key] for key, name in _VARIABLES.items() if variables.get(key)}
    for option in options:
        name, equals, value = option.removeprefix("--").partition("=")
        if not option.startswith("--") or option == "--":
            known = _SHORT.get(option[1:2])
            problems.append(f"argument {option}: expected --NAME=VALUE" + (f", here --{known}=..." if known else ""))
        values[name] = value if equals else ""
    for name, (form, example) in _FORMS.items():
        if name in values and not re.fullmatch(form, values[name]):
            problems.append(f"--{name}={values[name]}: expected {example}")
    problems += _gpu_problems(values)
    if values.get("ntasks-per-node", "1") != "1" or "ntasks" in values:
        problems.append("--ntasks: the template starts one task on each node, which starts the node's processes")
    if problems:
        raise UserError(problems)
    return Request(template, script, tuple(options), values, site, variables)


def _gpu_problems(values: Mapping[str, str]) -> list[str]:
    """All nodes need the same number of GPUs; returns options that do not set it."""
    if any(name in values for name in ("gpus-per-node", "gpus-per-task")):
        return []
    if "gpus-per-socket" in values:
        return ["--gpus-per-socket: does not set a node's GPUs; write --gpus-per-node=N"]
    nodes = values.get("nodes", "1").rpartition("-")[2]
    if "gpus" not in values or nodes == "1" or not nodes.isdecimal():
        return []
    gpus = _last_number(values["gpus"])
    each = f"--gpus-per-node={gpus // int(nodes)}" if gpus % int(nodes) == 0 else "--gpus-per-node=N"
    return [
        f"--gpus={values['gpus']}: Slurm need not give each of {nodes} nodes as many of them, and each has to have as "
        f"many; write {each}"
    ]


def _directives(script: Path) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _read_site(site: Path, environment: Mapping[str, str]) -> tuple[Path | None, dict[str, str], list[str]]:
    """The site's file, the variables after it, and what is wrong with it. It is shell: bash reads it, as in the job."""
    variables = dict(environment)
    if chosen := environment.get("VWMM_SITE_ENV"):
        site = Path(chosen)
    if not site.is_file():
        problem = [f"VWMM_SITE_ENV={chosen}: there is no such file"] if chosen else []
        return None, variables, problem + _site_problems("", variables)
    words = ["bash", "-c", 'source "$1" >&2 && env -0', "site", str(site)]
    done = subprocess.run(words, env=variables, capture_output=True, text=True)
    if done.returncode != 0:
        message = " ".join(done.stderr.split())
        return site, variables, [f"{site}: bash cannot read it: {message}"]
    variables = dict(word.split("=", 1) for word in done.stdout.split("\0") if "=" in word)
    set_there = re.findall(r"^\s*(?:export\s+)?(VWMM_\w+)=", site.read_text(errors="replace"), re.MULTILINE)
    known = _known_variables()
    problems = [f"{site}: {name}: no such variable{_nearest(name, known)}" for name in set_there if name not in known]
    return site, variables, problems + _site_problems(f"{site}: ", variables)


def _known_variables() -> list[str]:
    example = find_shipped("slurm/site.env.example")
    assert example is not None, "the templates are part of vwmm"
    return re.findall(r"export (VWMM_\w+)=", example.read_text())


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def _site_problems(where: str, variables: Mapping[str, str]) -> list[str]:
    problems = [
        f"{where}{name}={variables[name]}: expected a whole number"
        for name in _NUMBERS
        if variables.get(name) and not re.fullmatch("[0-9]+", variables[name])
    ]
    if variables.get("VWMM_PROCESSES_PER_NODE") == "0":
        problems.append(f"{where}VWMM_PROCESSES_PER_NODE=0: expected at least 1")
    python, image, launch = (variables.get(f"VWMM_{name}") for name in ("PYTHON", "CONTAINER", "LAUNCH"))
    if python and not image and shutil.which(python, path=variables.get("PATH")) is None:
        problems.append(f"{where}VWMM_PYTHON={python}: is no program, as far as can be seen from here")
    if image and not Path(image).exists():
        problems.append(f"{where}VWMM_CONTAINER={image}: is not there, as far as can be seen from here")
    if launch and find_shipped(launch) is None:
        problems.append(
            f"{where}VWMM_LAUNCH={launch}: there is no such file (looked in {Path.cwd()} and among vwmm's own)"
        )
    return problems


def ask_slurm(request: Request, arguments: Sequence[str], *, submit: bool) -> str:
    """What sbatch answers: to `--test-only`, or to the submission itself. Raises UserError where it refuses."""
    words = request.command(arguments)
    if not submit:
        words.insert(1, "--test-only")
    done = subprocess.run(words, env=dict(request.environment), capture_output=True, text=True)
    answer = "\n".join(line.removeprefix("sbatch: ") for line in (done.stdout + done.stderr).strip().splitlines())
    if done.returncode != 0:
        raise UserError(f"sbatch rejects it: {answer}")
    return answer


def has_slurm() -> bool:
    """Whether sbatch is here to be asked."""
    return shutil.which("sbatch") is not None


def _last_number(text: str) -> int:
    number = text.rpartition(":")[2]
    return int(number) if number.isdecimal() else 1  # `gpu` alone is one
