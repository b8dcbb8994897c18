"""The console command: ``ccdiff train data=digits``, ``ccdiff sample run=latest``, and so on."""

import os
import sys
from difflib import get_close_matches
from importlib import import_module

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "train": ("ccdiff.train.__main__", "train a model, or a sweep of them"),
    "sample": ("ccdiff.sample.__main__", "draw images from a trained run"),
    "evaluate": ("ccdiff.evaluate.__main__", "how good a run's samples are, in figures"),
    "curve": ("ccdiff.curve.__main__", "quality against cost, over samplers and steps"),
    "fit": ("ccdiff.fit.__main__", "grids of times fitted to a run, for few steps"),
    "edit": ("ccdiff.edit.__main__", "inpaint, vary, interpolate and invert images"),
    "compare": ("ccdiff.compare.__main__", "runs side by side, in one page"),
    "inspect": ("ccdiff.inspect.__main__", "what a data set holds"),
    "prepare": ("ccdiff.prepare", "fetch, decode and check a data set ahead of training"),
    "export": ("ccdiff.export.__main__", "a trained model in a folder to hand on"),
    "demo": ("ccdiff.demo.__main__", "a page that draws, on this machine"),
    "dashboard": ("ccdiff.dashboard", "a W&B workspace that compares runs"),
}
"""By name: the module whose ``main`` it is, and what it does."""

_HELP = """usage: ccdiff COMMAND [key=value ...] [flags]

{commands}

ccdiff COMMAND --help lists the keys and options of one.
Tab completion: eval "$(ccdiff -sc install=bash)"
"""


def main() -> None:
    """Runs the command that the first argument names; the others are its own."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        lines = [f"  {command:10} {what}" for command, (_, what) in COMMANDS.items()]
        print(_HELP.format(commands="\n".join(lines)), end="")
        return
    if name in ("-sc", "--shell-completion"):
        _complete(arguments)
        return
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(COMMANDS)}"
        sys.exit(f"error: there is no command {name!r}: {hint}")
    sys.argv[1:] = arguments
    import_module(COMMANDS[name][0]).main()


def _complete(arguments: list[str]) -> None:
    """Answers a shell: names of commands, then what the command named completes."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    named = words[1] if len(words) > 1 else ""
    if arguments and arguments[0].startswith("query="):
        if named not in COMMANDS or line.endswith(named):
            print(" ".join(name for name in COMMANDS if name.startswith(named)))
            return
        os.environ["COMP_LINE"] = line.replace(f"{words[0]} {named}", words[0], 1)
    command = named if named in COMMANDS else "train"
    sys.argv[1:] = ["-sc", *arguments]
    import_module(COMMANDS[command][0]).main()


if __name__ == "__main__":
    main()
