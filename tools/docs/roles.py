"""For tools/docs/build_site.py: docstrings have signs of reStructuredText, which Markdown does not know."""

import re

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?([^`]+)`")
EXAMPLE = re.compile(r"::$", re.MULTILINE)


class WithoutRoles(griffe.Extension):
    """Turns the role in ``:class:`Name``` into code, and the two colons before an example into one."""

    def on_object(self, *, obj: griffe.Object, **options: object) -> None:
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(":", ROLE.sub(r"`\1`", obj.docstring.value))
