#include "worker/cuda/encoder_executor.h"

#include <cuda_runtime.h>
#include <glog/logging.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/model/clip_config.h"
#include "worker/cuda/check.h"
#include "worker/cuda/cublaslt_matmul.h"
#include "worker/cuda/cuda_clip.h"
#include "worker/cuda/cuda_encoder.h"
#include "worker/cuda/device_encoder.h"
#include "worker/cuda/device_list.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/layer_progress.h"
#include "worker/cuda/stream.h"

namespace tandem::worker::cuda {
namespace {

using model::DType;

// Raised when a change of an encoder or the kernels changes bits.
constexpr int kNumericsVersion = 1;

class CudaEncoderExecutor final : public Executor {
 public:
  // What a step needs, in the order in which it may be taken down from the end.
  struct Parts {
    int device = 0;
    DeviceMemory arena;
    PinnedMemory staging;
    float* vectors = nullptr;  // in staging
    Stream stream;
    std::unique_ptr<DeviceEncoder> encoder;
    Event done;
    LayerProgress layers;
  };

  CudaEncoderExecutor(const CudaExecutorOptions& options, Communicator* control, std::unique_ptr<Parts> parts)
      : wait_limit_(options.wait_limit),
        drain_limit_(options.drain_limit),
        on_lost_(options.on_lost),
        control_(*control),
        parts_(std::move(parts)) {}

  const ModelFacts& facts() const override { return parts_->encoder->facts(); }
  MemoryReport memory() const override { return memory_; }
  const std::string& numerics_id() const override { return numerics_id_; }
  const std::atomic<uint64_t>& progress() const override { return parts_->layers.total(); }
  absl::StatusOr<std::vector<uint8_t>> ReadImage(absl::string_view file) const override {
    return parts_->encoder->ReadImage(file);
  }

  absl::Status AllocateKv(int32_t num_blocks) override {
    if (num_blocks < 1) return absl::InvalidArgumentError(absl::StrCat("a queue of ", num_blocks, " blocks"));
    memory_.kv_bytes = num_blocks * facts().kv_bytes_per_block;
    return absl::OkStatus();
  }

  absl::StatusOr<absl::Span<const float>> Run(const StepInput& step) override {
    if (!spent_.ok()) return spent_;
    if (absl::Status checked = CheckTexts(step, parts_->encoder->bounds()); !checked.ok()) return checked;
    TANDEM_CUDA_RETURN_IF_ERROR(cudaSetDevice(parts_->device));
    const size_t count = step.sequences.size() * static_cast<size_t>(facts().vector_size);
    if (absl::Status ran = RunStep(step, count); !ran.ok()) {
      spent_ = ran;
      RestOrLose(ran, parts_->stream.get(), drain_limit_, on_lost_);
      return ran;
    }
    parts_->encoder->Finish({parts_->vectors, count});
    return absl::MakeConstSpan(parts_->vectors, count);
  }

  // Steps of every size that products are chosen by, so that whatever is loaded or chosen at a first use is so
  // afterwards.
  absl::Status WarmUp() {
    const TextBounds& bounds = parts_->encoder->bounds();
    for (const int32_t each : {bounds.longest, int32_t{1}}) {
      const int32_t most = std::min<int64_t>(bounds.max_batch_tokens, int64_t{each} * bounds.max_texts);
      for (int64_t bucket = MatmulBucket(most); bucket > 0; bucket /= 2) {
        if (absl::Status ran = RunZeros(static_cast<int32_t>(std::min<int64_t>(bucket, most)), each, 0); !ran.ok()) {
          return ran;
        }
      }
    }
    if (bounds.image_tokens == 0) return absl::OkStatus();
    int32_t images = std::min(bounds.max_texts, bounds.max_batch_tokens / bounds.image_tokens);
    while (true) {
      const int32_t tokens = images * bounds.image_tokens;
      if (absl::Status ran = RunZeros(tokens, bounds.image_tokens, bounds.image_bytes); !ran.ok()) return ran;
      if (images == 1) return absl::OkStatus();
      images = (images + 1) / 2;  // rounded up: no power of two is passed over
    }
  }

