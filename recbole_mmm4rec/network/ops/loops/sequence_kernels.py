"""Compiled loops over one sequence at a time: convolution, SiLU, scan and gate, and their gradients by hand.

What :mod:`..blocks.blockscan` does pass by pass over dense blocks, in one go while a sequence is in the
processor's first cache. Numbers are float32 inside; half precision comes and goes as the 16 bits of bfloat16.

Axes: l tokens of a sequence, w of its last positions wanted, G groups, H heads, K taps. Columns of ``plan``, a row for
each sequence: its first token, its first wanted row, its first (wanted, earlier) pair, l, w, and how many of its first
tokens are idle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

from recbole_mmm4rec.network.ops.loops import row_loops
from recbole_mmm4rec.network.ops.loops.row_loops import ONE, add, add_product, bare, compiled, dot, load, sigmoid, store


@compiled
def _read(seq: Any, xb: Any, rows: Any, wide_bias: Any, half: bool, given: Any, bits: Any) -> None:
    """The inputs of a sequence's convolution, ``given`` (l, channels): its tokens plus what they lack."""
    for t in range(seq[5], seq[3]):
        at = seq[0] + t
        load(xb[rows[at] if len(rows) else at], half, given[t], bits[t])
        if len(wide_bias):
            add(ONE, wide_bias, given[t])


@compiled
def _convolve(seq: Any, given: Any, taps: Any, bias: Any, out: Any) -> None:
    """Causal depthwise convolution of a sequence, which begins with its first token that is not idle."""
    last = len(taps) - 1
    for t in range(seq[5], seq[3]):
        row, oldest = out[t], max(seq[5], t - last)
        if t - oldest == 3:  # Mamba's width of 4, in one pass
            a, b, c, d = taps[last - 3], taps[last - 2], taps[last - 1], taps[last]
            first, second, third, fourth = given[t - 3], given[t - 2], given[t - 1], given[t]
            for j in range(len(bias)):
                row[j] = bias[j] + a[j] * first[j] + b[j] * second[j] + c[j] * third[j] + d[j] * fourth[j]
            continue
        for j in range(len(bias)):
            row[j] = bias[j]
        for s in range(oldest, t + 1):
            add_product(taps[last - t + s], given[s], row)


@compiled
def _scan_row(
    i: int, seq: Any, active: Any, query: Any, weight: Any, skip: Any, sizes: Any, scores: Any, y: Any
) -> None:
    """y (E,) at the wanted position i, and the scores C·B (l, G) that it took: ``sizes`` are H, P, G, N."""
    H, P, G, N = sizes
    t = seq[3] - seq[4] + i
    y[:] = np.float32(0.0)
    for h in range(H):
        g = h * G // H
        for s in range(seq[5], t + 1):
            if h * G % H == 0:
                scores[s, g] = dot(query[g * N : (g + 1) * N], active[s, H * P + g * N : H * P + (g + 1) * N])
            mixing = scores[s, g] * weight[h, seq[2] + i * seq[3] + s]
            if s == t:
                mixing += skip[seq[1] + i, h]
            add(mixing, active[s, h * P : (h + 1) * P], y[h * P : (h + 1) * P])


def room(longest: int, channels: int) -> tuple[Any, Any]:
    """Room for :func:`scan` and :func:`scan_backward` to work in: float32, (5, longest, channels) and (7, channels)."""
    return np.empty((5, longest, channels), np.float32), np.empty((7, channels), np.float32)


