"""Model folders on a hub of models: ``mmm4rec push``, and fetching one by its name."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_mmm4rec.base.command_line import Parser, command
from recbole_mmm4rec.base.errors import MissingPackageError, UserError

if TYPE_CHECKING:
    from recbole_mmm4rec.model_folder.read import Folder

_EXAMPLES = """\
examples:
  %(prog)s saved/MMM4Rec-shop me/shop
  %(prog)s saved/MMM4Rec-shop me/shop --private

The name and token are those of huggingface_hub: `hf auth login` once, or HF_TOKEN in the environment; HF_ENDPOINT names
another hub. `Recommender.from_pretrained("me/shop")` fetches it.
"""


def push(folder: str | Path, repo: str, private: bool = False, token: str | None = None) -> str:
    """Put a model folder, once it was checked, into a repository of a hub, which is made where there is none.

    Args:
        folder: the model folder.
        repo: ``OWNER/NAME``.
        private: of a repository that is made; one that is there must be so already.
        token: of the owner; by default the one that huggingface_hub knows.

    Returns:
        The address of the commit.

    Raises:
        UserError: no such folder, one that was changed or is being changed, the hub refuses or cannot be reached, or
            the repository is not ``private``.
    """
    from recbole_mmm4rec.model_folder.read import Folder
    from recbole_mmm4rec.model_folder.write import staying

    with staying(folder):
        return _push(Folder(folder), repo, private, token)


def _push(content: Folder, repo: str, private: bool, token: str | None) -> str:
    for name in content.manifest["files"]:
        content.file(name)
    hub = _package()
    with _told(repo):
        api = hub.HfApi(token=token)
        api.create_repo(repo, private=private, exist_ok=True)
        if private and not api.repo_info(repo).private:
            raise UserError(
                f"{repo}: --private, and the hub has a public repository of this name; make that one private there, or "
                "name another"
            )
        done = api.upload_folder(
            repo_id=repo,
            folder_path=str(content.path),
            allow_patterns=["manifest.json", *content.manifest["files"]],
            commit_message=f"{content.manifest['model']} on {content.manifest['dataset']}",
        )
    return str(done.commit_url)


def fetch(
    repo: str, revision: str | None = None, cache_dir: str | Path | None = None, token: str | None = None
) -> Path:
    """The model folder of a repository, in the hub's cache on this machine.

    Args:
        repo: ``OWNER/NAME``.
        revision: branch, tag or commit; by default the newest.
        cache_dir: the cache; by default huggingface_hub's.
        token: of a private repository.

    Raises:
        UserError: there is no such repository, or the hub cannot be reached and the cache does not hold it.
    """
    hub = _package()
    with _told(repo):
        return Path(hub.snapshot_download(repo, revision=revision, cache_dir=cache_dir, token=token))


def _package() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise MissingPackageError("a hub needs huggingface_hub: pip install 'recbole-mmm4rec[hub]'") from None
    return huggingface_hub


_ITS_PACKAGES = ("huggingface_hub", "httpx", "httpx2", "requests", "urllib3")
"""Whose exceptions tell that a hub refused or could not be reached; by its version it takes one or the other."""


@contextmanager
def _told(repo: str) -> Iterator[None]:
    """Within it the hub's complaints become one line."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _ITS_PACKAGES:
            raise
        told = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{repo}: the hub does not give or take it: {told}") from None


def main(argv: Sequence[str] | None = None, prog: str = "mmm4rec push") -> int:
    """Run the command; arguments and status as of :func:`~recbole_mmm4rec.base.command_line.command`."""
    parser = Parser(prog=prog, description="Put a model folder into a repository of a model hub.", epilog=_EXAMPLES)
    parser.add_argument("folder", metavar="DIR", help="a model folder")
    parser.add_argument("repo", metavar="REPO", help="OWNER/NAME; it is made where there is none")
    parser.add_argument("--private", action="store_true", help="a repository that is made is for its owner alone")
    return command(parser, _run, argv, interrupted=lambda: "the same command sends what is missing")


def _run(arguments: argparse.Namespace) -> int:
    print(push(arguments.folder, arguments.repo, arguments.private))
    return 0
