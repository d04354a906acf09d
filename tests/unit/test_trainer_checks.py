"""Problems are found before a run starts, and reported together."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from reward_client.errors import UnknownRecipeError
from reward_client.wire import Info, LimitsInfo, ModelInfo, RecipeInfo
from reward_runs.errors import ConfigError, PreflightError
from reward_runs.layout import RunDir
from reward_runs.record import RunRecord
from reward_service.features.recipe_registry import RecipeRegistry
from reward_service.settings import Settings
from reward_trainer.config import Config, make_config
from reward_trainer.hardware import DiskBudget, Hardware, estimate_disk
from reward_trainer.openrlhf.installed import notes, version_notes
from reward_trainer.preflight import DEEPSPEED, OPENRLHF, find_problems
from reward_trainer.service_probe import service_info, trial_reward, why_not_ready
from reward_trainer.train import resumed_config, reward_changes
from tests.doubles import LetterEncoder
from tests.json_server import Received, json_server
from tests.live import serving

ROOT = Path(__file__).parents[2]
RECIPES_0_1 = ROOT / "tests/fixtures/recipes_0_1.json"
"""The recipes in `GET /info` of release 0.1."""

CPU = Hardware(n_gpus=0, n_threads=2)
BUDGET = DiskBudget(disk_needed=1, disk_free=2, shared_memory_free=2)


def config(**given: Any) -> Config:
    return make_config("demo", {"reward_url": "http://127.0.0.1:8000", "run_dir": "runs/x", **given})


def recipe(name: str = "glassbox", *, calibrated_for: str | None = None, needs_gold: bool = False) -> RecipeInfo:
    return RecipeInfo(
        name=name, hash="h", description="", reward_range=(0.0, 5.12), calibrated_for=calibrated_for,
        needs_encoder=True, needs_gold=needs_gold, parameters={},
    )  # fmt: skip


def info(*recipes: RecipeInfo, gold: bool = False) -> Info:
    return Info(
        version="0", default_recipe="glassbox", recipes=list(recipes), versions={},
        relevance=ModelInfo(id="all-MiniLM-L6-v2", revision="0", device="cpu"),
        gold=ModelInfo(id="demo-gold", revision="0", device="cpu") if gold else None,
        limits=LimitsInfo(max_body_bytes=1, max_items=1, max_text_chars=1),
    )  # fmt: skip


def problems(config: Config, info: Info, budget: DiskBudget, hardware: Hardware) -> list[str]:
    return find_problems(config, info, budget, hardware, {})


def test_a_valid_run_has_no_problems() -> None:
    assert problems(config(), info(recipe()), BUDGET, CPU) == []


def test_batches_that_cannot_be_divided_among_the_gpus_are_a_problem() -> None:
    (problem,) = problems(config(), info(recipe()), BUDGET, Hardware(n_gpus=16, n_threads=2))

    assert "16 GPUs" in problem


@pytest.mark.parametrize(
    ("package", "n_gpus", "command"),
    [
        ("openrlhf", 0, "pip install --no-deps openrlhf=="),
        ("deepspeed", 0, "DS_BUILD_OPS=0 pip install --no-deps --no-build-isolation deepspeed=="),
        ("openrlhf", 1, 'pip install "openrlhf[vllm]=='),
        ("deepspeed", 1, 'pip install "openrlhf[vllm]=='),
    ],
)
def test_a_package_that_is_not_installed_is_a_problem_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch, package: str, n_gpus: int, command: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # Python's way to make an import fail

    (problem,) = problems(config(), info(recipe()), BUDGET, Hardware(n_gpus=n_gpus, n_threads=2))

    assert problem.startswith(f"the package {package} is not installed: {command}")


def test_gold_that_is_not_loaded_is_a_problem() -> None:
    (problem,) = problems(config(gold=True), info(recipe()), BUDGET, CPU)

    assert "none loaded" in problem
    assert problems(config(gold=True), info(recipe(), gold=True), BUDGET, CPU) == []


def test_a_gold_recipe_without_a_gold_model_is_a_problem() -> None:
    (problem,) = problems(config(recipe="gold"), info(recipe("gold", needs_gold=True)), BUDGET, CPU)

    assert "no gold model loaded" in problem


def test_a_recipe_for_another_encoder_is_a_problem_unless_the_user_sets_the_clip_range() -> None:
    known = info(recipe(calibrated_for="facebook/contriever"))

    (problem,) = problems(config(), known, BUDGET, CPU)
    assert "facebook/contriever" in problem
    assert "all-MiniLM-L6-v2" in problem
    assert "Use --recipe rer" in problem
    assert problems(config(raw_flags=("--reward.clip_range", "-10", "70")), known, BUDGET, CPU) == []


def test_the_encoder_of_a_recipe_may_be_in_a_folder() -> None:
    known = info(recipe(calibrated_for="facebook/contriever"))
    served = ModelInfo(id="/models/contriever", revision="0", device="cpu")

    assert problems(config(), known.model_copy(update={"relevance": served}), BUDGET, CPU) == []


def test_a_disk_too_small_for_the_checkpoints_is_a_problem() -> None:
    (problem,) = problems(config(), info(recipe()), DiskBudget(int(7e9), int(5e9), 1), CPU)

    assert "about 7.0 GB, 5.0 GB are free" in problem


def test_the_disk_check_of_a_tiny_policy_has_a_unit_in_which_it_is_not_zero() -> None:
    (problem,) = problems(config(), info(recipe()), DiskBudget(1_234_000, 56_700, 1), CPU)

    assert "about 1.2 MB, 56.7 KB are free" in problem


def test_the_disk_estimate_covers_every_checkpoint_and_two_states(tmp_path: Path) -> None:
    budget = estimate_disk(
        config(steps=8, save_every=1), 100, RunDir(tmp_path / "not" / "yet"), bytes_per_weight=4
    )

    assert budget.disk_needed >= 100 * (9 * 4 + 2 * 12)
    assert budget.disk_free > 0


def test_an_unknown_recipe_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UnknownRecipeError, match="has no recipe 'best'; it has glassbox, li"):
        problems(config(recipe="best"), info(recipe(), recipe("li")), BUDGET, CPU)


Answer = tuple[int, Any]


@pytest.fixture
def served() -> Iterator[Callable[[Answer], tuple[str, list[Any]]]]:
    """Start a server that sends the same reply to every request; return its URL and the bodies it receives."""
    with ExitStack() as servers:

        def serve(reply: Answer) -> tuple[str, list[Any]]:
            received: list[Any] = []

            def answer(request: Received) -> Answer:
                if request.method == "POST":
                    received.append(request.json())
                return reply

            return servers.enter_context(json_server(answer)), received

        yield serve


def test_a_trial_is_posted_as_openrlhf_posts(served: Callable[[Answer], tuple[str, list[Any]]]) -> None:
    url, received = served((200, {"rewards": [0.5]}))

    assert trial_reward(url, ["<user>Why?<bot>"], ['{"query_type": "open_ended"}']) is None
    (body,) = received
    assert body["prompts"] == ["<user>Why?<bot>"]
    assert body["query"][0].startswith("<user>Why?<bot>")
    assert body["labels"] == ['{"query_type": "open_ended"}']


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (
            (
                422,
                {"title": "T", "status": 422, "detail": "D", "errors": [{"field": "labels.0", "message": "bad"}]},
            ),
            "422 T: D; labels.0: bad",
        ),
        ((500, "oops"), "500 Internal Server Error"),
        ((200, {"reward": 1}), "the reply contains no rewards"),
        ((200, {"rewards": []}), "one reward expected"),
    ],
)
def test_a_failed_trial_returns_the_cause(
    served: Callable[[Answer], tuple[str, list[Any]]], answer: Answer, cause: str
) -> None:
    url, _ = served(answer)

    assert cause in str(trial_reward(url, ["p"], ["{}"]))


def test_a_refused_connection_is_the_cause_of_not_ready() -> None:
    assert "refused" in str(why_not_ready(["http://127.0.0.1:9"])).lower()
    assert "refused" in str(trial_reward("http://127.0.0.1:9", ["p"], ["{}"])).lower()


def test_the_service_s_message_is_the_cause_of_not_ready(
    served: Callable[[Answer], tuple[str, list[Any]]],
) -> None:
    ready, _ = served((200, {}))
    url, _ = served((503, {"title": "Not ready", "status": 503, "detail": "the encoder is loading"}))

    assert "the encoder is loading" in str(why_not_ready([url]))
    assert "the encoder is loading" in str(why_not_ready([ready, url]))
    assert why_not_ready([ready, ready]) is None


def test_every_reward_url_gets_a_trial(served: Callable[[Answer], tuple[str, list[Any]]]) -> None:
    first, received = served((200, {"rewards": [0.5]}))
    second, _ = served((500, "oops"))

    assert "500" in str(trial_reward(f"{first},{second}", ["p", "q"], ["{}", "{}"]))
    assert len(received) == 2


def test_replicas_must_have_the_same_recipe_and_models() -> None:
    with (
        serving(Settings()) as one,
        serving(Settings()) as same,
        serving(Settings(), LetterEncoder(id="others")) as other,
    ):
        assert service_info([one, same], "glassbox").default_recipe == "glassbox"
        with pytest.raises(PreflightError, match=f"of {other} differ from those of {one}"):
            service_info([one, same, other], "glassbox")


@pytest.mark.parametrize(
    ("given", "hardware", "environ", "cause"),
    [
        ({"asynchronous": True}, Hardware(n_gpus=1, n_threads=2), {}, "--async needs two GPUs"),
        ({"nodes": 2}, CPU, {"RAY_ADDRESS": "10.0.0.1:6379"}, "--nodes needs GPUs"),
        ({"nodes": 2}, Hardware(n_gpus=2, n_threads=2), {}, "--nodes needs a Ray cluster"),
        ({"nodes": 2}, Hardware(n_gpus=2, n_threads=2), {"RAY_ADDRESS": "local"}, "--nodes needs a Ray cluster"),
    ],
)
def test_a_layout_that_the_machine_cannot_run_is_a_problem(
    given: dict[str, Any], hardware: Hardware, environ: dict[str, str], cause: str
) -> None:
    (problem,) = find_problems(config(**given), info(recipe()), BUDGET, hardware, environ)

    assert problem.startswith(cause)


def test_another_release_of_openrlhf_is_named_with_the_tried_one() -> None:
    (note,) = version_notes("0.12.0")

    assert "0.12.0 is installed" in note
    assert OPENRLHF in note
    assert version_notes(OPENRLHF) == []


def test_the_version_of_a_source_checkout_of_openrlhf_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openrlhf").mkdir()
    (tmp_path / "openrlhf/__init__.py").touch()
    monkeypatch.delitem(sys.modules, "openrlhf", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    (note,) = notes([])

    assert "its version is unknown" in note


def test_a_resumed_run_keeps_its_settings_except_the_address_of_the_service(tmp_path: Path) -> None:
    stored = config(run_dir=str(tmp_path), seed=7)
    record = {**stored.model_dump(mode="json"), "recipe_hash": "h"}
    (tmp_path / "config.json").write_text(json.dumps(record))

    resumed = resumed_config(str(tmp_path), {"reward_url": "http://other:1", "run_dir": str(tmp_path), "seed": 7})

    assert resumed == stored.model_copy(update={"reward_url": "http://other:1"})
    with pytest.raises(ConfigError, match="learning_rate"):
        resumed_config(str(tmp_path), {"learning_rate": 1.0})
    with pytest.raises(ConfigError, match="stop rule 'bogus'"):
        resumed_config(str(tmp_path), {"stop_when": ["bogus"]})


def record(**changes: Any) -> RunRecord:
    gold = {"id": "demo-gold", "revision": "1", "device": "cpu", "notices": ["a demo model"]}
    service = {"relevance": {"id": "all-MiniLM-L6-v2", "revision": "0", "device": "cpu"}, "gold": gold}
    values = {
        "recipe": "rer",
        "max_new_tokens": 8,
        "recipe_hash": "h",
        "recipe_parameters": {},
        "service": service,
    }
    return RunRecord.model_validate({**values, **changes})


def other_gold(**changes: str) -> dict[str, Any]:
    service = record().service
    return {"relevance": service["relevance"], "gold": {**service["gold"], **changes}}


@pytest.mark.parametrize(
    ("now", "needs_gold", "changed"),
    [
        (record(), True, []),
        (record(recipe_hash="other"), False, ["recipe_hash"]),
        (record(recipe_parameters={"added_by_a_later_release": {}}), False, []),
        (record(recipe_hash=None), False, []),
        (record(recipe_hash=None, recipe_parameters={"max_words": 100}), False, ["recipe_parameters"]),
        (record(service=other_gold(revision="2")), True, ["gold"]),
        (record(service=other_gold(revision="2")), False, []),
        (record(service=other_gold(notices="reworded")), True, []),
        (record(service={"relevance": None, "gold": None}), True, ["relevance", "gold"]),
    ],
)
def test_a_resumed_run_has_the_same_recipe_and_models(
    now: RunRecord, needs_gold: bool, changed: list[str]
) -> None:
    assert reward_changes(record(), now, needs_gold=needs_gold) == changed


@pytest.mark.parametrize("old", json.loads(RECIPES_0_1.read_text(encoding="utf-8")), ids=lambda old: old["name"])
def test_a_run_of_release_0_1_has_the_same_reward_today(old: dict[str, Any], tmp_path: Path) -> None:
    def stored(recipe_hash: str, parameters: dict[str, Any]) -> dict[str, Any]:
        content = record(recipe=old["name"], recipe_hash=recipe_hash, recipe_parameters=parameters).content()
        return {name: value for name, value in content.items() if name != "schema_version"}

    (tmp_path / "config.json").write_text(json.dumps(stored(old["hash"], old["parameters"])))
    renamed = {name: f"{name}-reference" for name in ("qr", "li-rp-qr")}
    today = RecipeRegistry.load().get(renamed.get(old["name"], old["name"]))
    now = RunRecord.model_validate(stored(today.hash, today.model_dump(mode="json")))
    changed = today.with_overrides({"max_response_tokens": 7})
    other = RunRecord.model_validate(stored(changed.hash, changed.model_dump(mode="json")))

    assert reward_changes(RunRecord.read(RunDir(tmp_path)), now, needs_gold=True) == []
    assert reward_changes(RunRecord.read(RunDir(tmp_path)), other, needs_gold=True) == ["recipe_hash"]


@pytest.mark.parametrize(("package", "release"), [("openrlhf", OPENRLHF), ("deepspeed", DEEPSPEED)])
def test_every_file_that_pins_openrlhf_or_deepspeed_pins_the_same_release(package: str, release: str) -> None:
    pin = re.compile(rf"\b{package}(?:\[\w+\])?==([\w.]+)")
    files = [
        ROOT / "constraints.txt",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("docker/*.Dockerfile"),
        *ROOT.glob("docker/locks/*.txt"),
    ]
    pinned = {str(file): pin.findall(file.read_text(encoding="utf-8")) for file in files}

    assert pinned[str(ROOT / "constraints.txt")] == [release]
    assert {found for releases in pinned.values() for found in releases} == {release}
