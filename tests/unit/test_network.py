"""Which proxy of the environment a client uses for a URL, and which certificates it trusts."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from reward_client import AsyncRewardClient, RewardClient, RewardError
from reward_client.network import proxies_for, trusted_certificates
from reward_trainer.openrlhf.environment import child_environment
from tests.unit.client_server import (
    Ask,
    answer,
    score_async_by_default_transport,
    score_by_default_transport,
    serving,
)

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")
PROXY = "http://proxy.test:3128"
BOTH = pytest.mark.parametrize("ask", [score_by_default_transport, score_async_by_default_transport])


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def uses_proxy(url: str) -> bool:
    return bool(proxies_for([url]))


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_the_proxy_of_the_urls_scheme_is_used(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, PROXY)

    found = proxies_for(["http://a.test:8000", "http://127.0.0.1:8000"])

    assert list(found) == ["http://a.test:8000"]
    assert (str(found["http://a.test:8000"].url), found["http://a.test:8000"].variable) == (PROXY, variable)
    assert uses_proxy("https://a.test") == variable.lower().startswith("all")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000", "http://127.9.9.9", "http://localhost:1", "http://LOCALHOST", "http://[::1]:8000",
        "http://glassbox.localhost", "http://0.0.0.0:8000", "http://localhost.",
    ],
)  # fmt: skip
def test_loopback_has_no_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ALL_PROXY", PROXY)

    assert not uses_proxy(url)


@pytest.mark.parametrize("url", ["http://localhost.test", "http://128.0.0.1", "http://[::2]", "http://10.0.0.1"])
def test_other_hosts_have_one(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ALL_PROXY", PROXY)

    assert uses_proxy(url)


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("a.test", "http://a.test:8000", True),
        ("a.test", "http://x.a.test", True),
        ("a.test", "http://xa.test", False),
        ("A.Test", "http://a.tEST", True),
        (".a.test", "http://x.a.test", True),
        ("*.a.test", "http://x.a.test", True),
        ("b.test, a.test", "http://a.test", True),
        ("a.test:8000", "http://a.test:8000", True),
        ("a.test:8000", "http://a.test:9000", False),
        ("a.test:443", "https://a.test", True),
        ("http://a.test", "http://a.test", True),
        ("https://a.test", "http://a.test", False),
        ("*", "http://a.test", True),
        ("b.test,*", "http://a.test", True),
        ("10.1.2.3", "http://10.1.2.3:80", True),
        ("10.0.0.0/8", "http://10.1.2.3", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("10.0.0.7/8", "http://10.1.2.3", True),
        ("10.0.0.0/8", "http://a.test", False),
        ("fd00::/8", "http://[fd12::1]:8000", True),
        ("fd00::/8", "http://[fe80::1]", False),
        ("fd12::1", "http://[fd12:0::1]", True),
        ("[fd12::1]", "http://[fd12::1]", True),
        ("[fd12::1]:8000", "http://[fd12::1]:8000", True),
        ("[fd12::1]:8000", "http://[fd12::1]:9000", False),
        ("[fd00::]/8", "http://[fd12::1]", True),
        (" , ,:,[,a:b:,/8,10.0.0.0/99", "http://a.test", False),
    ],
)
def test_no_proxy_may_have_names_addresses_networks_and_ports(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str, direct: bool
) -> None:
    monkeypatch.setenv("ALL_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)

    assert uses_proxy(url) != direct


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("socks4://127.0.0.1:1080", "HTTPS_PROXY=socks4://127.0.0.1:1080 is not the URL of a proxy"),
        ("ftp://proxy.test", "HTTPS_PROXY=ftp://proxy.test is not the URL of a proxy"),
        ("http://proxy.test:port", "is not the URL of a proxy"),
        ("http://", "is not the URL of a proxy"),
        ("ftp://user:s3cret@proxy.test", "HTTPS_PROXY=ftp://proxy.test is"),
    ],
)
@pytest.mark.parametrize("new", [RewardClient, AsyncRewardClient])
def test_an_unusable_proxy_is_an_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, new: type, value: str, message: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)

    with pytest.raises(RewardError) as refused:
        new("https://a.test")

    assert message in str(refused.value)
    assert "s3cret" not in str(refused.value)
    new("http://a.test")  # which does not use it
    new("https://localhost")


@pytest.mark.skipif(find_spec("socksio") is not None, reason="socksio is installed")
@pytest.mark.parametrize("new", [RewardClient, AsyncRewardClient])
def test_a_socks_proxy_without_its_package_is_an_error_that_names_both(
    monkeypatch: pytest.MonkeyPatch, new: type
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.test:1080")

    with pytest.raises(RewardError, match=r"ALL_PROXY=socks5://proxy.test:1080: .*needs the package socksio"):
        new("http://a.test")


# Certificates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "name", "message"),
    [
        ("SSL_CERT_FILE", "absent.pem", "there is no such file"),
        ("SSL_CERT_FILE", "empty.pem", "has no certificates that can be read"),
        ("SSL_CERT_FILE", "", "there is no such file"),
        ("SSL_CERT_DIR", "absent", "there is no such folder"),
    ],
)
@pytest.mark.parametrize("new", [RewardClient, AsyncRewardClient])
def test_unusable_certificates_are_an_error_for_https_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, new: type, variable: str, name: str, message: str
) -> None:
    (tmp_path / "empty.pem").write_text("no certificate")
    monkeypatch.setenv(variable, str(tmp_path / name))

    with pytest.raises(RewardError, match=f"{variable}=.*{name}:? {message}"):
        new("https://a.test")
    new("http://a.test")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost with its key, signed by itself."""
    path = tmp_path_factory.mktemp("certificate") / "own.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost"
    subprocess.run([*command.split(), "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def https_url(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(answer, context) as service:
        yield service.url.replace("http://127.0.0.1", "https://localhost")


@BOTH
def test_a_certificate_that_is_not_trusted_is_refused_at_once(ask: Ask, https_url: str) -> None:
    with pytest.raises(
        RewardError, match=r"certificate of https://localhost:\d+ is not trusted: self.signed"
    ) as one:
        ask(https_url)  # with two minutes for retries

    assert "SSL_CERT_FILE" in str(one.value)


@BOTH
def test_the_certificate_of_an_own_authority_is_trusted_when_it_is_named(
    ask: Ask, https_url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")

    assert ask(https_url).rewards == [0.5]


def test_certificates_of_public_authorities_are_trusted_otherwise() -> None:
    assert len(trusted_certificates().get_ca_certs()) > 50


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "a.test"}, "a.test,localhost,127.0.0.1,::1"),
        ({"no_proxy": "b.test", "NO_PROXY": "a.test"}, "b.test,localhost,127.0.0.1,::1"),
    ],
)
def test_openrlhf_reaches_this_machine_without_a_proxy(given: dict[str, str], expected: str) -> None:
    environment = child_environment(given | {"http_proxy": PROXY})

    assert (environment["no_proxy"], environment["NO_PROXY"]) == (expected, expected)
