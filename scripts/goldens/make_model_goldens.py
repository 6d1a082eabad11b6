#!/usr/bin/env python3
"""Makes the tiny models of tests/golden/models, and what the reference implementation answers for them.

Needs torch and transformers; the tests that read the result need neither. Every model has random weights, drawn wide
enough that greedy decoding does not settle on one token. Beside each model lie

  golden.json         prompts, 64 greedy ids each, and the smallest gap between the best two logits on the way
  golden.safetensors  logits [prompts, 2, vocab] after the prompt and after the last token but one of the output, from the
                      float32 weights ("float32") and from the matrices rounded to bfloat16 ("bfloat16"), both computed
                      in float32

Prompts are drawn until ten have a gap of at least 1e-3 in float32. rope.json holds the frequencies of every supported
scaling.
"""

import json
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "models"
VOCAB = 203  # no multiple of 64
OUTPUT = 64
PROMPTS = 10
MIN_GAP = 1e-3

LLAMA = dict(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2,
)

LLAMA3_ROPE = dict(rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=32)
YARN_ROPE = dict(rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=32)
LINEAR_ROPE = dict(rope_type="linear", rope_theta=500.0, factor=2.0)


def models():
    """Name, config, and how the folder is written."""
    yield "llama-llama3-rope", transformers.LlamaConfig(
        **LLAMA, rope_parameters=LLAMA3_ROPE, tie_word_embeddings=False), dict(shards=3)
    yield "llama-tied-bf16", transformers.LlamaConfig(
        **LLAMA, tie_word_embeddings=True, rms_norm_eps=1e-5), dict(dtype=torch.bfloat16, classic=True)
    yield "llama-yarn-biases", transformers.LlamaConfig(
        **{**LLAMA, "num_key_value_heads": 4, "head_dim": 12}, rope_parameters=YARN_ROPE, attention_bias=True,
        mlp_bias=True), dict(dtype=torch.float16)
    yield "mistral-window", transformers.MistralConfig(
        **LLAMA, sliding_window=11, head_dim=16, rope_parameters=dict(rope_type="default", rope_theta=1000.0)), {}
    yield "qwen2-bias", transformers.Qwen2Config(
        **LLAMA, use_sliding_window=True, sliding_window=13, max_window_layers=1,
        rope_parameters=LINEAR_ROPE), {}
    yield "qwen3", transformers.Qwen3Config(
        **LLAMA, head_dim=16, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1000.0)), {}
    yield "phi3-fused", transformers.Phi3Config(
        **LLAMA, pad_token_id=0, sliding_window=17, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=1000.0)), {}
    yield "gpt2", transformers.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=0, eos_token_id=0), {}


