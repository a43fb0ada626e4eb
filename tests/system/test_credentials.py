"""Secrets in texts are recognised, refused in a configuration, and taken out of what others say."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from undo_hpc.config.load import load_config
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.system.credentials import credential_in, credentials_of, redacted
from undo_hpc.system.guard import report_error
from undo_hpc.system.logs import log_to_terminal

# Put together here, so that no search for keys finds one in this file.
MARKED = "Zq7" + "x" * 29
SECRETS = {
    "user and password": f"https://me:{MARKED}@host/v1",
    "user alone": f"http://{MARKED}@host:8000/v1",
    "query": f"https://host/v1?api-version=2&api-key={MARKED}",
    "signed": f"https://host/v1?sig={MARKED}",
    "token": f"https://host/v1?a=1&access_token={MARKED}",
    "hub": "hf_" + MARKED,
    "openai": "sk-proj-" + MARKED,
    "github": "ghp_" + MARKED,
    "header": f"Bearer {MARKED}",
    "slash in a password": f"http://me:a/{MARKED}@host/v1",
    "hash in a password": f"http://me:a#{MARKED}?@host/v1",
    "port before a password": f"http://me:8{MARKED}@host/v1",
    "encoded name": f"https://host/v1?api%2Dkey={MARKED}",
    "plain key": f"https://host/v1?key={MARKED}",
    "fragment": f"https://host/v1#access_token={MARKED}",
    "groq": "gsk_" + MARKED,
    "nvidia": "nvapi-" + MARKED,
    "jwt": f"eyJhbGciOiJI.eyJzdWIi.{MARKED}",
    "basic": f"Authorization: Basic {MARKED}=",
    "jwt in a query": f"https://host/v1?jwt={MARKED}",
    "credential in a query": f"https://host/v1?x=1&credential={MARKED}",
    "login": f"wandb login {MARKED}",
    "option": f"some-program --token {MARKED}",
    "curl": f"curl -u me:{MARKED} https://elsewhere/x",
    "AWS for a while": "ASIA" + MARKED.upper()[:16],
}
HARMLESS = (
    "http://host:8000/v1",
    "https://me.openai.azure.com/openai/deployments/x?api-version=2024-02-01",
    "meta-llama/Llama-3.1-8B-Instruct",
    "mail me@host or see https://host/@user/page",
    "task-force-of-sixteen-and-more",
    "hf_transfer",
    "max_tokens=100&token_budget=5",
    "OPENAI_API_KEY",
    "http://host:8000/v1/@latest",
    "http://[::1]:8000/v1/@latest",
    "https://host/v1?keyboard=1&codec=2",
    "basic arithmetic",
    "apptainer exec -u 1000:1000 image",
    "some-program --token $(cat ~/token) --password-file x --api-key $KEY",
    "wandb login --relogin",
)


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_a_secret_is_named_and_taken_out(text: str) -> None:
    assert credential_in(text)
    said = redacted(f"the server said: {text} is wrong")
    assert MARKED not in said and MARKED.upper()[:16] not in said


@pytest.mark.parametrize("text", HARMLESS)
def test_what_holds_no_secret_is_left_alone(text: str) -> None:
    assert credential_in(text) == ""
    assert redacted(text) == text


@pytest.mark.parametrize("piece", ["://a:b", "://a", "://a:b://", "eyJ-", "?a-", "--token ", "bearer "])
def test_a_long_text_of_others_is_searched_in_time(piece: str) -> None:
    """No form may be quadratic: one of those took minutes here. A server may say this much, over and over."""
    text = piece * (400_000 // len(piece))
    before = time.process_time()
    redacted(text)
    assert time.process_time() - before < 30


def test_a_known_secret_is_taken_out_whatever_its_form() -> None:
    assert redacted("you sent correct-horse", "correct-horse", "") == "you sent ***"
    assert redacted(r"you sent correct\u002dhorse", "correct-horse") == "you sent ***"


def test_a_hubs_words_reach_the_user_and_the_log_without_its_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What transformers says of a gated model quotes the Hub, whose key may have any form."""
    import huggingface_hub

    monkeypatch.setenv("HF_TOKEN", "a-key-of-a-company")
    assert huggingface_hub.get_token() == "a-key-of-a-company"
    words = "it cannot be loaded: 403. refused a-key-of-a-company"
    report_error(DataError(words, hint="log in"))
    log_to_terminal(logging.INFO)
    logging.getLogger("undo_hpc.models").warning(words)
    said = capsys.readouterr()
    assert said.err.count("refused ***") == 2 and "company" not in said.err


@pytest.mark.parametrize(
    "setting",
    [
        *(
            f"generate.engine.openai.base_url={text}"
            for name, text in SECRETS.items()
            if "//" in text and "host" in text
        ),
        f"hub.endpoint={SECRETS['user and password']}",
        f"generate.engine.openai.api_key_env={SECRETS['openai']}",
        f"hub.token_file={SECRETS['hub']}",
        f"generate.engine.openai.extra_body={{api_key: {MARKED}}}",
        f"generate.engine.vllm.extra={{env: [{{HF_TOKEN: {MARKED}}}]}}",
    ],
)
def test_a_configuration_with_a_secret_is_refused_without_showing_it(setting: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config("tiny", [setting])
    assert MARKED not in str(refused.value) + refused.value.hint
    assert setting.partition("=")[0].rpartition(".")[2] in str(refused.value)
    assert "chmod 600" in refused.value.hint


def test_tokens_of_a_tokenizer_are_no_secrets_and_joined_words_are() -> None:
    plain = {"eos_token": "</s>", "pad_token": "<pad>", "decoder_start_token": "<s>", "max_tokens": "5"}
    assert not list(credentials_of(plain))
    for name in ("authToken", "apiKey", "x-api-key", "clientSecret", "passphrase"):
        assert list(credentials_of({"a": {name: "abc"}})), name


def test_a_key_that_means_none_is_no_secret() -> None:
    config = load_config("tiny", ["generate.engine.openai.extra_body={api_key: EMPTY, max_tokens: 5}"])
    assert config.generate.engine.openai.extra_body["api_key"] == "EMPTY"


def test_a_profile_with_a_secret_is_refused(tmp_path: Path) -> None:
    from undo_hpc.cluster.profile import load_profile

    file = tmp_path / "profile.yaml"
    file.write_text(f"container:\n  image: https://me:{MARKED}@registry/image\n")
    with pytest.raises(ConfigError, match="line 2") as refused:
        load_profile(file)
    assert MARKED not in str(refused.value)
