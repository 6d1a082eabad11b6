#include "worker/cuda/encoder_executor.h"

#include <cuda_runtime.h>
#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/model/encoder_config.h"
#include "base/model/encoder_memory.h"
#include "base/model/model_folder.h"
#include "base/model/safetensors.h"
#include "worker/cuda/check.h"
#include "worker/cuda/cuda_encoder.h"
#include "worker/cuda/device_list.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/layer_progress.h"
#include "worker/cuda/stream.h"
#include "worker/exec/check_step.h"
#include "worker/model/encoder_plan.h"

namespace tandem::worker::cuda {
namespace {

using model::DType;
using model::EncoderConfig;

// Raised when a change of the encoder or the kernels changes bits.
constexpr int kNumericsVersion = 1;

class CudaEncoderExecutor final : public Executor {
 public:
  // What a step needs, in the order in which it may be taken down from the end.
  struct Parts {
    int device = 0;
    EncoderConfig config;  // the layout points to it
    EncoderLayout layout;
    DeviceMemory arena;
    PinnedMemory staging;
    TextArrays arrays;         // in staging, as those of the device
    float* vectors = nullptr;  // in staging
    Stream stream;
    std::unique_ptr<CudaEncoder> encoder;
    Event done;
    LayerProgress layers;
  };

  CudaEncoderExecutor(const CudaExecutorOptions& options, Communicator* control, std::unique_ptr<Parts> parts)
      : wait_limit_(options.wait_limit),
        drain_limit_(options.drain_limit),
        on_lost_(options.on_lost),
        control_(*control),
        parts_(std::move(parts)) {}

  const ModelFacts& facts() const override { return facts_; }
  MemoryReport memory() const override { return memory_; }
  const std::string& numerics_id() const override { return numerics_id_; }
  const std::atomic<uint64_t>& progress() const override { return parts_->layers.total(); }

  absl::Status AllocateKv(int32_t num_blocks) override {
    if (num_blocks < 1) return absl::InvalidArgumentError(absl::StrCat("a queue of ", num_blocks, " blocks"));
    memory_.kv_bytes = num_blocks * facts_.kv_bytes_per_block;
    return absl::OkStatus();
  }

  absl::StatusOr<absl::Span<const float>> Run(const StepInput& step) override {
    if (!spent_.ok()) return spent_;
    const TextLimits& limits = parts_->layout.limits;
    const TextBounds bounds{.max_batch_tokens = limits.tokens,
                            .max_texts = limits.texts,
                            .longest = parts_->config.max_tokens,
                            .vocab_size = parts_->config.vocab};
    if (absl::Status checked = CheckTexts(step, bounds); !checked.ok()) return checked;
    TANDEM_CUDA_RETURN_IF_ERROR(cudaSetDevice(parts_->device));
    if (absl::Status ran = RunTexts(step); !ran.ok()) {
      spent_ = ran;
      RestOrLose(ran, parts_->stream.get(), drain_limit_, on_lost_);
      return ran;
    }
    const size_t count = step.sequences.size() * static_cast<size_t>(parts_->config.vector_size());
    if (parts_->config.head == model::EncoderHead::kClassifier && parts_->config.sigmoid) {
      for (size_t i = 0; i < count; ++i) parts_->vectors[i] = 1.0f / (1.0f + std::exp(-parts_->vectors[i]));
    }
    return absl::MakeConstSpan(parts_->vectors, count);
  }

  // Steps of every size that products are chosen by, so that whatever is loaded or chosen at a first use is so
  // afterwards.
  absl::Status WarmUp() {
    const TextLimits& limits = parts_->layout.limits;
    const std::vector<TokenId> longest(static_cast<size_t>(limits.longest), 0);
    const auto run = [&](int32_t tokens, int32_t each) {
      std::vector<SequenceInput> texts;
      for (int32_t left = tokens; left > 0 && static_cast<int32_t>(texts.size()) < limits.texts; left -= each) {
        const auto some = absl::MakeConstSpan(longest).first(static_cast<size_t>(std::min(left, each)));
        texts.push_back({.tokens = some, .sample = true});
      }
      return Run({texts}).status();
    };
    for (const bool of_texts : {false, true}) {
      const int32_t most = of_texts ? std::min(limits.texts, limits.tokens) : limits.tokens;
      for (int64_t bucket = MatmulBucket(most); bucket > 0; bucket /= 2) {
        const int32_t tokens = static_cast<int32_t>(std::min<int64_t>(bucket, most));
        if (absl::Status ran = run(tokens, of_texts ? 1 : limits.longest); !ran.ok()) return ran;
      }
    }
    return absl::OkStatus();
  }

  void Describe(ModelFacts facts, MemoryReport memory, std::string numerics_id) {
    facts_ = std::move(facts);
    memory_ = memory;
    numerics_id_ = std::move(numerics_id);
  }

