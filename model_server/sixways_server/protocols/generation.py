"""How a language model is to choose tokens, as every protocol but OpenAI's spells it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sixways_server.engines.base import ModelInfo, Sampling

_LARGEST = 2**63 - 1
_COUNT = 2**31 - 1  # of tokens: what every engine can count to
_TOKENS = 256


class Strict(BaseModel):
    """A part of a request: unknown fields are ignored, nothing is converted, numbers are finite."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class Generation(Strict):
    """How a language model is to choose tokens; left out: greedy, up to 256 tokens, or half the
    model's context where that is less."""

    max_tokens: Annotated[int, Field(ge=1, le=_COUNT)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=1, le=_COUNT)] | None = None
    seed: Annotated[int, Field(ge=0, le=_LARGEST)] | None = None
    stop: str | Annotated[list[str], Field(fail_fast=True, max_length=16)] = []

    def sampling(self, info: ModelInfo) -> Sampling:
        """The same for an engine of this model."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        return Sampling(
            max_tokens=self.max_tokens or min(_TOKENS, info.max_tokens // 2),
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
            stop=tuple(text for text in stop if text),
        )
