"""The engines without a server: `python -m bench.in_process` with what to open as JSON.

It opens a variant and then answers lines of JSON on standard input, one figure each. It uses the
runtime that the server uses, and nothing else of the server but the model's chat template.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Encoder:
    """Texts to vectors, batch by batch: tokenizer and runtime, in one thread."""

    def __init__(self, engine: str, directory: str, tokenizer: str, threads: int) -> None:
        from bench.peers.engine import Peer, open_encoder

        self._encode = open_encoder(
            Peer(0, threads, "", engine=engine, directory=directory, tokenizer=tokenizer)
        )

    def measure(self, batches: Sequence[Sequence[str]], seconds: float) -> dict[str, Any]:
        """Inputs a second over the batches, again and again; the vectors of the first batch."""
        self._encode(batches[0])
        began, done, index = time.perf_counter(), 0, 0
        while (taken := time.perf_counter() - began) < seconds:
            batch = batches[index % len(batches)]
            self._encode(batch)
            done += len(batch)
            index += 1
        return {"figure": done / taken}

    def vectors(self, texts: Sequence[str]) -> dict[str, Any]:
        """The vectors of the texts, each computed alone."""
        return {"vectors": [self._encode([text])[0].tolist() for text in texts]}


class LanguageModel:
    """OpenVINO GenAI's continuous batching, driven directly: requests in, step by step out."""

    def __init__(self, directory: str, tokenizer: str, ends: list[int], threads: int) -> None:
        from tokenizers import Tokenizer

        from sixways_bundle.runtime.llm import open_pipeline
        from sixways_server.engines.openvino_genai_text import ChatTemplate

        self._pipeline = open_pipeline(Path(directory), threads=threads)
        self._tokenizer = Tokenizer.from_file(str(Path(tokenizer) / "tokenizer.json"))
        template = ChatTemplate.load(Path(tokenizer), self._tokenizer.id_to_token(ends[0]) or "")
        assert template is not None
        self._template, self._ends, self._key = template, ends, 0

    def measure(self, prompts: Sequence[str], streams: int, tokens: int) -> dict[str, Any]:
        """Tokens a second while `streams` requests are always under way, until all are done."""
        rows = [self._ids(prompt) for prompt in prompts]
        self._run(rows[:1], 1, 4)
        began = time.perf_counter()
        made = self._run(rows, streams, tokens)
        return {"figure": made / (time.perf_counter() - began), "tokens": made}

    def _ids(self, prompt: str) -> list[int]:
        text = self._template.render([{"role": "user", "content": prompt}])
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _run(self, rows: Sequence[list[int]], streams: int, tokens: int) -> int:
        import numpy as np
        import openvino
        from openvino_genai import (  # type: ignore[import-untyped]
            GenerationConfig,
            GenerationStatus,
        )

        config = GenerationConfig()
        config.max_new_tokens = tokens
        config.set_eos_token_id(self._ends[0])
        config.stop_token_ids = set(self._ends)
        waiting, made = list(reversed(rows)), 0
        running: list[Any] = []
        while waiting or running:
            while waiting and len(running) < streams:
                self._key += 1
                ids = openvino.Tensor(np.array([waiting.pop()], dtype=np.int64))
                running.append(self._pipeline.add_request(self._key, ids, config))
            self._pipeline.step()
            left = []
            for handle in running:
                while handle.can_read():
                    made += sum(len(one.generated_ids) for one in handle.read().values())
                if handle.get_status() == GenerationStatus.RUNNING:
                    left.append(handle)
            running = left
        return made


def main() -> None:
    """Opens, says so, answers."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    told = json.loads(sys.argv[1])
    kind = told.pop("kind")
    engine: Any = Encoder(**told) if kind == "encoder" else LanguageModel(**told)
    answers.write("{}\n")
    for line in sys.stdin:
        order = json.loads(line)
        answers.write(json.dumps(getattr(engine, order.pop("do"))(**order)) + "\n")


if __name__ == "__main__":
    main()
