"""MiniLM behind MLServer, as a custom runtime with its adaptive batching."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from bench.peers.engine import MAX_BATCH, Peer, open_encoder

_MAX_BATCH_TIME = 0.002


class MiniLM(MLModel):
    """Texts in, embeddings out; a batch arrives as one request with several rows."""

    async def load(self) -> bool:
        self._encode = open_encoder(Peer.told())
        self._turn = asyncio.Lock()  # batches may come side by side, the engine takes one
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        texts = StringCodec.decode_input(payload.inputs[0])
        async with self._turn:
            vectors = await asyncio.to_thread(self._encode, texts)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("embedding", vectors)]
        )


def _settings(folder: Path) -> None:
    server = {
        "host": "127.0.0.1",
        "http_port": Peer.told().port,
        "grpc_port": 0,
        "metrics_port": 0,
        "metrics_endpoint": None,
        # The model is computed in the server's process: another one would only be a detour.
        "parallel_workers": 0,
        "debug": False,
    }
    model = {
        "name": "minilm",
        "implementation": "bench.peers.mlserver.serve.MiniLM",
        "max_batch_size": MAX_BATCH,
        "max_batch_time": _MAX_BATCH_TIME,
    }
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))


if __name__ == "__main__":
    work = Path(tempfile.mkdtemp(prefix="sixways-bench-mlserver-"))
    _settings(work)
    command = str(Path(sys.executable).parent / "mlserver")
    os.execv(command, [command, "start", str(work)])  # noqa: S606
