"""Hooks of mkdocs: the reference of the command line, and links to files beside the docs.

A page that holds the line ``<!-- commands -->`` gets every command with its options in its place, read from
the commands themselves.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import typer

from eccos_rs.cli.main import COMMANDS, program

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
MARK = "<!-- commands -->"
_LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Fill in the commands, and send links that leave the docs to the repository."""
    if MARK in markdown:
        markdown = markdown.replace(MARK, "\n".join(commands()))
    here = PurePosixPath("docs", page.file.src_uri).parent

    def target(link: re.Match[str]) -> str:
        path = _normal(here / link.group(1))
        if path.parts[0] == "docs" or not (ROOT / path).exists():
            return link.group(0)
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{config['repo_url'].rstrip('/')}/{kind}/main/{path}"

    return _LINK.sub(target, markdown)


def _normal(path: PurePosixPath) -> PurePosixPath:
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)


def commands() -> Iterator[str]:
    """Yield Markdown: a section per command, with its text and a table of its options."""
    group: Any = typer.main.get_command(program([]))
    for name in COMMANDS:
        command = group.commands.get(name)
        if command is None:
            continue
        yield f"## eccos {name}\n"
        yield from _sections(f"eccos {name}", command)


def _sections(path: str, command: Any) -> Iterator[str]:
    yield f"{_prose(command.help or '')}\n"
    positional = " ".join(each.make_metavar_text() for each in _arguments(command))
    yield f"```text\n{path} [OPTIONS] {positional}".rstrip() + "\n```\n"
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    if options:
        yield "| option | meaning | default |\n|---|---|---|"
        for option in options:
            names = ", ".join(f"`{each}`" for each in [*option.opts, *option.secondary_opts])
            yield f"| {names} | {_cell(option.help)} | {_default(option)} |"
        yield ""
    for name, below in getattr(command, "commands", {}).items():
        yield f"### {path} {name}\n"
        yield from _sections(f"{path} {name}", below)


class _Argument:
    """A positional argument with the name that the help shows."""

    def __init__(self, parameter: Any) -> None:
        self._parameter = parameter

    def make_metavar_text(self) -> str:
        name = (self._parameter.metavar or self._parameter.name or "").upper()
        name = f"[{name}]" if not self._parameter.required else name
        return f"{name}..." if self._parameter.nargs == -1 else name


def _arguments(command: Any) -> list[_Argument]:
    return [_Argument(each) for each in command.params if each.param_type_name == "argument"]


def _prose(text: str) -> str:
    return text.replace("\b", "").replace("\f", "").replace("<", "&lt;").strip()


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")


def _default(option: Any) -> str:
    value = option.default
    if value is None or value is False or callable(value) or repr(value).startswith("Sentinel"):
        return ""
    return f"`{value}`" if not isinstance(value, bool) else "on"
