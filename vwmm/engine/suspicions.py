"""What training says of its cohort before it begins, from what is known by then."""

from collections.abc import Mapping

from vwmm.config.errors import UserError
from vwmm.config.schema import Config
from vwmm.data.manifest import Cohort
from vwmm.data.quick_checks import content_leaks, telling_facts
from vwmm.engine.preparing import Images
from vwmm.engine.progress import LOG

_MAX_LINES = 5


def warn_of_suspicions(config: Config, cohort: Cohort, assigned: Mapping[str, str], images: Images) -> None:
    """Logs what is suspicious; raises UserError where the same file is in two parts of the split.

    All processes find the same.
    """
    leaks, copies = content_leaks(cohort, assigned, images.hashes(cohort))
    if leaks:
        raise UserError(leaks)
    for warning in telling_facts(cohort, list(config.modalities), config.data.columns.site):
        LOG.info("warning: %s", warning)
    for copy in copies[:_MAX_LINES]:
        LOG.info("warning: %s", copy)
    if len(copies) > _MAX_LINES:
        LOG.info("warning: ... and %d more; `vwmm check` lists all", len(copies) - _MAX_LINES)
