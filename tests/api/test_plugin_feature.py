"""A feature is added in one place: an installed package. Score, OpenRLHF's logs, page and report show it."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from reward_client.wire import FeatureInfo, Info, Item, ScoreReply
from reward_evidence.report.write import write_report
from reward_service.app import create_app
from reward_service.errors import ConfigurationError
from reward_service.settings import Settings
from tests.api.conftest import wait_until_loaded
from tests.doubles import LengthGold, LetterEncoder
from tests.fixtures import wire_0_1
from tests.live import metric, serving
from tests.plugins import install_plugin
from tests.unit.evidence_run import ScriptedSampler, Service, make_evaluation_run, make_run, sampling_settings

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/plugin_feature"
TAGGED = "<think>a b c</think> <answer>a b c d</answer>"
UNTAGGED = "a b c d"

_ASK = """
import json, sys
from pathlib import Path
from fastapi.testclient import TestClient
from reward_service.app import create_app
from reward_service.errors import ConfigurationError
from reward_service.settings import Settings
from tests.doubles import LengthGold, LetterEncoder

settings = Settings(recipes_dir=Path(sys.argv[1]), default_recipe="rer-format")
app = create_app(settings, encoder_loader=lambda _: LetterEncoder(), gold_loader=lambda _: LengthGold())
replies = {}
with TestClient(app, "http://localhost") as client:
    client.post("/get_reward", json={"query": "Hi?", "prompts": "Hi?"}).raise_for_status()
    for name, (method, path, body, headers) in json.load(sys.stdin).items():
        response = client.request(method, path, json=body, headers=headers)
        replies[name] = response.text if path == "/" else response.json()
