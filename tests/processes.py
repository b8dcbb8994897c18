"""Commands on several processes, as torchrun starts them, without its start-up time.

Every process is a fork of this one, which has imported everything; what torchrun does besides (a
store that outlives the processes, and the environment) is done here.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cli import Done, call
from torch.distributed import TCPStore


@contextmanager
def store_port() -> Iterator[int]:
    """The port of a store that another process holds."""
    read, write = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        os.write(write, str(store.port).encode())
        os.close(write)
        signal.pause()
    os.close(write)
    with os.fdopen(read) as pipe:
        port = int(pipe.read())
    try:
        yield port
    finally:
        os.kill(keeper, signal.SIGKILL)
        os.waitpid(keeper, 0)


def forked(world: int, work: Callable[[int], int]) -> list[int]:
    """Calls ``work`` with its rank in each of so many processes, a fork of this one each.

    Returns:
        How each ended, by rank: with what ``work`` returned, or by which signal, negative.
    """
    with store_port() as port:
        children = []
        for rank in range(world):
            child = os.fork()
            if child == 0:
                os.environ |= {
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "WORLD_SIZE": str(world),
                    "MASTER_ADDR": "localhost",
                    "MASTER_PORT": str(port),
                    "TORCHELASTIC_USE_AGENT_STORE": "True",
                }
                os._exit(work(rank))
            children.append(child)
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def launch(
    world: int,
    script: str,
    *arguments: str,
    cwd: Path,
    before: Callable[[int], object] = lambda rank: None,
) -> list[Done]:
    """Like :func:`cli.call` on so many processes: how each ended, by rank.

    Arguments:
        world: Processes.
        script: Of the command.
        arguments: Of the command.
        cwd: Where to run it.
        before: Called in each process with its rank.
    """
    cwd.mkdir(parents=True, exist_ok=True)
    printed = [cwd / f".printed_{rank}" for rank in range(world)]

    def work(rank: int) -> int:
        before(rank)
        done = call(script, *arguments, cwd=cwd)
        printed[rank].write_text(done.printed)
        return done.status

    ended = forked(world, work)
    told = [path.read_text() if path.exists() else "" for path in printed]
    for path in printed:
        path.unlink(missing_ok=True)
    return [Done(status, text) for status, text in zip(ended, told, strict=True)]
