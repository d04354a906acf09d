"""The reported problems of the folder `cases`, one expectation each, against the service with its real encoder.

The folder is beside the repository, not in it; without it these tests are skipped. Each kind of problem has tests
with inputs of its own elsewhere.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from reward_client import Item, RewardClient, RewardError
from reward_client.cli.main import main
from reward_runs.prompts import Columns, load_prompts
from reward_service.app import create_app
from reward_service.models.encoder import load_encoder
from reward_service.models.load_gold import load_gold
from reward_service.settings import Settings
from tests.doubles import LetterEncoder
from tests.gold_models import byte_tokenizer, save_bert, save_chat_model
from tests.live import serving, until
from tests.unit import client_server

pytestmark = pytest.mark.slow

Case = dict[str, Any]
RECIPE = "glassbox"
"""Of the cases for the service."""
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(scope="module")
def real() -> Iterator[TestClient]:
    with TestClient(create_app(Settings(gold="none", default_recipe=RECIPE)), "http://localhost") as client:
        client.post("/get_reward", json={"query": "Hi?", "prompts": "Hi?"}).raise_for_status()
        yield client


@pytest.fixture
def case(request: pytest.FixtureRequest, shared_dir: Path) -> Case:
    path = shared_dir / "cases" / f"{request.param}.json"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def replies(service: TestClient, case: Case) -> list[httpx.Response]:
    """The replies to the requests of a case."""
    found = []
    for request in case.get("requests") or [case["request"]]:
        content = request.get("raw_body") or json.dumps(request["body"]) if request["method"] == "POST" else None
        headers = {"content-type": "application/json"} if content else {}
        found.append(service.request(request["method"], request["path"], content=content, headers=headers))
    return found


def results(reply: httpx.Response) -> list[dict[str, Any]]:
    assert reply.status_code == 200, reply.text
    return list(reply.json()["results"])


def log(reply: httpx.Response, name: str) -> float:
    assert reply.status_code == 200, reply.text
    return float(reply.json()["extra_logs"][name][0])


def flags(reply: httpx.Response) -> list[str]:
    assert reply.status_code == 200, reply.text
    return list(reply.json()["flags"][0])


# Text and templates ---------------------------------------------------------------------------------------------

ANSWER = "Leaves turn red because chlorophyll breaks down and anthocyanin pigments become visible as days shorten."
"""The answer that the cases about templates have."""


def answer_length(service: TestClient) -> Any:
    """Its length incentive, by the default recipe's rule for words."""
    reply = service.post("/score", json={"items": [{"prompt": "Why?", "response": ANSWER}]})
    return pytest.approx(results(reply)[0]["features"]["length_incentive"])


def unreadable(service: TestClient, case: Case) -> None:
    recipes = {recipe["name"]: recipe for recipe in service.get("/info").json()["recipes"]}
    full = recipes[RECIPE]["reward_range"][1]
    for result in results(replies(service, case)[0]):
        assert result["reward"] < 0.8 * full or "relevance_unreadable" in result["flags"]


def invisible_words(service: TestClient, case: Case) -> None:
    lengths = [result["features"]["length_incentive"] for result in results(replies(service, case)[0])]
    assert lengths == [answer_length(service)] * len(lengths)


def invisible_response(service: TestClient, case: Case) -> None:
    for result in results(replies(service, case)[0]):
        assert result["reward"] == 0
        assert "empty" in result["flags"]


def invisible_prompt(service: TestClient, case: Case) -> None:
    (reply,) = replies(service, case)
    assert reply.status_code == 422
    assert "no user text" in reply.text


def repetition(service: TestClient, case: Case) -> None:
    for result in results(replies(service, case)[0]):
        assert result["features"]["repetition_penalty"] < 0.7


def cut_or_flagged(service: TestClient, case: Case) -> None:
    items = case["request"]["body"]["items"]
    for item, result in zip(items, results(replies(service, case)[0]), strict=True):
        n_words = 100 * result["features"]["length_incentive"]
        assert n_words > 0.6 * len(item["response"].split()) or "cut_at_stop_string" in result["flags"]


def is_scored(service: TestClient, case: Case) -> None:
    for reply in replies(service, case):
        assert reply.status_code == 200, reply.text


def ends(service: TestClient, case: Case) -> None:
    for reply in replies(service, case):
        assert log(reply, "length_incentive") == answer_length(service)
        assert not {"truncated", "text_after_end"} & set(flags(reply))


def reasoning(service: TestClient, case: Case) -> None:
    for reply in replies(service, case):
        assert reply.status_code == 200, reply.text
        of_all = [result["flags"] for result in reply.json().get("results", [])] or reply.json()["flags"]
        assert all("reasoning" in one for one in of_all)


def known_or_flagged(service: TestClient, case: Case) -> None:
    for reply in replies(service, case):
        known = log(reply, "length_incentive") == answer_length(service) and "truncated" not in flags(reply)
        assert known or any("unknown" in flag for flag in flags(reply)), reply.text


