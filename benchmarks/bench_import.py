"""What an import costs, in a fresh interpreter."""

import statistics
from functools import partial

from .common import Row, fresh_process

STATEMENTS = ("import fastvis", "import fastvis.textures")
TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def rows(quick):
    """Yields name and function of each row."""
    for statement in STATEMENTS:
        yield statement, partial(_row, statement, 1 if quick else 7)


def _row(statement, rounds):
    seconds = [float(fresh_process(TIMED.format(statement))) for _ in range(rounds)]
    return Row(None, statistics.median(seconds))


def timeraw_import():
    return STATEMENTS[0]


def timeraw_import_textures():
    return STATEMENTS[1]
