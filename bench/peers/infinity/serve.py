"""MiniLM behind infinity, with the engine that it recommends on processors: optimum (ONNX).

Published models often carry ONNX files; this one does not, so they are made here, once, with the
same library, in float32 and in int8 for this processor.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from bench.peers.engine import MAX_BATCH, Peer

_NAMES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def _model(peer: Peer) -> Path:
    """The folder of the model with one ONNX file, in this environment."""
    kind = "int8" if peer.engine else "float32"
    made = Path(sys.prefix) / "models" / f"minilm-{kind}"
    if made.is_dir():
        return made
    from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    work = made.with_name(f".{made.name}-{os.getpid()}")
    work.mkdir(parents=True)
    for name in _NAMES:
        shutil.copy(Path(peer.source) / name, work)
    exported = work / "exported" if peer.engine else work
    ORTModelForFeatureExtraction.from_pretrained(peer.source, export=True).save_pretrained(exported)
    if peer.engine:
        has_vnni = "avx512_vnni" in Path("/proc/cpuinfo").read_text()
        kinds = AutoQuantizationConfig
        config = (kinds.avx512_vnni if has_vnni else kinds.avx2)(is_static=False, per_channel=True)
        ORTQuantizer.from_pretrained(exported).quantize(save_dir=work, quantization_config=config)
        shutil.rmtree(exported)
    work.rename(made)
    return made


if __name__ == "__main__":
    told = Peer.told()
    program = str(Path(sys.executable).parent / "infinity_emb")
    os.environ["HF_HOME"] = str(Path(sys.prefix) / "huggingface")
    os.environ["DO_NOT_TRACK"] = "1"
    # From within the folder: infinity asks for the files of a local model by their full path,
    # and optimum looks for them below the model.
    os.chdir(_model(told))
    os.execv(  # noqa: S606
        program,
        [
            *(program, "v2", "--model-id", ".", "--served-model-name", "minilm"),
            *("--engine", "optimum", "--device", "cpu", "--batch-size", str(MAX_BATCH)),
            *("--pooling-method", "mean"),
            *("--host", "127.0.0.1", "--port", str(told.port)),
        ],
    )
