"""Data sets: a prompt finds its reference in whatever form it arrives, and a wrong upload changes nothing."""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import jinja2
import pytest
from fastapi.testclient import TestClient

from reward_client.wire import DatasetInfo
from reward_service.app import PROTOCOLS, create_app
from reward_service.datasets.store import DatasetStore
from reward_service.errors import ConfigurationError
from reward_service.protocols.base import ProtocolSpec
from reward_service.settings import Settings
from tests.api.conftest import wait_until_loaded
from tests.doubles import LengthGold, LetterEncoder
from tests.fixtures.chat_templates import ENDS, TEMPLATES
from tests.live import posted, serving, until

KEY, OTHER_KEY = "sesame-9f27c1d4", "barley-51b0aa37"

QUESTION = "Who wrote “Emma”?\nOne name."
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello."},
    {"role": "assistant", "content": "Good day."},
    {"role": "user", "content": QUESTION},
]


@contextmanager
def service_with(headers: dict[str, str] | None = None, **settings: Any) -> Iterator[TestClient]:
    app = create_app(
        Settings(default_recipe="rer", **settings),
        encoder_loader=lambda _: LetterEncoder(),
        gold_loader=lambda _: LengthGold(),
    )
    with TestClient(app, "http://localhost", headers=headers, raise_server_exceptions=False) as client:
        wait_until_loaded(client)
        yield client


def lines(*rows: Any) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def put(client: Any, *rows: Any, name: str = "train", **parameters: str) -> Any:
    """The counts of the uploaded data set."""
    reply = client.put(f"/datasets/{name}", params=parameters, content=lines(*rows))
    assert reply.status_code == 200, reply.text
    return reply.json()


def errors(reply: httpx.Response) -> dict[str, str]:
    """Message by field of a refused upload."""
    assert reply.status_code == 422, reply.text
    return {error["field"]: error["message"] for error in reply.json()["errors"]}


def score(client: Any, prompt: Any, options: str = "?dataset=train", **fields: Any) -> Any:
    reply = client.post(f"/score{options}", json={"items": [{"prompt": prompt, "response": "a b c"} | fields]})
    return reply.json()["results"][0] if reply.status_code == 200 else reply.json()


# The same prompt, in any form -----------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [1, 3, 4], ids=["system-and-user", "several-turns", "conversation"])
@pytest.mark.parametrize("family", TEMPLATES)
def test_a_rendered_prompt_finds_its_row(service: TestClient, family: str, turns: int) -> None:
    rows = {1: CONVERSATION[3:], 3: CONVERSATION[1:], 4: CONVERSATION}
    environment = jinja2.Environment(keep_trailing_newline=True)  # noqa: S701 (no HTML)
    prompt = environment.from_string(TEMPLATES[family]).render(messages=rows[turns])
    put(service, {"prompt": rows[turns], "reference": "a b c"})

    answer = f"{prompt}a b c{ENDS.get(family, '<|im_end|>')}"
    reply = service.post("/get_reward?dataset=train", json={"query": [answer], "prompts": [prompt]}).json()

    assert "dataset_hit" in reply["flags"][0]
    assert reply["extra_logs"]["closed_ended"] == [1.0]


@pytest.mark.parametrize(
    "prompt",
    [
        QUESTION,
        f"  {QUESTION}\n\n",
        QUESTION.replace("\n", "\r\n"),
        [{"role": "user", "content": QUESTION}],
        [{"role": "system", "content": "Think."}, {"role": "user", "content": QUESTION}],
        [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}],
    ],
    ids=["text", "space", "line ends", "messages", "system", "parts"],
)
def test_text_and_messages_find_the_row(service: TestClient, prompt: Any) -> None:
    put(service, {"prompt": QUESTION, "reference": "a b c"})

    result = score(service, prompt)

    assert result["flags"] == ["dataset_hit"]
    assert result["query_type"] == "closed_ended"


def test_unicode_forms_of_a_prompt_are_equal(service: TestClient) -> None:
    put(service, {"prompt": unicodedata.normalize("NFD", "Où est l’été?"), "reference": "ici"})

    assert score(service, unicodedata.normalize("NFC", "Où est l’été?"))["flags"] == ["dataset_hit"]


