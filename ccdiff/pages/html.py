"""Pages as one file each, which needs nothing beside it and fetches nothing."""

import base64
import re
from importlib.resources import files

from ccdiff.system.text import html_text

__all__ = ["colours", "document", "image", "look", "scrolled"]


def look() -> str:
    """The style sheet that all pages share, light and dark."""
    return (files("ccdiff.pages") / "look.css").read_text()


def colours(*, night: bool) -> dict[str, str]:
    """The colours of :func:`look` by their names: ``paper``, ``ink``, ``mark`` and others."""
    day, dark = re.findall(r":root \{(.*?)\}", look(), flags=re.DOTALL)
    found = dict(re.findall(r"--(\w+): (#\w+);", day))
    return found | dict(re.findall(r"--(\w+): (#\w+);", dark)) if night else found


def document(title: str, body: str, *, style: str = "") -> str:
    """A whole page.

    Arguments:
        title: In the window's bar, as text.
        body: As HTML.
        style: Rules besides those of :func:`look`.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html_text(title)}</title><style>{look()}{style}</style></head>"
        f"<body>{body}</body></html>"
    )


def scrolled(html: str, *, name: str) -> str:
    """What may be wider than a phone moves by itself, also by the keyboard, and the page stays.

    Arguments:
        html: A table or a picture.
        name: What it is, for who does not see it.
    """
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{html_text(name)}">{html}</div>'
    )


def image(png: bytes, alt: str) -> str:
    """A PNG within a page.

    Arguments:
        png: The file.
        alt: What is to be seen, for who does not see it.
    """
    source = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{source}" alt="{html_text(alt)}">'
