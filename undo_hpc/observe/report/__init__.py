"""The report of a run: one HTML page that needs nothing else, a Markdown summary, and plots where matplotlib is installed."""

from undo_hpc.observe.report.write import write_report

__all__ = ["write_report"]
