"""Prefixes of one user computed together against the same rows computed one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network.models import BOTH, make_network, prefix_batch, small_config

from recbole_mmm4rec.network.ops.packing.ragged import Ragged
from recbole_mmm4rec.network.ops.packing.shared_prefixes import SharedPrefixes

CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "text, one layer": ({}, ("text",)),
    "image, one layer, mamba's skip": ({"d_skip": "mamba"}, ("image",)),
    "text, two layers": ({"num_layers": 2}, ("text",)),
    "text without time": ({"is_time": False, "num_layers": 2}, ("text",)),
    "both": ({}, BOTH),
    "both, two layers": ({"num_layers": 2}, BOTH),
    "both without time": ({"is_time": False, "num_layers": 2}, BOTH),
    "published padding": ({"time_padding": "zero_stamp"}, ("text",)),
}


@pytest.mark.parametrize("backend", ["torch", "recurrence"])
@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_shared_prefixes_equal_single_rows(case: str, complete: bool, backend: str) -> None:
    changes, modalities = CASES[case]
    config = small_config(**changes, ssd_backend=backend)
    network = make_network(config, modalities)
    *args, origin = prefix_batch([5, 1, 9, 2, 5], config.max_len, complete)
    found, wanted = network.user_vectors(*args, origin=origin), network.user_vectors(*args)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
    weight = torch.cos(torch.arange(found.numel(), dtype=found.dtype)).view_as(found)
    parameters = [value for value in network.parameters() if value.requires_grad]
    ours, truth = (
        torch.autograd.grad((users * weight).sum(), parameters, allow_unused=True) for users in (found, wanted)
    )
    for got, want in zip(ours, truth, strict=True):
        assert (got is None) == (want is None)
        if got is not None and want is not None:
            torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-10)


@settings(max_examples=30, derandomize=True)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), complete=st.booleans(), seed=st.integers(0, 99))
def test_every_token_of_a_prefix_is_the_token_of_its_sequence(lengths: list[int], complete: bool, seed: int) -> None:
    item_seq, ends, times, origin = prefix_batch(lengths, 9, complete, seed)
    ragged = Ragged(ends, 9)
    shared = SharedPrefixes(ragged, origin)
    assert len(shared.base) == sum(lengths)
    for values in (item_seq, times):
        base = shared.base.pack(values.index_select(0, shared.longest_row))
        assert torch.equal(base[shared.expand], ragged.pack(ragged.arrange(values)))
    assert (shared.prefix_of_token is not None) == (len(ends) == sum(lengths))
