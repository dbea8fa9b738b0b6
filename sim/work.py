# SPDX-License-Identifier: Apache-2.0
"""What the server of a service scenario does with the bytes of a request."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["WORKS", "Work"]

_SHA256_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Work:
    """`answer` makes a reply from a request; `reply_bytes` tells its length by the request's."""

    answer: Callable[[bytes], bytes]
    reply_bytes: Callable[[int], int]


#: By the names that scenarios use.
WORKS = {
    "reverse": Work(answer=lambda request: request[::-1], reply_bytes=lambda count: count),
    "sha256": Work(answer=lambda request: hashlib.sha256(request).digest(),
                   reply_bytes=lambda count: _SHA256_BYTES),
}
