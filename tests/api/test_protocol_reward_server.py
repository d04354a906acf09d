"""The gold model under the names and in the shapes of vLLM, SGLang and TEI: its scores are those of /score."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from transformers import AutoTokenizer

from reward_service.app import create_app
from reward_service.models.load_gold import load_gold
from reward_service.settings import Settings
from tests.doubles import LetterEncoder
from tests.gold_models import save_chat_model
from tests.live import until

PROMPT, RESPONSE, WORSE = "Why is the sky blue?", "Air scatters blue light most.", "No idea"
MESSAGES = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": RESPONSE}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("rm") / "tiny-rm")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[TestClient]:
    """A service with a small chat reward model of random weights."""
    app = create_app(
        Settings(gold=str(folder)),
        encoder_loader=lambda _: LetterEncoder(),
        gold_loader=lambda settings: load_gold(settings.gold, "cpu"),
    )
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        until(lambda: client.get("/health").status_code == 200)
        yield client


@pytest.fixture(scope="module")
def rendered(folder: Path) -> list[str]:
    """Both conversations in the model's template, without the first token, which the tokenizer adds itself."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [[MESSAGES[0], {"role": "assistant", "content": text}] for text in (RESPONSE, WORSE)]
    texts = [str(tokenizer.apply_chat_template(one, tokenize=False)) for one in turns]
    return [text.removeprefix("<|begin|>") for text in texts]


@pytest.fixture(scope="module")
def logits(server: TestClient) -> list[float]:
    """What /score returns for both."""
    items = [{"prompt": PROMPT, "response": response} for response in (RESPONSE, WORSE)]
    reply = server.post("/score", json={"items": items, "gold": True, "recipe": "li"}).json()
    scores = [result["gold_reward"] for result in reply["results"]]
    assert abs(scores[0] - scores[1]) > 1e-3
    return scores


def ok(server: TestClient, path: str, body: dict[str, Any]) -> Any:
    reply = server.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


# vLLM ----------------------------------------------------------------------------------------------------------


def test_classify_has_the_fields_that_verl_reads(
    server: TestClient, rendered: list[str], logits: list[float]
) -> None:
    reply = ok(server, "/classify", {"model": "x/tiny-rm", "input": rendered[0], "use_activation": False})

    assert reply["data"][-1]["probs"][-1] == pytest.approx(logits[0], rel=1e-6)
    assert reply["data"][0] | {"probs": []} == {"index": 0, "label": "LABEL_0", "probs": [], "num_classes": 1}
    assert reply["object"] == "list"
    assert reply["id"].startswith("classify-")
    assert reply["model"].endswith("tiny-rm")
    assert reply["usage"]["prompt_tokens"] == reply["usage"]["total_tokens"] > len(RESPONSE)
    assert reply["notices"] == []


@pytest.mark.parametrize("path", ["/classify", "/v1/classify"])
def test_classify_takes_lists_and_messages(
    server: TestClient, rendered: list[str], logits: list[float], path: str
) -> None:
    both = ok(server, path, {"input": rendered})
    one = ok(server, path, {"messages": MESSAGES})

    assert [data["probs"][0] for data in both["data"]] == pytest.approx(logits, rel=1e-6)
    assert [data["index"] for data in both["data"]] == [0, 1]
    assert one["data"][0]["probs"] == pytest.approx(logits[:1], rel=1e-6)


def test_pooling_has_the_same_scores(server: TestClient, rendered: list[str], logits: list[float]) -> None:
    reply = ok(server, "/pooling", {"model": "tiny-rm", "input": rendered, "task": "classify"})

    assert [data["data"][0] for data in reply["data"]] == pytest.approx(logits, rel=1e-6)
    assert {data["object"] for data in reply["data"]} == {"pooling"}


def test_special_tokens_are_added_unless_the_request_says_not_to(
    server: TestClient, rendered: list[str], logits: list[float]
) -> None:
    whole = f"<|begin|>{rendered[0]}"
    reply = ok(server, "/classify", {"input": whole, "add_special_tokens": False})
    doubled = ok(server, "/classify", {"input": whole})

    assert reply["data"][0]["probs"] == pytest.approx(logits[:1], rel=1e-6)
    assert doubled["usage"]["prompt_tokens"] == reply["usage"]["prompt_tokens"] + 1


