"""What pages go through as they are built: mathematics, and the references of docstrings."""

import re
from typing import Any

from latex2mathml.converter import convert

_MATH = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_ROLE = re.compile(r":(?:class|meth|func|data|mod|attr):<code>~?([\w.]+)</code>")
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}


def on_page_content(html: str, **_: Any) -> str:
    """Sets ``$...$`` as MathML, which browsers know by themselves, and links names of docstrings.

    Arguments:
        html: A page as Markdown gives it.

    Returns:
        The same with no script needed to read it.
    """
    return _ROLE.sub(_reference, _MATH.sub(_mathml, html))


def _mathml(found: re.Match[str]) -> str:
    latex = re.sub("|".join(_ENTITIES), lambda entity: _ENTITIES[entity[0]], found[3])
    return convert(latex.strip(), display="inline" if found[2] == "(" else "block")


def _reference(found: re.Match[str]) -> str:
    """``:class:`~a.b.C``` as a link to ``a.b.C`` where the API has it."""
    name = found[1]
    shown = f"<code>{name.rpartition('.')[2]}</code>"
    return f'<autoref identifier="{name}" optional>{shown}</autoref>' if "." in name else shown
