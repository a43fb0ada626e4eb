"""Numbers as people read them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number with its noun: '1 task', '1,200 tasks'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_bytes(number: float) -> str:
    """Bytes in binary units: '517 MiB', '1.2 GiB'."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:,.0f} {unit}" if unit != "GiB" else f"{number:,.1f} GiB"
        number /= 1024
    return f"{number:,.1f} TiB"


def format_duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    whole = int(seconds + 0.5)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
