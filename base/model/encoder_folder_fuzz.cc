// Fuzz entry for the files of an encoder's folder but its weights and tokenizer: a folder as one text, in which a line
// "==> NAME" begins a file. Errors are fine, crashes are not; a config that was read has sizes that can be planned
// with. With clang: -fsanitize=fuzzer,address, this file alone and base/model/corpus. Without:
// encoder_folder_fuzz_test.cc.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/model/clip_config.h"
#include "base/model/clip_memory.h"
#include "base/model/cuda_memory.h"
#include "base/model/encoder_config.h"
#include "base/model/encoder_memory.h"

namespace tandem::model {
namespace {

constexpr const char* kNames[] = {"config.json",
                                  "modules.json",
                                  "1_Pooling/config.json",
                                  "sentence_bert_config.json",
                                  "config_sentence_transformers.json",
                                  "preprocessor_config.json",
                                  "processor_config.json"};

void Require(bool condition) {
  if (!condition) std::abort();
}

// Only files of these names are written, whatever the input says.
void Write(absl::string_view input, const std::filesystem::path& folder) {
  const char* name = nullptr;
  std::string text;
  const auto finish = [&] {
    if (name != nullptr) {
      std::filesystem::create_directories((folder / name).parent_path());
      std::ofstream(folder / name, std::ios::binary) << text;
    }
    text.clear();
  };
  for (absl::string_view line : absl::StrSplit(input, '\n')) {
    if (!absl::ConsumePrefix(&line, "==> ")) {
      absl::StrAppend(&text, line, "\n");
      continue;
    }
    finish();
    name = nullptr;
    for (const char* known : kNames) {
      if (line == known) name = known;
    }
  }
  finish();
}

void Read(const std::string& folder) {
  for (const char* task : {"embed", "rerank"}) {
    const auto config = ReadEncoderConfig(folder, task);
    if (!config.ok()) continue;
    Require(config->heads * config->head_dim == config->hidden && config->max_tokens >= 1 &&
            config->vector_size() >= 1);
    Require(EncoderWeightBytes(*config, DType::kFloat32) > 0);
    Require(SizeEncoderArena(*config, EncoderBatchTokens(*config, 1), 64).total_bytes > 0);
    const CudaMemory on_cuda = CudaMemoryOfEncoder(*config, {.max_batch_tokens = 1});
    Require(on_cuda.weight_bytes > 0 && on_cuda.arena_bytes > 0);
  }
  IsClipFolder(folder);
  const auto clip = ReadClipConfig(folder, "embed");
  if (!clip.ok()) return;
  Require(clip->grid() * clip->patch == clip->side && clip->image_tokens() >= 2 && clip->vector >= 1);
  Require(!clip->preparation.crop || clip->preparation.crop_width == clip->side);
  Require(ClipWeightBytes(*clip, DType::kBFloat16) > 0 && ClipQueuedTokenBytes(*clip) > 0);
  Require(SizeClipArena(*clip, ClipBatchTokens(*clip, 1), 64).total_bytes > 0);
  const CudaMemory on_cuda = CudaMemoryOfClip(*clip, {.max_batch_tokens = 1});
  Require(on_cuda.weight_bytes > 0 && on_cuda.arena_bytes > 0);
}

}  // namespace
}  // namespace tandem::model

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string folder = (std::filesystem::temp_directory_path() / "tandem-fuzz-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return 0;
  tandem::model::Write(absl::string_view(reinterpret_cast<const char*>(data), size), folder);
  tandem::model::Read(folder);
  std::filesystem::remove_all(folder);
  return 0;
}
