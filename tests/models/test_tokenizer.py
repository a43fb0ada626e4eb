"""Chat templates that can be used, and those that cannot."""

from __future__ import annotations

from typing import Any

import pytest

from undo_hpc.errors import DataError
from undo_hpc.models.tokenizer import check_tokenizer


@pytest.fixture
def tokenizer() -> Any:
    from tests.engines.conftest import build_tokenizer

    return build_tokenizer()


class TestChatTemplate:
    def test_a_usable_template_passes(self, tokenizer) -> None:
        check_tokenizer(tokenizer, system_prompt="Be brief.", template_kwargs={"enable_thinking": False})

    @pytest.mark.parametrize(
        ("template", "message"),
        [
            (None, "has no chat template"),
            (
                "{{ raise_exception('System role not supported') if messages[0]['role'] == 'system' else messages[0]['content'] }}",
                "System role not supported",
            ),
            ("{% for m in messages %}", "cannot be rendered"),
            ("hello", "drops the user's text"),
        ],
    )
    def test_an_unusable_one_is_refused_by_name(
        self, tokenizer, template: str | None, message: str, monkeypatch
    ) -> None:
        monkeypatch.setattr(tokenizer, "chat_template", template)
        with pytest.raises(DataError, match=message):
            check_tokenizer(tokenizer, name="some/model", system_prompt="Be brief.")
