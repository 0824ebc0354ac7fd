"""Exponentials of decays: exact where they are normal numbers, 0 below, and nothing that slows a processor."""

from __future__ import annotations

import torch

from recbole_mmm4rec.network.ops.decays import LEAST, decay


def test_values_and_gradients_are_those_of_the_exponential() -> None:
    exponent = torch.tensor([0.0, -1e-6, -1.5, -30.0, LEAST], requires_grad=True)
    made = decay(exponent)
    torch.testing.assert_close(made, torch.exp(exponent.detach()), rtol=0, atol=0)
    made.backward(torch.arange(1.0, 6.0))
    torch.testing.assert_close(exponent.grad, torch.arange(1.0, 6.0) * made.detach(), rtol=0, atol=0)


def test_what_is_left_of_almost_nothing_is_nothing() -> None:
    exponent = torch.tensor([-60.1, -87.5, -95.0, -103.0, -1e4, float("-inf")], requires_grad=True)
    made = decay(exponent)
    assert made.tolist() == [0.0] * 6
    made.sum().backward()
    assert exponent.grad is not None
    assert exponent.grad.tolist() == [0.0] * 6


def test_the_given_numbers_stay_as_they_are() -> None:
    exponent = torch.tensor([[-1.0, -100.0], [0.0, float("-inf")]], dtype=torch.float64)
    before = exponent.clone()
    assert decay(exponent).dtype == torch.float64
    assert torch.equal(exponent, before)