@pytest.mark.parametrize("prompt", ["who wrote “emma”?\nOne name.", QUESTION.replace("\n", "  "), "Hello."])
def test_another_text_is_another_prompt(service: TestClient, prompt: str) -> None:
    put(service, {"prompt": CONVERSATION, "reference": "Austen"}, {"prompt": QUESTION, "reference": "Jane"})

    assert score(service, prompt)["errors"][0]["field"] == "items.0.prompt"


def test_the_reward_is_that_of_the_item_with_its_reference(service: TestClient) -> None:
    put(service, {"prompt": "Why?", "reference": ["x y", "a b"]}, {"prompt": "Open?", "query_type": "open_ended"})

    given = score(service, "Why?", "", reference=["x y", "a b"], query_type="closed_ended")
    found, is_open = score(service, "Why?"), score(service, "Open?")

    assert found["reward"] == given["reward"] != 0
    assert "best_reference_1" in found["flags"]
    assert is_open["query_type"] == "open_ended"
    assert is_open["query_type_source"] == "given"


def test_an_item_keeps_its_own_reference_and_query_type(service: TestClient) -> None:
    put(service, {"prompt": "Why?", "reference": "x"})

    own = score(service, "Why?", reference="a b c", query_type="closed_ended")
    is_open = score(service, "Why?", query_type="open_ended")

    assert own == score(service, "Why?", "", reference="a b c", query_type="closed_ended")
    assert is_open["query_type"] == "open_ended"
    assert is_open["flags"] == ["dataset_hit"]


RENDERED = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
CHAT = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "a b"}]
BODIES: dict[str, Any] = {
    "/score": {"items": [{"prompt": "Why?", "response": "a b"}]},
    "/get_reward": {"query": [f"{RENDERED}a b<|im_end|>"], "prompts": [RENDERED]},
    "/llamafactory": {"model": "model", "messages": [f"{RENDERED}a b<|im_end|>"]},
    "/eval_protocol": {"messages": CHAT},
    "/xtuner": {"response": "a b", "label": {"prompt": "Why?"}},
    "/paddlenlp": {"src": [RENDERED], "tgt": [""], "response": ["a b"]},
    "/slime": {"prompt": RENDERED, "response": "a b<|im_end|>", "label": None},
    "/nemo_gym/verify": {
        "responses_create_params": {"input": "Why?"},
        "response": {"output": [{"type": "message", "content": [{"type": "output_text", "text": "a b"}]}]},
    },
}
"""A request without a reference, by route."""


@pytest.mark.parametrize(
    "spec", [spec for spec in PROTOCOLS if isinstance(spec, ProtocolSpec)], ids=lambda s: s.name
)
def test_every_protocol_finds_references(service: TestClient, spec: ProtocolSpec[Any]) -> None:
    put(service, {"prompt": "Why?", "reference": "a b"})
    (path,) = (route.path for route in spec.routes if route.path in BODIES)

    found = service.post(f"{path}?dataset=train", json=BODIES[path])
    info = service.get("/datasets/train").json()

    assert found.status_code == 200, found.text
    assert (info["hits"], info["misses"]) == (1, 0)


def test_the_items_of_a_request_find_no_more_text_than_a_body_may_have() -> None:
    with service_with(max_body_bytes=10_000) as service:
        put(service, {"prompt": "Why?", "reference": "x" * 3_000})
        items = [{"prompt": "Why?", "response": "a b c"}] * 4
        within = service.post("/score?dataset=train", json={"items": items[:3]})
        refused = service.post("/score?dataset=train", json={"items": items})

    assert within.status_code == 200
    assert refused.status_code == 413
    assert "max_body_bytes" in refused.json()["detail"]


# Misses ---------------------------------------------------------------------------------------------------------


def test_a_prompt_that_is_not_found_fails_or_is_open_ended_as_the_url_says(service: TestClient) -> None:
    put(service, {"prompt": "Why?", "reference": "x"})
    items = [{"prompt": prompt, "response": "a b c"} for prompt in ("Why?", "How?")]
    reported = service.post("/score?dataset=train", json={"items": items, "on_item_error": "report"}).json()
    scored = service.post("/score?dataset=train&dataset_miss=open_ended", json={"items": items}).json()

    assert reported["results"][1]["reward"] is None
    assert reported["results"][1]["error"]["field"] == "prompt"
    assert "is not in the data set 'train'" in reported["results"][1]["error"]["message"]
    assert scored["results"][1]["flags"] == ["dataset_miss"]
    assert scored["results"][1] == {
        **score(service, "How?", ""),
        "flags": ["dataset_miss"],
    }
    assert scored["notices"] == ["1 of 2 prompts are not in the data set 'train'"]


