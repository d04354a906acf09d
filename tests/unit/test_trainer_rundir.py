"""A run directory belongs to one run, files are replaced atomically, checkpoints are complete."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reward_runs.checkpoints import n_parameters
from reward_runs.errors import RunDirectoryError
from reward_runs.files import replace_text
from reward_runs.layout import RunDir
from reward_trainer.openrlhf import saved_policies
from tests.tiny_llama import save_tiny_llama


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("policy"))


def saved(run: RunDir, policy: Path, step: int) -> Path:
    """A policy that OpenRLHF saved."""
    folder = run.state / f"global_step{step}_hf"
    folder.mkdir(parents=True)
    for file in policy.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_a_directory_in_use_is_an_error_that_names_the_process(tmp_path: Path) -> None:
    code = (
        "import sys; from reward_runs.layout import RunDir\n"
        "with RunDir(sys.argv[1]).lock(): print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunDirectoryError, match=f"in use by process {holder.pid}"), RunDir(tmp_path).lock():
            pass
        holder.communicate("\n")
    with RunDir(tmp_path).lock():
        pass


def test_replacing_a_file_leaves_no_temporary_file(tmp_path: Path) -> None:
    replace_text(tmp_path / "a.json", "1")
    replace_text(tmp_path / "a.json", "2")

    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.json": "2"}


@pytest.mark.parametrize(
    ("folder", "name"), [("my run!", "my-run"), ("a/b-1.2", "b-1.2"), ("..x", "x"), ("é", "run")]
)
def test_the_name_of_a_run_is_valid_in_a_url(folder: str, name: str) -> None:
    assert RunDir(Path("/runs") / folder).name == name


def test_step_zero_is_the_initial_policy_and_loads(tmp_path: Path, policy: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = RunDir(tmp_path)
    saved_policies.save_initial(str(policy), run)

    assert AutoModelForCausalLM.from_pretrained(run.checkpoint(0)).config.hidden_size == 32
    assert AutoTokenizer.from_pretrained(run.checkpoint(0)).eos_token_id == 0


def test_a_saved_policy_is_collected_after_a_later_step(tmp_path: Path, policy: Path) -> None:
    run = RunDir(tmp_path)
    saved_policies.save_initial(str(policy), run)
    for step in (2, 4):
        saved(run, policy, step)

    assert saved_policies.collect(run, before=4) == [2]
    assert saved_policies.collect(run) == [4]
    assert run.saved_steps() == [0, 2, 4]


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_an_incomplete_policy_is_not_collected(tmp_path: Path, policy: Path, file: str, damage: str) -> None:
    run = RunDir(tmp_path)
    saved_policies.save_initial(str(policy), run)
    victim = saved(run, policy, 2) / file
    if damage == "missing":
        victim.unlink()
    else:
        os.truncate(victim, victim.stat().st_size - 5)

    assert saved_policies.collect(run) == []


def test_the_number_of_weights_is_read_from_the_files_headers(policy: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(policy)

    assert n_parameters(policy) == model.num_parameters()


def test_the_final_policy_becomes_the_last_checkpoint(tmp_path: Path, policy: Path) -> None:
    run = RunDir(tmp_path)
    saved_policies.save_initial(str(policy), run)
    saved(run, policy, 2).rename(run.final)

    saved_policies.collect_final(run, 3)

    assert run.saved_steps() == [0, 3]
    assert json.loads((run.checkpoint(3) / "config.json").read_text())["hidden_size"] == 32
