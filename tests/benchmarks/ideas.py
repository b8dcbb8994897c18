"""Ideas one by one against one recipe, at equal CPU time, over seeds, on MNIST and emoji.

``python -m tests.benchmarks.ideas out=<folder> data=<folder> seconds=40 workers=2 minutes=60``
with the folder that ``tests.benchmarks.ideas_data`` wrote. Every training is a process of one
thread, ``workers`` of them at once. ``rows.jsonl`` gets a row as each ends and ``table.md`` is
written anew; the same command goes on with what is missing. ``only=vit,optimal`` takes ideas with
these words beside the recipe itself, ``sets=mnist`` one data set, ``seeds=3`` so many seeds. The
first seed leaves ``pictures/``, two or four files of each idea; ``pictures=false`` leaves none.
``tests.benchmarks.ideas_montage`` puts them side by side.

Processes compose their configs as they begin, so leave the clone as it is meanwhile.

Samples are drawn by UniPC in 20 steps, which suits a coupling, too.
"""

import argparse
import datetime
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ccdiff.errors import UserError
from tests.benchmarks.ideas_recipes import BASE, IDEAS, picture_prefix
from tests.benchmarks.ideas_table import markdown
from tests.benchmarks.parallel import outcomes

__all__ = ["Arguments", "compare", "parse", "tasks_of"]

_COOLDOWN = 0.8
_SCALE = 2.0
_PRELOADED = ("tests.benchmarks.ideas_training", "torch._inductor")
"""Imported once and not by each process; the second is wanted by torch's deterministic mode."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What is asked for."""

    out: Path
    data: Path
    seconds: float = 40.0
    workers: int = 1
    minutes: float = 60.0
    seeds: int = 3
    images: int = 500
    heldout_images: int = 1024
    pictures: bool = True
    only: tuple[str, ...] = ()
    sets: tuple[str, ...] = ("mnist", "emoji")
    more: tuple[str, ...] = ()
    """Overrides for all, such as ``trainer.batch_size=64``, split at commas."""


def parse(words: Sequence[str]) -> Arguments:
    """Reads ``key=value``.

    Raises:
        UserError: Where a key is unknown, a value is no such number, or a folder is missing.
    """
    known = {f.name: f for f in fields(Arguments)}
    given: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in known:
            raise UserError(f"{word}: it takes key=value with a key of {', '.join(known)}")
        if key in ("only", "sets", "more"):
            given[key] = tuple(part.strip() for part in value.split(",") if part.strip())
            continue
        if key == "pictures":
            if value not in ("true", "false"):
                raise UserError(f"{word}: pictures must be true or false")
            given[key] = value == "true"
            continue
        try:
            given[key] = _KINDS.get(key, float)(value)
        except ValueError:
            raise UserError(f"{word}: {key} must be a number") from None
        if key not in ("out", "data") and not 0 < given[key] < float("inf"):
            raise UserError(f"{word}: {key} must be positive")
    for key in ("out", "data"):
        if key not in given:
            raise UserError(f"pass {key}=<folder>")
        given[key] = given[key].expanduser().absolute()
    return Arguments(**given)


_KINDS: dict[str, Callable[[str], Any]] = {
    "out": Path,
    "data": Path,
    "workers": int,
    "seeds": int,
    "images": int,
    "heldout_images": int,
}


def tasks_of(args: Arguments, data: dict[str, list[str]]) -> list[Any]:
    """Every training in the order in which it is begun: seed by seed, the late ideas at the end.

    Arguments:
        args: What is asked for.
        data: The overrides of each data set.
    """
    from tests.benchmarks.ideas_training import Task

    return [
        Task(
            data=name,
            idea=title,
            seed=seed,
            overrides=(*overrides, *idea.overrides(), *args.more),
            seconds=args.seconds,
            cooldown=_COOLDOWN,
            images=args.images,
            heldout_images=args.heldout_images,
            scale=_SCALE,
            cache=args.data / "cache",
            picture=picture_prefix(args.out, name, title) if args.pictures and seed == 0 else None,
        )
        for late in (False, True)
        for seed in range(args.seeds)
        for title, idea in IDEAS.items()
        for name, overrides in data.items()
        if idea.late is late
        and (not idea.sets or name in idea.sets)
        and (not args.only or title == BASE or any(word in title for word in args.only))
    ]


