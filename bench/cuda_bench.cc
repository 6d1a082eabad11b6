// Decode and prefill of the CUDA executor, for a Llama with random bf16 weights, beside what the device itself does in
// the same run: decode at batch 1 is bound by reading the weights, prefill by products.
//
//   cuda_bench --bounds [--context N]   only that time, at the published figures of three devices; needs no device
//   cuda_bench [--device N] [--layers N] [--file-layers N] [--context N] [--steps N] [--tiny] [--json FILE]
//
//   copy          a gigabyte from one place of the device's memory to another, read and write counted
//   product       the best of three large products by cuBLASLt, as the executor calls it
//   load          weights from the host's memory through the executor's own upload; no disk in it
//   kernels       each kernel of a decode step alone, at the batches below, beside the time that its bytes take at the
//                 copy bandwidth, or its operations at the product's rate, whichever is longer
//   files         a model folder as it would be served, of the same shape with --file-layers layers (0: left out), from
//                 safetensors to the first step: once from the disk, once out of the page cache
//   decode        tokens per second at batch 1, 8, 32, 128 after `context` tokens each, greedy: the best token of
//                 each is picked on the device; as the share of the copy bandwidth that reading weights and KV once a
//                 step uses
//   prefill       tokens per second of one prompt of 512 and of 2048, as the share of the product's rate
//   memory        the executor's arithmetic, what the device's free memory shrank by, and what placement would have
//                 planned with
//
// The shape is that of a 7B Llama 2; --layers cuts it to fit smaller devices, --tiny makes it one that an emulated
// device computes in seconds, for a test of this program and of nothing else. What does not fit is named and left out.
// Every figure is the median over steps. No figure of this program was taken where it was written.
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <fcntl.h>
#include <glog/logging.h>
#include <nccl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/model/cuda_memory.h"
#include "base/model/model_memory.h"
#include "bench/cuda_kernels.h"
#include "bench/cuda_rates.h"
#include "bench/random_llama.h"
#include "nlohmann/json.hpp"
#include "worker/comm/solo_communicator.h"
#include "worker/cuda/cublaslt_matmul.h"
#include "worker/cuda/cuda_executor.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/solo_device_communicator.h"
#include "worker/cuda/stream.h"

namespace tandem::bench {
namespace {

using model::DType;
using nlohmann::json;
using worker::BlockId;
using worker::Executor;
using worker::kBlockTokens;
using worker::SequenceInput;
using worker::TokenId;
using namespace worker::cuda;  // NOLINT: this program is about it

constexpr double kGiB = 1024.0 * 1024 * 1024;

struct Options {
  int device = 0;
  int layers = 32;
  int file_layers = 8;
  int context = 128;
  int steps = 32;
  bool tiny = false;
  bool bounds = false;
  std::string json_file;
};

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

model::DecoderConfig Shape(const Options& options) {
  model::DecoderConfig config;
  config.architecture = "LlamaForCausalLM";
  config.layers = options.tiny ? 2 : options.layers;
  config.hidden = options.tiny ? 64 : 4096;
  config.heads = options.tiny ? 4 : 32;
  config.kv_heads = config.heads;
  config.head_dim = config.hidden / config.heads;
  config.intermediate = options.tiny ? 128 : 11008;
  config.vocab = options.tiny ? 256 : 32000;
  config.max_positions = options.tiny ? 256 : 4096;
  config.windows.assign(static_cast<size_t>(config.layers), 0);
  config.dtype = DType::kBFloat16;
  return config;
}

// All matrices are views of one stretch of random numbers: the device gets a copy of its own for each.
class RandomWeights {
 public:
  explicit RandomWeights(const model::DecoderConfig& config) : hidden_(config.hidden) {
    const size_t largest =
        static_cast<size_t>(config.hidden) * static_cast<size_t>(std::max(config.vocab, 2 * config.intermediate));
    values_.resize(largest);
    uint32_t state = 12345;
    for (uint16_t& value : values_) {
      state = state * 1664525u + 1013904223u;
      value = model::BFloat16FromFloat((static_cast<float>(state >> 8) * 0x1p-24f - 0.5f) * 0.04f);
    }
    ones_.assign(static_cast<size_t>(config.hidden), 1.0f);
  }

