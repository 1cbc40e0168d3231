"""`eccos`: finds the command, runs it, and turns what it raises into an exit status."""

from __future__ import annotations

import codecs
import functools
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from eccos_rs.errors import EccosError, InputError, PolicyError, RecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["COMMANDS", "main", "program"]

COMMANDS = (
    *("start", "pool", "route", "run", "serve", "shadow", "plan", "info"),
    *("collect", "import", "learn", "train", "evaluate", "distil", "bench", "replay"),
)
"""In the order of `eccos --help`: using a router, then making one.

A command lives in the file of its name, imported when it is asked for."""

USAGE = 2
"""What a shell expects of a program that was called in a way it does not understand."""

INTERRUPTED = 130
"""128 + SIGINT, what a shell expects of a program that Ctrl-C ended."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; None takes those of the process.

    Raises
    ------
    SystemExit
        Always: 0 fine, 1 failed (one sentence on standard error), 2 bad usage, 3 done but for
        something left over (queries deferred), 130 interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _take_any_character()
    _tolerate(sys.stdout)
    try:
        program(arguments)(arguments, prog_name="eccos")
    except EccosError as error:
        _fail(str(error), USAGE if _is_usage(error) else 1)
    except KeyboardInterrupt:
        _interrupted()
    except BrokenPipeError:
        # The reader went away (`eccos route … | head`): nothing more to say, and nowhere to say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        _fail(f"{where}{error.strerror or error}")


def _tolerate(stream: Any) -> None:
    """Let a stream that is not UTF-8 show a sign in place of what it cannot write, rather than fail."""
    from eccos_rs.cli.common import is_utf8

    if not is_utf8(stream) and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")


def _is_usage(error: EccosError) -> bool:
    """Say whether an argument was malformed, rather than what lies in a file that one names.

    A malformed pool, record, query or problem has an error of its own; a file that cannot be read is the
    cause of its error.
    """
    cause = error.__cause__ or error.__context__
    unreadable = isinstance(cause, OSError | UnicodeError | RecordError)
    return type(error) in (InputError, PolicyError) and not unreadable


def _take_any_character() -> None:
    """Escape what standard output cannot write as JSON does, which reads it back as it was."""
    codecs.register_error("eccos-escape", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="eccos-escape")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high << 8 | low:04x}" for high, low in pairs), error.end


def _fail(sentence: str, status: int = 1) -> NoReturn:
    sys.stderr.write(f"eccos: {sentence}\n")
    sys.stderr.flush()
    raise SystemExit(status) from None


class _InOrder(TyperGroup):
    """Lists the commands in the order of `COMMANDS`, those with commands of their own too."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=COMMANDS.index)


def program(arguments: Sequence[str]) -> typer.Typer:
    """Build the program; only the command that is asked for is imported, all of them for the overview."""
    app = typer.Typer(
        name="eccos",
        cls=_InOrder,
        help="Route batches of queries to LLMs at least cost, under a promised quality and workload limits.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    there = [name for name in COMMANDS if find_spec(_module(name)) is not None]
    asked = next((word for word in arguments if not word.startswith("-")), None)
    for name in [asked] if asked in there else there:
        function = getattr(import_module(_module(name)), _identifier(name))
        if isinstance(function, typer.Typer):
            for command in function.registered_commands:
                if command.callback is not None:
                    command.callback = _interruptible(command.callback)
            app.add_typer(function, name=name, short_help=str(function.info.help).removesuffix("."))
            continue
        app.command(name, short_help=_first_sentence(function))(_interruptible(function))
    return app


def _print_version(asked: bool) -> None:
    if asked:
        import eccos_rs

        typer.echo(f"eccos-rs {eccos_rs.__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def _identifier(name: str) -> str:
    return "import_" if name == "import" else name


def _module(name: str) -> str:
    return f"eccos_rs.cli.{_identifier(name)}"


def _first_sentence(function: Callable[..., Any]) -> str:
    paragraph = (function.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(paragraph.split()).removesuffix(".")


def _interruptible(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let Ctrl-C end in the same status whichever release of typer is installed."""

    @functools.wraps(function)
    def run(*positional: Any, **named: Any) -> Any:
        try:
            return function(*positional, **named)
        except KeyboardInterrupt:
            _interrupted()

    return run


def _interrupted() -> NoReturn:
    # An interrupt that passed through exec() of a text, as the imports of torch do, leaves a mark by which
    # Python kills itself with SIGINT at its end, whatever status was asked for; the next exec() wipes it.
    exec("pass")
    _fail("interrupted", INTERRUPTED)


if __name__ == "__main__":
    main()
