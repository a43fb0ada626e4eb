"""PNG plots for slides and papers, where matplotlib is installed (`pip install undo-hpc[plots]`)."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

from undo_hpc.observe.report.charts import student_name
from undo_hpc.observe.report.collect import KINDS, UNTRAINED, ReportData
from undo_hpc.storage.atomic import write_bytes

COLOURS = ("#2f6fc4", "#d9822b", "#1f9488", "#8a5fc0", "#8b8981", "#b8456f")


def available() -> bool:
    """Whether plots can be drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def write_plots(data: ReportData, folder: Path) -> list[Path]:
    """accuracy.png, loss.png and errors.png; those for which there is something to draw."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    written = []
    for name, draw in (("accuracy", _accuracy), ("loss", _loss), ("errors", _errors)):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e3db", linewidth=0.8)
        axes.set_axisbelow(True)
        if not draw(data, axes):
            continue
        buffer = io.BytesIO()
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
        figure_bytes = buffer.getvalue()
        path = folder / f"{name}.png"
        write_bytes(path, figure_bytes)
        written.append(path)
    return written


def _accuracy(data: ReportData, axes) -> bool:  # type: ignore[no-untyped-def]
    shown = [s for s in data.series if s.name != "train"]
    for colour, series in zip(COLOURS * 4, shown, strict=False):
        xs = [p.iteration for p in series.points]
        ys = [100 * p.accuracy for p in series.points]
        errors = [
            [100 * (p.accuracy - p.low) for p in series.points],
            [100 * (p.high - p.accuracy) for p in series.points],
        ]
        chooses = " (chooses)" if series.name == "validation" else ""
        axes.errorbar(xs, ys, yerr=errors, color=colour, marker="o", markersize=4, capsize=2, linewidth=1.8, elinewidth=0.9,
                      label=f"{series.title}, n = {series.points[-1].n}{chooses}")  # fmt: skip
    if not shown:
        return False
    students = sorted({p.iteration for s in shown for p in s.points})
    axes.set_xticks(students, [student_name(k) if k == UNTRAINED else f"iteration {k}" for k in students])
    if data.best is not None:
        axes.axvspan(data.best - 0.2, data.best + 0.2, color="#e4edf8", zorder=0)
    axes.set_ylabel("accuracy in %, 95 % interval")
    axes.legend(frameon=False, fontsize=8)
    return True


def _loss(data: ReportData, axes) -> bool:  # type: ignore[no-untyped-def]
    curves = {k: v for k, v in data.losses.items() if v}
    for colour, (number, points) in zip(COLOURS * 10, curves.items(), strict=False):
        axes.plot(
            [p[0] for p in points],
            [p[1] for p in points],
            color=colour,
            linewidth=1.5,
            label=f"iteration {number}",
        )
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    if curves:
        axes.legend(frameon=False, fontsize=8)
    return bool(curves)


def _errors(data: ReportData, axes) -> bool:  # type: ignore[no-untyped-def]
    numbers = [int(item["iteration"]) for item in data.metrics]
    bottom = [0] * len(numbers)
    for colour, kind in zip(COLOURS, KINDS, strict=False):
        counts = [sum(split.get(kind, 0) for split in item["errors"].values()) for item in data.metrics]
        if any(counts):
            axes.bar(numbers, counts, bottom=bottom, color=colour, width=0.6, label=kind.replace("_", " "))
            bottom = [a + b for a, b in zip(bottom, counts, strict=True)]
    axes.set_xticks(numbers, [f"iteration {k}" for k in numbers])
    axes.set_ylabel("wrong answers")
    if any(bottom):
        axes.legend(frameon=False, fontsize=8)
    return any(bottom)