  worker::ShardPlan Plan(const model::DecoderConfig& config) const {
    worker::ShardPlan plan;
    const absl::StatusOr<model::RankShape> shape = model::ShapeOfRank(config, 1);
    CHECK(shape.ok()) << shape.status();
    plan.shape = *shape;
    plan.embedding = Matrix(shape->vocab, hidden_);
    plan.output = plan.embedding;
    const int64_t kv_width = int64_t{config.kv_heads} * config.head_dim;
    for (int32_t i = 0; i < config.layers; ++i) {
      worker::LayerSlices layer;
      layer.attention_norm.weight = Ones();
      layer.qkv.weight = Matrix(hidden_ + 2 * kv_width, hidden_);
      layer.attention_out.weight = Matrix(hidden_, hidden_);
      layer.mlp_norm.weight = Ones();
      layer.mlp_in.weight = Matrix(2 * int64_t{config.intermediate}, hidden_);
      layer.mlp_out.weight = Matrix(hidden_, config.intermediate);
      plan.layers.push_back(std::move(layer));
    }
    plan.final_norm.weight = Ones();
    return plan;
  }

 private:
  worker::MatrixSlice Matrix(int64_t columns, int64_t inner) const {
    const worker::MatrixSource all{.dtype = DType::kBFloat16,
                                   .data = reinterpret_cast<const uint8_t*>(values_.data()),
                                   .columns = columns,
                                   .inner = inner,
                                   .column_stride = inner,
                                   .inner_stride = 1};
    CHECK_LE(static_cast<size_t>(columns * inner), values_.size());
    return {{all}, columns, inner};
  }
  worker::VectorSlice Ones() const {
    return {{{DType::kFloat32, reinterpret_cast<const uint8_t*>(ones_.data()), hidden_}}, hidden_};
  }

  const int64_t hidden_;
  std::vector<uint16_t> values_;
  std::vector<float> ones_;
};

constexpr worker::LogitsWanted kGreedy{.best = 1, .row = false};

class Bench {
 public:
  Bench(const Options& options, const model::DecoderConfig& config, Executor* executor, int32_t num_blocks)
      : options_(options), config_(config), executor_(*executor), num_blocks_(num_blocks) {}

  // Tokens per second of `batch` sequences, 0 where their KV does not fit.
  double Decode(int batch) {
    const int32_t steps = options_.steps;
    const int32_t blocks = BlocksFor(options_.context + steps + 1);
    if (batch * blocks > num_blocks_) return 0;
    std::vector<std::vector<BlockId>> tables;
    for (int32_t i = 0; i < batch; ++i) tables.push_back(Table(i * blocks, blocks));
    const std::vector<TokenId> prompt(static_cast<size_t>(options_.context), 7);
    for (const auto& table : tables) RunStep({{prompt, 0, table, false}});
    std::vector<double> seconds;
    for (int32_t step = 0; step <= steps; ++step) {
      std::vector<SequenceInput> sequences;
      for (const auto& table : tables) {
        sequences.push_back({.tokens = absl::MakeConstSpan(prompt).first(1),
                             .start = options_.context + step,
                             .blocks = table,
                             .sample = true,
                             .wanted = kGreedy});
      }
      const double took = RunStep(sequences);
      if (step > 0) seconds.push_back(took);  // The first one of a size is not like the others.
    }
    return batch / Median(seconds);
  }

  double Prefill(int tokens) {
    const int32_t blocks = BlocksFor(tokens);
    if (blocks > num_blocks_) return 0;
    const std::vector<BlockId> table = Table(0, blocks);
    const std::vector<TokenId> prompt(static_cast<size_t>(tokens), 7);
    std::vector<double> seconds;
    for (int i = 0; i < 5; ++i)
      seconds.push_back(RunStep({{.tokens = prompt, .blocks = table, .sample = true, .wanted = kGreedy}}));
    return tokens / Median(seconds);
  }

