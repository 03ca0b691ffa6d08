"""What was measured, and what it was to be."""

import statistics
import typing


class Target(typing.NamedTuple):
    """What a figure, or a ratio of two, is to be at most or at least."""

    text: str
    measured: float
    limit: float
    at_least: bool = False

    def met(self):
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def row(self):
        bound = "at least" if self.at_least else "at most"
        return [self.text, f"{bound} {self.limit:g}", f"{self.measured:.2f}", "yes" if self.met() else "**no**"]


class Figures:
    """Values by what was measured and how, in the order in which they came."""

    def __init__(self):
        self.groups = {}
        self.units = {}

    def add(self, what, how, value, unit):
        self.units[what] = unit
        self.groups.setdefault(what, {}).setdefault(how, []).append(value)

    def median(self, what, how):
        return statistics.median(self.groups[what][how])

    def ratio(self, what, how, base):
        """Of two medians; of times, so below one is faster."""
        return self.median(what, how) / self.median(what, base)

    def speed(self, what, how, base):
        """How many times as fast."""
        return self.median(what, base) / self.median(what, how)

    def table(self):
        rows = []
        for what, by in self.groups.items():
            unit = self.units[what]
            digits = 0 if unit in ("requests", "MiB") else 3 if unit == "s" and what.startswith("cached") else 2
            show = lambda value: f"{value:.{digits}f}"
            first = next(iter(by))
            for how, values in by.items():
                base = self.median(what, first)
                ratio = f"{self.median(what, how) / base:.2f}" if base and how != first else ""
                rows.append([what, how, f"{show(self.median(what, how))} {unit}",
                             f"{show(min(values))}–{show(max(values))}", len(values), ratio])
        return table(["what", "how", "median", "range", "times", "ratio to the first"], rows)


def targets_table(targets):
    return table(["target", "wanted", "measured", "met"], [target.row() for target in targets])


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
