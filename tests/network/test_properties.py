"""What must hold for any weights: padding, batches, prefixes, missing modalities, order of the catalogue, precision."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from network.models import (
    BOTH,
    ITEMS,
    Batch,
    make_batch,
    make_features,
    make_network,
    make_present,
    prefix_batch,
    randomise,
    relative,
    small_config,
)
from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.network.ops.packing.ragged import Ragged
from recbole_mmm4rec.network.time_path import FourierFilter, TimeGate, TimeInput, TimeScale, time_gaps


@pytest.mark.parametrize("time_padding", ["masked", "zero_stamp"])
def test_padding_content_never_matters(time_padding: str) -> None:
    config = small_config(num_layers=2, time_padding=time_padding)
    network, batch = make_network(config), make_batch(config.max_len)
    other = make_batch(config.max_len, [config.max_len] * len(batch.lengths), seed=8)
    real = torch.arange(config.max_len) < batch.lengths[:, None]
    littered = Batch(
        torch.where(real, batch.item_seq, other.item_seq),
        batch.lengths,
        torch.where(real, batch.timestamps, other.timestamps),
    )
    assert not torch.equal(littered.item_seq, batch.item_seq)
    assert torch.equal(network(*littered.args()), network(*batch.args()))


@settings(max_examples=20, derandomize=True)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=7), seed=st.integers(0, 50))
def test_batch_equals_its_rows_one_by_one(lengths: list[int], seed: int) -> None:
    network, batch = make_network(small_config(num_layers=2)), make_batch(9, lengths, seed)
    with torch.no_grad():
        whole = network.user_vectors(*batch.args())
        single = torch.cat([network.user_vectors(*batch.rows([row]).args()) for row in range(len(lengths))])
    torch.testing.assert_close(whole, single, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lengths", [[9] * 4, [1] * 4, [1], [9]], ids=str)
def test_uniform_lengths(lengths: list[int]) -> None:
    config = small_config(num_layers=2)
    network, batch = make_network(config), make_batch(9, lengths)
    users = network.user_vectors(*batch.args())
    mixed = make_batch(9, [3, 9, 1, 6], seed=9)
    longer = Batch(*(torch.cat(pair) for pair in zip(batch.args(), mixed.args(), strict=True)))
    torch.testing.assert_close(network.user_vectors(*longer.args())[: len(lengths)], users, rtol=1e-9, atol=1e-9)
    users.square().sum().backward()
    assert users.isfinite().all()
    assert all(value.grad.isfinite().all() for value in network.parameters() if value.grad is not None)


@pytest.mark.parametrize("modalities", [("text", "image"), ("text",)], ids="-".join)
def test_user_vector_depends_on_its_own_items_alone(modalities: tuple[str, ...]) -> None:
    """Nothing flows between the histories of a packed batch, nor out of padding: seen in the gradients."""
    network, batch = make_network(small_config(num_layers=2), modalities), make_batch(9)
    tables = {name: table.detach().requires_grad_() for name, table in network.items.tables().items()}
    users = network.user_vectors(*batch.args(), tables)
    for row, length in enumerate(batch.lengths.tolist()):
        own = set(batch.item_seq[row, :length].tolist())
        for gradient in torch.autograd.grad(users[row].sum(), list(tables.values()), retain_graph=True):
            assert set(torch.nonzero(gradient.abs().sum(1)).flatten().tolist()) == own


def test_without_time_a_vector_depends_on_the_prefix_alone() -> None:
    """Neither on what follows in the row nor on how many columns the row has."""
    short, long = small_config(is_time=False, num_layers=2), small_config(is_time=False, num_layers=2, max_len=14)
    network, wide = make_network(short), make_network(long)
    batch = make_batch(9, [9, 9, 9])
    for length in range(1, 10):
        held = torch.full((3,), length)
        cut = torch.where(torch.arange(9) < length, batch.item_seq, 0)
        widened = torch.nn.functional.pad(batch.item_seq, (0, 5), value=3)
        wanted = network.user_vectors(cut, held)
        assert torch.equal(network.user_vectors(batch.item_seq, held), wanted)
        torch.testing.assert_close(wide.user_vectors(widened, held), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["torch", "numba", "recurrence"])
@pytest.mark.parametrize(("changes", "modalities"), [({}, ("text",)), ({}, BOTH), ({"is_time": False}, BOTH)], ids=str)
@settings(max_examples=5, derandomize=True)
@given(
    lengths=st.lists(st.integers(2, 9), min_size=1, max_size=4), end=st.integers(1, 8), stretch=st.sampled_from([1, 9])
)
def test_later_items_never_change_an_earlier_user_vector_of_the_same_prefix(
    lengths: list[int], end: int, stretch: int, backend: str, changes: dict[str, Any], modalities: tuple[str, ...]
) -> None:
    """Neither where a history's prefixes are computed together, nor in the positions behind a prefix."""
    longest, end = 9 * stretch, end * stretch  # 81: above the 64 positions of a block
    network = make_network(small_config(max_len=longest, ssd_backend=backend, **changes), modalities)
    item_seq, held, stamps, origin = prefix_batch([length * stretch for length in lengths], longest, stretch == 1)
    behind = torch.arange(longest) >= end
    items = torch.where(behind, (item_seq + 7) % ITEMS + 1, item_seq)
    times = torch.where(behind, stamps + 10**6 * torch.arange(longest) ** 2, stamps)
    with torch.no_grad():
        before = network.user_vectors(item_seq, held, stamps, origin=origin)
        after = network.user_vectors(items, held, times, origin=origin)
        alone = network.user_vectors(items, held, times)
    early = held <= end
    torch.testing.assert_close(after[early], before[early], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(alone[early], before[early], rtol=1e-9, atol=1e-9)
    late = after[~early]
    assert not len(late) or relative(late, before[~early]) > 1e-3


def test_order_of_items_matters_and_so_do_gaps() -> None:
    network, batch = make_network(small_config()), make_batch(9, [9] * 3)
    users = network.user_vectors(*batch.args())
    backwards = dataclasses.replace(batch, item_seq=batch.item_seq.flip(1))
    hurried = dataclasses.replace(batch, timestamps=batch.timestamps // 1000 + torch.arange(9) ** 4)
    later = dataclasses.replace(batch, timestamps=batch.timestamps + 86_400)
    assert relative(network.user_vectors(*backwards.args()), users) > 1e-2
    assert relative(network.user_vectors(*hurried.args()), users) > 1e-2
    assert torch.equal(network.user_vectors(*later.args()), users)  # gaps count, dates do not


def test_gaps_are_whole_seconds_however_late() -> None:
    """float32 cannot tell 1.7e9 from its neighbours; the subtraction runs in integers."""
    stamps = torch.tensor([[1_700_000_001, 1_700_000_002, 1_700_000_007, 5]])
    assert time_gaps(stamps, torch.tensor([3]), "masked").tolist() == [[0, 1, 5, 0]]
    zero_stamp = time_gaps(stamps, torch.tensor([3]), "zero_stamp")
    assert zero_stamp.tolist() == [[0, 1, 5, -1_700_000_000]]  # the nearest float32
    assert zero_stamp.dtype == torch.float32


@pytest.mark.parametrize("fusion", ["static", "dynamic_shared", "dynamic_instance"])
def test_missing_modalities_are_finite_and_compete(fusion: str) -> None:
    network = make_network(small_config(item_mm_fusion=fusion), present=make_present())
    scores = network(*make_batch(9).args())
    scores[:, 1:].square().sum().backward()
    assert scores[:, 1:].isfinite().all()
    assert all(value.grad.isfinite().all() for value in network.parameters() if value.grad is not None)
    mean = scores[:, 1:].detach().abs().mean(0)
    assert float(mean.min()) > 0.1 * float(mean.median())


def test_absent_features_have_no_influence() -> None:
    """An item's features count for nothing where its mask says that it has none."""
    present, config = make_present(), small_config()
    one = make_network(config, present=present)
    features = make_features()
    for modality, table in features.items():
        table[~present[modality]] = 77.0
    other = MMM4RecNetwork(config, features, present).double().eval()
    other.load_state_dict(one.state_dict())
    batch = make_batch(9)
    assert torch.equal(other(*batch.args()), one(*batch.args()))


def test_a_missing_image_leaves_the_text_logit_at_full_weight() -> None:
    present = make_present()
    network = make_network(small_config(), present=present)
    users = network.user_vectors(*make_batch(9).args())
    scores = network.scores(users)
    text = torch.nn.functional.normalize(network.items.tables()["text"], dim=1)
    item = int(torch.nonzero(present["text"] & ~present["image"])[0])
    torch.testing.assert_close(scores[:, item], 2 * (users @ text[item]) / 0.8)


def test_padding_is_no_candidate() -> None:
    scores = make_network(small_config())(*make_batch(9).args())
    assert (scores[:, 0] == -math.inf).all()
    assert scores[:, 1:].isfinite().all()
    assert scores.shape == (8, ITEMS + 1)


@pytest.mark.parametrize("fusion", ["static", "dynamic_instance"])
def test_renumbering_the_items_renumbers_the_scores(fusion: str) -> None:
    config, present = small_config(item_mm_fusion=fusion), make_present()
    network, batch = make_network(config, present=present), make_batch(9)
    order = torch.cat([torch.zeros(1, dtype=torch.long), torch.randperm(ITEMS, generator=torch.manual_seed(0)) + 1])
    features = {name: table[order] for name, table in make_features().items()}
    renumbered = MMM4RecNetwork(config, features, {name: mask[order] for name, mask in present.items()}).double().eval()
    weights = network.state_dict()
    for name in ("items.bias.text", "items.bias.image", "items.fusion"):
        if name in weights:
            weights[name] = weights[name][order]
    renumbered.load_state_dict(weights)
    new_number = torch.argsort(order)  # old item i is new item new_number[i]
    scores = renumbered(new_number[batch.item_seq], batch.lengths, batch.timestamps)
    torch.testing.assert_close(scores, network(*batch.args())[:, order], rtol=1e-12, atol=1e-12)


def test_tables_and_item_side_at_hand_change_nothing() -> None:
    network, batch = make_network(small_config(), present=make_present()), make_batch(9)
    with torch.no_grad():
        tables = network.items.tables()
        users = network.user_vectors(*batch.args(), tables)
        assert torch.equal(network.scores(users, network.fused_items(tables)), network(*batch.args()))


def single_precision_network(**changes: object) -> MMM4RecNetwork:
    config = small_config(**changes)
    torch.manual_seed(3)
    return randomise(MMM4RecNetwork(config, make_features())).eval()


def test_autocast_is_close_and_keeps_time_in_float32() -> None:
    network, batch = single_precision_network(num_layers=2), make_batch(9)
    dtypes: dict[str, set[torch.dtype]] = {}

    def note(module: torch.nn.Module, _: object, output: Tensor) -> None:
        dtypes.setdefault(type(module).__name__, set()).add(output.dtype)

    time_modules = (TimeInput, TimeScale, TimeGate, FourierFilter)
    wanted = network.user_vectors(*batch.args()).detach()
    for module in network.modules():
        if isinstance(module, (*time_modules, torch.nn.Linear)):
            module.register_forward_hook(note)
    with torch.autocast("cpu", torch.bfloat16):
        users = network.user_vectors(*batch.args())
        scores = network.scores(users)
    assert [dtypes[kind.__name__] for kind in time_modules] == [{torch.float32}] * len(time_modules)
    assert torch.bfloat16 in dtypes["Linear"]  # autocast did something
    assert users.isfinite().all()
    # bfloat16 keeps 8 bits, some ten roundings follow each other: a few per cent of the vectors' length
    assert float((users.detach() - wanted).norm() / wanted.norm()) < 0.06
    assert not torch.equal(users.float(), wanted)
    scores[:, 1:].float().square().sum().backward()
    assert all(value.grad.isfinite().all() for value in network.parameters() if value.grad is not None)


def test_single_precision_is_close_to_double() -> None:
    network, batch = single_precision_network(num_layers=2), make_batch(9)
    single = network(*batch.args())[:, 1:].detach()
    assert relative(single.double(), network.double()(*batch.args())[:, 1:]) < 1e-4


@settings(max_examples=30, derandomize=True)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=9), width=st.integers(1, 14))
def test_packed_layout(lengths: list[int], width: int) -> None:
    ragged = Ragged(torch.tensor(lengths), 12)
    order = ragged.order.tolist()
    assert order == sorted(range(len(lengths)), key=lambda row: lengths[row])
    assert ragged.restore(ragged.arrange(torch.arange(len(lengths)))).tolist() == list(range(len(lengths)))
    lengths = [lengths[row] for row in order]
    numbered = torch.arange(len(lengths) * 12).view(-1, 12)
    packed = [value for row, length in enumerate(lengths) for value in numbered[row, :length].tolist()]
    assert ragged.pack(numbered).tolist() == packed
    assert ragged.pack(numbered)[ragged.last].tolist() == [row * 12 + n - 1 for row, n in enumerate(lengths)]
    tokens, tail = ragged.tail(width)
    kept = [value for row, n in enumerate(lengths) for value in numbered[row, max(n - width, 0) : n].tolist()]
    assert ragged.pack(numbered)[tokens].tolist() == kept
    assert tail.lengths.tolist() == [min(n, width) for n in lengths]
    in_blocks = [[block.length] * block.count for block in ragged.blocks]
    assert [length for block in in_blocks for length in block] == lengths
    assert [block.first_row for block in ragged.blocks] == [lengths.index(n) for n in sorted(set(lengths))]
    pieces = ragged.layout(width).pieces
    kept_tokens = [token for piece in pieces for token in range(piece.kept.start, piece.kept.stop)]
    assert kept_tokens == list(range(len(kept)))
    (t, s), later = ragged.layout(width).pairs
    expected = [
        (end, start)
        for end in tokens.tolist()
        for start in torch.nonzero(ragged.rows == ragged.rows[end]).flatten().tolist()
    ]
    assert list(zip(t.tolist(), s.tolist(), strict=True)) == expected
    assert later.tolist() == [start > end for end, start in expected]