def test_errors_name_the_field_of_the_protocol(service: TestClient) -> None:
    put(service, {"prompt": "Why?", "reference": "x"})
    problem = service.post("/get_reward?dataset=train", json={"query": ["How?a b"], "prompts": ["How?"]}).json()

    assert [error["field"] for error in problem["errors"]] == ["prompts.0"]


def test_an_item_with_a_query_type_is_refused_only_if_it_needs_a_reference(service: TestClient) -> None:
    put(service, {"prompt": "Why?", "reference": "x"})
    options = "?dataset=train&dataset_miss=open_ended"

    assert score(service, "How?", query_type="open_ended")["flags"] == ["dataset_miss"]
    assert score(service, "How?", options, query_type="closed_ended")["errors"][0]["field"] == "items.0.prompt"


def test_hits_and_misses_are_counted(service: TestClient) -> None:
    put(service, {"prompt": "Why?", "reference": "x"})
    for prompt in ("Why?", "Why?", "How?"):
        score(service, prompt)

    info, metrics = service.get("/datasets/train").json(), service.get("/metrics").text

    assert (info["hits"], info["misses"]) == (2, 1)
    assert 'glassbox_dataset_items_total{outcome="hit"} 2.0' in metrics
    assert 'glassbox_dataset_items_total{outcome="miss"} 1.0' in metrics


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ("?dataset=other", "dataset"),
        ("?dataset=../train", "dataset"),
        ("?dataset=train&dataset_miss=zero", "dataset_miss"),
        ("?dataset_miss=fail", "dataset_miss"),
        ("?dataset=train&dataset=train", "dataset"),
    ],
)
@pytest.mark.parametrize("path", ["/score", "/get_reward"])
def test_a_wrong_option_is_refused_by_name(service: TestClient, path: str, options: str, field: str) -> None:
    put(service, {"prompt": "Why?", "reference": "x"})
    body = {"items": [{"prompt": "Why?", "response": "b"}]} if path == "/score" else {"query": "Why?b"}
    reply = service.post(f"{path}{options}", json=body)

    assert reply.status_code == 422
    assert [error["field"] for error in reply.json()["errors"]] == [field]
    assert field != "dataset" or "other" not in options or "known: train" in reply.json()["detail"]


def test_an_unknown_parameter_is_refused_because_it_may_be_a_data_set(service: TestClient) -> None:
    assert score(service, "Why?", "?datset=train")["errors"][0]["field"] == "datset"


# Uploads --------------------------------------------------------------------------------------------------------


def test_an_upload_is_listed_replaced_and_deleted(service: TestClient) -> None:
    first = put(
        service, {"prompt": "Why?", "reference": "x"}, {"prompt": "Open?"}, {"prompt": "Why?", "reference": "x"}
    )
    assert {name: first[name] for name in ("rows", "prompts", "with_reference", "query_types", "persistent")} == {
        "rows": 3,
        "prompts": 2,
        "with_reference": 1,
        "query_types": {"closed_ended": 1, "open_ended": 1},
        "persistent": False,
    }
    put(service, {"prompt": "How?", "reference": "y"})

    assert [info["prompts"] for info in service.get("/datasets").json()["datasets"]] == [1]
    assert "errors" in score(service, "Why?")
    assert score(service, "How?")["flags"] == ["dataset_hit"]
    assert service.delete("/datasets/train").status_code == 204
    assert service.get("/datasets").json()["datasets"] == []
    assert {service.delete("/datasets/train").status_code, service.get("/datasets/train").status_code} == {404}