def randomize(model, generator):
    """Weights wide enough for lively output; norms near one; biases that matter."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            centre = 1.0 if name.endswith("weight") else 0.0
            parameter.data = centre + 0.2 * noise
        elif "wpe" in name:  # Positions that matter keep a tied model from repeating its last token.
            parameter.data = 1.5 * noise
        elif any(part in name for part in ("embed", "wte", "lm_head")):
            parameter.data = 0.5 * noise
        else:
            parameter.data = noise * 1.2 / parameter.shape[-1] ** 0.5


def rounded(model):
    """The same model with the matrices that are stored in bfloat16 rounded to it."""
    copy = type(model)(model.config)
    copy.set_attn_implementation("eager")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name, tensor in state.items():
        if tensor.dim() == 2 and "wpe" not in name:
            state[name] = tensor.to(torch.bfloat16).float()
    copy.load_state_dict(state)
    copy.tie_weights()
    return copy.eval()


@torch.no_grad()
def logits_of(model, ids):
    return model(torch.tensor([ids])).logits[0].float()


@torch.no_grad()
def greedy(model, prompt):
    """OUTPUT ids and the smallest gap. Recomputes the whole sequence each time: nothing to get wrong."""
    ids, gap = list(prompt), float("inf")
    for _ in range(OUTPUT):
        best = logits_of(model, ids)[-1].topk(2)
        gap = min(gap, float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
    return ids[len(prompt):], gap


def write_folder(folder, model, dtype=torch.float32, shards=1, classic=False):
    state = {name: tensor.to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    names = sorted(state)
    if shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        weight_map = {}
        for shard in range(shards):
            file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
            part = {name: state[name] for name in names[shard::shards]}
            save_file(part, folder / file, metadata={"format": "pt"})
            weight_map.update({name: file for name in part})
        index = {"metadata": {"total_size": sum(t.nbytes for t in state.values())}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    config = json.loads(model.config.to_json_string())
    config["architectures"] = [type(model).__name__]
    config["dtype"] = str(dtype).removeprefix("torch.")
    config.pop("transformers_version", None)
    if classic:  # The spelling before transformers 5.
        config["torch_dtype"] = config.pop("dtype")
        config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {"eos_token_id": [2, 5] if classic else model.config.eos_token_id}
    (folder / "generation_config.json").write_text(json.dumps(generation) + "\n")


def make(name, config, options):
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(sum(name.encode()))
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.set_attn_implementation("eager")
    randomize(model, generator)
    model.tie_weights()
    dtype = options.get("dtype", torch.float32)
    for parameter in model.parameters():  # The reference sees what the file holds. (model.to would round the RoPE too.)
        parameter.data = parameter.data.to(dtype).float()
    model.eval()
    write_folder(folder, model, **options)

    low = rounded(model)
    prompts, outputs, gaps, exact, coarse = [], [], [], [], []
    tries = 0
    while len(prompts) < PROMPTS:
        tries += 1
        length = int(torch.randint(1, 40, (1,), generator=generator))
        prompt = torch.randint(3, VOCAB, (length,), generator=generator).tolist()
        output, gap = greedy(model, prompt)
        if gap < MIN_GAP:
            continue
        whole = prompt + output[:-1]
        rows = [len(prompt) - 1, len(whole) - 1]
        prompts.append(prompt)
        outputs.append(output)
        gaps.append(gap)
        exact.append(logits_of(model, whole)[rows])
        coarse.append(logits_of(low, whole)[rows])
    golden = {"prompts": prompts, "greedy": outputs, "gaps": gaps}
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    save_file({"float32": torch.stack(exact).contiguous(), "bfloat16": torch.stack(coarse).contiguous()},
              folder / "golden.safetensors")
    size = sum(file.stat().st_size for file in folder.iterdir())
    distinct = len({token for output in outputs for token in output})
    print(f"{name}: {size} bytes, {tries} prompts tried, smallest gap {min(gaps):.4f}, {distinct} distinct tokens")


def make_rope():
    cases = []
    for parameters, positions in (
        (dict(rope_type="default", rope_theta=10000.0), 4096),
        (dict(rope_type="linear", rope_theta=10000.0, factor=3.0), 4096),
        (dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=8192), 131072),
        (dict(rope_type="yarn", rope_theta=1000000.0, factor=4.0, original_max_position_embeddings=32768), 131072),
        (dict(rope_type="yarn", rope_theta=150000.0, factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
              original_max_position_embeddings=4096), 131072),
    ):
        config = transformers.LlamaConfig(**{**LLAMA, "head_dim": 128, "max_position_embeddings": positions},
                                          rope_parameters=parameters)
        rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
        saved = json.loads(config.to_json_string())
        saved["architectures"] = ["LlamaForCausalLM"]
        at = [0, 1, 77, positions - 1]
        cos, sin = rotary(torch.zeros(1), torch.tensor([at]))
        half = cos.shape[-1] // 2
        cases.append({
            "config": saved, "frequencies": rotary.inv_freq.tolist(), "positions": at,
            "angles": torch.cat([cos[0, :, :half], sin[0, :, :half]], dim=-1).tolist(),
        })
    (ROOT / "rope.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")
    print(f"rope.json: {len(cases)} cases")


def main():
    torch.set_num_threads(1)
    ROOT.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[1:]
    if not wanted:
        make_rope()
    for name, config, options in models():
        if not wanted or name in wanted:
            make(name, config, options)


if __name__ == "__main__":
    main()