  void Describe(const MemoryReport& memory, std::string numerics_id) {
    memory_ = memory;
    numerics_id_ = std::move(numerics_id);
  }

 private:
  // A step of `tokens` in inputs of `each`: texts, or pictures of `image_bytes`.
  absl::Status RunZeros(int32_t tokens, int32_t each, int64_t image_bytes) {
    const std::vector<TokenId> ids(static_cast<size_t>(each), 0);
    const std::vector<uint8_t> pixels(static_cast<size_t>(image_bytes), 0);
    std::vector<SequenceInput> inputs;
    for (int32_t left = tokens; left > 0; left -= each) {
      const auto some = absl::MakeConstSpan(ids).first(static_cast<size_t>(std::min(left, each)));
      inputs.push_back({.tokens = some, .sample = true, .image = pixels});
    }
    return Run({inputs}).status();
  }

  absl::Status RunStep(const StepInput& step, size_t count) {
    Parts& parts = *parts_;
    const cudaStream_t stream = parts.stream.get();
    parts.layers.BeginStep();
    const auto looked = [&](bool enough) -> absl::StatusOr<bool> {
      if (absl::Status seen = parts.layers.Look(); !seen.ok()) return seen;
      return enough;
    };
    TANDEM_RETURN_IF_ERROR(parts.encoder->Enqueue(step, stream, [&] {
      if (absl::Status recorded = parts.layers.Record(stream); !recorded.ok()) return recorded;
      return Await("the layers of a step", [&] { return looked(parts.layers.may_enqueue()); });
    }));
    if (const cudaError_t error = cudaMemcpyAsync(parts.vectors, parts.encoder->vectors(), count * sizeof(float),
                                                  cudaMemcpyDeviceToHost, stream);
        error != cudaSuccess) {
      return ToStatus(error, "copying vectors to the host");
    }
    TANDEM_RETURN_IF_ERROR(parts.done.Record(stream));
    TANDEM_RETURN_IF_ERROR(Await("a step", [&]() -> absl::StatusOr<bool> {
      if (absl::Status seen = parts.layers.Look(); !seen.ok()) return seen;
      return parts.done.Passed();
    }));
    parts.layers.EndStep();
    return absl::OkStatus();
  }

  absl::Status Await(absl::string_view what, absl::FunctionRef<absl::StatusOr<bool>()> passed) {
    return AwaitDevice(what, {wait_limit_, [this] { return control_.Health(); }, passed});
  }