@compiled
def scan(
    plan: Any,
    xb: Any,
    rows: Any,
    z: Any,
    c: Any,
    weight: Any,
    skip: Any,
    taps: Any,
    bias: Any,
    wide_bias: Any,
    sizes: Any,
    half: bool,
    gated: Any,
    wide: Any,
    narrow: Any,
) -> None:
    """SSD(SiLU(conv(·)))·SiLU(z) of some sequences, skip included.

    Args:
        plan: (n, 6) int64, see the module.
        xb: (·, channels) x | B | C, or x | B where ``c`` is given.
        rows: (T,) int64 row of ``xb`` of each token; empty where they are in order.
        z: (S, E); c: (S, GN) or (0, 0).
        weight: (H, Np) and skip: (S, H), float32.
        taps: (K, channels), the newest last; bias: (channels,); wide_bias: (channels,) or empty. float32.
        sizes: H, P, G, N.
        half: whether xb, z, c and gated are bits of bfloat16, uint16.
        gated: (S, E), filled; zeros at idle tokens.
        wide, narrow: room to work in, see :func:`room`.
    """
    plan, xb, rows, z, c, weight = bare(plan), bare(xb), bare(rows), bare(z), bare(c), bare(weight)
    skip, taps, bias, wide_bias, gated = bare(skip), bare(taps), bare(bias), bare(wide_bias), bare(gated)
    wide, narrow = bare(wide), bare(narrow)
    H, P, G, N = sizes
    channels = len(bias)
    given, made, scores = wide[0], wide[1], wide[4]
    gate, act, y, query = narrow[0, : H * P], narrow[1, : H * P], narrow[2, : H * P], narrow[3, : G * N]
    given_bits, gate_bits, act_bits = given.view(np.int32), gate.view(np.int32), act.view(np.int32)
    y_bits, query_bits = y.view(np.int32), query.view(np.int32)
    for seq in plan:
        _read(seq, xb, rows, wide_bias, half, given, given_bits)
        _convolve(seq, given, taps, bias, made)
        for t in range(seq[5], seq[3]):  # given has served: it takes the sigmoids
            sigmoid(made[t], given[t], given_bits[t])
            for j in range(channels):
                made[t, j] *= given[t, j]
        for i in range(seq[4]):
            t, at = seq[3] - seq[4] + i, seq[1] + i
            if t < seq[5]:
                y[:] = np.float32(0.0)
            else:
                if len(c):
                    load(c[at], half, query, query_bits)
                else:
                    query[:] = made[t, H * P + G * N :]
                _scan_row(i, seq, made, query, weight, skip, sizes, scores, y)
                load(z[at], half, gate, gate_bits)
                sigmoid(gate, act, act_bits)
                for j in range(H * P):
                    y[j] *= gate[j] * act[j]
            store(y, y_bits, half, gated[at])


@compiled
def _through_row(
    i: int,
    seq: Any,
    active: Any,
    query: Any,
    weight: Any,
    skip: Any,
    sizes: Any,
    scores: Any,
    dy: Any,
    dactive: Any,
    dquery: Any,
    dweight: Any,
    dskip: Any,
) -> None:
    """Gradients of :func:`_scan_row`: added to ``dactive`` (l, channels), put into the others."""
    H, P, G, N = sizes
    length = seq[3]
    t, first = length - seq[4] + i, seq[2] + i * length
    dquery[:] = np.float32(0.0)
    for h in range(H):
        g = h * G // H
        at, states = slice(h * P, (h + 1) * P), slice(g * N, (g + 1) * N)
        for s in range(length):
            if s < seq[5] or s > t:
                dweight[h, first + s] = np.float32(0.0)
                continue
            share = weight[h, first + s]
            mixing = scores[s, g] * share
            dmixing = dot(dy[at], active[s, at])
            if s == t:
                mixing += skip[seq[1] + i, h]
                dskip[seq[1] + i, h] = dmixing
            add(mixing, dy[at], dactive[s, at])
            dweight[h, first + s] = dmixing * scores[s, g]
            add(dmixing * share, query[states], dactive[s, H * P + g * N : H * P + (g + 1) * N])
            add(dmixing * share, active[s, H * P + g * N : H * P + (g + 1) * N], dquery[states])