 private:
  absl::Status RunTexts(const StepInput& step) {
    Parts& parts = *parts_;
    const cudaStream_t stream = parts.stream.get();
    const TextShape shape = FillTexts(step, parts.config, parts.layout.limits, parts.arrays);
    const EncoderBuffers& buffers = parts.encoder->buffers();
    // One after the other on both sides, so one copy.
    if (const cudaError_t error =
            cudaMemcpyAsync(buffers.step.tokens, parts.arrays.tokens,
                            static_cast<size_t>(TextArrayBytes(parts.layout.limits)), cudaMemcpyHostToDevice, stream);
        error != cudaSuccess) {
      return ToStatus(error, "copying a step's arrays to the device");
    }
    parts.layers.BeginStep();
    const auto looked = [&](bool enough) -> absl::StatusOr<bool> {
      if (absl::Status seen = parts.layers.Look(); !seen.ok()) return seen;
      return enough;
    };
    const absl::Status enqueued = parts.encoder->Enqueue(shape, stream, [&] {
      if (absl::Status recorded = parts.layers.Record(stream); !recorded.ok()) return recorded;
      return Await("the layers of a step", [&] { return looked(parts.layers.may_enqueue()); });
    });
    if (!enqueued.ok()) return enqueued;
    const size_t bytes = static_cast<size_t>(shape.texts * int64_t{parts.config.vector_size()}) * sizeof(float);
    if (const cudaError_t error =
            cudaMemcpyAsync(parts.vectors, buffers.vectors, bytes, cudaMemcpyDeviceToHost, stream);
        error != cudaSuccess) {
      return ToStatus(error, "copying vectors to the host");
    }
    if (absl::Status recorded = parts.done.Record(stream); !recorded.ok()) return recorded;
    const absl::Status done = Await("a step", [&]() -> absl::StatusOr<bool> {
      if (absl::Status seen = parts.layers.Look(); !seen.ok()) return seen;
      return parts.done.Passed();
    });
    if (done.ok()) parts.layers.EndStep();
    return done;
  }

  absl::Status Await(absl::string_view what, absl::FunctionRef<absl::StatusOr<bool>()> passed) {
    return AwaitDevice(what, {wait_limit_, [this] { return control_.Health(); }, passed});
  }