def names_prompt(service: TestClient, case: Case) -> None:
    """The role of the case is known by now, as that of a tool; another one is not."""
    is_scored(service, case)
    for name, (text,) in list(case["request"]["body"].items())[:2]:
        case["request"]["body"][name] = [text.replace("observation", "narrator")]
    (reply,) = replies(service, case)
    assert reply.status_code == 422
    assert [error["field"] for error in reply.json()["errors"]] == ["prompts.0"]


def without_padding(service: TestClient, case: Case) -> None:
    (reply,) = replies(service, case)
    case["request"]["body"]["query"] = [case["request"]["body"]["query"][0].replace("<pad>", "")]
    (expected,) = replies(service, case)
    assert reply.json()["rewards"] == expected.json()["rewards"]
    assert flags(reply) == flags(expected)


# Labels, errors, routes -----------------------------------------------------------------------------------------


def best_reference(service: TestClient, case: Case) -> None:
    (reply,) = replies(service, case)
    (labels,) = case["request"]["body"]["labels"]
    rewards = []
    for label in labels:
        case["request"]["body"]["labels"] = [label]
        rewards.append(replies(service, case)[0].json()["rewards"][0])
    assert reply.json()["rewards"] == [max(rewards)]


def number_as_text(service: TestClient, case: Case) -> None:
    (reply,) = replies(service, case)
    case["request"]["body"]["labels"][0]["reference"] = "42"
    assert reply.json()["rewards"] == replies(service, case)[0].json()["rewards"]


def surrogate(service: TestClient, case: Case) -> None:
    (reply,) = replies(service, case)
    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (422, "items.1.response")


def head(service: TestClient, case: Case) -> None:
    (reply,) = replies(service, case)
    assert (reply.status_code, reply.content) == (200, b"")


def prefix(service: TestClient, case: Case) -> None:
    (reply,) = replies(service, case)
    assert reply.status_code == 200
    app = create_app(Settings(gold="none", root_path="/reward"), encoder_loader=lambda _: LetterEncoder())
    with TestClient(app, "http://localhost") as client:
        assert "/reward/openapi.json" in client.get("/docs").text


def text_parts(service: TestClient, case: Case) -> None:
    (reply,) = replies(service, case)
    case["request"]["body"]["items"][0]["prompt"] = "What is dew?"
    assert results(reply) == results(replies(service, case)[0])


ON_SERVICE: dict[str, Callable[[TestClient, Case], None]] = {
    "R01": unreadable, "R02": unreadable, "R03": invisible_words, "R04": invisible_response,
    "R05": invisible_prompt, "R06": repetition, "R07": cut_or_flagged, "R08": is_scored, "R09": ends, "R10": ends,
    "R11": reasoning, "R12": known_or_flagged, "R13": best_reference, "R14": number_as_text, "R15": names_prompt,
    "R16": surrogate, "R17": head, "R18": prefix, "R34": text_parts, "R35": without_padding,
}  # fmt: skip


@pytest.mark.parametrize("case", ON_SERVICE, indirect=True)
def test_a_case_for_the_service(case: Case, real: TestClient) -> None:
    ON_SERVICE[case["id"]](real, case)


# Models ---------------------------------------------------------------------------------------------------------


