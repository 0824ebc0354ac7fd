"""The next day: a model goes on with new users, items and interactions, without beginning anew."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.base.json_lines import read_line
from recbole_mmm4rec.base.locks import alone
from recbole_mmm4rec.data.prefixes import PrefixInteraction
from recbole_mmm4rec.model_folder import layout
from recbole_mmm4rec.model_folder.contents import Contents
from recbole_mmm4rec.model_folder.read import Folder
from recbole_mmm4rec.model_folder.write import changing, write_folder
from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.recommend.scorer import checked_device
from recbole_mmm4rec.recommend.update_data import (
    are_trained,
    known_interactions,
    read_interactions,
    trained_before,
    with_trained,
    without_known,
    write_data_set,
)
from recbole_mmm4rec.settings.registry import PARTS
from recbole_mmm4rec.settings.setting import Counts

EPOCHS, PATIENCE = 4, 1
"""Epochs over what is new, and validations in a row that may be no better."""
RATE = 0.3
"""Of the folder's learning rate: what is learned is to change a little (docs/new-items.md has figures)."""
REPLAY = 0.3
"""Old samples in an epoch for each new one, so that what was learned is not forgotten."""
_JOB, _DONE = "job.json", "done.json"
"""In the working folder: what the update is of, and what it has found."""
_GONE_ON_WITH = ("Network", "Training", "Neighbours", "Evaluation")
_AS_COMPUTED = ("train_neg_sample_args", "valid_neg_sample_args", "test_neg_sample_args")
"""Settings that RecBole keeps in another form than it takes."""
_ALSO = ("MAX_ITEM_LIST_LENGTH", "modalities", "features_in", "seed")


@dataclass(frozen=True)
class Updated:
    """What came of an update.

    Attributes:
        folder: the new model's.
        interactions, users, items: how many are new.
        known: interactions that were given and that the model has, or that were given twice.
        samples: that an epoch trained on.
        best_epoch: 0 where the old weights were the best ones.
        test: metrics on each user's last item.
    """

    folder: Path
    interactions: int
    users: int
    items: int
    samples: int
    best_epoch: int
    test: Mapping[str, float]
    known: int = 0


def update(
    folder: str | Path,
    interactions: str | Path,
    items: Any = None,
    output: str | Path | None = None,
    *,
    images: str | Path | None = None,
    vectors: Mapping[str, Any] | None = None,
    encoders: Mapping[str, str] | None = None,
    epochs: int = EPOCHS,
    device: str = "cpu",
    show_progress: bool = True,
) -> Updated:
    """Go on with a model; the old folder stays as it is.

    The data set is made anew of the folder's interactions and the new ones; weights begin as they were, ID rows by the
    items' ids. An epoch goes over the samples that are new and some old ones (:data:`REPLAY`), drawn once.

    Args:
        folder: the model folder.
        interactions: a table, see :func:`~.update_data.read_interactions`; users may be new.
        items: a table of new items, with ``images``, ``vectors`` and ``encoders`` as for ``Recommender.add_items``.
        output: the new model folder, which must not be there yet; by default beside the old one, ``…-updated``.
        epochs: at most.
        device: cpu, cuda, or cuda:N.
        show_progress: bars.

    Raises:
        UserError: an argument, a table or the folder cannot be used.
    """
    chosen = checked_device(device)
    source = Path(folder)
    beside = source if source.name not in ("", "..") else source.resolve()
    target = Path(output) if output is not None else beside.with_name(f"{source.resolve().name}-updated")
    work = target.absolute().with_name(f".{target.name}.work")
    if target.exists() and not (work / _DONE).exists():
        raise UserError(f"--output {target}: it is there already; name another, or remove it")
    job = _job(source, [interactions, items, images], epochs)
    with alone(work, "update", f"--output {target}"), changing(target):
        if target.exists():  # a kill between the new folder and the removal of the working one
            return _already(work, job, target)
        contents = _with_items(source, items, images, vectors, encoders, show_progress)
        known = frozenset(contents.items["item_id"].to_pylist())
        given, old = read_interactions(Path(interactions), known), known_interactions(contents)
        new = without_known(given, old)
        if not len(new):
            raise UserError(f"{interactions}: the model has all of its {len(given):,} interactions; nothing is new")
        job["items"] = _of_new_items(contents, Folder(source).items.num_rows)
        if not _is_same(work, job):
            _clear(work)
            write_data_set(contents, [old, new], work / "dataset" / contents.dataset)
            (work / _JOB).write_text(json.dumps(job), encoding="utf-8")
        begin = _Begin(contents)
        result = _train(contents, work, epochs, chosen, show_progress, begin)
        made = Folder(result["model_folder"]).contents()
        found: dict[str, Any] = {
            "interactions": len(new),
            "known": len(given) - len(new),
            "users": len(set(new.users) - set(old.users)),
            "items": len(known) - Folder(source).items.num_rows,
            "samples": begin.samples,
            "best_epoch": result["best_epoch"],
            "test": {name: float(value) for name, value in (result["test_result"] or {}).items()},
        }
        (work / _DONE).write_text(json.dumps({"job": job, "found": found}), encoding="utf-8")
        run = {key: value for key, value in made.run.items() if not str(value).startswith(str(work))}
        run["learning_rate"] = contents.run["learning_rate"]  # tomorrow's update begins with it
        named: dict[str, Any] = {"interactions": interactions, "items": items, "images": images, "output": output}
        run |= {"command": _command(folder, named, vectors, encoders, epochs), "before": contents.run.get("command")}
        if not result["best_epoch"]:
            made = replace(made, interactions=with_trained(made, begin.trained))
        write_folder(target, replace(made, run=run, pictures=_pictures(contents, made)))
        _remove(work)
    return Updated(folder=target, **found)