def test_a_text_is_truncated_only_on_request(server: TestClient) -> None:
    long = "word " * 100
    cut = ok(server, "/classify", {"input": long, "truncate_prompt_tokens": -1})
    short = ok(server, "/classify", {"input": long, "truncate_prompt_tokens": 10})
    refused = server.post("/classify", json={"input": ["short", long]})

    assert (cut["usage"]["prompt_tokens"], short["usage"]["prompt_tokens"]) == (256, 10)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == ["input.1"]
    assert "at most 256" in refused.json()["errors"][0]["message"]


def test_another_model_is_named_in_the_reply_and_models_are_listed(server: TestClient) -> None:
    reply = ok(server, "/classify", {"model": "other/rm", "input": "Hi"})
    models = server.get("/v1/models").json()

    assert "'other/rm'" in reply["notices"][0]
    assert [model["id"] for model in models["data"]] == [reply["model"]]


# SGLang --------------------------------------------------------------------------------------------------------


def test_sglangs_classify_replies_with_an_object_or_a_list(
    server: TestClient, rendered: list[str], logits: list[float]
) -> None:
    one = ok(server, "/classify", {"text": rendered[0]})
    both = ok(server, "/classify", {"text": rendered})

    assert one["embedding"] == pytest.approx(logits[:1], rel=1e-6)
    assert one["meta_info"]["prompt_tokens"] > len(RESPONSE)
    assert [result["embedding"][0] for result in both] == pytest.approx(logits, rel=1e-6)


def test_embeddings_have_the_fields_that_verl_reads(
    server: TestClient, rendered: list[str], logits: list[float]
) -> None:
    reply = ok(server, "/v1/embeddings", {"model": "tiny-rm", "input": rendered[0]})

    assert reply["data"][-1]["embedding"][-1] == pytest.approx(logits[0], rel=1e-6)
    assert (reply["data"][0]["object"], reply["data"][0]["index"]) == ("embedding", 0)


# Text Embeddings Inference ------------------------------------------------------------------------------------


def test_predict_takes_a_text_a_pair_and_a_mixed_list(
    server: TestClient, rendered: list[str], logits: list[float]
) -> None:
    text = ok(server, "/predict", {"inputs": rendered[0], "raw_scores": True})
    pair = ok(server, "/predict", {"inputs": [PROMPT, RESPONSE]})
    mixed = ok(server, "/predict", {"inputs": [[PROMPT, WORSE], [rendered[0]]]})

    assert text == [{"score": pytest.approx(logits[0], rel=1e-6), "label": "LABEL_0"}]
    assert pair == text
    assert [one[0]["score"] for one in mixed] == pytest.approx([logits[1], logits[0]], rel=1e-6)


def test_rerank_returns_the_best_response_first(server: TestClient, logits: list[float]) -> None:
    texts = [RESPONSE, WORSE]
    plain = ok(server, "/rerank", {"query": PROMPT, "texts": texts})
    with_text = ok(server, "/rerank", {"query": PROMPT, "texts": texts, "return_text": True})

    assert [rank["score"] for rank in plain] == pytest.approx(sorted(logits, reverse=True), rel=1e-6)
    assert [set(rank) for rank in plain] == [{"index", "score"}] * 2
    assert [rank["text"] for rank in with_text] == [texts[rank["index"]] for rank in plain]
    assert [logits[rank["index"]] for rank in plain] == pytest.approx([rank["score"] for rank in plain], rel=1e-6)


def test_truncation_keeps_the_side_that_the_request_says(server: TestClient) -> None:
    start, end = "good " * 60, "bad " * 70
    kept = {
        side: ok(server, "/predict", {"inputs": start + end, "truncate": True, "truncation_direction": side})
        for side in ("left", "right")
    }

    assert kept["right"] == ok(server, "/predict", {"inputs": (start + end)[:255]})
    assert kept["left"] == ok(server, "/predict", {"inputs": (start + end)[-255:]})


