"""A stand-in for vLLM with the names of its 0.33: says the prompt's tokens again, one a step.

It shows that our side calls what it knows and handles what comes back. It cannot show that vLLM
does the same: its scheduling, its sampling, CUDA, its processes and their end are not in here.
"""

from __future__ import annotations

import asyncio
import enum
import sys
import types
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import pytest


class VLLMClientError(Exception):
    """vllm.exceptions"""


class EngineDeadError(Exception):
    """vllm.v1.engine.exceptions"""


class EngineGenerateError(Exception):
    """vllm.v1.engine.exceptions"""


class RequestOutputKind(enum.Enum):
    """vllm.sampling_params"""

    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass(kw_only=True)
class SamplingParams:
    """vllm.sampling_params: those of its fields that are used, with its defaults."""

    max_tokens: int | None = 16
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop_token_ids: list[int] | None = None
    detokenize: bool = True
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE


@dataclass(kw_only=True)
class AsyncEngineArgs:
    """vllm.engine.arg_utils: those of its fields that are used."""

    model: str
    dtype: str = "auto"
    load_format: str = "auto"
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    gpu_memory_utilization: float = 0.92
    enable_prefix_caching: bool | None = None
    skip_tokenizer_init: bool = False
    trust_remote_code: bool = False
    generation_config: str = "auto"
    disable_log_stats: bool = False


@dataclass
class CompletionOutput:
    """vllm.outputs"""

    index: int
    text: str
    token_ids: list[int]
    finish_reason: str | None = None


@dataclass
class RequestOutput:
    """vllm.outputs"""

    request_id: str
    outputs: list[CompletionOutput]
    finished: bool


@dataclass
class AsyncLLM:
    """vllm.v1.engine.async_llm"""

    arguments: AsyncEngineArgs
    asked: list[tuple[dict[str, Any], SamplingParams, str]] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    fails: Exception | None = None
    errored: bool = False
    ended: bool = False

    @classmethod
    def from_engine_args(cls, engine_args: AsyncEngineArgs) -> AsyncLLM:
        if "broken" in engine_args.model:
            raise RuntimeError("CUDA out of memory")
        opened = cls(engine_args)
        opened.gate.set()
        return opened

    async def generate(
        self, prompt: dict[str, Any], sampling_params: SamplingParams, request_id: str
    ) -> AsyncGenerator[RequestOutput, None]:
        self.asked.append((prompt, sampling_params, request_id))
        if self.fails is not None:
            raise self.fails
        ends = sampling_params.stop_token_ids or []
        try:
            said = prompt["prompt_token_ids"]
            for count, token in enumerate(said, 1):
                await self.gate.wait()
                await asyncio.sleep(0)
                stop = token in ends
                full = count == sampling_params.max_tokens
                reason = "stop" if stop else "length" if full or count == len(said) else None
                made = CompletionOutput(0, "", [token], reason)
                yield RequestOutput(request_id, [made], reason is not None)
                if reason is not None:
                    return
        except (asyncio.CancelledError, GeneratorExit):
            self.aborted.append(request_id)
            raise

    def shutdown(self, timeout: float | None = None) -> None:
        self.ended = True


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the stand-in where vLLM would be imported from."""
    contents: dict[str, dict[str, Any]] = {
        "vllm": {"AsyncEngineArgs": AsyncEngineArgs},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.async_llm": {"AsyncLLM": AsyncLLM},
        "vllm.v1.engine.exceptions": {
            "EngineDeadError": EngineDeadError,
            "EngineGenerateError": EngineGenerateError,
        },
        "vllm.exceptions": {"VLLMClientError": VLLMClientError},
        "vllm.sampling_params": {
            "RequestOutputKind": RequestOutputKind,
            "SamplingParams": SamplingParams,
        },
    }
    for name, values in contents.items():
        module = types.ModuleType(name)
        module.__dict__.update(values)
        monkeypatch.setitem(sys.modules, name, module)