def _already(work: Path, job: dict[str, Any], target: Path) -> Updated:
    """What an update has found that was killed when its new folder was there.

    Raises:
        UserError: it was another update.
    """
    try:
        done = read_line((work / _DONE).read_bytes())
        if {key: value for key, value in done["job"].items() if key != "items"} == job:
            _remove(work)
            return Updated(folder=target, **done["found"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(f"--output {target}: it is there already; name another, or remove it")


def settings_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a training that one which goes on shares."""
    rows = [row for part in _GONE_ON_WITH for row in PARTS[part] if not row.counts & (Counts.COMPUTED | Counts.LAUNCH)]
    names = ({row.name for row in rows} | set(_ALSO)) - set(_AS_COMPUTED)
    return {name: run[name] for name in sorted(names & set(run)) if run[name] is not None}


def _with_items(
    source: Path,
    items: Any,
    images: str | Path | None,
    vectors: Mapping[str, Any] | None,
    encoders: Mapping[str, str] | None,
    show_progress: bool,
) -> Contents:
    """The model with the new items, as ``add_items`` makes them."""
    if items is None:
        return Folder.whole(source, Folder.contents)
    from recbole_mmm4rec.recommend.new_items import add_to

    how: dict[str, Any] = {"images": images, "vectors": vectors, "encoders": encoders, "show_progress": show_progress}
    return add_to(Folder.whole(source, Folder.contents), Recommender.load(source), items, **how)[0]


def _job(source: Path, files: list[Any], epochs: int) -> dict[str, Any]:
    """What an update is of: one that was killed goes on only with the same."""
    content = Folder(source)
    found = {layout.MANIFEST: hash_file(content.path / layout.MANIFEST)}
    for file in files:
        if isinstance(file, (str, Path)) and Path(file).is_file():
            found[str(file)] = hash_file(file)
    return {"files": found, "epochs": epochs}


def _command(
    folder: str | Path,
    named: Mapping[str, Any],
    vectors: Mapping[str, Any] | None,
    encoders: Mapping[str, str] | None,
    epochs: int,
) -> str:
    """The command that makes the same; what came from Python stands there as FILE."""
    given = [(option, value, "") for option, value in named.items() if value is not None]
    given += [("vectors", value, f"{name}=") for name, value in (vectors or {}).items()]
    given += [("encoder", value, f"{name}=") for name, value in (encoders or {}).items()]
    words = ["mmm4rec", "update", str(folder)]
    for option, value, name in given:
        words += [f"--{option}", f"{name}{value if isinstance(value, (str, Path)) else 'FILE'}"]
    return shlex.join([*words, *(["--epochs", str(epochs)] if epochs != EPOCHS else [])])


def _of_new_items(contents: Contents, known: int) -> str:
    """The hash of what there is of the new items: their rows, and the numbers that the network reads."""
    found = hashlib.sha256(json.dumps(contents.items.slice(known).to_pylist(), default=str).encode())
    for _, table in sorted(contents.network.items.features.items()):
        found.update(table.take(slice(known + 1, table.shape[0])).float().numpy().tobytes())
    return found.hexdigest()


def _is_same(work: Path, job: dict[str, Any]) -> bool:
    try:
        return read_line((work / _JOB).read_bytes()) == job
    except (OSError, ValueError):
        return False


def _remove(work: Path) -> None:
    """Remove the working folder, what has been found after all else."""
    _clear(work, last=_DONE)
    shutil.rmtree(work)


def _clear(work: Path, last: str = "") -> None:
    """Empty the working folder; one file goes after all others."""
    for part in sorted(work.iterdir(), key=lambda part: part.name == last):
        if part.is_dir():
            shutil.rmtree(part)
        elif part.name != ".lock":
            part.unlink()


class _Begin:
    """What a training begins with: the model's weights by item id, and the samples that are new among old ones.

    Args:
        contents: the model, with all items.

    Attributes:
        trained: what the old weights were trained to foretell, see :func:`~.update_data.trained_before`.
        samples: of an epoch.
    """

    def __init__(self, contents: Contents) -> None:
        self.state = contents.network.state_dict()
        self.number = {item: number for number, item in enumerate(contents.items["item_id"].to_pylist(), 1)}
        self.trained = trained_before(contents)
        self.samples = 0

    def __call__(self, model: Any, train: Any) -> Any:
        """Set the weights, and choose the samples."""
        dataset = train._dataset
        tokens = dataset.field2id_token[dataset.iid_field][1:]
        rows = torch.tensor([0, *(self.number[str(token)] for token in tokens)])
        with torch.no_grad():
            for name, value in model.network.named_parameters():
                value.copy_(_by_item(name, self.state[name], rows))
        model.has_trained = True  # of this shop, so that neighbours count in the first validation, too
        chosen = self._samples(dataset, int(train.config["seed"]))
        self.samples = len(chosen)
        if not self.samples:  # all that is new is held out: the weights stay
            train.config["epochs"] = 0
            return train
        part = dataset.copy(dataset.inter_feat.subset(chosen))
        return type(train)(train.config, part, train._sampler, shuffle=train.shuffle)

    def _samples(self, dataset: Any, seed: int) -> Tensor:
        """(n,) int64, the new samples and about :data:`REPLAY` times as many old ones, in their order."""
        assert isinstance(dataset.inter_feat, PrefixInteraction)
        columns = dataset.inter_feat.interaction
        target = columns.target.numpy().astype(np.int64)
        fields = (dataset.uid_field, dataset.iid_field, dataset.time_field)
        users, items, times = (columns.rows[field].numpy()[target] for field in fields)
        names, ids = (dataset.field2id_token[field] for field in fields[:2])
        rows = zip(map(str, names[users]), map(str, ids[items]), times.astype(np.int64).tolist(), strict=True)
        new = ~np.array(are_trained(rows, self.trained), dtype=bool)
        old = np.flatnonzero(~new)
        count = min(len(old), round(REPLAY * int(new.sum())))
        replayed = np.random.default_rng(seed).permutation(old)[:count]
        return torch.from_numpy(np.sort(np.concatenate([np.flatnonzero(new), replayed])))


def _by_item(name: str, value: Tensor, rows: Tensor) -> Tensor:
    """A parameter in the new order of items, where it has a row an item."""
    per_item = name.startswith("items.bias.") or (name == "items.fusion" and value.dim() == 2)
    return value[rows] if per_item else value


def _train(
    contents: Contents, work: Path, epochs: int, device: torch.device, show_progress: bool, begin: _Begin
) -> dict[str, Any]:
    from recbole_mmm4rec.run.build import same_devices
    from recbole_mmm4rec.run.quick_start import run_recbole

    settings = settings_of(contents.run)
    settings |= {
        "data_path": str(work / "dataset"),
        "checkpoint_dir": str(work / "saved"),
        "candidates": "all",
        "epochs": epochs,
        "stopping_step": PATIENCE,
        "learning_rate": RATE * settings["learning_rate"],
        "lr_schedule": "constant",
        "warmup_steps": 0,
        "eval_step": 1,
        "evaluate_first": True,
        "resume": True,
        "show_progress": show_progress,
        "use_gpu": device.type == "cuda",
        "gpu_id": device.index or 0,
        "state": "WARNING",
    }
    # RecBole names GPUs in the environment, which nobody reads once this one is chosen
    gpu = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
    with _standing_in(work), same_devices(), gpu:
        return run_recbole("MMM4Rec", contents.dataset, config_dict=settings, start=begin)


@contextmanager
def _standing_in(folder: Path) -> Iterator[None]:
    """RecBole's logs go where it stands, and it would read the command line once more."""
    before, argv = os.getcwd(), sys.argv
    os.chdir(folder)
    sys.argv = sys.argv[:1]
    try:
        yield
    finally:
        os.chdir(before)
        sys.argv = argv


def _pictures(old: Contents, new: Contents) -> pa.Array | None:
    """The small pictures in the new order of items."""
    if old.pictures is None:
        return None
    number = {item: row for row, item in enumerate(old.items["item_id"].to_pylist())}
    return old.pictures.take(pa.array([number[item] for item in new.items["item_id"].to_pylist()]))
