"""Memory and open files of processes over time."""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process had.

    Attributes:
        at: seconds of `time.monotonic`.
        rss: MiB that are resident.
        files: open files and connections.
    """

    at: float
    rss: float
    files: int


@dataclass
class Resources:
    """Samples of processes, by name."""

    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def look(self, processes: dict[str, int]) -> None:
        """Take a sample of each."""
        for name, pid in processes.items():
            status = Path(f"/proc/{pid}/status").read_text()
            resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
            files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            sample = Sample(time.monotonic(), int(resident.split()[1]) / 1024, files)
            self.samples[name].append(sample)

    def between(self, name: str, begins: float, ends: float) -> tuple[float, float]:
        """Return a process's median of memory and of files in a time."""
        found = [s for s in self.samples[name] if begins <= s.at < ends]
        return median(s.rss for s in found), median(s.files for s in found)
