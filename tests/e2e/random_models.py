"""Models of any size, made on the spot: config.json, model.safetensors, and the tokenizer of the tiny model. What they say
is noise; they are for measuring memory and time, and for simulated devices, which read no weight.
"""

import json
import random
import shutil
import struct

from harness import MODEL

# A little over 1 GiB each, in bf16, and with a vocabulary, heads and layers that four ranks can share.
LLAMA = dict(model_type="llama", architectures=["LlamaForCausalLM"], hidden_size=2048, intermediate_size=5632, num_hidden_layers=4,
             num_attention_heads=32, num_key_value_heads=4, vocab_size=96000, max_position_embeddings=1024, rms_norm_eps=1e-5,
             rope_theta=10000.0, hidden_act="silu", tie_word_embeddings=False, torch_dtype="bfloat16", bos_token_id=0, eos_token_id=1)
GPT2 = dict(model_type="gpt2", architectures=["GPT2LMHeadModel"], n_embd=1536, n_layer=18, n_head=24, n_positions=1024, n_ctx=1024,
            vocab_size=50304, layer_norm_epsilon=1e-5, activation_function="gelu_new", torch_dtype="bfloat16", bos_token_id=0,
            eos_token_id=1)


def llama_tensors(shape):
    hidden, wide = shape["hidden_size"], shape["intermediate_size"]
    kv = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
    yield "model.embed_tokens.weight", [shape["vocab_size"], hidden]
    for i in range(shape["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, size in (("input_layernorm", [hidden]), ("post_attention_layernorm", [hidden]),
                           ("self_attn.q_proj", [hidden, hidden]), ("self_attn.k_proj", [kv, hidden]),
                           ("self_attn.v_proj", [kv, hidden]), ("self_attn.o_proj", [hidden, hidden]),
                           ("mlp.gate_proj", [wide, hidden]), ("mlp.up_proj", [wide, hidden]), ("mlp.down_proj", [hidden, wide])):
            yield layer + name + ".weight", size
    yield "model.norm.weight", [hidden]
    yield "lm_head.weight", [shape["vocab_size"], hidden]


def gpt2_tensors(shape):
    hidden = shape["n_embd"]
    yield "wte.weight", [shape["vocab_size"], hidden]
    yield "wpe.weight", [shape["n_positions"], hidden]
    for i in range(shape["n_layer"]):
        for name, size in (("ln_1", [hidden]), ("ln_2", [hidden])):
            yield f"h.{i}.{name}.weight", size
            yield f"h.{i}.{name}.bias", size
        for name, rows, columns in (("attn.c_attn", hidden, 3 * hidden), ("attn.c_proj", hidden, hidden),
                                    ("mlp.c_fc", hidden, 4 * hidden), ("mlp.c_proj", 4 * hidden, hidden)):
            yield f"h.{i}.{name}.weight", [rows, columns]
            yield f"h.{i}.{name}.bias", [columns]
    yield "ln_f.weight", [hidden]
    yield "ln_f.bias", [hidden]


def write_model(folder, shape, sparse=False):
    """Returns the bytes of the weights. `sparse`: the file has its size and no contents."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(shape))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL / name, folder / name)
    header, end = {}, 0
    for name, size in (gpt2_tensors if shape["model_type"] == "gpt2" else llama_tensors)(shape):
        bytes_of = 2 * size[0] * (size[1] if len(size) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [end, end + bytes_of]}
        end += bytes_of
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if sparse:
            file.truncate(8 + len(text) + end)
            return end
        # Each weight's high byte is a sign and an exponent of about 1/64; its low byte is random.
        noise = random.Random(1).randbytes(1 << 20)
        tile = bytearray(noise)
        tile[1::2] = bytes(0x3C | (byte & 0x80) for byte in noise[1::2])
        left = end
        while left > 0:
            left -= file.write(tile[:left])
    return end