def test_columns_and_the_query_type_of_rows_without_one_are_parameters(service: TestClient) -> None:
    rows = [{"question": "Why?", "answer": 42, "id": 1, "kind": None}, {"question": "How?", "kind": "OPENENDED"}]
    info = put(
        service,
        *rows,
        prompt_column="question",
        reference_column="answer",
        query_type_column="kind",
        query_type_default="open_ended",
    )
    unknown = service.put("/datasets/train?prompt_colum=question", content=lines(*rows))

    assert info["query_types"] == {"open_ended": 2}
    assert info["with_reference"] == 1
    assert errors(unknown) == {"query.prompt_colum": "Extra inputs are not permitted"}


def test_a_prompt_with_two_references_is_an_error_or_has_both(service: TestClient) -> None:
    rows = [{"prompt": "Why?", "reference": "x"}, {"prompt": " Why?", "reference": ["a b", "x"]}]
    refused = service.put("/datasets/train", content=f"{lines(rows[0])}\n{lines(rows[1])}")

    assert errors(refused) == {"line 3.prompt": "is the prompt of line 1 too, with another reference"}
    assert put(service, *rows, duplicates="join")["prompts"] == 1
    assert "best_reference_1" in score(service, "Why?")["flags"]


def test_a_prompt_has_no_more_characters_of_references_than_an_item() -> None:
    with service_with(max_item_chars=1_000) as service:
        rows = [{"prompt": "Why?", "reference": letter * 600} for letter in "ab"]
        refused = service.put("/datasets/train?duplicates=join", content=lines(*rows))

        assert errors(refused) == {
            "line 2.prompt": "brings the references of the prompt of line 1 to more than 1000 characters"
        }


@pytest.mark.parametrize("duplicates", ["fail", "join"])
def test_a_prompt_with_two_query_types_is_an_error(service: TestClient, duplicates: str) -> None:
    rows = lines({"prompt": "Why?", "reference": "x"}, {"prompt": "Why?"})
    refused = service.put(f"/datasets/train?duplicates={duplicates}", content=rows)

    assert errors(refused) == {
        "line 2.prompt": "is the prompt of line 1 too, as closed_ended instead of open_ended"
    }


WRONG_LINES = {
    "no JSON": ("{", "line 2"),
    "no object": ("[1]", "line 2"),
    "no prompt": ('{"question": "Why?"}', "line 2.prompt"),
    "a number as prompt": ('{"prompt": 5}', "line 2.prompt"),
    "no user text": ('{"prompt": [{"role": "system", "content": "Hi."}]}', "line 2.prompt"),
    "a blank prompt": ('{"prompt": " "}', "line 2.prompt"),
    "a wrong role": ('{"prompt": [{"role": "me", "content": "Hi."}]}', "line 2.prompt.0.role"),
    "an object as reference": ('{"prompt": "a", "reference": {"b": 1}}', "line 2.reference"),
    "NaN as reference": ('{"prompt": "a", "reference": NaN}', "line 2.reference"),
    "a wrong query type": ('{"prompt": "a", "query_type": "maths"}', "line 2.query_type"),
    "no reference": ('{"prompt": "a", "query_type": "closed_ended", "reference": " "}', "line 2.reference"),
    "a repeated field": ('{"prompt": "a", "prompt": "b"}', "line 2.prompt"),
    "half of a surrogate pair": ('{"prompt": "\\ud800"}', "line 2.prompt"),
    "no UTF-8": (b'{"prompt": "\xff"}', "line 2"),
    "too many references": (json.dumps({"prompt": "a", "reference": ["b"] * 65}), "line 2.reference"),
    "a long text": (json.dumps({"prompt": "a" * 10_001}), "line 2.prompt"),
    "deep nesting": ('{"prompt": "a", "meta": ' + "[" * 5_000 + "]" * 5_000 + "}", "line 2.meta"),
}


@pytest.mark.parametrize(("line", "field"), WRONG_LINES.values(), ids=WRONG_LINES)
def test_a_wrong_line_is_named_and_the_previous_data_set_stays(
    service: TestClient, line: str | bytes, field: str
) -> None:
    put(service, {"prompt": "Why?", "reference": "x"})
    content = b'{"prompt": "Good?"}\n' + (line if isinstance(line, bytes) else line.encode())
    reply = service.put("/datasets/train", content=content)

    assert list(errors(reply)) == [field]
    assert score(service, "Why?")["flags"] == ["dataset_hit"]


