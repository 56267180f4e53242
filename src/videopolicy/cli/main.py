"""`videopolicy VERB ...`: one file a verb, imported only when asked for."""

import ast
import io
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import tyro

from videopolicy.errors import UserError, explain_os_error, unknown
from videopolicy.processes import heed_stop_signals

VERBS = tuple(sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py") if file.stem != "main"))


def main(argv: list[str] | None = None) -> None:
    """Runs one verb. Exit code 2 and one line on standard error for bad input, a full disk and the like."""
    _never_fail_to_print()
    # A scheduler that stops a job, or a terminal that goes away, is owed the same tidying up as Ctrl-C.
    heed_stop_signals()
    try:
        try:
            _run(sys.argv[1:] if argv is None else argv)
        finally:
            # Here, where a reader that is gone can still be dealt with.
            sys.stdout.flush()
    except UserError as error:
        _end(str(error), 2)
    except BrokenPipeError:
        # Whoever read has seen enough (`| head`); without this, Python tries again to write what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        line = explain_os_error(error)
        if line is None:
            raise
        _end(str(line), 2)
    except UnicodeEncodeError as error:
        # Not of printing; of a file's name as the system takes it, or of an option that was read in another locale.
        what = error.object[error.start : error.end].encode("ascii", "backslashreplace").decode()
        _end(f"this locale ({error.encoding}) has no way to write {what}; set PYTHONUTF8=1 and try again", 2)
    except KeyboardInterrupt:
        _end("interrupted", 130)


def _never_fail_to_print() -> None:
    """Characters that a terminal or a log cannot hold are replaced, unless the user has said otherwise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def _run(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return
    _refuse_empty(arguments)
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    command = import_module(f"videopolicy.cli.{verb}").Command
    prog = f"videopolicy {verb}"
    # A verb whose defaults depend on its arguments reads them itself.
    parsed = command.parse(rest, prog) if hasattr(command, "parse") else tyro.cli(command, prog=prog, args=rest)
    parsed.run()


def _refuse_empty(arguments: list[str]) -> None:
    """What a variable of a shell that is not set leaves behind; as a path it would be the current folder."""
    for before, text in pairwise(arguments):
        if not text.strip():
            raise UserError(f"the text after {before} is empty; leave both out, or say what is meant")
        if text.startswith("--") and text.endswith("="):
            raise UserError(f"{text} is empty; leave it out, or say what is meant")


def _end(message: str, code: int) -> None:
    # Paths and the words of libraries may hold line breaks.
    # And the terminal may be gone.
    with suppress(OSError):
        print("videopolicy:", " ".join(message.splitlines()), file=sys.stderr)
    sys.exit(code)


def _overview() -> str:
    lines = [
        "usage: videopolicy VERB [OPTIONS]",
        "",
        "`videopolicy VERB --help` shows a verb's options and an example.",
        "",
    ]
    for verb in VERBS:
        source = (Path(__file__).parent / f"{verb}.py").read_text(encoding="utf-8")
        purpose = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
        lines.append(f"  {verb:10} {purpose}")
    return "\n".join(lines)