# Wrong use -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/classify", {"model": "rm"}, "input"),
        ("/classify", {"input": "a", "messages": MESSAGES}, "input"),
        ("/classify", {"input": [1, 2, 3]}, "input"),
        ("/pooling", {"input": [[1, 2], [3]]}, "input"),
        ("/classify", {"text": "a", "input": "a"}, "text"),
        ("/classify", {"input_ids": [1, 2]}, "input_ids"),
        ("/classify", {"input": []}, "input"),
        ("/classify", {"input": {"prompt": "a"}}, "input"),
        ("/classify", {"input": ["a", None]}, "input.1"),
        ("/classify", {"input": "a", "use_activation": True}, "use_activation"),
        ("/classify", {"messages": MESSAGES, "chat_template": "{{ messages }}"}, "chat_template"),
        ("/classify", {"messages": MESSAGES[:1]}, "messages"),
        ("/classify", {"messages": []}, "messages"),
        ("/classify", {"messages": [*MESSAGES, MESSAGES[0]]}, "messages"),
        ("/classify", {"messages": [{"role": "robot", "content": "a"}, MESSAGES[1]]}, "messages"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "base64"}, "encoding_format"),
        ("/predict", {"inputs": "a", "raw_scores": False}, "raw_scores"),
        ("/predict", {"inputs": ["a", "b", "c"]}, "inputs"),
        ("/predict", {"inputs": []}, "inputs"),
        ("/predict", {"inputs": [["a"], [1, 2]]}, "inputs.1"),
        ("/rerank", {"query": "a", "texts": []}, "texts"),
        ("/rerank", {"query": "a", "documents": ["b"]}, "texts"),
    ],
)
def test_wrong_use_names_the_field(server: TestClient, path: str, body: dict[str, Any], field: str) -> None:
    reply = server.post(path, json=body)

    assert reply.status_code == 422, reply.text
    assert [error["field"] for error in reply.json()["errors"]] == [field]


def test_token_ids_are_refused_with_what_to_send(server: TestClient) -> None:
    assert "send text" in server.post("/classify", json={"input": [1, 2, 3]}).json()["detail"]


def test_a_large_body_is_read_in_steps_with_the_same_result(service: TestClient) -> None:
    texts = [f"{number} " + "x" * 900 for number in range(100)]

    reply = ok(service, "/classify", {"input": texts})

    assert [data["probs"][0] for data in reply["data"]] == [len(text) / 10 for text in texts]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/classify", {"input": ["a"] * 101}, None),
        ("/classify", {"input": ["a", "x" * 400_001]}, "input.1"),
        ("/rerank", {"query": "x" * 10_001, "texts": ["a"]}, "query"),
        ("/predict", {"inputs": ["x" * 10_001, "a"]}, "inputs"),
        (
            "/classify",
            {"messages": [{"role": "user", "content": "x" * 10_001}, MESSAGES[1]]},
            "messages.0.content",
        ),
    ],
)
def test_what_is_over_a_limit_is_too_large(
    service: TestClient, path: str, body: dict[str, Any], field: str | None
) -> None:
    reply = service.post(path, json=body)

    assert reply.status_code == 413
    assert [error["field"] for error in reply.json().get("errors", [])] == ([field] if field else [])


ROUTES = [
    ("/classify", {"input": "NAN"}),
    ("/classify", {"text": ["a", "NAN"]}),
    ("/classify", {"messages": [MESSAGES[0], {"role": "assistant", "content": "NAN"}]}),
    ("/pooling", {"input": ["NAN"]}),
    ("/v1/embeddings", {"input": "NAN"}),
    ("/predict", {"inputs": "NAN"}),
    ("/predict", {"inputs": [["a", "NAN"]]}),
    ("/rerank", {"query": "a", "texts": ["b", "NAN"]}),
]


@pytest.mark.parametrize(("path", "body"), ROUTES)
def test_a_gold_score_that_is_nan_is_an_error_and_no_number(
    service: TestClient, path: str, body: dict[str, Any]
) -> None:
    reply = service.post(path, json=body)

    assert reply.status_code == 500
    assert "the gold model answered nan" in reply.json()["detail"]


@pytest.mark.parametrize(("path", "body"), ROUTES)
def test_without_a_gold_model_the_error_says_how_to_load_one(path: str, body: dict[str, Any]) -> None:
    app = create_app(Settings(encoder="none", gold="none", default_recipe="li"))
    with TestClient(app, "http://localhost") as client:
        reply = client.post(path, json=body)
        models = client.get("/v1/models").json()

    assert reply.status_code == 422
    assert "start it with --gold" in reply.json()["detail"]
    assert models["data"] == []


@pytest.mark.parametrize("option", ["recipe=li", "gold=true", "dataset=a", "dataset_miss=fail"])
@pytest.mark.parametrize("option_first", [True, False])
def test_scoring_options_are_refused_because_they_have_no_effect(
    service: TestClient, option: str, option_first: bool
) -> None:
    url = f"/classify?{option}&seen=1" if option_first else f"/classify?seen=1&{option}"
    reply = service.post(url, json={"input": "Hi"})

    assert reply.status_code == 422
    assert [error["field"] for error in reply.json()["errors"]] == [option.partition("=")[0]]
    assert "gold model's scores" in reply.json()["detail"]
