"""The benchmark of scale takes every step: one that the project refuses has no figures, and nobody sees it until the next `make bench`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import bench_scale


def test_every_step_has_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_scale, "STRACE", None)
    monkeypatch.setitem(bench_scale.ENVIRONMENT, "HF_ENDPOINT", "")
    found = dict(bench_scale.one_size(tmp_path, 300))
    assert {name: figures["failed"] for name, figures in found.items() if "failed" in figures} == {}
    assert set(bench_scale.STEPS) < set(found)