  const std::chrono::nanoseconds wait_limit_;
  const std::chrono::nanoseconds drain_limit_;
  const std::function<void(absl::string_view reason)> on_lost_;
  Communicator& control_;
  MemoryReport memory_;
  std::string numerics_id_;
  const std::unique_ptr<Parts> parts_;
  absl::Status spent_;
};

// Everything but the weights: memory, clean and laid out.
absl::Status TakeMemory(const CudaExecutorOptions& options, int64_t arena_bytes, Communicator* control,
                        CudaEncoderExecutor::Parts* parts) {
  DeviceEncoder& encoder = *parts->encoder;
  absl::StatusOr<DeviceMemory> arena = DeviceMemory::Allocate(arena_bytes, "the arena of a full step");
  if (!arena.ok()) return arena.status();
  parts->arena = *std::move(arena);
  MemoryCursor on_device(parts->arena.data(), parts->arena.bytes());
  encoder.TakeOnDevice(&on_device);
  const auto take = [&](MemoryCursor on_host) {
    encoder.TakeOnHost(&on_host);
    parts->vectors = on_host.Take<float>(int64_t{encoder.bounds().max_texts} * encoder.facts().vector_size);
    return on_host.taken();
  };
  absl::StatusOr<PinnedMemory> staging = PinnedMemory::Allocate(take(MemoryCursor::Counting()), "a step's arrays");
  if (!staging.ok()) return staging.status();
  parts->staging = *std::move(staging);
  take(MemoryCursor(parts->staging.data(), parts->staging.bytes()));

  absl::StatusOr<Event> done = Event::Create();
  if (!done.ok()) return done.status();
  parts->done = *std::move(done);
  TANDEM_RETURN_IF_ERROR(parts->layers.Create(encoder.layers()));
  if (const cudaError_t error =
          cudaMemsetAsync(parts->arena.data(), 0, static_cast<size_t>(arena_bytes), parts->stream.get());
      error != cudaSuccess) {
    return ToStatus(error, "clearing the arena");
  }
  TANDEM_RETURN_IF_ERROR(parts->done.Record(parts->stream.get()));
  const auto health = [control] { return control->Health(); };
  return AwaitDevice("clearing the arena", {options.wait_limit, health, [parts] { return parts->done.Passed(); }});
}

absl::Status CheckOptions(const CudaExecutorOptions& options, const Communicator& control) {
  if (control.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("an encoder runs on one rank, not on ", control.size(), "; set tensor_parallel: 1"));
  }
  if (options.max_batch_tokens < 1 || options.max_batch_tokens > kMaxBatchTokens || options.max_sequences < 1 ||
      options.max_sequences > kMaxSequences) {
    return absl::InvalidArgumentError(absl::StrCat("max_batch_tokens ", options.max_batch_tokens, ", max_sequences ",
                                                   options.max_sequences, "; expected 1 to ", kMaxBatchTokens,
                                                   " and 1 to ", kMaxSequences));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> LoadCudaEncoder(const CudaExecutorOptions& options, absl::string_view task,
                                                          Communicator* control) {
  TANDEM_RETURN_IF_ERROR(CheckOptions(options, *control));
  auto parts = std::make_unique<CudaEncoderExecutor::Parts>();
  auto planned = model::IsClipFolder(options.folder) ? PlanCudaClip(options, task) : PlanCudaEncoder(options, task);
  if (!planned.ok()) return planned.status();
  parts->encoder = *std::move(planned);
  DeviceEncoder& encoder = *parts->encoder;
  TANDEM_CUDA_RETURN_IF_ERROR(cudaGetDevice(&parts->device));
  const absl::StatusOr<std::string> architecture = DeviceArchitecture(parts->device);
  if (!architecture.ok()) return architecture.status();

  const int64_t weight_bytes = encoder.WeightBytes();
  MemoryCursor counting = MemoryCursor::Counting();
  encoder.TakeOnDevice(&counting);
  const int64_t arena_bytes = counting.taken();
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
  TANDEM_RETURN_IF_ERROR(TakeMemory(options, arena_bytes, control, parts.get()));
  const auto health = [control] { return control->Health(); };
  TANDEM_RETURN_IF_ERROR(encoder.Load({parts->stream.get(), options.wait_limit, health}));

  auto executor = std::make_unique<CudaEncoderExecutor>(options, control, std::move(parts));
  TANDEM_RETURN_IF_ERROR(executor->WarmUp());
  const absl::StatusOr<DeviceMemoryInfo> after = ReadDeviceMemory();
  if (!after.ok()) return after.status();
  // Whatever another process took or gave back meanwhile is in it too.
  const int64_t grown = std::max(before->free - after->free, weight_bytes + arena_bytes);
  if (grown > limit) return beyond(grown);
  LOG(INFO) << encoder.kind() << ": weights " << weight_bytes << " bytes, arena " << arena_bytes << ", measured "
            << grown << " in all";
  executor->Describe({.weight_bytes = weight_bytes, .activation_bytes = grown - weight_bytes},
                     absl::StrCat("cuda/", *architecture, "/", encoder.type() == DType::kBFloat16 ? "bf16" : "fp16",
                                  "/", encoder.kind(), "/v", kNumericsVersion, "/near"));
  return executor;
}

}  // namespace tandem::worker::cuda
