"""Where plans lie: `plans/` in the user's own directory, and nowhere else."""

from pathlib import Path

from engine.catalog import own_home
from engine.own_files import OwnFiles

PLANS = "plans"


class PlanCache(OwnFiles):
    """The directory of plans.

    Args:
        folder: None for the user's own.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(own_home() / PLANS if folder is None else folder, "plan")
