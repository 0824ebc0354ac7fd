"""Words and numbers that readers stumble over."""

from __future__ import annotations

DEEP = b"[" * 20_000 + b"]" * 20_000
NUMBERS = (-1, 0, 1, 2, 7, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 10**30, -(2**63))
FLOATS = (0.5, -0.0, 1e-320, 1e308, 1e400, -1e400, float("nan"))
_SHORT = r"""
x 0 -1 1.5 NaN nan null None true inf -inf 1e999 0x10 é 😀 ﬃ ../x /etc/passwd ../../etc/passwd a/b . .. ~ C:\x
file:///etc/passwd http://127.0.0.1/ [ { %s%n {0} $HOME `id` $(id) ;ls 2020-01-01 99-99-99 1_000 １２ 1,5 0b1 1e5
text image user_id item_id timestamp ' " \
"""
TEXTS = (
    *_SHORT.split(),
    *("", " ", "\ud800", "\0", "\n", "\r", "\r\n", "\t", "\u2028", "\u202e", "\ufeff", "\x1b[31m"),
    *("9" * 400, "[" * 3_000, "(" * 300, "{" * 300, "x" * 70_000, "A" * 300),
)
_YAML = r"""
!!python/object/apply:os.system ['id']
!!python/name:os.system
!!python/tuple [1]
!!binary aGk=
&a [*a]
<<: *a
<<: [1]
? x
? [1]: 2
*a
&a
!!set {a}
!!omap [a: 1]
!x y
%YAML 9
2021-99-99
12:99:99
0o8
1e-4
.nan
- - - -
---
...
|
>-
{a: {b: c}}
a: b: c
"""
LINES = tuple(line.encode() for line in _YAML.split("\n") if line)
"""Of YAML."""
TOKENS = (
    *(text.encode("utf-8", "surrogatepass") for text in TEXTS),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\xed\xa0\x80", b"\x1f\x8b", b"PK\x03\x04", b"\x80\x04", b"\x93NUMPY"),
    *(b"\0" * 64, DEEP, b":token", b":float_seq", b"::", b",", b";", b"|", b"\t\t"),
)
"""Bytes that are put into files."""
