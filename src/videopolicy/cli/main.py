"""`videopolicy VERB ...`: one file a verb, imported only when asked for."""

import ast
import sys
from importlib import import_module
from pathlib import Path

import tyro

from videopolicy.errors import UserError, unknown

VERBS = tuple(sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py") if file.stem != "main"))


def main(argv: list[str] | None = None) -> None:
    """Runs one verb. Exit code 2 and one line on standard error for bad input."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return
    verb, rest = arguments[0], arguments[1:]
    try:
        if verb not in VERBS:
            raise unknown("verb", verb, VERBS)
        command = import_module(f"videopolicy.cli.{verb}").Command
        tyro.cli(command, prog=f"videopolicy {verb}", args=rest).run()
    except UserError as error:
        print(f"videopolicy: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("videopolicy: interrupted", file=sys.stderr)
        sys.exit(130)


def _overview() -> str:
    lines = [
        "usage: videopolicy VERB [OPTIONS]",
        "",
        "`videopolicy VERB --help` shows a verb's options and an example.",
        "",
    ]
    for verb in VERBS:
        source = (Path(__file__).parent / f"{verb}.py").read_text()
        purpose = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
        lines.append(f"  {verb:10} {purpose}")
    return "\n".join(lines)
