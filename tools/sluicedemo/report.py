# SPDX-License-Identifier: BSD-2-Clause
"""What the demo says: one row per check as it ends, with the result and the time; or one JSON document at the end."""

import errno
import json
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from sluicevm import Failure

NAME_WIDTH = 46
COLOURS = {"ok": "32", "FAIL": "31;1", "skip": "33", "head": "1"}


class Wrong(Exception):
    """A check came out differently from what is right: what was seen, and lines that show it."""

    def __init__(self, what, lines=()):
        super().__init__(what)
        self.lines = list(lines)


class Skip(Exception):
    """A check that cannot be made here, and why."""


def in_words(error):
    """What an exception says to a user."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space left in {error.filename or tempfile.gettempdir()}; make room, or set TMPDIR to a directory " \
            "with more"
    return str(error)


@dataclass
class Row:
    name: str
    verdict: str = "ok"                           # or FAIL, or skip
    seconds: float = 0.0
    result: str = ""
    lines: list = field(default_factory=list)     # what a user would see on the terminal, and remarks


class Report:
    def __init__(self, as_json):
        self.as_json = as_json
        self.out = sys.stderr if as_json else sys.stdout
        self.live = self.out.isatty()
        self.rows, self.speed, self.facts = [], [], {}
        self.progress_shown = ""

    def _paint(self, kind, text):
        return f"\033[{COLOURS[kind]}m{text}\033[0m" if self.live else text

    def _print(self, text=""):
        self.progress("")
        print(text, file=self.out, flush=True)

    def progress(self, text):
        """A line that the next one replaces; only where somebody may be looking."""
        if self.live and text != self.progress_shown:
            blank = " " * len(self.progress_shown)
            self.progress_shown = text[:100]
            print(f"\r{blank}\r{self.progress_shown}", end="", file=self.out, flush=True)

    def say(self, text=""):
        self._print(text)

    def section(self, title):
        self._print("\n" + self._paint("head", title))

    @contextmanager
    def row(self, name):
        """Print a row for the block. The block fills in its result; what it raises makes the verdict."""
        row, began = Row(name), time.monotonic()
        self.progress(f"  ...           {name}")
        try:
            yield row
        except Skip as skip:
            row.verdict, row.result = "skip", str(skip)
        except Wrong as wrong:
            row.verdict, row.result, row.lines = "FAIL", str(wrong), wrong.lines
        except (Failure, OSError, subprocess.TimeoutExpired) as failure:
            row.verdict = "FAIL"
            row.result, *row.lines = in_words(failure).splitlines() or [type(failure).__name__]
        row.seconds = time.monotonic() - began
        self.rows.append(row)
        self._show(row)

    def _show(self, row):
        verdict = self._paint(row.verdict, f"{row.verdict:4}")
        self._print(f"  {verdict} {row.seconds:6.1f} s  {row.name:{NAME_WIDTH}} {row.result}".rstrip())
        for line in row.lines[-30:]:
            for part in textwrap.wrap(line, 102, subsequent_indent="    ", break_on_hyphens=False) or [""]:
                self._print(f"                 {part}")

    def failed(self):
        return [row for row in self.rows if row.verdict == "FAIL"]

    def document(self, status):
        """For machines."""
        counts = {v: sum(row.verdict == v for row in self.rows) for v in ("ok", "FAIL", "skip")}
        print(json.dumps({"status": status, **self.facts, "counts": counts, "rows": [asdict(r) for r in self.rows],
                          "speed": self.speed}, indent=1), flush=True)