@compiled
def scan_backward(
    plan: Any,
    xb: Any,
    z: Any,
    c: Any,
    weight: Any,
    skip: Any,
    taps: Any,
    bias: Any,
    wide_bias: Any,
    sizes: Any,
    half: bool,
    arriving: Any,
    dxb: Any,
    dz: Any,
    dc: Any,
    dweight: Any,
    dskip: Any,
    dtaps: Any,
    dbias: Any,
    wide: Any,
    narrow: Any,
) -> None:
    """Gradients of :func:`scan`, whose inner values are computed again.

    Args:
        plan, xb, z, c, weight, skip, taps, bias, wide_bias, sizes, half: as there.
        arriving: (S, E) gradient of ``gated``.
        dxb, dz, dc, dweight, dskip: filled.
        dtaps: (K, channels) and dbias: (channels,) float32, added to.
        wide, narrow: room to work in, see :func:`room`.
    """
    plan, xb, z, c, weight, skip = bare(plan), bare(xb), bare(z), bare(c), bare(weight), bare(skip)
    taps, bias, wide_bias, arriving, dxb = bare(taps), bare(bias), bare(wide_bias), bare(arriving), bare(dxb)
    dz, dc, dweight, dskip, dtaps, dbias = (
        bare(dz),
        bare(dc),
        bare(dweight),
        bare(dskip),
        bare(dtaps),
        bare(dbias),
    )
    wide, narrow = bare(wide), bare(narrow)
    H, P, G, N = sizes
    E, last = H * P, len(taps) - 1
    channels = len(bias)
    given, active, slope, back, scores = wide[0], wide[1], wide[2], wide[3], wide[4]
    gate, open_, y, dy = narrow[0, :E], narrow[1, :E], narrow[2, :E], narrow[4, :E]
    query, dquery, sums = narrow[3, : G * N], narrow[5, : G * N], narrow[6, :channels]
    given_bits, slope_bits, sums_bits = given.view(np.int32), slope.view(np.int32), sums.view(np.int32)
    gate_bits, open_bits, y_bits, dy_bits = (
        gate.view(np.int32),
        open_.view(np.int32),
        y.view(np.int32),
        dy.view(np.int32),
    )
    query_bits, dquery_bits = query.view(np.int32), dquery.view(np.int32)
    in_order = plan[0, :0]
    for seq in plan:
        begin, length = seq[5], seq[3]
        _read(seq, xb, in_order, wide_bias, half, given, given_bits)
        _convolve(seq, given, taps, bias, active)
        for t in range(begin, length):
            sigmoid(active[t], slope[t], slope_bits[t])
            for j in range(channels):
                s, v = slope[t, j], active[t, j]
                active[t, j] = s * v
                slope[t, j] = s * (ONE + v * (ONE - s))
                back[t, j] = np.float32(0.0)
        for i in range(seq[4]):
            t, at = length - seq[4] + i, seq[1] + i
            if t < begin:
                dz[at] = 0
                dskip[at] = np.float32(0.0)
                for h in range(H):
                    dweight[h, seq[2] + i * length : seq[2] + (i + 1) * length] = np.float32(0.0)
                if len(c):
                    dc[at] = 0
                continue
            if len(c):
                load(c[at], half, query, query_bits)
            else:
                query[:] = active[t, E + G * N :]
            _scan_row(i, seq, active, query, weight, skip, sizes, scores, y)
            load(z[at], half, gate, gate_bits)
            sigmoid(gate, open_, open_bits)
            load(arriving[at], half, dy, dy_bits)
            for j in range(E):
                s, v, d = open_[j], gate[j], dy[j]
                y[j] *= d * s * (ONE + v * (ONE - s))
                dy[j] = d * s * v
            store(y, y_bits, half, dz[at])
            _through_row(i, seq, active, query, weight, skip, sizes, scores, dy, back, dquery, dweight, dskip)
            if len(c):
                store(dquery, dquery_bits, half, dc[at])
            else:
                back[t, E + G * N :] += dquery
        for t in range(begin, length):
            for j in range(channels):
                back[t, j] *= slope[t, j]
            add(ONE, back[t], dbias)
            for s in range(max(begin, t - last), t + 1):
                add_product(back[t], given[s], dtaps[last - t + s])
        for t in range(length):
            if t < begin:
                dxb[seq[0] + t] = 0
                continue
            sums[:] = np.float32(0.0)
            for later in range(t, min(length, t + last + 1)):
                add_product(back[later], taps[last - later + t], sums)
            store(sums, sums_bits, half, dxb[seq[0] + t])


def forget_kept() -> None:
    """Let the loops be compiled again, and its files be written anew."""
    for value in [*globals().values(), *vars(row_loops).values()]:
        if isinstance(value, Dispatcher):
            value._cache.flush()
