"""Files that are there whole or not at all, and the one error that a user is meant to read."""

import os
from contextlib import contextmanager, suppress
from pathlib import Path


class HgposeError(Exception):
    """Something that the user can mend. The message is one line: what is wrong, where, and what to do."""


@contextmanager
def naming(target: Path):
    """Turns what the operating system says against writing ``target`` into a `HgposeError`."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as e:
        reason = e.strerror or e
        raise HgposeError(f"cannot write {target}: {reason}; free some space there or choose another folder") from e


@contextmanager
def replacing(target: Path):
    """Gives a temporary path that takes the target's name when the block ends well, and is removed when it does not.

    Raises `HgposeError` where the place cannot be written.
    """
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        with naming(target):
            yield temporary
            os.replace(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink()