def gold_service(folder: Path, template: str | None = None, **weights: float) -> TestClient:
    from safetensors.torch import load_file, save_file

    save_chat_model(folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    tensors = load_file(folder / "model.safetensors")
    for name, value in weights.items():
        tensors[f"{name}.weight"][:] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    app = create_app(
        Settings(gold=str(folder)),
        encoder_loader=lambda _: LetterEncoder(),
        gold_loader=lambda settings: load_gold(settings.gold, "cpu"),
    )
    return TestClient(app, "http://localhost", raise_server_exceptions=False)


def never_ready(client: TestClient, reason: str) -> None:
    with client:
        until(lambda: reason in client.get("/readyz").text)
        assert client.get("/readyz").status_code == 503


def adapted(client: TestClient, case: Case) -> None:
    with client:
        until(lambda: client.get("/readyz").status_code == 200)
        (result,) = results(replies(client, case)[0])
        assert "gold_prompt_adapted" in result["flags"]
        assert isinstance(result["gold_reward"], float)


@pytest.mark.parametrize("case", ["R19", "R23"], indirect=True)
def test_a_conversation_that_the_template_does_not_show_is_adapted(case: Case, tmp_path: Path) -> None:
    adapted(gold_service(tmp_path, case["gold_template"]), case)


@pytest.mark.parametrize("case", ["R20"], indirect=True)
def test_a_gold_model_that_answers_nan_is_not_ready(case: Case, tmp_path: Path) -> None:
    never_ready(gold_service(tmp_path, score=float("nan")), "its weights are damaged")


@pytest.mark.parametrize("case", ["R36"], indirect=True)
def test_a_template_that_shows_nothing_is_not_ready(case: Case, tmp_path: Path) -> None:
    never_ready(gold_service(tmp_path, case["gold_template"]), "leaves out the text of a user message")


@pytest.mark.parametrize("case", ["R21"], indirect=True)
def test_marks_of_a_response_are_text(case: Case, tmp_path: Path) -> None:
    from reward_client.wire import ChatMessage
    from reward_service.models.protocols import Exchange

    save_chat_model(tmp_path)
    item = case["request"]["body"]["items"][0]
    gold = load_gold(str(tmp_path), "cpu")
    special = byte_tokenizer().convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    ids = [
        gold.tokenize(Exchange((ChatMessage(role="user", content="Hi"),), text)).input_ids
        for text in (item["response"], "Hello")
    ]
    assert len({sum(one in special for one in row) for row in ids}) == 1


@pytest.mark.parametrize("case", ["R22"], indirect=True)
def test_an_encoder_with_few_positions_is_ready_and_scores(case: Case, tmp_path: Path) -> None:
    words = " ".join(case["request"]["body"]["items"][0].values())
    folder = save_bert(tmp_path / "encoder", head=False, words=words, positions=64)
    app = create_app(Settings(gold="none"), encoder_loader=lambda _: load_encoder(str(folder), "cpu"))
    with TestClient(app, "http://localhost") as client:
        until(lambda: client.get("/readyz").status_code == 200, 60)
        is_scored(client, case)


# Client ---------------------------------------------------------------------------------------------------------


def refuse(_: client_server.Served, handler: BaseHTTPRequestHandler, __: int) -> None:
    handler.send_error(403)


@pytest.mark.parametrize("case", ["R24", "R25", "R26"], indirect=True)
def test_variables_of_another_environment_do_not_stop_a_client_on_this_machine(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with client_server.serving(client_server.answer) as service, client_server.serving(refuse) as proxy:
        port = str(httpx.URL(proxy.url).port)
        for environment in case["client"].get("envs") or [case["client"]["env"]]:
            with monkeypatch.context() as patched:
                for name, value in environment.items():
                    patched.setenv(name, value.replace("PORT_OF_A_PROXY_THAT_ANSWERS_403", port))
                with RewardClient(service.url, api_key="k") as client:
                    assert client.score([Item(prompt="Why?", response="Because.")]).rewards == [0.5]
                for variable in {"HTTPS_PROXY", "SSL_CERT_FILE"} & environment.keys():
                    with pytest.raises(RewardError, match=variable):
                        RewardClient("https://service.test")
    assert proxy.connections == 0


# Files ----------------------------------------------------------------------------------------------------------


def file_of(case: Case, tmp_path: Path) -> Path:
    path = tmp_path / str(case["file"]["name"])
    encoded = case["file"].get("base64")
    path.write_bytes(base64.b64decode(encoded) if encoded else case["file"]["content"].encode())
    return path


def scored(url: str, source: Path, target: Path) -> Sequence[dict[str, Any]]:
    """The rows of `glassbox score`, which is run twice: the second time there is nothing left to do."""
    run = partial(main, ["score", str(source), str(target), "--url", url])
    assert (run(), run()) == (0, 0)
    return [json.loads(line, parse_constant=pytest.fail) for line in target.read_text().splitlines()]


READ: dict[str, Callable[[dict[str, Any]], object]] = {
    "R27": lambda row: row["prompt"] == "What is dew?",
    "R28": lambda row: row["id"] == 7 and row["result"]["id"] == "7",
    "R33": lambda row: row["result"]["reward"] is not None,
    "R37": lambda row: row["old_score"] is None,
}
REFUSED = {"R31": "line 1: result: ", "R32": "line 1: response: the field is repeated"}


@pytest.mark.parametrize("case", READ, indirect=True)
def test_a_file_is_scored(case: Case, tmp_path: Path) -> None:
    with serving(Settings()) as url:
        (row,) = scored(url, file_of(case, tmp_path), tmp_path / "out.jsonl")
    assert READ[case["id"]](row)


@pytest.mark.parametrize("case", REFUSED, indirect=True)
def test_a_file_is_refused_with_line_and_field(case: Case, tmp_path: Path) -> None:
    source, target = file_of(case, tmp_path), tmp_path / "out.jsonl"
    with serving(Settings()) as url, pytest.raises(SystemExit) as ended:
        main(["score", str(source), str(target), "--url", url])
    assert REFUSED[case["id"]] in str(ended.value.code)
    assert not target.exists()


@pytest.mark.parametrize(("case", "first"), [("R29", ("0", None)), ("R30", ("p0", "1"))], indirect=["case"])
def test_a_file_of_prompts_is_read(case: Case, first: tuple[str, str | None], tmp_path: Path) -> None:
    path = file_of(case, tmp_path)
    prompts = load_prompts(str(path), Columns())
    assert len(prompts) == len(path.read_text().splitlines())
    assert (prompts[0].id, prompts[0].reference) == first
