"""The console command `cocktail`: what one does with trained models, without a checkout."""

from __future__ import annotations

import importlib
import sys

from cocktail.text.printable import on_lines
from cocktail.text.redaction import redacted
from cocktail.types import UsageError

COMMANDS = {
    "separate": ("cocktail.inference.separate_command", "take recordings apart into stems"),
    "localize": ("cocktail.inference.localize_command", "show where in videos the sounds come from"),
}
"""Modules by the word that calls them, each with a function `main(arguments)`, and what they do. A module is imported
when it is called."""


def usage() -> str:
    """What `cocktail --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {word:<{width}}  {what}" for word, (_, what) in COMMANDS.items()]
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
        importlib.import_module(COMMANDS[word][0]).main(rest)
    except UsageError as error:
        print(f"error: {on_lines(redacted(str(error)))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
