"""The configuration of a command line, and the demonstration cohort if it asks for that."""

from collections.abc import Sequence

from vwmm.config.loading import DEMO_CONFIG, read_config, uses_shipped
from vwmm.config.schema import Config
from vwmm.data.checks.preflight import cohort_problems
from vwmm.system.errors import UserError


def read_experiment(files: Sequence[str], overrides: Sequence[str], *, makes_demo: bool = True) -> Config:
    """The configuration of files and KEY=VALUE arguments; raises UserError with its and the cohort's problems.

    makes_demo: whether the demonstration's cohort is made where its configuration is asked for and it is absent.
    """
    reading = read_config(files, overrides)
    is_demo = uses_shipped(files, DEMO_CONFIG)
    if reading.problems:
        raise UserError(reading.problems + ([] if is_demo else cohort_problems(reading)))
    assert reading.config is not None
    if is_demo and makes_demo:
        from vwmm.data.synthetic.demo import make_if_absent

        make_if_absent(reading.config)
    return reading.config
