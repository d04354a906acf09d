"""Configurations of frameworks: a right one has no failed check, each fault is one with the line to write."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from reward_client.cli.main import main
from reward_client.doctor.check import Check, Status
from reward_client.doctor.config_file import read_config
from reward_client.doctor.config_settings import posted_url, service_urls
from reward_client.doctor.configuration import check_config, demand_of, recognise
from reward_client.doctor.frameworks import frameworks
from reward_service.settings import Settings
from tests.live import serving

GOOD = {
    "openrlhf": (
        "train.sh",
        r"""
        URL=http://10.0.0.1:8000
        python3 -m openrlhf.cli.train_ppo_ray \
           --reward.remote_url "$URL/r/first/get_reward?recipe=rer" \
           --data.label_key label --data.apply_chat_template   # the policy has one
        """,
    ),
    "trl": (
        "grpo.yaml",
        """
        model_name_or_path: Qwen/Qwen3-0.6B
        reward_funcs:
          - reward_client.adapters.trl.glassbox
        per_device_train_batch_size: 8
        gradient_accumulation_steps: 4
        max_completion_length: 1024
        """,
    ),
    "axolotl": (
        "axolotl.yaml",
        """
        rl: grpo
        trl:
          reward_funcs: [reward_client.adapters.trl.glassbox]
        """,
    ),
    "verl": (
        "verl.sh",
        r"""
        PYTHONUNBUFFERED=1 python3 -m verl.trainer.main_ppo \
          reward.reward_manager.source=importlib \
          reward.reward_manager.module.path=pkg://reward_client.adapters.verl \
          reward.reward_manager.name=Glassbox +reward.reward_kwargs.recipe=rer "$@"
        """,
    ),
    "verifiers": (
        "run.toml",
        """
        [env.taskset.task.rewards]
        glassbox = { fn = "reward_client.adapters.verifiers:glassbox", weight = 1.0 }
        [env.agent]
        timeout = { scoring = 600.0 }
        """,
    ),
    "slime": (
        "slime.sh",
        """
        RM_ARGS=(
           --rm-type remote_rm
           --rm-url http://10.0.0.1:8000/slime
        )
        """,
    ),
    "swift": (
        "swift.sh",
        r"""
        swift rlhf --rlhf_type grpo --reward_funcs glassbox \
          --external_plugins "$(python -m reward_client.adapters.swift)"
        """,
    ),
    "nemo-gym": (
        "glassbox.yaml",
        """
        glassbox:
          resources_servers:
            glassbox:
              entrypoint: app.py
        """,
    ),
    "skyrl": ("skyrl.yaml", "environment:\n  env_class: glassbox\n"),
    "tunix": ("tunix.yaml", 'reward_functions: ["reward_client.adapters.tunix"]\n'),
    "areal": (
        "areal.yaml",
        """
        allocation_mode: sglang:d4p1t1+d4p1t1
        reward_fn: reward_client.adapters.areal.glassbox
        """,
    ),
    "llama-factory": (
        "ppo.yaml",
        """
        stage: ppo
        reward_model: http://10.0.0.1:8000/llamafactory
        reward_model_type: api
        """,
    ),
    "paddlenlp": ("ppo.json", '{"reward_server": "http://10.0.0.1:8000/paddlenlp"}'),
}
"""By framework: the name of a file and its text."""


def checks_of(framework: str, text: str, folder: Path, environ: dict[str, str] | None = None) -> list[Check]:
    path = folder / GOOD[framework][0]
    path.write_text(dedent(text))
    return list(check_config(read_config(path), framework, environ or {}))


@pytest.mark.parametrize(("url", "n_notes"), [("http://REWARD.example:8000", 0), ("http://other.example:8000", 1)])
def test_an_address_that_is_not_the_checked_one_is_noted(tmp_path: Path, url: str, n_notes: int) -> None:
    path = tmp_path / "ppo.json"
    path.write_text('{"reward_server": "http://reward.Example:8000/paddlenlp"}')
    checks = check_config(read_config(path), "paddlenlp", {}, (url,))

    assert len([check for check in checks if check.subject == "address"]) == n_notes


@pytest.mark.parametrize("framework", GOOD)
def test_a_right_configuration_is_recognised_and_has_no_failed_check(framework: str, tmp_path: Path) -> None:
    name, text = GOOD[framework]
    path = tmp_path / name
    path.write_text(dedent(text))

    assert recognise(read_config(path)) == framework
    assert [check for check in checks_of(framework, text, tmp_path) if check.status is Status.FAILED] == []


@pytest.mark.parametrize(
    ("framework", "right", "wrong", "fix"),
    [
        ("openrlhf", "/r/first/get_reward", "/score", "write: http://10.0.0.1:8000/get_reward?recipe=rer"),
        ("openrlhf", '"$URL/r/first', '"10.0.0.1/r/first', "write: http://HOST:8000/get_reward"),
        ("openrlhf", "--reward.remote_url", "--reward.model", "add: --reward.remote_url"),
        (
            "trl",
            "adapters.trl.glassbox",
            "adapters.trl.reward",
            "write: reward_funcs: [reward_client.adapters.trl",
        ),
        ("trl", "reward_funcs:", "rewards:", "add: reward_funcs: [reward_client.adapters.trl.glassbox]"),
        (
            "trl",
            "max_completion",
            "remove_unused_columns: true\n        max_completion",
            "remove_unused_columns: false",
        ),
        ("axolotl", "rl: grpo", "rl: dpo", "write: rl: grpo"),
        ("axolotl", "adapters.trl.glassbox", "adapters.axolotl.glassbox", "reward_client.adapters.trl.glassbox"),
        ("verl", "name=Glassbox", "name=rate_limited", "write: reward.reward_manager.name=Glassbox"),
        ("verl", "pkg://", "", "module.path=pkg://reward_client.adapters.verl"),
        ("verl", "+reward.reward_kwargs", "reward.reward_kwargs", "write: +reward.reward_kwargs.recipe=…"),
        ("verl", "reward_kwargs.recipe", "reward_kwargs.recpe", "did you mean recipe?"),
        ("verl", "source=importlib", "source=register", "write: reward.reward_manager.source=importlib"),
        ("verifiers", "verifiers:glassbox", "verifiers.glassbox", '"reward_client.adapters.verifiers:glassbox"'),
        ("verifiers", "scoring = 600.0", "scoring = 6.0", "scoring = 60, and GLASSBOX_DEADLINE_S below it"),
        ("verifiers", "task.rewards]", "task.metrics]", "add: [env.taskset.task.rewards]"),
        ("slime", "8000/slime", "8000/get_reward", "write: http://10.0.0.1:8000/slime"),
        ("slime", "remote_rm", "math", "write: --rm-type remote_rm"),
        ("slime", "8000/slime", "8000/slime?keyed=1", "write: --reward-key score"),
        ("swift", '"$(python -m reward_client.adapters.swift)"', "adapters/swift.py", "--external_plugins"),
        ("swift", "--reward_funcs glassbox", "--reward_funcs format", "write: --reward_funcs glassbox"),
        ("nemo-gym", "    glassbox:\n      ", "    math:\n      ", "glassbox: {resources_servers"),
        ("nemo-gym", "app.py", "app", "write: entrypoint: app.py"),
        ("skyrl", "env_class: glassbox", "env_class: gsm8k", "write: environment.env_class=glassbox"),
        (
            "tunix",
            "adapters.tunix",
            "adapters.tunix.glassbox",
            'reward_functions: ["reward_client.adapters.tunix"]',
        ),
        ("areal", "areal.glassbox", "areal:glassbox", "write: reward_fn: reward_client.adapters.areal.glassbox"),
        ("paddlenlp", "8000/paddlenlp", "8000", "write: http://10.0.0.1:8000/paddlenlp"),
        ("llama-factory", "type: api", "type: full", "write: reward_model_type: api"),
        ("llama-factory", "/llamafactory", "/score", "write: http://10.0.0.1:8000/llamafactory"),
    ],
)
def test_one_fault_is_a_failed_check_with_the_line_to_write(
    framework: str, right: str, wrong: str, fix: str, tmp_path: Path
) -> None:
    text = GOOD[framework][1].replace(right, wrong)
    assert text != GOOD[framework][1]

    failed = [check for check in checks_of(framework, text, tmp_path) if check.status is Status.FAILED]

    assert any(fix in check.fix for check in failed), failed


def test_the_manager_that_turns_failures_into_zeros_is_refused(tmp_path: Path) -> None:
    text = """
    python -m verl.trainer.main_ppo reward.custom_reward_function.path=pkg://reward_client.adapters.verl \
      reward.custom_reward_function.name=compute_score reward.reward_manager.name=rate_limited
    """

    failed = [check for check in checks_of("verl", text, tmp_path) if check.status is Status.FAILED]

    assert [check.subject for check in failed] == ["manager"]
    assert "the reward 0.0" in failed[0].found


@pytest.mark.parametrize(
    ("framework", "environ", "is_too_long"),
    [
        ("areal", {}, False),
        ("areal", {"GLASSBOX_DEADLINE_S": "60"}, True),
        ("trl", {"GLASSBOX_DEADLINE_S": "900"}, False),
    ],
)
def test_an_adapter_must_give_up_before_its_framework(
    framework: str, environ: dict[str, str], is_too_long: bool, tmp_path: Path
) -> None:
    checks = checks_of(framework, GOOD[framework][1], tmp_path, environ)

    assert any(check.subject == "deadline" for check in checks) == is_too_long


@pytest.mark.parametrize(
    ("row", "status", "fix"),
    [
        ('{"prompt": "a", "reference": "b", "query_type": "closed_ended"}', Status.OK, ""),
        ('{"prompt": "a", "query_type": "closed_ended"}', Status.FAILED, "GLASSBOX_REFERENCE_COLUMN"),
        ('{"prompt": "a", "answer": "b"}', Status.NOTE, "GLASSBOX_REFERENCE_COLUMN=answer"),
        ('{"prompt": "a", "reference": "b"}', Status.NOTE, "GLASSBOX_QUERY_TYPE_DEFAULT"),
    ],
)
def test_the_columns_of_a_data_file_are_looked_at(row: str, status: Status, fix: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(row + "\n")

    checks = checks_of("trl", GOOD["trl"][1] + "\n        dataset_name: rows.jsonl\n", tmp_path)

    (columns,) = [check for check in checks if check.subject == "columns"]
    assert columns.status is status
    assert fix in columns.fix


def test_a_data_file_that_cannot_be_read_does_not_end_the_checks(tmp_path: Path) -> None:
    (tmp_path / "deep.jsonl").write_text("[" * 100_000)
    names = f"dataset_name: {'n' * 5000}.jsonl\n        train_dataset: x\n        dataset_path: deep.jsonl"

    checks = checks_of("trl", f"{GOOD['trl'][1]}\n        {names}\n", tmp_path)

    (columns,) = [check for check in checks if check.subject == "columns"]
    assert "is not read: File name too long" in columns.found
    assert len(columns.found) < 200


def test_a_configuration_says_what_the_framework_will_ask(tmp_path: Path) -> None:
    path = tmp_path / "a.sh"
    path.write_text(
        "export GLASSBOX_RECIPE=li\n"
        "python -m openrlhf.cli.train_ppo_ray --reward.remote_url 'http://h:1/get_reward?recipe=rer' "
        "--rollout.max_new_tokens 2048 --reward.clip_range -1e6 1e6\n"
    )
    config = read_config(path)

    demand = demand_of(config, frameworks()["openrlhf"], {})

    assert (demand.recipe, demand.response_tokens, demand.clip) == ("rer", 2048, (-1e6, 1e6))
    assert posted_url(config) == "http://h:1/get_reward?recipe=rer"


def test_the_batch_of_a_call_is_the_product_of_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "trl.yaml"
    path.write_text(dedent(GOOD["trl"][1]))

    demand = demand_of(read_config(path), frameworks()["trl"], {"GLASSBOX_RECIPE": "rer"})

    assert (demand.items, demand.response_tokens, demand.recipe) == (32, 1024, "rer")


@pytest.mark.parametrize("key", ["hush", "hush/hush", "hush,hush", "12/hush"])
def test_a_key_in_a_url_of_the_configuration_is_not_shown(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GOOD["openrlhf"][1].replace("http://10", f"http://key:{key}@10")

    assert not any("hush" in check.found + check.fix for check in checks_of("openrlhf", text, tmp_path))
    main(["doctor", "--config", str(tmp_path / GOOD["openrlhf"][0]), "--timeout", "0.1", "--time-limit", "1"], [])
    assert "hush" not in capsys.readouterr().out


def test_a_key_in_the_configuration_is_noted_and_not_shown(tmp_path: Path) -> None:
    checks = checks_of(
        "verl", GOOD["verl"][1].replace("reward_kwargs.recipe=rer", "reward_kwargs.api_key=hush"), tmp_path
    )

    assert any("export GLASSBOX_API_KEY" in check.fix for check in checks)
    assert not any("hush" in check.found + check.fix for check in checks)


@pytest.mark.parametrize(
    ("framework", "text", "urls"),
    [
        ("openrlhf", "a --reward.remote_url http://h:1/proxy/r/run/get_reward?recipe=li", ["http://h:1/proxy"]),
        ("openrlhf", "a --reward.remote_url http://key:1/2,3@h:1/other", ["http://key:1/2,3@h:1"]),
        ("verl", "a +reward.reward_kwargs.url=http://h:1,http://i:2", ["http://h:1", "http://i:2"]),
        ("swift", "export GLASSBOX_URL=http://h:1", ["http://h:1"]),
        ("slime", "a --rm-url $URL/slime", []),
    ],
)
def test_the_address_of_the_service_is_read(framework: str, text: str, urls: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.sh"
    path.write_text(text)

    assert service_urls(read_config(path), frameworks()[framework]) == urls


def test_the_service_of_the_configuration_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "train.sh"
    with serving(Settings(api_key="hush-hush", default_recipe="rer")) as url:
        posted = f"{url.replace('//', '//key:hush-hush@')}/get_reward?recipe=li"
        path.write_text(f"openrlhf --reward.remote_url {posted} --data.label_key a --data.apply_chat_template")

        status = main(["doctor", "--config", str(path)], [])

    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "ok       own request    what OpenRLHF posts to /get_reward gets the reward" in printed
    assert "li, hash" in printed
    assert "hush" not in printed
