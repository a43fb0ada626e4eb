"""Figures of a finished iteration are what was written, or damage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.observe.synthetic import RunBuilder, set_metrics
from undo_hpc.errors import StorageError
from undo_hpc.observe.report import write_report
from undo_hpc.observe.status import collect_status
from undo_hpc.pipeline.results import read_metrics


@pytest.mark.parametrize("key", ["correct", "errors", "low", "n"])
@pytest.mark.parametrize("value", ["x", [], {}])
def test_a_figure_of_another_type_is_damage_also_where_all_checksums_fit(
    tmp_path: Path, key: str, value: object
) -> None:
    """A run that was handed over: views ended in an error of whoever added the figure up."""
    builder = RunBuilder(tmp_path / "run", problems=20)
    builder.play(1)
    run = builder.run
    metrics = json.loads(run.layout.iteration(0).metrics.read_text())
    metrics["sets"]["validation"][key] = value
    set_metrics(run, 0, metrics)
    with pytest.raises(StorageError, match="a figure of the set validation has another type"):
        read_metrics(run, 0)
    assert write_report(run).is_file() and collect_status(run)
