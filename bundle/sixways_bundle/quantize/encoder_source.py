"""Reads what a folder says of a sentence encoder, without opening its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sixways_bundle.errors import BundleError, Problem

# These count positions from the padding token's id + 1, so that many cannot be used.
_POSITIONS_AFTER_PADDING = frozenset(
    {"camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "xlm-roberta"}
)
_NO_LIMIT = 8192  # for architectures without a table of positions that name no length


@dataclass(frozen=True)
class EncoderSource:
    """A sentence encoder in the Hugging Face layout.

    Attributes:
        folder: where its files lie.
        architecture: transformers' name of it, e.g. `bert`.
        max_tokens: the longest input it was made for, special tokens included.
        dimensions: width of a vector.
        pooling: how token vectors become one.
        normalize: whether vectors are scaled to length 1.
        weights: the safetensors files.
    """

    folder: Path
    architecture: str
    max_tokens: int
    dimensions: int
    pooling: Literal["mean", "cls"]
    normalize: bool
    weights: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Bytes of the weights' files."""
        return sum(path.stat().st_size for path in self.weights)

    @classmethod
    def read(cls, folder: Path) -> EncoderSource:
        """Reads config.json, modules.json, the pooling's config and sentence_bert_config.json.

        Raises:
            BundleError: it is no encoder that can be built; names everything that stands in the
                way.
        """
        return _Reader(folder).read()


class _Reader:
    """Collects every problem before it raises one error."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[Problem] = []

    def read(self) -> EncoderSource:
        weights = tuple(sorted(self.folder.glob("*.safetensors")))
        if not weights:
            self._problem("weights", "", "*.safetensors", "save the model as safetensors")
        if not (self.folder / "tokenizer.json").is_file():
            self._problem("tokenizer.json", "", "the tokenizer as one file",
                          "save a fast tokenizer: AutoTokenizer.from_pretrained(...)"
                          ".save_pretrained(...)")  # fmt: skip
        config = self._json("config.json", needed=True)
        sentence = self._json("sentence_bert_config.json")
        architecture = config.get("model_type")
        if config and not isinstance(architecture, str):
            self._problem("config.json: model_type", "", "an encoder of transformers, e.g. bert")
        self._refuse_other_kinds(config)
        dimensions = self._positive(config, "hidden_size", alternatives=("dim", "d_model"))
        positions = config.get("max_position_embeddings", _NO_LIMIT)
        if architecture in _POSITIONS_AFTER_PADDING and isinstance(positions, int):
            padding = config.get("pad_token_id", 1)
            positions -= (padding if isinstance(padding, int) else 0) + 1
        limits = [positions, sentence.get("max_seq_length") or positions]
        if not all(isinstance(limit, int) and limit > 2 for limit in limits):
            self._problem("max_seq_length", str(limits), "a number of tokens over 2")
        pooling, normalize = self._modules(dimensions)
        if self.problems:
            raise BundleError(
                f"{self.folder} is not a sentence encoder that can be built", self.problems
            )
        return EncoderSource(
            folder=self.folder,
            architecture=str(architecture),
            max_tokens=min(limits),
            dimensions=dimensions,
            pooling=pooling,
            normalize=normalize,
            weights=weights,
        )

    def _refuse_other_kinds(self, config: dict[str, Any]) -> None:
        made_for = [str(one) for one in config.get("architectures") or []]
        if any(one.endswith(("ForCausalLM", "ForConditionalGeneration")) for one in made_for):
            self._problem("config.json: architectures", ", ".join(made_for),
                          "an encoder such as BertModel",
                          "a language model is built from its GGUF file")  # fmt: skip
        elif config.get("is_encoder_decoder"):
            self._problem("config.json: is_encoder_decoder", "true", "an encoder alone")

    def _modules(self, dimensions: int) -> tuple[Literal["mean", "cls"], bool]:
        """Pooling and normalization, as modules.json of sentence-transformers lists them.

        Without that file: mean and normalized, which is what sentence-transformers makes of a
        plain transformer, plus the length of 1 that makes a dot product a cosine.
        """
        path = self.folder / "modules.json"
        if not path.is_file():
            return self._pooling("1_Pooling", dimensions), True
        try:
            modules = json.loads(path.read_text(encoding="utf-8"))
            # Module paths differ between versions of sentence-transformers, class names do not.
            kinds = {str(one["type"]).rpartition(".")[2]: str(one["path"]) for one in modules}
        except (ValueError, TypeError, KeyError) as error:
            self._problem("modules.json", repr(error), "a JSON list of type and path")
            return "mean", True
        for other in sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"}):
            self._problem("modules.json", other, "Transformer, Pooling, Normalize",
                          "choose a model without this layer")  # fmt: skip
        return self._pooling(kinds.get("Pooling", "1_Pooling"), dimensions), "Normalize" in kinds

    def _pooling(self, folder: str, dimensions: int) -> Literal["mean", "cls"]:
        name = f"{folder}/config.json"
        config = self._json(name)
        if not config:
            return "mean"
        width = config.get("word_embedding_dimension", config.get("embedding_dimension"))
        if width is not None and dimensions and width != dimensions:
            self._problem(f"{name}: word_embedding_dimension", str(width), str(dimensions))
        mode = config.get("pooling_mode")  # the newer spelling
        modes = (
            [str(mode)]
            if mode
            else [
                key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
                for key, on in config.items()
                if key.startswith("pooling_mode_") and on
            ]
        )
        if modes == ["mean"]:
            return "mean"
        if modes != ["cls"]:
            self._problem(f"{name}: pooling_mode", ", ".join(modes) or "none", "mean or cls",
                          "choose a model with one of these poolings")  # fmt: skip
        return "cls"

    def _json(self, name: str, *, needed: bool = False) -> dict[str, Any]:
        path = self.folder / name
        if not path.is_file():
            if needed:
                self._problem(name, "", "the model's configuration",
                              "name a folder in the Hugging Face layout")  # fmt: skip
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            self._problem(name, str(error), "JSON")
            return {}
        if not isinstance(content, dict):
            self._problem(name, type(content).__name__, "a JSON object")
            return {}
        return content

    def _positive(
        self, config: dict[str, Any], key: str, *, alternatives: tuple[str, ...] = ()
    ) -> int:
        for name in (key, *alternatives):
            value = config.get(name)
            if isinstance(value, int) and value > 0:
                return value
        if config:
            self._problem(f"config.json: {key}", str(config.get(key, "")), "a number over 0")
        return 0

    def _problem(self, field: str, value: str, accepted: str, fix: str = "") -> None:
        self.problems.append(Problem(field, value, accepted, fix))
