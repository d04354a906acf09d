"""The API key: sent to the service, and shown nowhere."""

from __future__ import annotations

import logging
import pickle
import traceback

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_client import RetryPolicy, RewardClient, RewardError, RewardRejectedError, Unscored
from reward_client.cli.main import main
from reward_client.urls import Address, ApiKey, addresses, key_from_environment
from reward_client.wire import Problem

SECRET = "s3cret/with:@#?%signs"  # noqa: S105 (a test value)
QUOTED = "s3cret%2Fwith%3A%40%23%3F%25signs"


@pytest.mark.parametrize(
    ("url", "api_key"),
    [("http://host:1", SECRET), (f"http://key:{QUOTED}@host:1/", None), (f"http://key:{QUOTED}@host:1", "other")],
)
def test_the_key_is_sent_as_a_bearer_token_and_removed_from_the_url(url: str, api_key: str | None) -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    with RewardClient(url, api_key=api_key, transport=httpx.MockTransport(handle)) as client:
        client.ready()
        assert client.urls == ("http://host:1",)

    assert seen[0].headers.get_list("authorization") == [f"Bearer {SECRET}"]
    assert str(seen[0].url) == "http://host:1/readyz"


def test_without_a_key_no_authorization_is_sent() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert "authorization" not in request.headers
        return httpx.Response(200, json={})

    with RewardClient("http://host", transport=httpx.MockTransport(handle)) as client:
        client.ready()


def test_each_replica_has_a_separate_key() -> None:
    first, second = addresses(["http://key:one@a", "http://b"], "two")

    assert (first.headers(), second.headers()) == (
        {"authorization": "Bearer one"},
        {"authorization": "Bearer two"},
    )


@given(secret=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_a_key_in_a_url_is_parsed_back_unchanged(secret: str) -> None:
    address = Address("http://host:1/r/x/get_reward?recipe=rer", ApiKey(secret))

    read = Address.parse(address.with_key(), with_query=True)

    assert read == address


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), 401, 404, 500, 503])
def test_no_message_log_or_repr_shows_the_key(failure: int | Exception, caplog: pytest.LogCaptureFixture) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(failure, Exception):
            raise failure
        return httpx.Response(failure)

    caplog.set_level(logging.DEBUG)
    client = RewardClient(
        f"http://key:{QUOTED}@host:1", retry=RetryPolicy(budget_s=0.0), transport=httpx.MockTransport(handle)
    )
    for _ in range(4):
        with pytest.raises(RewardError) as caught:
            client.ready()
        shown = [repr(client), *traceback.format_exception(caught.value), repr(caught.value), caplog.text]
        assert not any("s3cret" in text for text in shown)
    assert "s3cret" not in repr(addresses("http://host", SECRET))


@pytest.mark.parametrize(
    "url",
    [
        "key:s3cret@host:1",
        "ftp://key:s3cret@host",
        "http://key:s3cret@host:port",
        "http://s3cret@host",
        "http://key:s3cret%20x@host",
        "http://key:s3cr%E9t@host",
    ],
)
def test_the_error_about_a_url_does_not_show_its_key(url: str) -> None:
    with pytest.raises(RewardError) as caught:
        RewardClient(url)

    assert not any("s3cr" in text for text in traceback.format_exception(caught.value))


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "schlüssel"])
def test_a_key_that_a_header_cannot_carry_is_rejected_without_showing_it(key: str) -> None:
    with pytest.raises(RewardError, match="API key") as caught:
        RewardClient("http://host", api_key=key)

    assert not key or key not in str(caught.value)


def test_the_key_is_read_from_the_environment() -> None:
    assert key_from_environment({}) is None
    assert key_from_environment({"GLASSBOX_API_KEY": "k'e\"y"}) == "k'e\"y"


@pytest.mark.parametrize("key", ["", " \n", "s3cret\n", " s3cret", '"s3cret"', "'s3cret'", "s3cret'", "s3 cret"])
def test_a_key_in_the_environment_that_was_miswritten_is_an_error_that_does_not_show_it(key: str) -> None:
    with pytest.raises(
        RewardError, match=r"GLASSBOX_API_KEY (is empty|has .*); unset it to send no key"
    ) as caught:
        key_from_environment({"GLASSBOX_API_KEY": key})

    assert "s3" not in str(caught.value)


def test_the_command_line_reads_the_key_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLASSBOX_API_KEY", "s3cret two words")

    with pytest.raises(SystemExit, match="API key") as caught:
        main(["score", "in.jsonl", "out.jsonl"])

    assert "s3cret" not in str(caught.value) + str(capsys.readouterr())


def test_errors_can_cross_a_process_boundary() -> None:
    """A process pool pickles exceptions."""
    with pytest.raises(RewardError) as caught:
        RewardClient("nowhere")

    refused = RewardRejectedError(Problem(title="t", status=422, detail="d"))
    refused.unscored = (Unscored(3, "x"),)
    for error in (caught.value, refused):
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (type(copy), str(copy), copy.unscored) == (type(error), str(error), error.unscored)


@pytest.mark.parametrize(
    "url", ["http://key:se/cret@host:8000", "http://key:12/34cret@host", "http://k:a?cret@host"]
)
def test_a_key_with_an_unescaped_slash_is_rejected_and_not_shown(url: str) -> None:
    with pytest.raises(RewardError) as caught:
        Address.parse(url)

    shown = "".join(traceback.format_exception(caught.value))
    assert "cret" not in shown.replace(url, "")
    assert "cret" not in str(caught.value)
