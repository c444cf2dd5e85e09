"""The console command `cocktail`: what one does with trained models, without a checkout."""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple

from cocktail.text.printable import on_lines
from cocktail.text.redaction import redacted
from cocktail.types import UsageError


class Command(NamedTuple):
    """A function that takes options as a dataclass, and gives what is printed, if anything."""

    module: str
    """Imported when the command is called."""
    options: str
    function: str
    what: str


_ROOM = "cocktail.inference"
COMMANDS = {
    "separate": Command(f"{_ROOM}.separate_command", "Separate", "separate", "take recordings apart into stems"),
    "localize": Command(f"{_ROOM}.localize_command", "Localize", "localize", "show where in videos sounds come from"),
    "export": Command(f"{_ROOM}.export", "Export", "export", "write a model into a folder that can be handed on"),
    "models": Command(f"{_ROOM}.models_table", "Models", "models", "list the models that a tracking server has"),
}
"""By the word that calls each."""


def usage() -> str:
    """What `cocktail --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {word:<{width}}  {command.what}" for word, command in COMMANDS.items()]
    return "\n".join(["usage: cocktail COMMAND ... (cocktail COMMAND --help says more)", "", *lines])


def main(arguments: list[str] | None = None) -> None:
    """Run a command; what a user can mend is one line, and exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        sys.exit(0 if arguments else 2)
    word, *rest = arguments
    try:
        if word not in COMMANDS:
            raise UsageError(f"there is no command {word!r}: there are {', '.join(COMMANDS)}")
        _run(word, rest)
    except UsageError as error:
        print(f"error: {on_lines(redacted(str(error)))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


def _run(word: str, arguments: list[str]) -> None:
    import tyro  # only here: a wrong word needs no parser

    command = COMMANDS[word]
    module = importlib.import_module(command.module)
    options = tyro.cli(getattr(module, command.options), args=arguments, prog=f"cocktail {word}")
    told = getattr(module, command.function)(options)
    if told is not None:
        print(told)
