"""Earlier spellings of options: still accepted, no longer shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from typer.core import TyperCommand

_Command = TypeVar("_Command", bound=Callable[..., Any])


def renamed_options(spellings: Mapping[str, str]) -> Callable[[_Command], _Command]:
    """Decorates a command: every key, such as `--any-body-part`, is taken for its value."""

    def mark(command: _Command) -> _Command:
        command.__dict__["renamed_options"] = dict(spellings)
        return command

    return mark


class Command(TyperCommand):
    """A command that accepts the earlier spellings of its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace earlier spellings, up to `--`, and parse."""
        spellings = getattr(self.callback, "renamed_options", {})
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [_respell(word, spellings) for word in args[:end]] + args[end:])


def _respell(word: str, spellings: Mapping[str, str]) -> str:
    option, equals, value = word.partition("=")
    return spellings.get(option, option) + equals + value
