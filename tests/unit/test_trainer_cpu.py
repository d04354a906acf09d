"""OpenRLHF without a GPU: replaced modules, patches, and unchanged behaviour."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reward_trainer.openrlhf.environment import ROLLOUT_ENGINE, cpu_environment
from tests.tiny_llama import save_tiny_llama

pytestmark = pytest.mark.slow


def python(code: str, **variables: str) -> str:
    """Run `code` in the environment and return its output."""
    base = {**os.environ, "CUDA_VISIBLE_DEVICES": "0", **variables}
    env = cpu_environment(base, n_devices=1, n_threads=1, rollouts_per_batch=4)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_openrlhf_uses_a_cpu_as_its_cuda_device() -> None:
    printed = python(
        "import openrlhf, torch; device = torch.cuda.current_device()\n"
        "print(torch.zeros(1, device=device).device, f'cuda:{device}', torch.cuda.synchronize())"
    )

    assert printed == "cpu cuda:0 None"


def test_programs_that_do_not_import_openrlhf_use_the_real_torch() -> None:
    assert python("import torch; print(torch.cuda.current_device.__module__)") == "torch.cuda"


def test_the_users_own_sitecustomize_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.users_own_ran = True\n")

    printed = python("import sys, vllm; print(sys.users_own_ran, vllm.__version__)", PYTHONPATH=str(tmp_path))

    assert printed.startswith("True 0.")


def test_the_start_up_hook_imports_no_large_library() -> None:
    """Every process that Ray starts runs the hook, so it must not import torch."""
    assert python("import sys; print('torch' in sys.modules, 'ray' in sys.modules)") == "False False"


def test_the_optimizer_is_torch_s_so_that_nothing_is_compiled() -> None:
    printed = python(
        "from openrlhf.utils.deepspeed import deepspeed as s, deepspeed_utils\n"
        "import deepspeed\n"
        "given = {'type': 'AdamW', 'params': {'lr': 0.1}}\n"
        "print(s.get_train_ds_config(False, optim_config=given)['optimizer']['params'])\n"
        "print(deepspeed.ops.__compatible_ops__['deepspeed_shm_comm'])"
    )

    assert "{'lr': 0.1, 'torch_adam': True, 'fused': True}\nFalse" in printed


def test_ray_ignores_the_visible_cuda_devices() -> None:
    env = cpu_environment({"CUDA_VISIBLE_DEVICES": ""}, n_devices=2, n_threads=1, rollouts_per_batch=4)

    assert "CUDA_VISIBLE_DEVICES" not in env
    assert env["RAY_OVERRIDE_RESOURCES"] == '{"CPU": 4, "GPU": 2}'


def test_the_rollout_engine_has_a_fixed_name_in_reports() -> None:
    assert ROLLOUT_ENGINE == "rollout engine: transformers (CPU), not vLLM"


@pytest.fixture
def new_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Returns a new engine at each call, with the same policy and seed."""
    import torch

    from reward_trainer.openrlhf.cpu.engine import TransformersEngine

    torch.set_num_threads(1)
    monkeypatch.setenv("GLASSBOX_ROLLOUT_BATCH", "3")
    policy = str(save_tiny_llama(tmp_path))
    return lambda: TransformersEngine.from_engine_args(SimpleNamespace(model=policy, seed=5))


@pytest.fixture
def engine(new_engine: Callable[[], Any]) -> Any:
    return new_engine()


PARAMS = SimpleNamespace(
    temperature=1.0, top_p=1.0, top_k=-1, max_tokens=6, min_tokens=1, logprobs=1, skip_special_tokens=False
)


async def responses(engine: Any, prompts: list[list[int]]) -> list[Any]:
    async def one(prompt: list[int]) -> Any:
        return [output async for output in engine.generate({"prompt_token_ids": prompt}, PARAMS, "id")][
            -1
        ].outputs[0]

    return await asyncio.gather(*(one(prompt) for prompt in prompts))


def test_responses_do_not_depend_on_the_order_of_the_requests(new_engine: Callable[[], Any]) -> None:
    first = asyncio.run(responses(new_engine(), [[5, 6], [7], [8, 9, 10]]))
    second = asyncio.run(responses(new_engine(), [[8, 9, 10], [5, 6], [7]]))

    assert [out.token_ids for out in first] == [out.token_ids for out in second[1:] + second[:1]]


def test_an_incomplete_batch_is_generated(engine: Any) -> None:
    (output,) = asyncio.run(responses(engine, [[5, 6]]))

    assert 1 <= len(output.token_ids) <= 6
    assert output.finish_reason in {"stop", "length"}
    assert [list(entry) for entry in output.logprobs] == [[token] for token in output.token_ids]


def test_new_weights_are_written_into_the_model(tmp_path: Path) -> None:
    """The colocated trainer sends each parameter by name, with a function that rebuilds it."""
    import torch
    from torch.multiprocessing import reductions
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from reward_trainer.openrlhf.cpu.engine import TransformersEngine

    reduce_tensor: Callable[[torch.Tensor], object] = reductions.reduce_tensor
    folder = save_tiny_llama(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder)
    engine = TransformersEngine(model, AutoTokenizer.from_pretrained(folder), seed=5, full_batch=3)
    name, weight = next(iter(model.named_parameters()))
    handles = {"cpu-1": reduce_tensor(torch.zeros_like(weight))}
    call = ("update_weight_cuda_ipc", (name, weight.dtype, weight.shape, handles, False))

    asyncio.run(engine.collective_rpc(*call))

    assert not model.get_parameter(name).any()


def test_a_failure_reaches_every_waiting_caller(engine: Any) -> None:
    async def all_of_them() -> list[Any]:
        prompts = [[5], [99_999], [6]]
        calls = (responses(engine, [prompt]) for prompt in prompts)
        outcomes: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
        return outcomes

    outcomes = asyncio.run(all_of_them())

    assert [type(outcome) for outcome in outcomes] == [IndexError] * 3