  // Read in one decode step: every weight but the embedding's, and the KV of all contexts.
  double BytesPerStep(int64_t weight_bytes, int batch) const {
    const double embedding = 2.0 * config_.vocab * config_.hidden;
    const double kv = static_cast<double>(executor_.facts().kv_bytes_per_block) / kBlockTokens;
    return static_cast<double>(weight_bytes) - embedding + batch * (options_.context + options_.steps / 2.0) * kv;
  }

  // Of the products alone, for one token of a prompt; its logits are computed once and not counted.
  double OperationsPerToken() const {
    const double kv_width = double{1} * config_.kv_heads * config_.head_dim;
    const double hidden = config_.hidden;
    const double layer = hidden * (2 * hidden + 2 * kv_width) + 3.0 * hidden * config_.intermediate;
    return 2 * layer * config_.layers;
  }

 private:
  static int32_t BlocksFor(int32_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }
  static std::vector<BlockId> Table(int32_t first, int32_t count) {
    std::vector<BlockId> table;
    for (int32_t i = 0; i < count; ++i) table.push_back(first + i);
    return table;
  }
  double RunStep(const std::vector<SequenceInput>& sequences) {
    const double start = Seconds();
    const auto logits = executor_.Run({sequences});
    Check(logits.status());
    return Seconds() - start;
  }