def test_initial_values_are_the_papers() -> None:
    torch.manual_seed(0)
    config = small_config(hidden_size=64, head_dim=1, n_groups=1, num_layers=2, item_mm_fusion="dynamic_shared")
    network = MMM4RecNetwork(config, make_features())
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Linear):
            assert not module.bias.any(), name
            if module.weight.numel() > 2000:
                assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.05), name
        elif isinstance(module, torch.nn.LayerNorm):
            assert module.eps == 1e-12, name
            assert (module.weight == 1).all(), name
            assert not module.bias.any(), name
    for name, parameter in network.named_parameters():
        value = parameter.detach()
        if name.endswith("A_log"):
            assert 1 <= float(value.exp().min()) < 3
            assert 14 < float(value.exp().max()) <= 16
        elif name.endswith("dt_bias"):
            step = torch.nn.functional.softplus(value.double()).log10()
            assert -3.01 < float(step.min()) < -2.7
            assert -1.3 < float(step.max()) < -0.99
            assert float(step.mean()) == pytest.approx(-2, abs=0.2)  # uniform in the logarithm
        elif name.endswith(("D_skip", "norm_weight")):
            assert (value == 1).all()
        elif name.startswith(("items.bias", "items.fusion")):
            assert not value.any()


@pytest.mark.parametrize("modalities", [("text", "image"), ("text",)])
@pytest.mark.parametrize("layers", [1, 2])
def test_projected_items_give_the_same_user_vectors(modalities: tuple[str, ...], layers: int) -> None:
    network, batch = make_network(small_config(num_layers=layers), modalities).eval(), make_batch(9)
    tables = network.items.tables()
    inputs = network.item_inputs(tables)
    wanted = network.user_vectors(*batch.args(), tables)
    torch.testing.assert_close(network.user_vectors(*batch.args(), inputs=inputs), wanted)
    with torch.no_grad():
        torch.testing.assert_close(network.user_vectors(*batch.args(), inputs=inputs), wanted)
    with pytest.raises(RuntimeError, match="evaluation mode"):
        network.train().item_inputs(tables)