json.dump(replies, sys.stdout)
"""


@pytest.fixture(scope="module")
def replies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Replies of a service, in another process, with the example package installed by pip."""
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "plugin")
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, capture_output=True, text=True)
    items = [{"prompt": "a b c", "response": response} for response in (TAGGED, UNTAGGED, "")]
    old_client = {"user-agent": "python-httpx/0.28.1", "idempotency-key": "k"}
    requests = {
        "score": ("POST", "/score", {"items": items}, {}),
        "rer": ("POST", "/score", {"items": items, "recipe": "rer", "recipe_overrides": {"words": "unicode"}}, {}),
        "old client": ("POST", "/score", {"items": items}, old_client),
        "openrlhf": ("POST", "/get_reward", {"query": ["a b c" + TAGGED, "a b c"], "prompts": ["a b c"] * 2}, {}),
        "info": ("GET", "/info", None, {}),
        "page": ("GET", "/", None, {}),
    }
    done = subprocess.run(
        [sys.executable, "-c", _ASK, str(source / "recipes")],
        input=json.dumps(requests),
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(EXAMPLE.parents[1]), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def test_a_plugins_value_is_in_the_result_and_in_the_reward(replies: dict[str, Any]) -> None:
    tagged, untagged, _ = replies["score"]["results"]

    assert [r["features"]["format_score"] for r in replies["score"]["results"]] == [1.0, 0.0, 0.0]
    assert tagged["reward"] == pytest.approx(replies["rer"]["results"][0]["reward"])
    assert untagged["reward"] == pytest.approx(replies["rer"]["results"][1]["reward"] / 2)
    assert untagged["reward"] > 0


def test_a_recipe_without_the_plugin_does_not_report_it(replies: dict[str, Any]) -> None:
    assert all("format_score" not in result["features"] for result in replies["rer"]["results"])


def test_openrlhf_logs_a_plugin(replies: dict[str, Any]) -> None:
    assert replies["openrlhf"]["extra_logs"]["format_score"] == [1.0, 0.0]


def test_the_page_gets_a_plugins_label_from_info(replies: dict[str, Any]) -> None:
    info = Info.model_validate(replies["info"])
    (feature,) = [feature for feature in info.features if feature.name == "format_score"]
    page = replies["page"]

    assert (feature.label, feature.range, feature.log_key) == ("Format score", (0.0, 1.0), "format_score")
    assert info.versions["glassbox-format-score"] == "1.0.0"
    assert "info.features.find" in page
    names_in_script = set(re.findall(r"\w+", page.partition("<script>")[2]))
    assert [known.name for known in info.features if known.name in names_in_script] == [
        "gold"
    ]  # whose value is gold_reward


def test_the_client_of_0_1_reads_the_rewards_of_a_recipe_with_a_plugin(replies: dict[str, Any]) -> None:
    old = wire_0_1.ScoreReply.model_validate(replies["old client"])

    assert old.rewards == pytest.approx(replies["score"]["rewards"])


class FormatService(Service):
    """A reward service whose results have the plug-in's feature."""

    def score(self, items: Sequence[Item], **options: Any) -> ScoreReply:
        reply = super().score(items, **options)
        share = min(1.0, options["step"] / 10)
        results = [r.model_copy(update={"features": r.features | {"format_score": share}}) for r in reply.results]
        return reply.model_copy(update={"results": results})


def test_the_report_has_a_chart_of_a_plugin_under_its_label(tmp_path: Path, replies: dict[str, Any]) -> None:
    run = make_run(tmp_path / "run", steps=(0, 2), n_prompts=10)
    evaluation_run = make_evaluation_run(run)
    features = [FeatureInfo.model_validate(feature) for feature in replies["info"]["features"]]
    evaluation_run.info = evaluation_run.info.model_copy(update={"features": features})
    evaluation_run.run(lambda: ScriptedSampler(sampling_settings()), FormatService())

    page = write_report(run).read_text(encoding="utf-8")

    assert "Format score. share of the tags &lt;think&gt; and &lt;answer&gt; in place against" in page
    assert (run / "plots/feature_format_score.png").is_file()


@pytest.fixture
def plugin_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """A service with a plug-in feature `mine`, and a recipe of the same name that uses it."""
    (tmp_path / "recipes").mkdir()
    factors = "[length_incentive, mine]"
    (tmp_path / "recipes/mine.yaml").write_text(f"open_ended: {factors}\nclosed_ended: {factors}\n")
    install_plugin(tmp_path, monkeypatch, request.param[0], f"FEATURE = feature('mine', {request.param[1]})")
    settings = Settings(recipes_dir=tmp_path / "recipes", default_recipe="mine")
    app = create_app(settings, encoder_loader=lambda _: LetterEncoder(), gold_loader=lambda _: LengthGold())
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        wait_until_loaded(client)
        yield client


def results(service: TestClient, *items: dict[str, Any]) -> list[dict[str, Any]]:
    reply = service.post("/score", json={"items": items, "on_item_error": "report"})
    assert reply.status_code == 200, reply.text
    found: list[dict[str, Any]] = reply.json()["results"]
    return found


@pytest.mark.parametrize(
    "plugin_service",
    [
        ("gbx_text_error", "ResponseText, lambda inputs: 1 / (inputs.response != 'bad')"),
        ("gbx_vector_error", "PromptVectors, lambda inputs: 1 / int(inputs.response[0] != 1)"),
        ("gbx_gold_error", "GoldScore, lambda inputs: 1 / (inputs.score != 0.3)"),
    ],
    indirect=True,
)
def test_a_plugin_that_raises_fails_its_item_only(plugin_service: TestClient) -> None:
    bad, good = results(plugin_service, *({"prompt": "q", "response": text} for text in ("bad", "fine")))

    assert bad["reward"] is None
    assert bad["error"]["field"] == "response"
    assert "feature mine failed: ZeroDivisionError" in bad["error"]["message"]
    assert good["reward"] > 0


@pytest.mark.parametrize(
    "plugin_service", [("gbx_nan", "ResponseText, lambda inputs: float('nan')")], indirect=True
)
def test_a_plugin_that_gives_nan_is_an_error_not_a_reward(plugin_service: TestClient) -> None:
    (result,) = results(plugin_service, {"prompt": "q", "response": "a"})

    assert result["reward"] is None
    assert "mine is not a finite number" in result["error"]["message"]


@pytest.mark.parametrize(
    "plugin_service", [("gbx_steep", "ResponseText, lambda inputs: 1e200, range=(0.0, 1e300)")], indirect=True
)
def test_a_mapping_that_overflows_is_an_error_not_a_reward(plugin_service: TestClient) -> None:
    overrides = {
        "feature_ranges": {"mine": [0.0, 1e-300]},
        "feature_floors": {"mine": 0.5},
        "reward_range": [0, 9],
    }
    body = {"items": [{"prompt": "q", "response": "a"}], "recipe_overrides": overrides, "on_item_error": "report"}
    reply = plugin_service.post("/score", json=body)

    (result,) = reply.json()["results"]
    assert result["reward"] is None
    assert "mine is not a finite number" in result["error"]["message"]


@pytest.mark.parametrize(
    ("package", "feature_range", "cause"),
    [
        ("gbx_short", "lambda p: (0.0, 1 / (p.max_response_tokens - 100))", "ZeroDivisionError"),
        ("gbx_empty", "lambda p: (1.0, p.max_response_tokens / 512)", "not an interval"),
    ],
)
def test_a_range_that_fails_for_the_default_recipe_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, feature_range: str, cause: str
) -> None:
    (tmp_path / "short.yaml").write_text(
        "open_ended: [length_incentive]\nclosed_ended: [length_incentive]\nmax_response_tokens: 100\n"
    )
    code = f"FEATURE = feature('mine', ResponseText, lambda inputs: 0.5, range={feature_range})"
    install_plugin(tmp_path, monkeypatch, package, code)

    with pytest.raises(ConfigurationError, match=f"plug-in {package} 1.0: the range of feature mine.*{cause}"):
        create_app(Settings(recipes_dir=tmp_path, default_recipe="short"))