  const Options& options_;
  const model::DecoderConfig& config_;
  Executor& executor_;
  const int32_t num_blocks_;
};

std::string PrintDevice(int device) {
  cudaDeviceProp properties{};
  Check(cudaGetDeviceProperties(&properties, device));
  int driver = 0;
  int runtime = 0;
  Check(cudaDriverGetVersion(&driver));
  Check(cudaRuntimeGetVersion(&runtime));
  std::printf("device    %s, sm_%d%d, %d multiprocessors, %.1f GiB, driver %d, runtime %d\n", properties.name,
              properties.major, properties.minor, properties.multiProcessorCount,
              static_cast<double>(properties.totalGlobalMem) / kGiB, driver, runtime);
  int nccl = 0;
  ncclGetVersion(&nccl);
  std::printf("libraries cuBLASLt %zu, NCCL %d\n", cublasLtGetVersion(), nccl);
  return properties.name;
}

absl::StatusOr<std::unique_ptr<DeviceCommunicator>> MakeSoloCommunicator(worker::Communicator* group, int64_t) {
  return std::make_unique<SoloDeviceCommunicator>(group);
}

// Lets go of what the page cache holds of a file that was written to the disk.
void DropFromPageCache(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  CHECK_GE(file, 0) << path;
  fsync(file);
  posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  close(file);
}

// A folder of random weights, loaded as a worker would load it.
void LoadFiles(const Options& options, json* result) {
  const model::DecoderConfig config = Shape(options);
  const LlamaShape shape{.hidden = config.hidden,
                         .layers = options.tiny ? config.layers : options.file_layers,
                         .heads = config.heads,
                         .kv_heads = config.kv_heads,
                         .intermediate = config.intermediate,
                         .vocabulary = config.vocab,
                         .positions = config.max_positions};
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("cuda_bench_" + std::to_string(getpid()));
  if (const absl::Status written = WriteRandomLlama(folder.string(), shape); !written.ok()) {
    std::printf("files     left out: %s\n", std::string(written.message()).c_str());
    std::filesystem::remove_all(folder);
    return;
  }
  const double gigabytes = 2e-9 * static_cast<double>(shape.Parameters());
  const CudaExecutorOptions executor_options{.folder = folder.string(),
                                             .max_batch_tokens = options.tiny ? 64 : 512,
                                             .max_sequences = 8,
                                             .wait_limit = std::chrono::minutes(2)};
  for (const char* const from : {"disk", "page cache"}) {
    const std::string path = (folder / "model.safetensors").string();
    if (from[0] == 'd') DropFromPageCache(path);
    worker::SoloCommunicator control;
    const double start = Seconds();
    const auto executor = LoadCudaExecutor(executor_options, &control, MakeSoloCommunicator);
    if (!executor.ok()) {
      std::printf("files     left out: %s\n", std::string(executor.status().message()).c_str());
      break;
    }
    const double seconds = Seconds() - start;
    std::printf("files     %.2f s for %.2f GB of safetensors from the %s, %.2f GB/s\n", seconds, gigabytes, from,
                gigabytes / seconds);
    (*result)["files"].push_back({{"from", from}, {"gb", gigabytes}, {"seconds", seconds}});
  }
  std::filesystem::remove_all(folder);
}

// KV for the largest batch, or what three quarters of the free memory hold.
int32_t KvBlocks(const Options& options, int64_t block_bytes, int largest_batch, int longest_prompt) {
  const absl::StatusOr<DeviceMemoryInfo> now = ReadDeviceMemory();
  Check(now.status());
  const int64_t each = (options.context + options.steps + 1 + kBlockTokens - 1) / kBlockTokens;
  const int64_t wanted = std::max<int64_t>(each * largest_batch, longest_prompt / kBlockTokens + 1);
  return static_cast<int32_t>(std::min(wanted, now->free / 4 * 3 / block_bytes));
}

int Run(const Options& options) {
  if (options.bounds) {
    PrintPublishedBounds(Shape(options), {1, 8, 32, 128}, options.context);
    return 0;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // what is measured is said at once, also to a file
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || options.device >= devices) {
    std::printf("cuda_bench: skipped, device %d of %d is not there\n", options.device, devices);
    return 0;
  }
  Check(cudaSetDevice(options.device));
  json result;
  result["device"] = PrintDevice(options.device);
  absl::StatusOr<Stream> stream = Stream::Create();
  Check(stream.status());
  const double copy = CopyBandwidth(options.tiny, stream->get());
  const double product = ProductRate(options.tiny, stream->get());
  std::printf("copy      %.0f GB/s\nproduct   %.1f TFLOP/s in bf16\n", copy * 1e-9, product * 1e-12);
  result["copy_gb_s"] = copy * 1e-9;
  result["product_tflop_s"] = product * 1e-12;

  const std::vector<int> batches = options.tiny ? std::vector<int>{1, 8, 12} : std::vector<int>{1, 8, 32, 128};
  const std::vector<int> prompts = options.tiny ? std::vector<int>{64} : std::vector<int>{512, 2048};
  const model::DecoderConfig config = Shape(options);
  const RandomWeights random(config);
  const CudaExecutorOptions executor_options{
      .max_batch_tokens = prompts.back(), .max_sequences = batches.back(), .wait_limit = std::chrono::minutes(2)};
  worker::SoloCommunicator control;
  const absl::StatusOr<DeviceMemoryInfo> before = ReadDeviceMemory();
  Check(before.status());
  const double start = Seconds();
  absl::StatusOr<std::unique_ptr<Executor>> executor =
      LoadPlannedModel(executor_options, {config, random.Plan(config), "random"}, &control, MakeSoloCommunicator);
  if (absl::IsResourceExhausted(executor.status())) {
    std::printf("cuda_bench: does not fit, give fewer --layers: %s\n",
                std::string(executor.status().message()).c_str());
    return 1;
  }
  Check(executor.status());
  const double load = Seconds() - start;
  const worker::MemoryReport memory = (*executor)->memory();
  std::printf("load      %.2f s for %.2f GiB of weights, graphs captured\n", load,
              static_cast<double>(memory.weight_bytes) / kGiB);
  result["load_s"] = load;
  result["numerics"] = (*executor)->numerics_id();

  const absl::StatusOr<DeviceMemoryInfo> after = ReadDeviceMemory();
  Check(after.status());
  const absl::StatusOr<model::CudaMemory> placement =
      model::CudaMemoryOfRank(config, {.max_batch_tokens = prompts.back(), .max_sequences = batches.back()});
  Check(placement.status());
  // The context was there before.
  const int64_t planned = placement->Static() - placement->context_bytes;
  result["memory"] = {{"planned", planned},
                      {"weights", memory.weight_bytes},
                      {"reported", memory.weight_bytes + memory.activation_bytes},
                      {"grown", before->free - after->free}};
  std::printf("memory    planned %.3f GiB, reported %.3f GiB, the device's free memory shrank by %.3f GiB\n",
              static_cast<double>(planned) / kGiB,
              static_cast<double>(memory.weight_bytes + memory.activation_bytes) / kGiB,
              static_cast<double>(before->free - after->free) / kGiB);

  const int32_t blocks = KvBlocks(options, (*executor)->facts().kv_bytes_per_block, batches.back(), prompts.back());
  Check((*executor)->AllocateKv(std::max(blocks, 1)));
  Bench bench(options, config, executor->get(), blocks);
  for (const int batch : batches) {
    const double rate = bench.Decode(batch);
    if (rate == 0) {
      std::printf("decode    batch %d: its KV does not fit\n", batch);
      continue;
    }
    const double share = bench.BytesPerStep(memory.weight_bytes, batch) * rate / batch / copy;
    std::printf("decode    batch %-4d %9.1f tokens/s, %5.1f %% of the copy bandwidth\n", batch, rate, 100 * share);
    result["decode"].push_back({{"batch", batch}, {"tokens_s", rate}, {"copy_share", share}});
  }
  for (const int tokens : prompts) {
    const double rate = bench.Prefill(tokens);
    if (rate == 0) {
      std::printf("prefill   %d tokens: their KV does not fit\n", tokens);
      continue;
    }
    const double share = bench.OperationsPerToken() * rate / product;
    std::printf("prefill   %-4d tokens %9.1f tokens/s, %5.1f %% of the product's rate\n", tokens, rate, 100 * share);
    result["prefill"].push_back({{"tokens", tokens}, {"tokens_s", rate}, {"product_share", share}});
  }
  executor->reset();
  MeasureKernels(config, {.copy = copy, .product = product}, batches, options.context, options.tiny, stream->get(),
                 &result);
  const auto save = [&] {
    if (!options.json_file.empty()) std::ofstream(options.json_file) << result.dump(2) << "\n";
  };
  save();  // the rest needs room on the disk, and time
  if (options.tiny || options.file_layers > 0) LoadFiles(options, &result);
  save();
  return 0;
}

bool Parse(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--bounds") {
      options->bounds = true;
      continue;
    }
    if (name == "--tiny") {
      *options = {.device = options->device, .context = 20, .steps = 3, .tiny = true, .json_file = options->json_file};
      continue;
    }
    if (i + 1 == argc) return false;
    const std::string value = argv[++i];
    int number = 0;
    if (name == "--json") {
      options->json_file = value;
    } else if (!absl::SimpleAtoi(value, &number) || number < 0) {
      return false;
    } else if (name == "--device") {
      options->device = number;
    } else if (name == "--layers" && number > 0) {
      options->layers = number;
    } else if (name == "--file-layers") {
      options->file_layers = number;
    } else if (name == "--context" && number > 0 && number <= 2048) {
      options->context = number;
    } else if (name == "--steps" && number > 0 && number <= 1024) {
      options->steps = number;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) {
  FLAGS_logtostderr = true;
  google::InitGoogleLogging(argv[0]);
  tandem::bench::Options options;
  if (!tandem::bench::Parse(argc, argv, &options)) {
    std::fprintf(stderr,
                 "cuda_bench [--bounds] [--device N] [--layers N] [--context N] [--steps N] [--tiny] [--json FILE]\n");
    return 2;
  }
  return tandem::bench::Run(options);
}
