"""The synthetic finished run of the views serves the accounting, too."""

from tests.observe.conftest import copied, finished  # noqa: F401
