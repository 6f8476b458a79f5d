"""Which bytes of a file are meant: ordered, disjoint, non-empty half-open ranges, the same at both ends."""

Ranges = list[tuple[int, int]]


def add(ranges: Ranges, start: int, end: int) -> Ranges:
    """Return `ranges` with start ≤ x < end in it; what touches is joined."""
    if start >= end:
        return ranges
    joined: Ranges = []
    for low, high in ranges:
        if high < start or low > end:
            joined.append((low, high))
        else:
            start, end = min(start, low), max(end, high)
    joined.append((start, end))
    return sorted(joined)


def remove(ranges: Ranges, start: int, end: int) -> Ranges:
    """Return `ranges` without start ≤ x < end."""
    left: Ranges = []
    for low, high in ranges:
        if low < min(high, start):
            left.append((low, min(high, start)))
        if max(low, end) < high:
            left.append((max(low, end), high))
    return left


def missing(ranges: Ranges, size: int) -> Ranges:
    """Return what of 0 ≤ x < size is not in `ranges`."""
    left: Ranges = [(0, size)] if size else []
    for low, high in ranges:
        left = remove(left, low, high)
    return left


def total(ranges: Ranges) -> int:
    """Return how many bytes `ranges` hold."""
    return sum(high - low for low, high in ranges)


def overlap(ranges: Ranges, start: int, end: int) -> bool:
    """Say whether any byte of start ≤ x < end is in `ranges`."""
    return any(low < end and start < high for low, high in ranges)
