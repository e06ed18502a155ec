# SPDX-License-Identifier: GPL-3.0-or-later
"""Shares as exact counts. Dice give 69 % one day and 71 % the next; a quota gives 70 % in every run."""

from __future__ import annotations

from collections.abc import Sequence


def quotas(shares: Sequence[int], total: int) -> list[int]:
    """`total` divided like `shares`, by largest remainder; a tie goes to the share that comes first.

    The result adds up to `total`, and each part is within one of its exact share.
    """
    whole = sum(shares)
    counts = [total * share // whole for share in shares]
    remainders = [total * share % whole for share in shares]
    left = total - sum(counts)
    for index in sorted(range(len(shares)), key=lambda i: -remainders[i])[:left]:  # sorted keeps the order of ties
        counts[index] += 1
    return counts


def cuts(counts: Sequence[int]) -> list[int]:
    """Where each class but the first begins, for ranks from 0: [5, 1, 3] begins at 5 and at 6."""
    edges = []
    position = 0
    for count in counts[:-1]:
        position += count
        edges.append(position)
    return edges
