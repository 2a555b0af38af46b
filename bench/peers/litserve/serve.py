"""MiniLM behind LitServe, with its dynamic batching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import litserve

from bench.peers.engine import MAX_BATCH, Peer, open_encoder

# LitServe waits so long for more requests once it has one. Its documentation takes 10 to 50 ms
# for large models; that would be most of the latency of this one.
_BATCH_TIMEOUT = 0.002


class MiniLM(litserve.LitAPI):
    """Texts in, embeddings out."""

    def setup(self, device: str) -> None:
        self.encode = open_encoder(Peer.told())

    def decode_request(self, request: dict[str, str]) -> str:
        return request["input"]

    def batch(self, inputs: Sequence[str]) -> list[str]:
        return list(inputs)

    def predict(self, texts: list[str]) -> Any:
        return self.encode(texts)

    def unbatch(self, output: Any) -> list[Any]:
        return list(output)

    def encode_response(self, output: Any) -> dict[str, list[float]]:
        return {"embedding": output.tolist()}


if __name__ == "__main__":
    api = MiniLM(max_batch_size=MAX_BATCH, batch_timeout=_BATCH_TIMEOUT)
    server = litserve.LitServer(api, accelerator="cpu", fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=Peer.told().port,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
