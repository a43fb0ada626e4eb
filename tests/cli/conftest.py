"""The finished run that the tests of views share."""

from tests.observe.conftest import finished

__all__ = ["finished"]