@pytest.mark.parametrize(
    "row",
    [
        {f"{n}{'x' * 10_000}": 1 for n in range(20)},
        {"prompt": [{"role": "user", "content": "a", "y" * 10_000: 1}]},
    ],
    ids=["a column", "a key of a message"],
)
def test_an_error_quotes_little_of_a_long_name(service: TestClient, row: Any) -> None:
    ((field, message),) = errors(service.put("/datasets/train", content=lines(row))).items()

    assert field.startswith("line 1")
    assert len(field) <= 300
    assert len(message) <= 500


def test_reading_stops_at_a_hundred_errors(service: TestClient) -> None:
    reply = service.put("/datasets/train", content="[]\n" * 50_000)

    assert reply.status_code == 422
    assert len(reply.content) <= 64 * 1024
    assert len(reply.json()["errors"]) == 100


def test_an_empty_upload_is_refused(service: TestClient) -> None:
    assert errors(service.put("/datasets/train", content="\n\n")) == {"body": "has no row"}


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"max_dataset_rows": 2}, [{"prompt": str(n)} for n in range(3)]),
        ({"datasets_bytes": 100_000}, [{"prompt": str(n), "reference": "x" * 1_000} for n in range(200)]),
        ({"max_upload_bytes": 100_000}, [{"prompt": str(n), "other": "x" * 1_000} for n in range(200)]),
    ],
    ids=["rows", "kept bytes", "body"],
)
def test_a_data_set_over_a_limit_is_refused_and_nothing_is_kept(settings: Any, rows: list[Any]) -> None:
    with service_with(**settings) as service:
        reply = service.put("/datasets/train", content=lines(*rows))

        assert reply.status_code == 413, reply.text
        assert service.get("/datasets").json()["datasets"] == []
        assert put(service, {"prompt": "Why?", "reference": "x"})["prompts"] == 1


def test_the_number_of_data_sets_is_bounded_and_one_can_be_replaced() -> None:
    with service_with(max_datasets=3) as service:
        row = {"prompt": "Why?", "reference": "x"}
        put(service, row, name="a")
        put(service, row, name="b")
        refused = service.put("/datasets/c", content=lines(row))

        assert refused.status_code == 413
        assert "Delete one first" in refused.json()["detail"]
        assert put(service, row, {"prompt": "How?"}, name="b")["prompts"] == 2
        service.delete("/datasets/a")
        assert put(service, row, name="c")["prompts"] == 1


# Owners ---------------------------------------------------------------------------------------------------------


