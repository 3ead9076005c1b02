"""What is wrong with the settings, told so that a person can put it right."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the settings. `source` says where: a flag, a variable, a key of the file, a file."""

    source: str
    key: str
    problem: str

    def __str__(self) -> str:
        return f"{self.source}: {self.problem}"


class ConfigError(Exception):
    """The settings cannot be used. `faults` lists everything that is wrong; `str()` gives a line to each."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults))