def compare(
    args: Arguments, *, start: str = "forkserver", work: Callable[[Any], Any] | None = None
) -> Path:
    """Runs what is missing; returns the table's file.

    Arguments:
        args: What is asked for.
        start: How processes begin, see :mod:`multiprocessing`.
        work: What each does; None trains.

    Raises:
        UserError: Where the folder holds rows of another command, or data are missing.
    """
    until = time.monotonic() + 60 * args.minutes
    from tests.benchmarks import ideas_data, ideas_training

    args.out.mkdir(parents=True, exist_ok=True)
    data = {
        name: ideas_data.data_overrides(args.data / f"{name}.npz", cache=args.data / "prepared")
        for name in args.sets
    }
    rows = _Rows(args.out, _head(args))
    for name, overrides in data.items():
        # Kept, so that no process makes anew what judges all.
        if not any(row.get("idea") == "real images" and row["data"] == name for row in rows.rows):
            rows.add({"data": name, "idea": "real images", "seed": 0, **_real(args, overrides)})
    tasks = [task for task in tasks_of(args, data) if not rows.has(task)]
    print(f"{len(tasks)} trainings of {args.seconds:g} s, {args.workers} at once", flush=True)
    for one in outcomes(
        work or ideas_training.run,
        tasks,
        workers=args.workers,
        seconds=until - time.monotonic(),
        needs=args.seconds,
        start=start,
        preload=_PRELOADED,
    ):
        task = tasks[one.job]
        rows.add(
            {
                "data": task.data,
                "idea": task.idea,
                "seed": task.seed,
                **(one.result or {"error": one.error}),
                "wall_seconds": round(one.seconds, 2),
            }
        )
    return args.out / "table.md"


def _real(args: Arguments, overrides: Sequence[str]) -> dict[str, float]:
    """Training images in place of samples: what a perfect model would come near to."""
    from ccdiff.metrics.judge import images_like
    from ccdiff.metrics.references import asked_labels
    from tests.benchmarks import ideas_data, ideas_training

    judged = ideas_data.open_judged(overrides, cache=args.data / "cache")
    y = asked_labels(judged.heldout, n=args.images, num_labels=judged.num_labels)
    like = images_like(judged.train, y)
    return ideas_training.judged_samples(like.images, like.labels, judged)


def _head(args: Arguments) -> dict[str, str]:
    from tests.benchmarks.kit import machine

    return {
        "machine": f"{machine().replace(', 1 threads', '')}, {os.cpu_count()} cores",
        "python": sys.version.split()[0],
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": f"python -m tests.benchmarks.ideas {' '.join(sys.argv[1:])}",
        "training": f"{args.seconds:g} CPU seconds of one thread, {args.workers} at once; "
        f"{args.images} images judged, guidance of scale {_SCALE:g}",
    }


class _Rows:
    """The rows of a folder, each on disk as soon as it is there.

    Arguments:
        folder: Where ``rows.jsonl`` and ``table.md`` are.
        head: What they are taken with; ``training`` must be that of rows that are there.
    """

    def __init__(self, folder: Path, head: dict[str, str]) -> None:
        self.folder = folder
        self.file = folder / "rows.jsonl"
        self.rows: list[dict[str, Any]] = []
        self.head = head
        if self.file.exists():
            first, *self.rows = [json.loads(line) for line in self.file.read_text().splitlines()]
            self.head = first
            if first["training"] != head["training"]:
                raise UserError(
                    f"{self.file} is of {first['training']}, not of {head['training']}: pass "
                    f"another out="
                )
            self.rows = [row for row in self.rows if not row.get("error")]
        else:
            self._append(head)

    def has(self, task: Any) -> bool:
        """Whether there is an outcome already."""
        key = (task.data, task.idea, task.seed)
        return any((row["data"], row["idea"], row["seed"]) == key for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        """Writes a row down."""
        self.rows.append(row)
        self._append(row)
        (self.folder / "table.md").write_text(markdown(self.head, self.rows))
        shown = {k: v for k, v in row.items() if k in ("agreement", "fd", "error", "steps")}
        print(f"{row['data']}: {row['idea']}, seed {row['seed']}: {shown}", flush=True)

    def _append(self, row: dict[str, Any]) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="+", help="key=value, as above")
    settings = parser.parse_args().settings
    # Before torch is there, in the processes to come as in this one.
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    try:
        print(f"the table is {compare(parse(settings))}")
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