  const std::chrono::nanoseconds wait_limit_;
  const std::chrono::nanoseconds drain_limit_;
  const std::function<void(absl::string_view reason)> on_lost_;
  Communicator& control_;
  ModelFacts facts_;
  MemoryReport memory_;
  std::string numerics_id_;
  const std::unique_ptr<Parts> parts_;
  absl::Status spent_;
};

absl::StatusOr<DType> ChooseType(absl::string_view requested, const EncoderConfig& config) {
  if (requested == NameOf(DType::kBFloat16)) return DType::kBFloat16;
  if (requested == NameOf(DType::kFloat16)) return DType::kFloat16;
  if (requested == "auto") return config.dtype == DType::kBFloat16 ? DType::kBFloat16 : DType::kFloat16;
  return absl::InvalidArgumentError(
      absl::StrCat("dtype \"", requested, "\" is not computed on CUDA; choose auto, bfloat16 or float16"));
}

// Everything but the weights: memory, clean and laid out.
absl::Status TakeMemory(const CudaExecutorOptions& options, int64_t arena_bytes, Communicator* control,
                        CudaEncoderExecutor::Parts* parts, EncoderBuffers* buffers) {
  absl::StatusOr<DeviceMemory> arena = DeviceMemory::Allocate(arena_bytes, "the arena of a full step");
  if (!arena.ok()) return arena.status();
  parts->arena = *std::move(arena);
  MemoryCursor cursor(parts->arena.data(), parts->arena.bytes());
  *buffers = TakeEncoderBuffers(parts->layout, &cursor);
  const auto take = [&](MemoryCursor on_host) {
    parts->arrays = TakeTextArrays(parts->layout.limits, &on_host);
    parts->vectors = on_host.Take<float>(int64_t{parts->layout.limits.texts} * parts->config.vector_size());
    return on_host.taken();
  };
  absl::StatusOr<PinnedMemory> staging = PinnedMemory::Allocate(take(MemoryCursor::Counting()), "a step's arrays");
  if (!staging.ok()) return staging.status();
  parts->staging = *std::move(staging);
  take(MemoryCursor(parts->staging.data(), parts->staging.bytes()));

  absl::StatusOr<Event> done = Event::Create();
  if (!done.ok()) return done.status();
  parts->done = *std::move(done);
  if (absl::Status created = parts->layers.Create(parts->config.layers); !created.ok()) return created;
  if (const cudaError_t error =
          cudaMemsetAsync(parts->arena.data(), 0, static_cast<size_t>(arena_bytes), parts->stream.get());
      error != cudaSuccess) {
    return ToStatus(error, "clearing the arena");
  }
  if (absl::Status recorded = parts->done.Record(parts->stream.get()); !recorded.ok()) return recorded;
  const auto health = [control] { return control->Health(); };
  return AwaitDevice("clearing the arena", {options.wait_limit, health, [parts] { return parts->done.Passed(); }});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> LoadCudaEncoder(const CudaExecutorOptions& options, absl::string_view task,
                                                          Communicator* control) {
  if (control->size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("an encoder runs on one rank, not on ", control->size(), "; set tensor_parallel: 1"));
  }
  if (options.max_batch_tokens < 1 || options.max_batch_tokens > kMaxBatchTokens || options.max_sequences < 1 ||
      options.max_sequences > kMaxSequences) {
    return absl::InvalidArgumentError(absl::StrCat("max_batch_tokens ", options.max_batch_tokens, ", max_sequences ",
                                                   options.max_sequences, "; expected 1 to ", kMaxBatchTokens,
                                                   " and 1 to ", kMaxSequences));
  }
  auto parts = std::make_unique<CudaEncoderExecutor::Parts>();
  absl::StatusOr<EncoderConfig> config = model::ReadEncoderConfig(options.folder, task);
  if (!config.ok()) return config.status();
  parts->config = *std::move(config);
  const EncoderConfig& encoder = parts->config;
  const absl::StatusOr<model::WeightFiles> files = model::WeightFiles::Open(options.folder);
  if (!files.ok()) return files.status();
  const absl::StatusOr<model::Manifest> manifest = model::ReadManifest(options.folder);
  if (!manifest.ok()) return manifest.status();
  const absl::StatusOr<EncoderPlan> plan = PlanEncoder(encoder, *files);
  if (!plan.ok()) return plan.status();
  const absl::StatusOr<DType> type = ChooseType(options.dtype, encoder);
  if (!type.ok()) return type.status();
  TANDEM_CUDA_RETURN_IF_ERROR(cudaGetDevice(&parts->device));
  const absl::StatusOr<std::string> architecture = DeviceArchitecture(parts->device);
  if (!architecture.ok()) return architecture.status();

  parts->layout = {.config = &encoder,
                   .limits = {.tokens = model::EncoderBatchTokens(encoder, options.max_batch_tokens),
                              .texts = options.max_sequences,
                              .longest = encoder.max_tokens},
                   .type = *type};
  const int64_t weight_bytes = DeviceEncoderWeightBytes(*plan, *type);
  const int64_t arena_bytes = EncoderBufferBytes(parts->layout);
  const absl::StatusOr<DeviceMemoryInfo> before = ReadDeviceMemory();
  if (!before.ok()) return before.status();
  const int64_t limit = options.memory_limit_bytes > 0 ? options.memory_limit_bytes : before->free;
  const auto beyond = [&](int64_t needed) {
    return absl::ResourceExhaustedError(absl::StrCat("the encoder needs ", needed, " bytes (weights ", weight_bytes,
                                                     ", activations ", arena_bytes, "), ", limit, " are free"));
  };
  if (weight_bytes + arena_bytes > limit) return beyond(weight_bytes + arena_bytes);

  absl::StatusOr<Stream> stream = Stream::Create();
  if (!stream.ok()) return stream.status();
  parts->stream = *std::move(stream);
  const auto health = [control] { return control->Health(); };
  absl::StatusOr<DeviceEncoderWeights> weights =
      UploadEncoderWeights(*plan, *type, parts->stream.get(), options.wait_limit, health);
  if (!weights.ok()) return weights.status();
  EncoderBuffers buffers;
  if (absl::Status taken = TakeMemory(options, arena_bytes, control, parts.get(), &buffers); !taken.ok()) return taken;
  absl::StatusOr<std::unique_ptr<Matmul>> matmul = Matmul::Create(*type, buffers.matmul_workspace);
  if (!matmul.ok()) return matmul.status();
  parts->encoder = std::make_unique<CudaEncoder>(parts->layout, buffers, *std::move(weights), *std::move(matmul));

  auto executor = std::make_unique<CudaEncoderExecutor>(options, control, std::move(parts));
  if (absl::Status warm = executor->WarmUp(); !warm.ok()) return warm;
  const absl::StatusOr<DeviceMemoryInfo> after = ReadDeviceMemory();
  if (!after.ok()) return after.status();
  // Whatever another process took or gave back meanwhile is in it too.
  const int64_t grown = std::max(before->free - after->free, weight_bytes + arena_bytes);
  if (grown > limit) return beyond(grown);
  LOG(INFO) << encoder.architecture << ": weights " << weight_bytes << " bytes, arena " << arena_bytes << ", measured "
            << grown << " in all";
  ModelFacts facts;
  facts.vocab_size = encoder.vocab;
  facts.vector_size = encoder.vector_size();
  facts.max_positions = encoder.max_tokens + 1;  // The answer counts as one token.
  facts.kv_bytes_per_block = kBlockTokens * model::kQueuedTokenBytes;
  facts.revision = manifest->revision;
  executor->Describe(std::move(facts), {.weight_bytes = weight_bytes, .activation_bytes = grown - weight_bytes},
                     absl::StrCat("cuda/", *architecture, "/", *type == DType::kBFloat16 ? "bf16" : "fp16",
                                  "/encoder/v", kNumericsVersion, "/near"));
  return executor;
}

}  // namespace tandem::worker::cuda
