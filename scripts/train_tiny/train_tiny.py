"""Makes models/tandem-tiny: writes the text (corpus.py), fits a tokenizer, trains a small Llama, saves it as bfloat16.

    python train_tiny.py --out models/tandem-tiny --steps 2800

Needs torch, transformers, tokenizers and safetensors; a CPU is enough. The same seed, steps, threads and library
versions give the same file. README.md beside this script says what was run for the model in the tree.
"""

import argparse
import json
import math
import pathlib
import time

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from corpus import Corpus

BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"
VOCABULARY = 2000  # With the two special tokens, which stand at the end as in Llama 3.
CONTEXT = 1024
# Tokens of one step, and the rows it is cut into. Every row begins with a document, as every prompt does; short rows
# teach that beginning, the long ones the late positions.
STEP_TOKENS = 1024
ROW_LENGTHS = (128, 256, 128, CONTEXT)
# Words, numbers of up to three digits, runs of punctuation, white space: the split of Llama 3.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
# Questions and answers, for chat requests; the model has seen no other form of conversation.
CHAT_TEMPLATE = ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
                 "{{ 'Q: ' + message['content'] + '\\n' }}{% elif message['role'] == 'assistant' %}"
                 "{{ 'A: ' + message['content'] + '\\n' }}{% endif %}{% endfor %}"
                 "{% if add_generation_prompt %}{{ 'A:' }}{% endif %}")


def fit_tokenizer(documents):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - 2, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator(documents, trainer)
    tokenizer.add_special_tokens([AddedToken(BOS, special=True), AddedToken(EOS, special=True)])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B:1",
                                      special_tokens=[(BOS, tokenizer.token_to_id(BOS))]),
    ])
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"the text gave {tokenizer.get_vocab_size()} tokens, {VOCABULARY} are needed: write more text")
    return tokenizer


def model_config(tokenizer):
    """config.json as most readers of Llama know it."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": 256,
        "intermediate_size": 640,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "bos_token_id": tokenizer.token_to_id(BOS),
        "eos_token_id": tokenizer.token_to_id(EOS),
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }


def encoded_documents(tokenizer, corpus):
    """Lists of ids without end, each from the begin token to the end token."""
    end = tokenizer.token_to_id(EOS)
    while True:
        for encoding in tokenizer.encode_batch([corpus.document() for _ in range(1000)]):
            yield encoding.ids + [end]


def take_row(documents, length):
    """`length` ids: whole documents, the last one cut off where the row ends."""
    ids = []
    while len(ids) < length:
        ids += next(documents)
    return ids[:length]


def train(model, documents, steps, peak):
    decayed = [p for p in model.parameters() if p.dim() > 1]
    kept = [p for p in model.parameters() if p.dim() <= 1]
    optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": kept, "weight_decay": 0.0}],
                                  lr=peak, betas=(0.9, 0.95))
    warm, began = max(1, steps // 20), time.monotonic()
    for step in range(steps):
        if step < warm:
            rate = peak * (step + 1) / warm
        else:
            rate = peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm))))
        for group in optimiser.param_groups:
            group["lr"] = rate
        length = ROW_LENGTHS[step % len(ROW_LENGTHS)]
        rows = torch.tensor([take_row(documents, length) for _ in range(STEP_TOKENS // length)])
        # Only the products are bfloat16 here; weights, gradients and the optimiser stay float32.
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(rows[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0 or step == steps - 1:
            seconds = time.monotonic() - began
            print(f"step {step:5d}  loss {loss.item():.3f}  rate {rate:.5f}  {seconds:6.0f} s", flush=True)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save(out, model, tokenizer, config):
    out.mkdir(parents=True, exist_ok=True)
    # The output matrix is the embedding (tie_word_embeddings), so it is stored once.
    weights = {name: tensor.to(torch.bfloat16).contiguous()
               for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    begin, end = config["bos_token_id"], config["eos_token_id"]
    write_json(out / "config.json", config)
    write_json(out / "generation_config.json", {"bos_token_id": begin, "eos_token_id": end, "do_sample": False})
    tokenizer.save(str(out / "tokenizer.json"))
    # Whole words stand in the vocabulary and need no merging, as Llama 3 has it.
    file = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    file["model"]["ignore_merges"] = True
    write_json(out / "tokenizer.json", file)
    special = {str(i): {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                        "special": True} for i, token in ((begin, BOS), (end, EOS))}
    write_json(out / "tokenizer_config.json", {
        "added_tokens_decoder": special, "bos_token": BOS, "eos_token": EOS, "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False, "model_max_length": CONTEXT,
        "tokenizer_class": "PreTrainedTokenizerFast"})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the model")
    parser.add_argument("--steps", type=int, default=2800, help=f"steps of {STEP_TOKENS} tokens")
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=20240607)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    # The vocabulary is fitted on its own text, so that it does not depend on the number of steps.
    words = Corpus(arguments.seed)
    tokenizer = fit_tokenizer(words.document() for _ in range(20000))
    documents = encoded_documents(tokenizer, Corpus(arguments.seed + 1))
    config = model_config(tokenizer)
    model = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in config.items() if k != "torch_dtype"}))
    model = model.to(torch.float32).train()
    size = sum(p.numel() for p in model.parameters())
    print(f"{size} parameters, {arguments.steps * STEP_TOKENS} tokens", flush=True)
    train(model, documents, arguments.steps, arguments.rate)
    save(arguments.out, model, tokenizer, config)


if __name__ == "__main__":
    main()
