"""Compiled loops over one sequence at a time: convolution, SiLU, scan and gate, and their gradients by hand.

What :mod:`.blockscan` does pass by pass over dense blocks, in one go while a sequence is in the
processor's first cache. Numbers are float32 inside; half precision comes and goes as the 16 bits of bfloat16.

Axes: l tokens of a sequence, w of its last positions wanted, G groups, H heads, K taps. Columns of ``plan``, a row for
each sequence: its first token, its first wanted row, its first (wanted, earlier) pair, l, w, and how many of its first
tokens are idle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic


def _compiling(function: Any, *flags: str) -> Any:
    """A function compiled when it is first called, and kept on disk where there is a place for that."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp", *flags}}
    try:
        return njit(function, cache=True, **options)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        return njit(function, **options)


def _compiled(function: Any) -> Any:
    """Sums may be added up in any order."""
    return _compiling(function, "reassoc")


def _in_order(function: Any) -> Any:
    """The order is what keeps the digits."""
    return _compiling(function)


_ONE = np.float32(1.0)
_LOG2_E, _LN_2 = np.float32(1.44269504), np.float32(0.693147181)
# exp(r) = 1 + r + r²·(…), |r| ≤ ln 2 / 2; minimax coefficients as in the Cephes library's expf
_C6, _C5, _C4 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_C3, _C2, _C1 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_LIMIT = np.float32(87.0)


