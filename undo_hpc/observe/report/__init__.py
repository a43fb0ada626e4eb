"""The report of a run: one HTML page that needs nothing else, and a Markdown summary."""

from undo_hpc.observe.report.write import write_report

__all__ = ["write_report"]
