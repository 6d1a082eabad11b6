#!/usr/bin/env python3
"""Makes the tiny encoders of tests/golden/encoders, and what the reference implementation answers for them.

Needs torch, transformers and tokenizers; the tests that read the result need neither. Every model has random weights. Beside each
model lie

  golden.json         the inputs: "ids" and "second_at" (where segment 1 begins, 0: nowhere); one input per line. Of a
                      model with a tokenizer of its own, "text", and the ids that transformers makes of it
  golden.safetensors  "hidden" [all tokens, hidden]: the last hidden states, one input after the other;
                      "vectors" [inputs, size]: pooled and normalized as the folder's files say, or the classifier's score

All is computed in float32, each input by itself, so nothing depends on padding.
"""

import json
import pathlib
import random
import shutil
import sys

import torch
import transformers
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "encoders"
TOKENIZER = ROOT.parent / "tokenizer" / "bert_style" / "tokenizer.json"
UNIGRAM = ROOT.parent / "tokenizer" / "xlmr_style" / "tokenizer.json"
TEXTS = ["query: where does the night train to Lyon leave?", "passage: Der Zug fährt um 23:59 von Gleis ⑨.", "", "  tabs\tand\nlines  ",
         "Ｆｕｌｌ ｗｉｄｔｈ, ﬁnally…", "天地玄黃,宇宙洪荒。", "e\u0301te\u0301 \u00ad soft", "<s> is a token, <mask> too", "😀 unknown ☃", "a " * 60]
VOCAB = 211
LENGTHS = [1, 2, 3, 15, 16, 17, 31, 40, 5, 23]

BERT = dict(vocab_size=VOCAB, hidden_size=48, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=64, type_vocab_size=2)
POOLING = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens",
           "last": "pooling_mode_lasttoken"}


def models():
    """Name, model, pooling (None: a classifier), normalize, dtype."""
    # These two stand beside the tokenizer of tests/golden/tokenizer/bert_style in whole-process tests.
    spoken = {**BERT, "vocab_size": len(json.loads(TOKENIZER.read_text())["model"]["vocab"]), "hidden_size": 32,
              "intermediate_size": 48}
    yield "bert-mean", transformers.BertModel(transformers.BertConfig(**spoken), add_pooling_layer=False), "mean", True, None
    yield "bert-cls-tanh", transformers.BertModel(
        transformers.BertConfig(**{**BERT, "hidden_act": "gelu_new", "num_attention_heads": 3})), "cls", False, None
    yield "bert-max-relu", transformers.BertModel(
        transformers.BertConfig(**{**BERT, "hidden_act": "relu"}), add_pooling_layer=False), "max", True, torch.float16
    yield "roberta-last", transformers.RobertaModel(
        transformers.RobertaConfig(**{**BERT, "type_vocab_size": 1}, pad_token_id=1), add_pooling_layer=False), "last", True, None
    vocab = len(json.loads(UNIGRAM.read_text())["model"]["vocab"]) + 1  # and the mask
    yield "xlmr-mean", transformers.XLMRobertaModel(
        transformers.XLMRobertaConfig(**{**BERT, "vocab_size": vocab, "hidden_size": 32, "intermediate_size": 48, "type_vocab_size": 1},
                                      pad_token_id=1), add_pooling_layer=False), "mean", True, None
    yield "bert-rerank", transformers.BertForSequenceClassification(
        transformers.BertConfig(**spoken, num_labels=1)), None, False, None
    yield "roberta-rerank", transformers.RobertaForSequenceClassification(
        transformers.RobertaConfig(**{**BERT, "type_vocab_size": 1}, pad_token_id=1, num_labels=1)), None, False, None


def randomize(model, generator):
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            parameter.data = (1.0 if name.endswith("LayerNorm.weight") else 0.0) + 0.2 * noise
        elif "embeddings" in name:
            parameter.data = 0.5 * noise
        else:
            parameter.data = noise * 1.2 / parameter.shape[-1] ** 0.5


def pool(states, how):
    if how == "cls":
        return states[0]
    if how == "last":
        return states[-1]
    return states.max(dim=0).values if how == "max" else states.mean(dim=0)


def write_folder(folder, model, pooling, normalize, dtype):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    state = {name: tensor.to(dtype or torch.float32).contiguous() for name, tensor in model.state_dict().items()
             if tensor.is_floating_point()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads(model.config.to_json_string())
    config["architectures"] = [type(model).__name__]
    config["dtype"] = str(dtype or torch.float32).removeprefix("torch.")
    config.pop("transformers_version", None)
    if folder.name == "roberta-rerank":
        config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity"}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if pooling is None:
        return
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")] + [("2_Normalize", "Normalize")] * normalize
    (folder / "modules.json").write_text(json.dumps(
        [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
         for i, (path, kind) in enumerate(modules)], indent=2) + "\n")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(
        {"word_embedding_dimension": model.config.hidden_size, **{key: name == pooling for name, key in POOLING.items()}},
        indent=2) + "\n")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48, "do_lower_case": False}) + "\n")


@torch.no_grad()
def make(name, model, pooling, normalize, dtype):
    folder = ROOT / name
    randomize(model, torch.Generator().manual_seed(sum(name.encode())))
    for parameter in model.parameters():  # the reference sees what the file holds
        parameter.data = parameter.data.to(dtype or torch.float32).float()
    model.set_attn_implementation("eager")
    model.eval()
    write_folder(folder, model, pooling, normalize, dtype)
    rng = random.Random(name)
    types = model.config.type_vocab_size
    inputs, hidden, vectors = [], [], []
    texts, lengths = [], LENGTHS
    if name.startswith("xlmr"):
        shutil.copy(UNIGRAM, folder / "tokenizer.json")
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        texts = [(text, tokenizer(text, truncation=True, max_length=48)["input_ids"]) for text in TEXTS]
        lengths = [len(ids) for _, ids in texts]
    for i, length in enumerate(lengths):
        ids = texts[i][1] if texts else [rng.randrange(2, VOCAB) for _ in range(length)]
        second = length // 2 if types > 1 and i % 2 and length > 2 else 0
        type_ids = [int(second > 0 and k >= second) for k in range(length)]
        answer = model(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([type_ids]), output_hidden_states=True)
        states = answer.hidden_states[-1][0]
        if pooling is None:
            score = answer.logits[0]
            vector = torch.sigmoid(score) if name == "bert-rerank" else score
        else:
            vector = pool(states, pooling)
            vector = vector / vector.norm() if normalize else vector
        inputs.append({**({"text": texts[i][0]} if texts else {}), "ids": ids, "second_at": second})
        hidden.append(states)
        vectors.append(vector)
    lines = ",\n".join(json.dumps(each) for each in inputs)
    (folder / "golden.json").write_text(f'{{"inputs": [\n{lines}\n]}}\n')
    save_file({"hidden": torch.cat(hidden).contiguous(), "vectors": torch.stack(vectors).contiguous()},
              folder / "golden.safetensors")
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    print(f"{name}: {len(inputs)} inputs, {size} bytes")


def main():
    torch.manual_seed(0)
    wanted = sys.argv[1:]  # names; none: all
    for each in models():
        if not wanted or each[0] in wanted:
            make(*each)


if __name__ == "__main__":
    main()
