"""The code that a run was trained with: a commit, and what was not committed."""

import subprocess
from pathlib import Path

from ccdiff.system.atomic import write_whole

__all__ = ["revision"]

_ROOT = Path(__file__).parents[2]
_OURS = ("ccdiff", "conf", "train.py", "sample.py")


def revision(folder: Path, name: str) -> tuple[str | None, str | None]:
    """The commit, and the name of the file in ``folder`` that ``git apply`` makes up the rest of.

    Arguments:
        folder: Where that file goes.
        name: What it is called.

    Returns:
        Commit, None where the code is not under git; ``name``, None where all was committed.
    """
    try:
        if Path(_git("rev-parse", "--show-toplevel").decode().strip()) != _ROOT.resolve():
            return None, None
        commit = _git("rev-parse", "HEAD").decode().strip()
        new = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *_OURS).split(b"\0")
        changes = _git("diff", "--binary", "HEAD")
        for path in filter(None, new):
            changes += _git("diff", "--binary", "--no-index", "/dev/null", path.decode(), ok=(1,))
    except (OSError, subprocess.SubprocessError):
        return None, None
    if not changes:
        return commit, None
    write_whole(folder / name, lambda file: file.write(changes))
    return commit, name


def _git(*arguments: str, ok: tuple[int, ...] = (0,)) -> bytes:
    # Without the user's own settings: an external diff tool would write no patch.
    command = ["git", "-C", str(_ROOT), "-c", "core.quotepath=off", *arguments]
    if arguments[0] == "diff":
        command[6:6] = ["--no-ext-diff", "--no-color"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    if done.returncode not in ok:
        raise subprocess.CalledProcessError(done.returncode, command)
    return done.stdout
