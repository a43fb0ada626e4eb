r"""A prompt template: jinja2 in a sandbox, checked when it is loaded, safe for the braces of mathematics.

Syntax (https://jinja.palletsprojects.com/templates):
    {{ problem }}                                    the value, put in once as it is: a value is never read as a template
    {% if student_answer %} ... {% endif %}          kept where the value is not empty (white space alone is empty)
    {% if not instruction %} ... {% endif %}         kept where it is empty; `else`, `for`, filters: as jinja2 has them
A `{% ... %}` at the end of its line takes the line break with it; `+%}` keeps it. White space at both ends of the
rendered prompt is removed.

Single braces are text: `\boxed{}`, `{2}`, `\frac{a}{b}`, `x_{max}`. Three things are refused, for they would be sent to
a model as nobody meant them: a word in braces that is no placeholder and no argument of a LaTeX command (`{points}`), a
double brace around anything but a placeholder (`{{2}}`), and `\boxed{{truth}}`, which loses its braces (write
`\boxed{ {{ truth }} }`). `{% raw %} ... {% endraw %}` makes text of anything.

The syntax of earlier versions, `{problem}` and `{#name} ... {/name}`, `{^name} ... {/name}`, is read as before, as what
`Template.text` shows; `Template.old_syntax` says that it was.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from undo_hpc.errors import ConfigError

if TYPE_CHECKING:  # else loaded with the first template: a look at a run reads none
    from jinja2 import nodes

NAMES = ("problem", "rationale", "student_answer", "verdict", "score", "error_kind", "failed_step", "history", "truth", "examples",
         "instruction")  # fmt: skip

_LITERAL = "for literal text put it between {% raw %} and {% endraw %}"
_TAG = re.compile(
    r"\{%[-+]?\s*raw\b.*?\bendraw\s*[-+]?%\}|(?P<lost>(?P<command>\\[A-Za-z]+)\{\{\s*(?P<inner>\w+)\s*\}\})"
    r"|\{[{%].*?[%}]\}|\{\#(?![a-z_]+\}).*?\#\}"  # jinja2's own
    r"|(?P<alone>^[ \t]*\{(?P<kind1>[#^/])(?P<name1>[a-z_]+)\}[ \t]*(?:\n|\Z))"  # an old tag alone on its line
    r"|(?P<latex>\\[A-Za-z]+|[}^_])?\{(?P<kind2>[#^/]?)(?P<name2>[A-Za-z_]\w+)\}",
    re.DOTALL | re.MULTILINE,
)


class Template:
    """A checked template; `render` fills it.

    Args:
        text: the template, in the syntax of this module.
        where: name of its file, for messages.
        known: the placeholders that there are for it.

    Attributes:
        text: the template as jinja2 reads it.
        names: placeholders that it uses.
        old_syntax: whether some of it was written in the syntax of earlier versions.

    Raises:
        ConfigError: an unknown placeholder, or a template that jinja2 cannot read or render.
    """

    def __init__(self, text: str, *, where: str = "template", known: Collection[str] = NAMES) -> None:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self._where, self._known, self._given = where, known, text
        self.text = _TAG.sub(self._translate, text)
        self.old_syntax = self.text != text
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
        )
        environment.globals.clear()  # a template knows its placeholders and nothing else
        try:
            tree = environment.parse(self.text)
            self._template = environment.from_string(self.text)
        except Exception as error:  # besides TemplateError, what Python says of the code that jinja2 makes
            what = getattr(error, "message", None) or str(error)
            raise self._error(what, getattr(error, "lineno", None)) from error
        self.names = self._check(tree)
        for value in ("", "x"):  # what only rendering shows is seen before a run starts
            self.render(dict.fromkeys(known, value))

    def render(self, values: Mapping[str, str]) -> str:
        """The text with each placeholder replaced by its value, those that are not given by nothing.

        Raises:
            ConfigError: the template asks for something that cannot be done.
        """
        given = {name: values.get(name, "") for name in self._known}
        try:
            return self._template.render({k: v if v.strip() else "" for k, v in given.items()}).strip()
        except Exception as error:  # an expression of a template can raise anything
            raise self._error(f"cannot be rendered: {str(error) or type(error).__name__}") from error

    def _check(self, tree: nodes.Template) -> set[str]:
        """The placeholders of the template; raises for one that there is not, and for an expression that holds none."""
        from jinja2 import meta, nodes

        names = meta.find_undeclared_variables(tree)
        for node in tree.find_all(nodes.Name):
            if node.name in names.difference(self._known):
                raise self._unknown(node.name, node.lineno)
        for expression in (e for output in tree.find_all(nodes.Output) for e in output.nodes):
            text = isinstance(expression, nodes.TemplateData) or isinstance(
                getattr(expression, "value", None), str
            )
            if not text and not isinstance(expression, nodes.Name) and expression.find(nodes.Name) is None:
                raise self._error("double braces around no placeholder", expression.lineno)
        return names

    def _translate(self, match: re.Match[str]) -> str:
        """A tag of the old syntax in jinja2's; raises for what looks like a placeholder and would not be one."""
        if match["lost"] and match["inner"] in self._known:
            remedy = f"write {match['command']}{{ {{{{ {match['inner']} }}}} }}"
            raise self._error(
                f"{match['lost']} has no braces left for {match['command']}", self._line(match), remedy
            )
        kind, name = match["kind1"] or match["kind2"], match["name1"] or match["name2"]
        if name is None or (name not in self._known and match["latex"] and not kind):
            return match[0]
        if name not in self._known:
            raise self._unknown(name, self._line(match))
        tag = {"#": f"if {name}", "^": f"if not {name}", "/": "endif"}.get(kind)
        if match["alone"]:
            return f"{{% {tag} %}}\n"
        return (match["latex"] or "") + (f"{{%+ {tag} +%}}" if tag else f"{{{{ {name} }}}}")

    def _line(self, match: re.Match[str]) -> int:
        return self._given.count("\n", 0, match.start()) + 1

    def _unknown(self, name: str, line: int) -> ConfigError:
        near = difflib.get_close_matches(name.lower(), self._known, n=1, cutoff=0.5)
        remedy = (f"did you mean {near[0]!r}? " if near else "") + f"There are: {', '.join(self._known)}"
        return self._error(f"no placeholder is called {name!r}", line, remedy)

    def _error(
        self, what: str, line: int | None = None, remedy: str = "it is read as a jinja2 template"
    ) -> ConfigError:
        place = f"{self._where}, line {line}" if line else self._where
        return ConfigError(f"{place}: {what}", hint=f"{remedy}; {_LITERAL}")
