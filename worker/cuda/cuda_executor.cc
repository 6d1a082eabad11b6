#include "worker/cuda/cuda_executor.h"

#include <cuda_runtime.h>
#include <glog/logging.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "base/model/model_config.h"
#include "base/model/model_folder.h"
#include "base/model/model_memory.h"
#include "base/model/safetensors.h"
#include "worker/cuda/check.h"
#include "worker/cuda/cublaslt_matmul.h"
#include "worker/cuda/decoder_buffers.h"
#include "worker/cuda/device_list.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/device_weights.h"
#include "worker/cuda/graph_sizes.h"
#include "worker/cuda/step_runner.h"
#include "worker/cuda/stream.h"
#include "worker/exec/check_step.h"
#include "worker/exec/ops/rope.h"
#include "worker/model/shard_plan.h"

namespace tandem::worker::cuda {
namespace {

using model::DecoderConfig;
using model::DType;

// Raised when a change of the kernels changes bits.
constexpr int kNumericsVersion = 2;

class CudaExecutor final : public Executor {
 public:
  // What a step needs, in the order in which it may be taken down from the end.
  struct Parts {
    int device = 0;
    std::unique_ptr<DecoderConfig> config;  // the layout points to it
    DecoderLayout layout;
    DeviceMemory arena;
    DeviceMemory stand_in;  // one block of one layer, until there is a pool
    std::unique_ptr<DeviceCommunicator> communicator;
    std::unique_ptr<StepRunner> runner;
    std::vector<int32_t> graph_sizes;
  };

  CudaExecutor(ModelFacts facts, std::string numerics_id, MemoryReport memory, Parts parts)
      : facts_(std::move(facts)), numerics_id_(std::move(numerics_id)), memory_(memory), parts_(std::move(parts)) {}

  const ModelFacts& facts() const override { return facts_; }
  MemoryReport memory() const override { return memory_; }
  const std::string& numerics_id() const override { return numerics_id_; }
  const std::atomic<uint64_t>& progress() const override { return parts_.runner->progress(); }

  absl::Status AllocateKv(int32_t num_blocks) override;
  absl::StatusOr<absl::Span<const float>> Run(const StepInput& step) override;
  absl::Span<const BestTokens> best() const override { return parts_.runner->best(); }
  absl::StatusOr<absl::Span<const float>> FetchRow(size_t i) override {
    TANDEM_CUDA_RETURN_IF_ERROR(cudaSetDevice(parts_.device));
    return parts_.runner->FetchRow(i);
  }

