"""Views over what lies on disk: progress, summary, status, report. They decide nothing."""
