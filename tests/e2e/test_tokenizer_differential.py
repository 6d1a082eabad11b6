"""XLM-R's kind of encoder with a tokenizer of its own, and that tokenizer against the reference on random and nasty text.

The normalizer is SentencePiece's nmt_nfkc, all 300 KB of it, as every XLM-R and multilingual E5 has it: SentencePiece itself makes it
here. The vocabulary has a piece for each byte, so that ids show every byte that the normalizer leaves.
"""

import base64
import json
import os
import random
import shutil
import unicodedata

import grpc
import pytest

from harness import ROOT, Cluster, inference
from test_embed import ENCODERS, distance, embed, tensors, values

sentencepiece = pytest.importorskip("sentencepiece", reason="not in this venv; scripts/test installs requirements.txt")
tokenizers = pytest.importorskip("tokenizers")

XLMR = ENCODERS / "xlmr-mean"
ROUNDS = int(os.environ.get("TANDEM_DIFFERENTIAL_ROUNDS", "1500"))
SEED = int(os.environ.get("TANDEM_DIFFERENTIAL_SEED", "20261123"))


def nmt_nfkc(tmp):
    """The compiled normalizer, in base64: of a model that is trained on a few words only to have it."""
    (tmp / "text.txt").write_text((ROOT / "README.md").read_text())
    sentencepiece.SentencePieceTrainer.train(input=str(tmp / "text.txt"), model_prefix=str(tmp / "m"), vocab_size=300, hard_vocab_limit=False,
                                             normalization_rule_name="nmt_nfkc", minloglevel=2)
    charsmap = field(field((tmp / "m.model").read_bytes(), 3), 2)  # ModelProto.normalizer_spec.precompiled_charsmap
    assert len(charsmap) > 200_000
    return base64.b64encode(charsmap).decode()


def field(message, number):
    """A field of a serialized message that has bytes. SentencePiece's own reader wants one version of protobuf."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 2:
            size = varint()
            at += size
            if key >> 3 == number:
                return message[at - size:at]
        elif key & 7 == 0:
            varint()
        else:
            at += {1: 8, 5: 4}[key & 7]
    raise AssertionError(f"there is no field {number}")


def with_full_normalizer(tmp):
    """The golden encoder with another tokenizer: its pieces as far as there is room beside all bytes."""
    folder = tmp / "full"
    shutil.copytree(XLMR, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    size = len(vocab)
    tokenizer["model"]["vocab"] = (vocab[:4] + [[f"<0x{b:02X}>", -20.0] for b in range(256)] + vocab[4:])[:size]
    tokenizer["model"]["byte_fallback"] = True
    tokenizer["normalizer"]["precompiled_charsmap"] = nmt_nfkc(tmp)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return with_full_normalizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, full):
    extra = f"  - {{name: xlmr, path: {XLMR}, task: embed}}\n  - {{name: full, path: {full}, task: embed}}"
    with Cluster(tmp_path_factory.mktemp("xlmr"), devices=1, tensor_parallel=1, extra=extra) as running:
        yield running


def test_texts_have_the_references_vectors(cluster):
    inputs = json.loads((XLMR / "golden.json").read_text())["inputs"]
    expected = tensors(XLMR / "golden.safetensors")["vectors"]
    for each, vector in zip(inputs, expected):
        if each["text"]:  # an empty one is refused
            answer = values(embed(cluster, [each["text"]], model="xlmr", truncate_tokens=0))[0]
            assert distance(answer, vector) < 1e-5, each["text"]


def assigned(code):
    """By the Unicode of this Python, 14 or newer. Of younger characters, which of them stand on others is known to younger data only."""
    return unicodedata.category(chr(code)) not in ("Cn", "Cs")


class Nasty:
    """Text of whatever Unicode has, and of what normalizers trip over most."""

    POOLS = [
        range(0x20, 0x7F), range(0xA0, 0x250), range(0x370, 0x530), range(0x590, 0x780), range(0x900, 0xE80),
        range(0x1100, 0x1200), range(0xAC00, 0xD7A4),          # Korean, in parts and whole
        range(0x300, 0x370), range(0x1AB0, 0x1AFF), range(0x20D0, 0x2100),  # what stands on other characters
        range(0x1E00, 0x2000), range(0x2000, 0x2070), range(0x2070, 0x2400), range(0x2460, 0x2500), range(0x3000, 0x3400),
        range(0x4E00, 0x9FFF), range(0xF900, 0xFB50), range(0xFB50, 0xFE00), range(0xFE00, 0xFE70), range(0xFE70, 0x10000),
        range(0x1D400, 0x1D800), range(0x1F000, 0x1FB00), range(0x1F1E6, 0x1F200), range(0x20000, 0x20100), range(0x2F800, 0x2FA20),
        range(0xE0020, 0xE0080), range(0x0, 0x20), range(0x7F, 0xA0), range(0xE000, 0xE010), range(0x110000),
    ]
    PIECES = ["\u00ad", "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u3000", "\r\n", "\r", "\t", "\x00", "\x85", "\u2028", "e\u0301", "ﬃ", "½",
              "ﷺ", "ｶﾞ", "각", "\u1112\u1161\u11ab", "👩‍👩‍👧", "🏴\U000e0067\U000e0062\U000e007f", "❤️", "Å", "Å", "ſ", "İ", "ß", "क्षि", "ก็", "<s>", "</s>",
              "<mask>", "<unk>", "<0x41>", "▁", "▁▁", " ", "  ", "…", "a\u0300\u0301\u0302\u0303\u0304", "\u0301", "\ufffd", "\U0010fffd"]

    def __init__(self, seed):
        self.random = random.Random(seed)

    def character(self, pool=None):
        while True:
            code = self.random.choice(pool or self.random.choice(self.POOLS))
            if assigned(code):
                return chr(code)

    def text(self):
        parts = []
        pool = self.random.choice(self.POOLS)
        for _ in range(self.random.randrange(1, 40)):
            kind = self.random.random()
            if kind < 0.25:
                parts.append(self.random.choice(self.PIECES))
            elif kind < 0.6:
                parts.append(self.character(pool))
            else:
                parts.append(self.character())
        text = "".join(parts)
        return unicodedata.normalize(self.random.choice(["NFC", "NFD"]), text) if self.random.random() < 0.3 else text


def test_random_text_has_the_references_ids(cluster, full):
    reference = tokenizers.Tokenizer.from_file(str(full / "tokenizer.json"))
    reference.no_truncation()
    # Every character that is not private, alone and between letters.
    singles = [chr(code) for code in range(1, 0x110000) if assigned(code) and unicodedata.category(chr(code)) != "Co"]
    texts = ["".join(f"{c} a{c}b" for c in singles[i:i + 400]) for i in range(0, len(singles), 400)]
    nasty = Nasty(SEED)
    texts += [nasty.text() for _ in range(ROUNDS)]
    print(f"seed {SEED}, {len(texts)} texts, {len(singles)} characters")
    stub = cluster.inference()
    wrong = []
    for text in texts:
        try:
            ids = list(stub.Tokenize(inference.TokenizeRequest(model="full", text=text.encode())).token_ids)
        except grpc.RpcError as error:
            wrong.append((text, error.details()))
            continue
        expected = reference.encode(text).ids
        if ids != expected:
            wrong.append((text, next(i for i, (a, b) in enumerate(zip([*ids, None], [*expected, None])) if a != b)))
    shown = [(ascii(text[:200]), at) for text, at in wrong[:5]]
    assert not wrong, f"seed {SEED}: {len(wrong)} of {len(texts)} differ: {shown}"
