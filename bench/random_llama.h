// Makes a Llama of any size on the spot: config.json and model.safetensors with random bf16 weights, in the layout of a
// Hugging Face folder. For measuring speed and memory; what it says is noise.
#ifndef TANDEM_BENCH_RANDOM_LLAMA_H_
#define TANDEM_BENCH_RANDOM_LLAMA_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace tandem::bench {

// The default is the shape of TinyLlama 1.1B.
struct LlamaShape {
  int hidden = 2048;
  int layers = 22;
  int heads = 32;
  int kv_heads = 4;
  int intermediate = 5632;
  int vocabulary = 32000;
  int positions = 2048;

  // Weights that one decode step reads: all but the embedding table, of which it reads a row.
  int64_t BytesPerDecodeStep() const;
  int64_t Parameters() const;
};

// Creates `folder` and writes the files; equal shapes give equal bytes. What is there already is replaced.
absl::Status WriteRandomLlama(const std::string& folder, const LlamaShape& shape);

}  // namespace tandem::bench

#endif  // TANDEM_BENCH_RANDOM_LLAMA_H_
