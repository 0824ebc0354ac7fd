"""``mmm4rec export``: the towers of a model folder as ONNX, its item side as FAISS indexes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from recbole_mmm4rec.base.command_line import Parser, command
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.installed import check_installed
from recbole_mmm4rec.model_folder.manifest import look_at

_ALL = "exact,ivf,hnsw"
_DESCRIPTION = """\
Write what a shop needs to recommend without PyTorch: the user tower (histories to vectors) and the item tower
(features of new items to vectors) as ONNX, each compared with PyTorch, and FAISS indexes of all items, with what they
find and how fast. With neither --onnx nor --faiss: all of it."""
_EXAMPLES = """\
indexes:
  exact   every item is looked at; right up to some ten thousand items
  ivf     the items of the nearest cells; quickly built
  hnsw    a walk along a graph of neighbours; slowly built

examples:
  %(prog)s saved/MMM4Rec-shop
  %(prog)s saved/MMM4Rec-shop --faiss exact,hnsw --output shop-index
  %(prog)s saved/MMM4Rec-shop --onnx --force

Needs onnx, onnxscript, onnxruntime and faiss-cpu: pip install 'recbole-mmm4rec[export]'. Killed or interrupted, the
same command does what is missing."""


def main(argv: Sequence[str] | None = None, prog: str = "mmm4rec export") -> int:
    """Run the command; arguments and status as of :func:`~recbole_mmm4rec.base.command_line.command`."""
    return command(_parser(prog), _run, argv, terminable=True)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(prog=prog, description=_DESCRIPTION, epilog=_EXAMPLES)
    add = parser.add_argument
    add("folder", metavar="DIR", help="a model folder; a training writes one")
    add("--onnx", action="store_true", help="the towers")
    add("--faiss", nargs="?", const=_ALL, metavar="KINDS", help=f"indexes: of {_ALL} (all where none is named)")
    add("--output", metavar="FOLDER", help="the folder to write (default: DIR/export)")
    add("--force", action="store_true", help="replace an export that is there")
    return parser


def _run(chosen: argparse.Namespace) -> int:
    everything = not chosen.onnx and chosen.faiss is None
    onnx, named = chosen.onnx or everything, _ALL if everything else chosen.faiss
    look_at(chosen.folder)
    check_installed(("onnx", "onnxscript", "onnxruntime") if onnx else (), "export")
    check_installed(("faiss",) if named else (), "export")

    from recbole_mmm4rec.export.index import known_kinds

    if named is not None and not named.strip():
        raise UserError(f"--faiss: no index is named; choose of {_ALL}")
    kinds = known_kinds(named) if named else ()

    from recbole_mmm4rec.export.folder import export
    from recbole_mmm4rec.export.report import NO_NEIGHBOURS, table

    tell = partial(print, file=sys.stderr)
    done = export(chosen.folder, chosen.output, onnx=onnx, kinds=kinds, force=chosen.force, tell=tell)
    for name, value in done.differences.items():
        print(f"{name}: ONNX Runtime and PyTorch differ by at most {value:.1e}")
    if done.measured:
        print("\n".join(table(done.measured)))
    if done.neighbours:
        print(NO_NEIGHBOURS)
    print(f"{done.folder}: README.md says how to use it")
    return 0
