"""One reader for config, comparison and space files: whatever is wrong with a file is one line with its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compare.config import read_comparison
from recbole_mmm4rec.run import cli
from recbole_mmm4rec.settings.reading import key_lines, read_located_yaml, read_yaml
from recbole_mmm4rec.tune.space_files import read_space

READERS: dict[str, Callable[[Path], Any]] = {
    "config": lambda path: read_yaml(path),
    "comparison": read_comparison,
    "space": read_space,
}
BROKEN = {
    "seed: 2001-99-99\n": "line 1 is not valid YAML: '2001-99-99' is no timestamp",
    "epochs: 1\nseed: 0b_\n": "line 2 is not valid YAML: '0b_' is no int",
    "epochs: 1\nseed: [1, 0b_]\n": "line 2 is not valid YAML: '0b_' is no int",
    "seed: !!bool maybe\n": "line 1 is not valid YAML: 'maybe' is no bool",
    "seed: !!timestamp x\n": "line 1 is not valid YAML: 'x' is no timestamp",
    "seed: " + "[" * 5000 + "\n": "nested too deeply",
    "seed: " + "{a: " * 3000 + "1" + "}" * 3000 + "\n": "nested too deeply",
    "a: &a [*a]\n": "its aliases stand for more than",
    "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n"
    + "".join(
        f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]\n"
        for before, after in zip("abcdefgh", "bcdefghi", strict=True)
    ): "its aliases stand for more than 1,000,000 values",
    "a: 1\nb: [\n": "line 3 is not valid YAML",
    "a: 1\n? [1]\n: 2\n? {x: y}\n: 3\n": "not valid YAML",
    "epochs: 1\n2024: 1\n": "line 2: the key is read as 2024, and names are texts; put it in quotes",
    "on: 1\n": "line 1: the key is read as True",
    "epochs: 1\nseed: 2\nepochs: 3\n": "line 3: 'epochs' stands there twice; keep one",
    "seed: {a: 1, b: {c: 2,\n c: 3}}\n": "line 2: 'c' stands there twice; keep one",
    "- 1\n": "holds a list; it must hold 'key: value' lines",
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("content", "message"), BROKEN.items(), ids=range(len(BROKEN)))
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, reader: str, content: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(UserError, match=r"mine\.yaml") as caught:
        READERS[reader](file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_the_command_line_ends_with_status_2(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    assert cli.main(["--dataset=shop", f"--config_files={file}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config file '.*none\.yaml' does not exist"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"title: caf\xe9\n")
    with pytest.raises(UserError, match="is not valid YAML"):
        read_yaml(tmp_path / "latin.yaml")


def test_numbers_are_recboles(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("a: 1e-4\nb: 1.\nc: .5\nd: -1.5E+3\ne: .inf\nf: 007\ng: '1e-4'\n")
    assert list(read_yaml(file).values()) == [1e-4, 1.0, 0.5, -1500.0, float("inf"), 7, "1e-4"]


def test_an_empty_file_and_one_of_comments_hold_nothing(tmp_path: Path) -> None:
    for content in ("", "# nothing\n", "\ufeff# a mark\n"):
        (tmp_path / "mine.yaml").write_text(content)
        assert read_yaml(tmp_path / "mine.yaml") == {}


def test_lines_of_keys(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("# settings\nepochs: 1\n\ntopk:\n  - 10\nseed: 3\n")
    content, node = read_located_yaml(file)
    assert (list(content), key_lines(node)) == (["epochs", "topk", "seed"], {"epochs": 2, "topk": 4, "seed": 6})


@given(st.text())
def test_any_text_is_a_mapping_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        read_yaml(file)
    except UserError as error:
        told = str(error)
    else:
        told = ""
    assert "\n" not in told