@intrinsic
def _bare(_: Any, array: Any) -> Any:
    """An array without its count of references, which all threads would write at each slice; its owner must live on."""

    def borrow(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(signature.args[0])(context, builder, value=arguments[0])
        made.meminfo, made.parent = made.meminfo.type(None), made.parent.type(None)
        return made._getvalue()

    return array(array), borrow


@_in_order
def sigmoid(x: Any, out: Any, bits: Any) -> None:
    """1/(1 + exp(−x)) of a row of float32; ``bits`` is ``out`` seen as int32."""
    width = len(x)
    for j in range(width):
        value = -x[j]
        value = -_LIMIT if value < -_LIMIT else value
        value = _LIMIT if value > _LIMIT else value
        bits[j] = np.int32(value * _LOG2_E + np.float32(128.5))  # 128 + the nearest power of two
    for j in range(width):
        bits[j] = (bits[j] - np.int32(1)) << np.int32(23)  # that power as a float32
    for j in range(width):
        value = -x[j]
        value = -_LIMIT if value < -_LIMIT else value
        value = _LIMIT if value > _LIMIT else value
        power = np.float32(np.int32(value * _LOG2_E + np.float32(128.5))) - np.float32(128.0)
        rest = value - power * _LN_2
        sum_ = ((((_C6 * rest + _C5) * rest + _C4) * rest + _C3) * rest + _C2) * rest + _C1
        out[j] = _ONE / (_ONE + (sum_ * rest * rest + rest + _ONE) * out[j])


@_compiled
def _load(row: Any, half: bool, out: Any, bits: Any) -> None:
    """A row of float32, or of bfloat16's bits, as float32."""
    if half:
        for j in range(len(out)):
            bits[j] = np.int32(row[j]) << np.int32(16)
    else:
        for j in range(len(out)):
            out[j] = row[j]


@_compiled
def _store(values: Any, bits: Any, half: bool, row: Any) -> None:
    """The inverse of :func:`_load`, to the nearest bfloat16, ties to even."""
    if half:
        for j in range(len(values)):
            word = np.uint32(bits[j])
            row[j] = np.uint16((word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))
    else:
        for j in range(len(values)):
            row[j] = values[j]


@_compiled
def _dot(a: Any, b: Any) -> Any:
    total = np.float32(0.0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@_compiled
def _add(factor: Any, x: Any, out: Any) -> None:
    """out += factor·x."""
    for j in range(len(out)):
        out[j] += factor * x[j]


@_compiled
def _add_product(a: Any, b: Any, out: Any) -> None:
    """out += a·b, number by number."""
    for j in range(len(out)):
        out[j] += a[j] * b[j]


@_compiled
def _read(seq: Any, xb: Any, rows: Any, missing: Any, half: bool, given: Any, bits: Any) -> None:
    """The inputs of a sequence's convolution, ``given`` (l, channels): its tokens plus what they lack."""
    for t in range(seq[5], seq[3]):
        at = seq[0] + t
        _load(xb[rows[at] if len(rows) else at], half, given[t], bits[t])
        if len(missing):
            _add(_ONE, missing, given[t])


@_compiled
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
            _add_product(taps[last - t + s], given[s], row)


@_compiled
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
                scores[s, g] = _dot(query[g * N : (g + 1) * N], active[s, H * P + g * N : H * P + (g + 1) * N])
            mixing = scores[s, g] * weight[h, seq[2] + i * seq[3] + s]
            if s == t:
                mixing += skip[seq[1] + i, h]
            _add(mixing, active[s, h * P : (h + 1) * P], y[h * P : (h + 1) * P])


def room(longest: int, channels: int) -> tuple[Any, Any]:
    """Room for :func:`scan` and :func:`scan_backward` to work in: float32, (5, longest, channels) and (7, channels)."""
    return np.empty((5, longest, channels), np.float32), np.empty((7, channels), np.float32)


@_compiled
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
    missing: Any,
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
        taps: (K, channels), the newest last; bias: (channels,); missing: (channels,) or empty. float32.
        sizes: H, P, G, N.
        half: whether xb, z, c and gated are bits of bfloat16, uint16.
        gated: (S, E), filled; zeros at idle tokens.
        wide, narrow: room to work in, see :func:`room`.
    """
    plan, xb, rows, z, c, weight = _bare(plan), _bare(xb), _bare(rows), _bare(z), _bare(c), _bare(weight)
    skip, taps, bias, missing, gated = _bare(skip), _bare(taps), _bare(bias), _bare(missing), _bare(gated)
    wide, narrow = _bare(wide), _bare(narrow)
    H, P, G, N = sizes
    channels = len(bias)
    given, made, scores = wide[0], wide[1], wide[4]
    gate, act, y, query = narrow[0, : H * P], narrow[1, : H * P], narrow[2, : H * P], narrow[3, : G * N]
    given_bits, gate_bits, act_bits = given.view(np.int32), gate.view(np.int32), act.view(np.int32)
    y_bits, query_bits = y.view(np.int32), query.view(np.int32)
    for seq in plan:
        _read(seq, xb, rows, missing, half, given, given_bits)
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
                    _load(c[at], half, query, query_bits)
                else:
                    query[:] = made[t, H * P + G * N :]
                _scan_row(i, seq, made, query, weight, skip, sizes, scores, y)
                _load(z[at], half, gate, gate_bits)
                sigmoid(gate, act, act_bits)
                for j in range(H * P):
                    y[j] *= gate[j] * act[j]
            _store(y, y_bits, half, gated[at])


@_compiled
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
            dmixing = _dot(dy[at], active[s, at])
            if s == t:
                mixing += skip[seq[1] + i, h]
                dskip[seq[1] + i, h] = dmixing
            _add(mixing, dy[at], dactive[s, at])
            dweight[h, first + s] = dmixing * scores[s, g]
            _add(dmixing * share, query[states], dactive[s, H * P + g * N : H * P + (g + 1) * N])
            _add(dmixing * share, active[s, H * P + g * N : H * P + (g + 1) * N], dquery[states])


@_compiled
def scan_backward(
    plan: Any,
    xb: Any,
    z: Any,
    c: Any,
    weight: Any,
    skip: Any,
    taps: Any,
    bias: Any,
    missing: Any,
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
        plan, xb, z, c, weight, skip, taps, bias, missing, sizes, half: as there.
        arriving: (S, E) gradient of ``gated``.
        dxb, dz, dc, dweight, dskip: filled.
        dtaps: (K, channels) and dbias: (channels,) float32, added to.
        wide, narrow: room to work in, see :func:`room`.
    """
    plan, xb, z, c, weight, skip = _bare(plan), _bare(xb), _bare(z), _bare(c), _bare(weight), _bare(skip)
    taps, bias, missing, arriving, dxb = _bare(taps), _bare(bias), _bare(missing), _bare(arriving), _bare(dxb)
    dz, dc, dweight, dskip, dtaps, dbias = (
        _bare(dz),
        _bare(dc),
        _bare(dweight),
        _bare(dskip),
        _bare(dtaps),
        _bare(dbias),
    )
    wide, narrow = _bare(wide), _bare(narrow)
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
        _read(seq, xb, in_order, missing, half, given, given_bits)
        _convolve(seq, given, taps, bias, active)
        for t in range(begin, length):
            sigmoid(active[t], slope[t], slope_bits[t])
            for j in range(channels):
                s, v = slope[t, j], active[t, j]
                active[t, j] = s * v
                slope[t, j] = s * (_ONE + v * (_ONE - s))
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
                _load(c[at], half, query, query_bits)
            else:
                query[:] = active[t, E + G * N :]
            _scan_row(i, seq, active, query, weight, skip, sizes, scores, y)
            _load(z[at], half, gate, gate_bits)
            sigmoid(gate, open_, open_bits)
            _load(arriving[at], half, dy, dy_bits)
            for j in range(E):
                s, v, d = open_[j], gate[j], dy[j]
                y[j] *= d * s * (_ONE + v * (_ONE - s))
                dy[j] = d * s * v
            _store(y, y_bits, half, dz[at])
            _through_row(i, seq, active, query, weight, skip, sizes, scores, dy, back, dquery, dweight, dskip)
            if len(c):
                _store(dquery, dquery_bits, half, dc[at])
            else:
                back[t, E + G * N :] += dquery
        for t in range(begin, length):
            for j in range(channels):
                back[t, j] *= slope[t, j]
            _add(_ONE, back[t], dbias)
            for s in range(max(begin, t - last), t + 1):
                _add_product(back[t], given[s], dtaps[last - t + s])
        for t in range(length):
            if t < begin:
                dxb[seq[0] + t] = 0
                continue
            sums[:] = np.float32(0.0)
            for later in range(t, min(length, t + last + 1)):
                _add_product(back[later], taps[last - later + t], sums)
            _store(sums, sums_bits, half, dxb[seq[0] + t])


def forget_kept() -> None:
    """Let everything here be compiled again, and its files be written anew."""
    for value in list(globals().values()):
        if isinstance(value, Dispatcher):
            value._cache.flush()
