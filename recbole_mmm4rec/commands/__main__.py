"""``mmm4rec COMMAND``: every command of the package under one name; none is imported before it is asked for."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Sequence

from recbole_mmm4rec import __version__
from recbole_mmm4rec.base.command_line import Parser, ended
from recbole_mmm4rec.base.errors import did_you_mean

COMMANDS = {
    "prep": ("dataset_prep.cli:main", "make a data set and the embeddings of its texts and pictures"),
    "train": ("recbole_mmm4rec.run.cli:main", "train and test MMM4Rec or any model of RecBole"),
    "recommend": ("recbole_mmm4rec.recommend.command:main", "items for a history, from the folder of a trained model"),
    "export": ("recbole_mmm4rec.export.command:main", "a trained model as ONNX towers and FAISS indexes"),
    "search": ("recbole_mmm4rec.recommend.search_command:main", "items of a model folder by words or a picture"),
    "explain": ("recbole_mmm4rec.recommend.explain_command:main", "what carried the score of an item"),
    "add": (
        "recbole_mmm4rec.recommend.add_command:main",
        "new items in a model folder, without training",
    ),
    "update": (
        "recbole_mmm4rec.recommend.update_command:main",
        "train a model on with new users, items and interactions",
    ),
    "push": ("recbole_mmm4rec.model_folder.hub:main", "put a model folder into a repository of a model hub"),
    "serve": ("recbole_mmm4rec.serve.command:main", "recommendations over HTTP, with a page to try them"),
    "compare": ("recbole_mmm4rec.compare.__main__:main", "models beside each other under one protocol: tables, tests"),
    "tune": ("recbole_mmm4rec.tune.__main__:main", "search settings of any model by its validation"),
    "doctor": ("recbole_mmm4rec.commands.doctor:main", "what is installed here, what works, and what to do about it"),
}
"""Command → its function of (arguments, what the user has typed before them), and a line of help."""

_EXAMPLES = """\
examples:
  mmm4rec prep recbole ml-100k && mmm4rec prep embed ml-100k
  mmm4rec train --dataset=ml-100k --baselines=SASRec
  mmm4rec doctor

`mmm4rec COMMAND --help` has the rest."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments without the program's name; ``sys.argv``'s by default.

    Returns:
        The command's exit status: 0; 2 after a user's mistake, told in one line; 130 when interrupted.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0] in COMMANDS:
        address, _ = COMMANDS[given[0]]
        return ended(lambda: int(pkgutil.resolve_name(address)(given[1:], prog=f"mmm4rec {given[0]}")))
    parser = _parser()
    if given and not given[0].startswith("-"):
        parser.error(f"there is no command {given[0]!r}{did_you_mean(given[0], COMMANDS)}")
    parser.parse_args(given)
    parser.print_help()
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="mmm4rec",
        usage="mmm4rec COMMAND [ARGUMENTS ...]",
        description="MMM4Rec, multi-modal Mamba for sequential recommendation, and all of RecBole's models.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"recbole-mmm4rec {__version__}")
    width = max(map(len, COMMANDS)) + 2
    lines = "\n".join(f"{name:<{width}}{help_line}" for name, (_, help_line) in COMMANDS.items())
    parser.add_argument_group("commands", lines)
    return parser


if __name__ == "__main__":
    sys.exit(main())
