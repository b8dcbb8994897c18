"""Whether a GPU computes what the CPU does, and whether the product does there what it promises.

Commands that take a while to start are started first and looked at last; what lies between is in
order of value.
"""

from tests.gpu.bench import Bench
from tests.gpu.correct import arithmetic, commands, compiled, machine, options, runs

__all__ = ["run"]


def run(bench: Bench) -> None:
    """Runs all cases."""
    if bench.miniature:
        arithmetic.run(bench)  # Forks find there what it has loaded.
    with commands.started(bench) as started:
        for module in (machine, runs) if bench.miniature else (arithmetic, machine, runs):
            module.run(bench)
        started.look(bench)
    options.run(bench)
    compiled.run(bench)
