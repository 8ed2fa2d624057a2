"""Checks of the settings and of everything that they name: what `recollect doctor` tells."""

from recollect_server.diagnosis.checks import examine
from recollect_server.diagnosis.finding import Finding, Level

__all__ = ["Finding", "Level", "examine"]
