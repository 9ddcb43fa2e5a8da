"""Work on rows in blocks, each done from start to end by one thread.

A block is small enough for the cache. Threads of Python serve because compiled code and matrix products hold no lock;
they need no layer that a fork or a second caller could upset. torch works on a block with one thread: more of them
would wait in a loop, on the processors that the other blocks need.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

BLOCK = 2**19  # correlations in a block
LEAST = 64  # rows in a block


def in_blocks(solve: Callable[[slice], None], rows: int, atoms: int) -> None:
    """Call ``solve`` for slices that cover the rows, in as many threads as torch may use.

    Examples
    --------
    >>> seen = []
    >>> in_blocks(seen.append, rows=100, atoms=2**14)
    >>> sorted(part.stop - part.start for part in seen)
    [36, 64]
    """
    own = torch.get_num_threads()
    size = max(LEAST, min(BLOCK // atoms, -(-rows // own)))
    parts = [slice(first, min(first + size, rows)) for first in range(0, rows, size)]
    threads = min(own, len(parts))
    if threads == 1:
        for part in parts:
            solve(part)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(solve, parts))
    finally:
        torch.set_num_threads(own)  # the caller's was not changed, but that of threads that are yet to come
