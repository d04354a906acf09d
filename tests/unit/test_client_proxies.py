"""The client uses the proxy of the environment as httpx does."""

from __future__ import annotations

import httpx
import pytest

from reward_client import RewardUnavailableError, ScoreReply
from tests.unit.client_server import (
    NEVER,
    Ask,
    answer,
    score_async_by_default_transport,
    score_by_default_transport,
    serving,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ask", [score_by_default_transport, score_async_by_default_transport])
@pytest.mark.parametrize(("no_proxy", "by_proxy"), [("", True), ("example.test", False)])
def test_the_proxy_of_the_environment_is_used(
    ask: Ask, no_proxy: str, by_proxy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(answer) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", no_proxy)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        if by_proxy:
            assert ask("http://service.example.test").rewards == [0.5]
        else:
            with pytest.raises(RewardUnavailableError, match="ConnectError"):
                ask("http://service.example.test", retry=NEVER, connect_timeout_s=5.0)

    assert len(proxy.keys) == int(by_proxy)


def post_by_httpx(url: str) -> ScoreReply:
    with httpx.Client() as client:
        return ScoreReply.model_validate_json(client.post(f"{url}/score", content=b"{}").content)


@pytest.mark.parametrize("ask", [post_by_httpx, score_by_default_transport, score_async_by_default_transport])
@pytest.mark.parametrize("scheme", ["http", "all"])
@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("127.0.0.1", "127.0.0.1:{port}", True),
        ("127.0.0.1", "127.0.0.1:1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "10.0.0.1, 127.0.0.1", True),
        ("127.0.0.1", "127.0.0.0/8", False),
        ("127.0.0.1", "::1", False),
        ("127.0.0.1", "http://127.0.0.1", True),
        ("127.0.0.1", "https://127.0.0.1", False),
        ("127.0.0.1", "localhost", False),
        ("127.0.0.1", "*", True),
        ("127.0.0.1", "example.test, *", True),
        ("localhost", "localhost", True),
        ("localhost", "LOCALHOST", True),
        ("localhost", "localhost:{port}", True),
        ("localhost", "localhost:1", False),
        ("localhost", "calhost", False),
        ("localhost", ",", False),
    ],
)
def test_no_proxy_means_the_same_as_for_httpx(
    ask: Ask, scheme: str, host: str, no_proxy: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serving(answer) as proxy, serving(answer) as service:
        port = httpx.URL(service.url).port
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", no_proxy.format(port=port))

        assert ask(f"http://{host}:{port}").rewards == [0.5]

    assert (len(service.keys), len(proxy.keys)) == ((1, 0) if direct else (0, 1))


@pytest.mark.parametrize("ask", [score_by_default_transport, score_async_by_default_transport])
@pytest.mark.parametrize("no_proxy", ["[::1], 127.0.0.1", "[::1]:8000, 127.0.0.1"])
def test_no_proxy_may_contain_an_ipv6_address_in_brackets(
    ask: Ask, no_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(answer) as service:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("no_proxy", no_proxy)

        assert ask(service.url, retry=NEVER).rewards == [0.5]