@pytest.mark.parametrize(
    "plugin_service",
    [("gbx_reference", "ReferenceVectors, lambda inputs: float(inputs.text[0] == inputs.response[0])")],
    indirect=True,
)
def test_an_item_without_the_reference_that_a_plugin_needs_is_invalid(plugin_service: TestClient) -> None:
    items = [{"prompt": "q", "response": "a"}, {"prompt": "q", "response": "a", "reference": "a"}]
    reply = plugin_service.post("/score", json={"items": items, "query_type_default": "open_ended"})
    bad, good = results(plugin_service, items[0], items[1] | {"query_type": "open_ended"})

    assert reply.status_code == 422
    assert [error["field"] for error in reply.json()["errors"]] == ["items.0.reference"]
    assert bad["error"]["field"] == "reference"
    assert good["features"]["mine"] == 1.0


# A slow feature ------------------------------------------------------------------------------------------------

_BLOCKING = """
import threading

opened, entered, computed = threading.Event(), threading.Event(), []

def compute(inputs):
    computed.append(inputs.response)
    entered.set()
    assert opened.wait(30)
    return 1.0

FEATURE = feature("mine", ResponseText, compute)
"""


@pytest.fixture
def blocking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A plug-in whose feature blocks until `opened` is set, and the recipe `mine` in `tmp_path` that uses it."""
    factors = "[length_incentive, mine]"
    (tmp_path / "mine.yaml").write_text(f"open_ended: {factors}\nclosed_ended: {factors}\n")
    install_plugin(tmp_path, monkeypatch, "gbx_blocking", _BLOCKING)
    module = importlib.import_module("gbx_blocking")
    yield module
    module.opened.set()


def scored(url: str, recipe: str, n_items: int = 1, **headers: str) -> httpx.Response:
    items = [{"prompt": "q", "response": f"a {n}"} for n in range(n_items)]
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{url}/score", json={"items": items, "recipe": recipe}, headers=names, timeout=30)


def test_a_feature_that_blocks_stops_neither_health_nor_with_two_threads_other_requests(
    tmp_path: Path, blocking: ModuleType
) -> None:
    with serving(Settings(recipes_dir=tmp_path, preparation_threads=2)) as url, ThreadPoolExecutor() as pool:
        slow = pool.submit(scored, url, "mine")
        assert blocking.entered.wait(20)

        assert [httpx.get(f"{url}{path}").status_code for path in ("/healthz", "/readyz")] == [200, 200]
        assert metric(url, "glassbox_preparation_jobs") == 1
        assert scored(url, "rer").status_code == 200
        assert not slow.done()
        blocking.opened.set()
        assert slow.result().json()["results"][0]["features"]["mine"] == 1.0
        assert metric(url, "glassbox_preparation_jobs") == 0


def test_a_request_whose_deadline_passes_in_a_feature_is_answered_and_dropped_after_that_item(
    tmp_path: Path, blocking: ModuleType
) -> None:
    with serving(Settings(recipes_dir=tmp_path)) as url:
        late = scored(url, "mine", n_items=50, glassbox_deadline_s="0.5")
        blocking.opened.set()

        assert late.status_code == 504
        assert scored(url, "mine").status_code == 200
        assert blocking.computed == ["a 0", "a 0"]
