"""Writes `api.md`: the public names of every part, from their docstrings. Run `python docs/api.py` after a change.

Read from the source, not from the imported modules, so that it needs no part installed. The examples of the parts'
own docstrings are run by `tests/test_api_page.py`.
"""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PARTS = ("runtime", "train", "export", "benchmarks")
HEAD = """# Python API

The public names of every part, generated from their docstrings by `python docs/api.py`. They are typed
(`py.typed`), and loaded when they are first used: `from xrt.runtime import Bundle` does not import what screening
needs. Whatever is not listed here may change. Terms are explained in the [glossary](glossary.md).
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(_part(part) for part in PARTS)


def _part(part: str) -> str:
    tree = ast.parse((REPOSITORY / part / "xrt" / part / "__init__.py").read_text(encoding="utf-8"))
    modules = next(_literal(node) for node in tree.body if _assigns(node, "_MODULES"))
    homes = {name: module for module, names in modules.items() for name in names}
    sections = [f"\n## xrt.{part}\n\n{_prose(ast.get_docstring(tree) or '')}\n"]
    sections += [_entry(name, homes[name]) for name in sorted(homes)]
    return "".join(sections)


def _assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)


def _literal(node: ast.stmt) -> dict[str, tuple[str, ...]]:
    if not isinstance(node, ast.Assign):
        raise TypeError(f"{ast.unparse(node)} is no assignment")
    return ast.literal_eval(node.value)


def _entry(name: str, module: str) -> str:
    """A name's heading, signature and docstring; of a class, its public methods too."""
    file = REPOSITORY.joinpath(module.split(".")[1], *module.split("."))
    source = file.with_suffix(".py") if file.with_suffix(".py").is_file() else file / "__init__.py"
    text = source.read_text(encoding="utf-8")
    definition = next(
        node for node in ast.parse(text).body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name
    )
    head, prose = f"\n### {name}\n\n", _prose(ast.get_docstring(definition) or "")
    if isinstance(definition, ast.FunctionDef):
        return f"{head}{_code(_definition(definition, text))}\n\n{prose}\n"
    bases = ", ".join(ast.unparse(base) for base in definition.bases)
    entry = f"{head}{_code(f'class {name}({bases}): ...' if bases else f'class {name}: ...')}\n\n{prose}\n"
    if fields := [_source(node, text) for node in definition.body if _is_field(node)]:
        entry += "\n" + _code("\n".join(fields)) + "\n"
    members = [
        _member(member) for member in definition.body if isinstance(member, ast.FunctionDef) and _is_public(member)
    ]
    return entry + ("\n" + "".join(members) if members else "")


def _source(node: ast.stmt, text: str) -> str:
    """A statement as it is written, without its indentation."""
    return textwrap.dedent(" " * node.col_offset + (ast.get_source_segment(text, node) or ""))


def _definition(function: ast.FunctionDef, text: str) -> str:
    """The head of a function as it is written."""
    head = text.splitlines()[function.lineno - 1 : function.body[0].lineno - 1]
    return "\n".join(head) + " ..."


def _is_public(member: ast.FunctionDef) -> bool:
    arguments = len(member.args.args) + len(member.args.kwonlyargs)
    return not member.name.startswith("_") or (member.name == "__init__" and arguments > 1)


def _is_field(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_")


def _member(member: ast.FunctionDef) -> str:
    kinds = {ast.unparse(decorator) for decorator in member.decorator_list}
    doc = (ast.get_docstring(member) or "").split("\n\n")[0].replace("\n", " ")
    if "property" in kinds:
        returns = f": {ast.unparse(member.returns)}" if member.returns else ""
        return f"- `{member.name}{returns}`: {doc}\n" if doc else f"- `{member.name}{returns}`\n"
    signature = " ".join(_signature(member).split())
    return f"- `{signature}`: {doc}\n" if doc else f"- `{signature}`\n"


def _signature(function: ast.FunctionDef) -> str:
    """`name(arguments) -> result` on one line, without self."""
    arguments = function.args
    if arguments.args and arguments.args[0].arg in ("self", "cls"):
        arguments = ast.arguments(**{**vars(arguments), "args": arguments.args[1:]})
    returns = f" -> {ast.unparse(function.returns)}" if function.returns is not None else ""
    return f"{function.name}({ast.unparse(arguments)}){returns}"


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _prose(docstring: str) -> str:
    """A docstring in Markdown: its indented blocks become code."""
    blocks = docstring.split("\n\n")
    merged: list[str] = []
    for block in blocks:
        if block.startswith("    ") and merged and merged[-1].startswith("    "):
            merged[-1] += "\n\n" + block
        else:
            merged.append(block)
    return "\n\n".join(
        f"```python\n{textwrap.dedent(block).strip()}\n```" if block.startswith("    ") else block for block in merged
    )


if __name__ == "__main__":
    (REPOSITORY / "docs" / "api.md").write_text(page(), encoding="utf-8")