def test_a_data_set_belongs_to_the_key_that_uploaded_it(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n{OTHER_KEY}\n")
    with service_with({"x-api-key": KEY}, api_keys_file=keys) as service:
        other = {"x-api-key": OTHER_KEY}
        put(service, {"prompt": "Why?", "reference": "a b c"})
        assert service.get("/datasets", headers=other).json()["datasets"] == []
        assert service.delete("/datasets/train", headers=other).status_code == 404
        assert service.put("/datasets/train", headers=other, content=lines({"prompt": "Why?"})).status_code == 200

        assert score(service, "Why?")["query_type"] == "closed_ended"
        assert service.get("/datasets/train", headers={"x-api-key": "wrong-key-0000"}).status_code == 401


# The folder -----------------------------------------------------------------------------------------------------


def test_a_folder_keeps_data_sets_over_a_restart(tmp_path: Path) -> None:
    with service_with(datasets_dir=tmp_path / "new") as service:
        uploaded = put(service, {"prompt": "Why?", "reference": "x"})
    with service_with(datasets_dir=tmp_path / "new") as service:
        assert uploaded["persistent"]
        assert service.get("/datasets").json() == {"datasets": [uploaded], "persistent": True}
        assert score(service, "Why?")["flags"] == ["dataset_hit"]


def test_replicas_that_share_a_folder_see_what_another_one_uploads_and_deletes(tmp_path: Path) -> None:
    with service_with(datasets_dir=tmp_path) as one, service_with(datasets_dir=tmp_path) as two:
        put(one, {"prompt": "Why?", "reference": "x"})
        assert score(two, "Why?")["flags"] == ["dataset_hit"]
        put(two, {"prompt": "How?", "reference": "x"})
        assert score(one, "How?")["flags"] == ["dataset_hit"]
        one.delete("/datasets/train")
        assert score(two, "Why?")["status"] == 422


def test_a_name_is_never_a_path(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n{OTHER_KEY}\n")
    with service_with({"x-api-key": KEY}, api_keys_file=keys, datasets_dir=tmp_path / "kept") as service:
        put(service, {"prompt": "Why?", "reference": "x"})
        (file,) = tmp_path.rglob("*.sqlite")
        service.headers["x-api-key"] = OTHER_KEY
        put(service, {"prompt": "How?", "reference": "x"}, name="other")

        assert score(service, "Why?", f"?dataset=../{file.parent.name}/train")["status"] == 422


def test_a_damaged_file_is_an_error_and_no_reward(tmp_path: Path) -> None:
    with service_with(datasets_dir=tmp_path) as service:
        put(service, {"prompt": "Why?", "reference": "x"})
        (file,) = tmp_path.rglob("*.sqlite")
        file.write_bytes(b"no database" * 100)

        assert score(service, "Why?")["status"] == 500
        assert "'train' cannot be read" in score(service, "Why?")["detail"]


def test_the_file_has_no_prompts(tmp_path: Path) -> None:
    with service_with(datasets_dir=tmp_path) as service:
        put(service, {"prompt": "a very secret prompt", "reference": "the answer"})
    (file,) = tmp_path.rglob("*.sqlite")

    assert b"secret" not in file.read_bytes()
    assert [path.name for path in tmp_path.rglob("*.upload")] == []


def test_a_folder_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="datasets_dir"):
        create_app(Settings(datasets_dir=tmp_path / "file"))


# Connections ----------------------------------------------------------------------------------------------------


def test_an_upload_that_is_not_finished_changes_nothing(tmp_path: Path) -> None:
    with (
        serving(Settings(default_recipe="rer", datasets_dir=tmp_path)) as url,
        httpx.Client(base_url=url) as client,
    ):
        put(client, {"prompt": "Why?", "reference": "x"})
        rows = lines(*({"prompt": f"How {n}?", "reference": "y"} for n in range(5_000))).encode()
        connection = posted(url, "/datasets/train", rows, method="PUT", declared=2 * len(rows))
        until(lambda: list(tmp_path.rglob("*.upload")))
        connection.close()
        until(lambda: not list(tmp_path.rglob("*.upload")))

        assert score(client, "Why?")["flags"] == ["dataset_hit"]
        assert score(client, "How 1?")["status"] == 422
        assert client.get("/metrics").text.count("glassbox_request_bytes 0.0") == 1


def test_an_upload_larger_than_the_memory_of_requests_is_read_as_it_arrives() -> None:
    with serving(Settings(default_recipe="rer", max_waiting_bytes=4_000_000)) as url:
        rows = lines(*({"prompt": f"How {n}?", "other": "x" * 2_000, "reference": n} for n in range(4_000)))
        reply = httpx.put(f"{url}/datasets/train", content=rows, timeout=60)

        assert reply.status_code == 200, reply.text
        assert reply.json()["prompts"] == 4_000


def test_an_upload_over_the_deadline_is_refused() -> None:
    with serving(Settings()) as url:
        connection = posted(
            url, "/datasets/train", b'{"prompt"', {"Glassbox-Deadline-S": "0.2"}, declared=100, method="PUT"
        )

        assert b" 504 " in connection.recv(4096)


class LateStore(DatasetStore):
    """Publishes after the deadline of the request."""

    def publish(self, *arguments: Any) -> DatasetInfo:
        time.sleep(0.6)
        return super().publish(*arguments)


def test_a_data_set_that_has_arrived_is_published_even_after_the_deadline() -> None:
    app = create_app(Settings(), encoder_loader=lambda _: LetterEncoder(), gold_loader=lambda _: LengthGold())
    with TestClient(app, "http://localhost") as client:
        app.state.glassbox = replace(app.state.glassbox, datasets=LateStore(Settings(), with_keys=False))
        content, headers = lines({"prompt": "Why?", "reference": "x"}), {"Glassbox-Deadline-S": "0.4"}
        reply = client.put("/datasets/train", content=content, headers=headers)

        assert reply.status_code == 200, reply.text
        assert client.get("/datasets/train").json() == reply.json()
