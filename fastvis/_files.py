"""Files that are whole or not there."""

import os
import secrets
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path):
    """Give a temporary path beside ``path``; what is written there takes its place in the end.

    An error inside the block leaves an older file as it was, and no temporary one.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_target(path):
    """Refuse a file in a folder that is not there, and a folder."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder. Name a file in it.")
