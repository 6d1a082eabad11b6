#!/usr/bin/env python3
"""The model of cuda_bench through transformers, on the same GPU: what Tandem's figures are compared with.

    bench/cuda_transformers.py [--device N] [--layers N] [--context N] [--steps N] [--tiny] [--json FILE] [--beside FILE]

The shape is that of a 7B Llama 2 with random bf16 weights, as in cuda_bench: decode at batch 1, 8, 32, 128 after `context`
tokens each, with a static KV cache and greedy choice on the device; prefill of one prompt of 512 and of 2048. Every figure is
the median over steps, each of them waited for. `--beside` names what cuda_bench wrote with --json: then each line ends with
how many times as fast Tandem was. Without torch, transformers or a GPU it says so and ends with 3; `--cpu --tiny` tries the
program itself.
"""

import argparse
import json
import statistics
import sys
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--beside")
    return parser.parse_args()


def median_seconds(run, times, settle):
    run()  # the first one of a size is not like the others
    settle()
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        run()
        settle()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def main():
    options = arguments()
    try:
        import torch
        import transformers
    except ImportError as error:
        print(f"transformers: left out, {error}")
        return 3
    if not options.cpu and not torch.cuda.is_available():
        print("transformers: left out, this torch sees no GPU")
        return 3
    device = torch.device("cpu" if options.cpu else f"cuda:{options.device}")
    settle = (lambda: None) if options.cpu else (lambda: torch.cuda.synchronize(device))
    tiny = options.tiny
    config = transformers.LlamaConfig(
        hidden_size=64 if tiny else 4096, num_hidden_layers=2 if tiny else options.layers,
        num_attention_heads=4 if tiny else 32, num_key_value_heads=4 if tiny else 32,
        intermediate_size=128 if tiny else 11008, vocab_size=256 if tiny else 32000,
        max_position_embeddings=256 if tiny else 4096)
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    with device:
        model = transformers.LlamaForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, {device}"
          + ("" if options.cpu else f", {torch.cuda.get_device_name(device)}"))

    tandem = json.load(open(options.beside)) if options.beside else {}

    def beside(kind, key, value, rate):
        for line in tandem.get(kind, []):
            if line[key] == value:
                return f", Tandem {line['tokens_s'] / rate:.2f} times as fast"
        return ""

    result = {"transformers": transformers.__version__, "torch": torch.__version__, "decode": [], "prefill": []}

    @torch.inference_mode()
    def decode(batch):
        length = options.context + options.steps + 1
        cache = transformers.StaticCache(config=config, max_batch_size=batch, max_cache_len=length, device=device,
                                         dtype=torch.bfloat16)
        prompt = torch.full((batch, options.context), 7, device=device)
        position = torch.arange(options.context, device=device)
        model(prompt, past_key_values=cache, cache_position=position, use_cache=True, logits_to_keep=1)
        token = torch.full((batch, 1), 7, device=device)
        at = [options.context]

        def step():
            where = torch.tensor([at[0]], device=device)
            out = model(token, past_key_values=cache, cache_position=where, use_cache=True)
            out.logits[:, -1].argmax(-1).cpu()  # the ids come to the host, as the engine wants them
            at[0] += 1

        return batch / median_seconds(step, options.steps, settle)

    @torch.inference_mode()
    def prefill(tokens):
        prompt = torch.full((1, tokens), 7, device=device)
        return tokens / median_seconds(
            lambda: model(prompt, use_cache=True, logits_to_keep=1).logits[:, -1].argmax(-1).cpu(), 5, settle)

    for batch in (1, 8, 12) if tiny else (1, 8, 32, 128):
        try:
            rate = decode(batch)
        except torch.cuda.OutOfMemoryError:
            print(f"decode    batch {batch}: does not fit")
            continue
        print(f"decode    batch {batch:<4} {rate:9.1f} tokens/s{beside('decode', 'batch', batch, rate)}")
        result["decode"].append({"batch": batch, "tokens_s": rate})
    for tokens in (64,) if tiny else (512, 2048):
        rate = prefill(tokens)
        print(f"prefill   {tokens:<4} tokens {rate:9.1f} tokens/s{beside('prefill', 'tokens', tokens, rate)}")
        result["prefill"].append({"tokens": tokens, "tokens_s": rate})
    if options.json:
        with open(options.json, "w") as out:
            json.dump(result, out, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