 private:
  const ModelFacts facts_;
  const std::string numerics_id_;
  MemoryReport memory_;
  DeviceMemory pool_;  // outlives the runner, which may still wait for it
  KvBlocks kv_;
  int32_t num_blocks_ = 0;
  Parts parts_;
};

absl::Status CudaExecutor::AllocateKv(int32_t num_blocks) {
  CHECK_EQ(num_blocks_, 0) << "the pool is allocated once";
  if (num_blocks < 1) return absl::InvalidArgumentError(absl::StrCat("KV pool of ", num_blocks, " blocks"));
  TANDEM_CUDA_RETURN_IF_ERROR(cudaSetDevice(parts_.device));
  parts_.stand_in = DeviceMemory();
  const int64_t bytes = num_blocks * facts_.kv_bytes_per_block;
  absl::StatusOr<DeviceMemory> pool =
      DeviceMemory::Allocate(bytes, absl::StrCat("a KV pool of ", num_blocks, " blocks"));
  if (!pool.ok()) return pool.status();
  StepRunner& runner = *parts_.runner;
  // No step reads a place before one has written it; if one ever did, it should be the same in every run.
  absl::Status ready =
      ToStatus(cudaMemsetAsync(pool->data(), 0, static_cast<size_t>(bytes), runner.stream()), "clearing the KV pool");
  if (ready.ok()) ready = runner.AwaitStream("clearing the KV pool");
  if (!ready.ok()) return ready;
  const KvBlocks kv{pool->data(), bytes / parts_.layout.config->layers};
  if (runner.graphs() > 0) ready = runner.CaptureGraphs(parts_.graph_sizes, kv);
  if (!ready.ok()) return ready;
  pool_ = *std::move(pool);
  kv_ = kv;
  num_blocks_ = num_blocks;
  memory_.kv_bytes = bytes;
  return absl::OkStatus();
}

absl::StatusOr<absl::Span<const float>> CudaExecutor::Run(const StepInput& step) {
  const StepLimits& limits = parts_.layout.limits;
  const StepBounds bounds{.max_batch_tokens = limits.tokens,
                          .max_sequences = limits.sequences,
                          .max_positions = limits.positions,
                          .vocab_size = facts_.vocab_size,
                          .num_blocks = num_blocks_};
  if (absl::Status checked = CheckStep(step, bounds); !checked.ok()) return checked;
  TANDEM_CUDA_RETURN_IF_ERROR(cudaSetDevice(parts_.device));
  return parts_.runner->Run(step, kv_);
}

absl::Status CheckOptions(const CudaExecutorOptions& options) {
  const auto wrong = [](absl::string_view name, int64_t value, int64_t lowest, int64_t highest) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is ", value, ", expected ", lowest, " to ", highest));
  };
  if (options.max_batch_tokens < 1 || options.max_batch_tokens > kMaxBatchTokens) {
    return wrong("max_batch_tokens", options.max_batch_tokens, 1, kMaxBatchTokens);
  }
  if (options.max_sequences < 1 || options.max_sequences > kMaxSequences) {
    return wrong("max_sequences", options.max_sequences, 1, kMaxSequences);
  }
  if (options.max_model_len < 0) return wrong("max_model_len", options.max_model_len, 0, INT32_MAX);
  return absl::OkStatus();
}

absl::StatusOr<DType> ChooseType(absl::string_view requested, const DecoderConfig& config, const ShardPlan& plan) {
  if (requested == NameOf(DType::kBFloat16)) return DType::kBFloat16;
  if (requested == NameOf(DType::kFloat16)) return DType::kFloat16;
  if (requested != "auto") {
    return absl::InvalidArgumentError(
        absl::StrCat("dtype \"", requested, "\" is not computed on CUDA; choose auto, bfloat16 or float16"));
  }
  const DType files = config.dtype.has_value()       ? *config.dtype
                      : plan.embedding.parts.empty() ? DType::kFloat32
                                                     : plan.embedding.parts[0].dtype;
  return files == DType::kFloat16 ? DType::kFloat16 : DType::kBFloat16;
}

// Clears the arena and the stand-in for the pool, brings the rotary frequencies to the device, and waits for all that.
absl::Status Prepare(const CudaExecutor::Parts& parts, const DecoderBuffers& buffers, cudaStream_t stream,
                     std::chrono::nanoseconds limit, absl::FunctionRef<absl::Status()> health) {
  for (const DeviceMemory* memory : {&parts.arena, &parts.stand_in}) {
    if (const cudaError_t error = cudaMemsetAsync(memory->data(), 0, static_cast<size_t>(memory->bytes()), stream);
        error != cudaSuccess) {
      return ToStatus(error, "clearing the arena");
    }
  }
  const Rope rope(parts.config->rope, parts.config->head_dim);
  if (buffers.frequencies != nullptr) {
    const std::vector<float>& frequencies = rope.frequencies();
    if (const cudaError_t error = cudaMemcpyAsync(buffers.frequencies, frequencies.data(),
                                                  frequencies.size() * sizeof(float), cudaMemcpyHostToDevice, stream);
        error != cudaSuccess) {
      return ToStatus(error, "copying the rotary frequencies");
    }
  }
  absl::StatusOr<Event> done = Event::Create();
  if (!done.ok()) return done.status();
  if (absl::Status recorded = done->Record(stream); !recorded.ok()) return recorded;
  return AwaitDevice("clearing the arena", {limit, health, [&] { return done->Passed(); }});
}

DecoderLayout LayoutFor(const CudaExecutorOptions& options, const DecoderConfig& config, const ShardPlan& plan,
                        DType type) {
  const int32_t asked = options.max_model_len;
  return {.config = &config,
          .shape = plan.shape,
          .limits = {.tokens = std::max(options.max_batch_tokens, options.max_sequences),
                     .sequences = options.max_sequences,
                     .positions = asked > 0 ? std::min(config.max_positions, asked) : config.max_positions},
          .type = type,
          .first_rank = plan.rank == 0};
}

// The most that one call of the communicator carries.
int64_t LargestCollective(const DecoderLayout& layout) {
  const int64_t sum = int64_t{layout.limits.tokens} * layout.config->hidden * 4;
  const int64_t rows = int64_t{layout.limits.sequences} * layout.shape.padded_vocab * 4;
  const int64_t reports =
      int64_t{layout.limits.sequences} * layout.shape.size * static_cast<int64_t>(sizeof(RowReport));
  return std::max({sum, rows, reports});
}

// Everything that a step needs and that is loaded, chosen or captured at a first use.
absl::Status WarmUp(const CudaExecutorOptions& options, CudaExecutor::Parts* parts) {
  const KvBlocks over_one_block{parts->stand_in.data(), 0};
  StepRunner& runner = *parts->runner;
  if (absl::Status warm = runner.WarmUp(over_one_block); !warm.ok()) return warm;
  if (!options.graphs || !parts->communicator->capturable()) return absl::OkStatus();
  parts->graph_sizes = GraphSizes(options.max_sequences);
  if (absl::Status captured = runner.CaptureGraphs(parts->graph_sizes, over_one_block); !captured.ok()) return captured;
  return runner.AwaitStream("bringing graphs to the device");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> LoadCudaExecutor(const CudaExecutorOptions& options, Communicator* control,
                                                           const MakeDeviceCommunicator& make_communicator) {
  absl::StatusOr<DecoderConfig> config = model::ReadDecoderConfig(options.folder);
  if (!config.ok()) return config.status();
  const absl::StatusOr<model::WeightFiles> files = model::WeightFiles::Open(options.folder);
  if (!files.ok()) return files.status();
  const absl::StatusOr<model::Manifest> manifest = model::ReadManifest(options.folder);
  if (!manifest.ok()) return manifest.status();
  absl::StatusOr<ShardPlan> plan = PlanShard(*config, *files, control->rank(), control->size());
  if (!plan.ok()) return plan.status();
  return LoadPlannedModel(options, {*std::move(config), *std::move(plan), manifest->revision}, control,
                          make_communicator);
}

absl::StatusOr<std::unique_ptr<Executor>> LoadPlannedModel(const CudaExecutorOptions& options, PlannedModel planned,
                                                           Communicator* control,
                                                           const MakeDeviceCommunicator& make_communicator) {
  if (absl::Status checked = CheckOptions(options); !checked.ok()) return checked;
  CudaExecutor::Parts parts;
  parts.config = std::make_unique<DecoderConfig>(std::move(planned.config));
  const DecoderConfig& config = *parts.config;
  const ShardPlan& plan = planned.plan;
  const absl::StatusOr<DType> type = ChooseType(options.dtype, config, plan);
  if (!type.ok()) return type.status();
  TANDEM_CUDA_RETURN_IF_ERROR(cudaGetDevice(&parts.device));
  const absl::StatusOr<std::string> architecture = DeviceArchitecture(parts.device);
  if (!architecture.ok()) return architecture.status();

  parts.layout = LayoutFor(options, config, plan, *type);
  const int64_t weight_bytes = DeviceWeightBytes<DeviceWeights>(plan, *type);
  const int64_t arena_bytes = DecoderBufferBytes(parts.layout);
  const int64_t block_bytes = KvBlockBytes(parts.layout);
  const int64_t stand_in_bytes = block_bytes / config.layers;
  const absl::StatusOr<DeviceMemoryInfo> before = ReadDeviceMemory();
  if (!before.ok()) return before.status();
  const int64_t limit = options.memory_limit_bytes > 0 ? options.memory_limit_bytes : before->free;
  const auto beyond = [&](int64_t needed, absl::string_view what) {
    return absl::ResourceExhaustedError(absl::StrCat("rank ", control->rank(), " needs ", needed, " bytes (weights ",
                                                     weight_bytes, ", activations ", arena_bytes, what,
                                                     ") before any KV, ", limit, " are free"));
  };
  if (weight_bytes + arena_bytes + stand_in_bytes > limit) return beyond(weight_bytes + arena_bytes, "");

  absl::StatusOr<Stream> stream = Stream::Create();
  if (!stream.ok()) return stream.status();
  const auto health = [control] { return control->Health(); };
  absl::StatusOr<DeviceWeights> weights =
      UploadWeights<DeviceWeights>(plan, *type, {stream->get(), options.wait_limit, health});
  if (!weights.ok()) return weights.status();
  absl::StatusOr<DeviceMemory> arena = DeviceMemory::Allocate(arena_bytes, "the arena of a full step");
  if (!arena.ok()) return arena.status();
  parts.arena = *std::move(arena);
  MemoryCursor cursor(parts.arena.data(), parts.arena.bytes());
  const DecoderBuffers buffers = TakeDecoderBuffers(parts.layout, &cursor);
  absl::StatusOr<DeviceMemory> stand_in = DeviceMemory::Allocate(stand_in_bytes, "a block of KV to warm up with");
  if (!stand_in.ok()) return stand_in.status();
  parts.stand_in = *std::move(stand_in);
  if (absl::Status ready = Prepare(parts, buffers, stream->get(), options.wait_limit, health); !ready.ok()) {
    return ready;
  }

  absl::StatusOr<std::unique_ptr<DeviceCommunicator>> communicator =
      make_communicator(control, LargestCollective(parts.layout));
  if (!communicator.ok()) return communicator.status();
  parts.communicator = *std::move(communicator);
  absl::StatusOr<std::unique_ptr<Matmul>> matmul = Matmul::Create(*type, buffers.matmul_workspace);
  if (!matmul.ok()) return matmul.status();
  auto decoder = std::make_unique<CudaDecoder>(parts.layout, buffers, *std::move(weights), *std::move(matmul),
                                               parts.communicator.get());
  absl::StatusOr<std::unique_ptr<StepRunner>> runner =
      StepRunner::Create({options.wait_limit, options.drain_limit, options.on_lost}, *std::move(stream),
                         std::move(decoder), control, parts.communicator.get());
  if (!runner.ok()) return runner.status();
  parts.runner = *std::move(runner);

  if (absl::Status warm = WarmUp(options, &parts); !warm.ok()) return warm;

  const absl::StatusOr<DeviceMemoryInfo> after = ReadDeviceMemory();
  if (!after.ok()) return after.status();
  // Whatever another process took or gave back meanwhile is in it too.
  const int64_t grown = std::max(before->free - after->free, weight_bytes + arena_bytes);
  if (grown > limit) return beyond(grown, ", the rest measured: kernels, graphs, the communicator");
  LOG(INFO) << config.architecture << ": weights " << weight_bytes << " bytes, arena " << arena_bytes << ", measured "
            << grown << " in all, " << parts.runner->graphs() << " graphs";

  ModelFacts facts;
  facts.vocab_size = config.vocab;
  facts.max_positions = config.max_positions;
  facts.eos_ids = config.eos_ids;
  facts.kv_bytes_per_block = block_bytes;
  facts.revision = std::move(planned.revision);
  std::string numerics_id =
      absl::StrCat("cuda/", *architecture, "/", *type == DType::kBFloat16 ? "bf16" : "fp16", "/tp", control->size(),
                   "/", parts.communicator->numerics(), "/v", kNumericsVersion, "/near");
  const MemoryReport memory{.weight_bytes = weight_bytes, .activation_bytes = grown - weight_bytes};
  return std::make_unique<CudaExecutor>(std::move(facts), std::move(numerics_id), memory, std::move(parts));
}

}  // namespace tandem::worker::cuda
