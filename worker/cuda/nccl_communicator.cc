#include "worker/cuda/nccl_communicator.h"

#include <cuda_runtime.h>
#include <glog/logging.h>
#include <nccl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "worker/cuda/check.h"
#include "worker/cuda/decode_graphs.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/nccl_path.h"
#include "worker/cuda/stream.h"
#include "worker/cuda/sum_window.h"

namespace tandem::worker::cuda {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPoll{1};

// Each kernel of older versions looks for an abort after a million looks for its peer, some 200 ms
// (NCCL_SPINS_BEFORE_CHECK_ABORT; NVIDIA/nccl#1462). From which version on it is less is not known to the day: this one
// is safe.
constexpr int kFirstQuickAbort = 23000;
constexpr milliseconds kSlowAbort{250};

int Version() {
  int version = 0;
  ncclGetVersion(&version);
  return version;
}

constexpr int64_t kSelfTestCounts[] = {1 << 10, 1 << 20};  // floats: one that goes by low latency, one by bandwidth

// A failure of NCCL's own, with what it says of it.
absl::Status Failure(absl::string_view what, ncclResult_t error, ncclComm_t comm) {
  const char* last = ncclGetLastError(comm);
  return absl::InternalError(absl::StrCat("NCCL, ", what, ": ", ncclGetErrorString(error),
                                          last == nullptr || *last == '\0' ? "" : absl::StrCat(" (", last, ")")));
}

ncclDataType_t TypeOf(model::DType type) {
  switch (type) {
    case model::DType::kFloat32:
      return ncclFloat32;
    case model::DType::kBFloat16:
      return ncclBfloat16;
    case model::DType::kFloat16:
      return ncclFloat16;
  }
  return ncclFloat32;
}

// Of a measurement: from a sum that one token makes to one of many, and as many of each as make its time stand out.
constexpr int64_t kSmallestTimedSum = 8 << 10;
constexpr int64_t kTimedSumStep = 8;
constexpr int kUntimedSums = 3;
constexpr int kTimedSums = 10;

// A rank's word on its window; the worst one counts.
enum class WindowState : uint8_t { kFailed = 0, kNone = 1, kThere = 2 };

}  // namespace

// The ncclComm_t and its state. Its owner and the thread that aborts it share it, so that a hung abort holds nothing
// but this.
class NcclCommunicator::Handle {
 public:
  // Of the calling thread's current device.
  explicit Handle(const NcclOptions& options) : limit_(options.abort_limit), on_lost_(options.on_lost) {
    if (cudaGetDevice(&device_) != cudaSuccess) device_ = 0;
  }

  // Under the lock, unless it is spent. NCCL's calls do not block here, so the lock is held for microseconds.
  template <typename Call>
  absl::Status Do(absl::string_view what, Call call) {
    std::lock_guard lock(mu_);
    if (!spent_.ok()) return spent_;
    const ncclResult_t result = call(comm_);
    if (result == ncclSuccess || result == ncclInProgress) return absl::OkStatus();
    spent_ = Failure(what, result, comm_);
    return spent_;
  }

  // True: nothing is under way. An error spends it.
  absl::StatusOr<bool> Settled(absl::string_view what) {
    std::lock_guard lock(mu_);
    if (!spent_.ok()) return spent_;
    ncclResult_t state = ncclSuccess;
    ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
    if (asked == ncclSuccess) asked = state;
    if (asked == ncclSuccess) return true;
    if (asked == ncclInProgress) return false;
    spent_ = Failure(what, asked, comm_);
    return spent_;
  }

  absl::Status Health() {
    const absl::StatusOr<bool> settled = Settled("found on the device");
    return settled.ok() ? absl::OkStatus() : settled.status();
  }

  void Spend(absl::Status why) {
    std::lock_guard lock(mu_);
    if (spent_.ok()) spent_ = std::move(why);
  }
  bool Spent() {
    std::lock_guard lock(mu_);
    return !spent_.ok();
  }

  // Begins the abort, once. Returns at once; the device's work ends when NCCL's kernels see it.
  static void BeginAbort(const std::shared_ptr<Handle>& self) {
    std::lock_guard lock(self->mu_);
    if (self->ending_) return;
    self->ending_ = true;
    if (self->comm_ == nullptr) {
      self->ended_ = true;
      return;
    }
    std::thread([self, comm = self->comm_] {
      // NCCL goes back to the device that it found the thread on. A new thread is on device 0, where that would make a
      // context, on a card that belongs to another worker.
      cudaSetDevice(self->device_);
      ncclCommAbort(comm);
      self->End();
    }).detach();
  }

  // Whether what BeginAbort began is done in time. If not, the device is lost.
  bool AwaitAbort(absl::string_view why) {
    std::unique_lock lock(mu_);
    if (changed_.wait_for(lock, absl::ToChronoNanoseconds(limit_), [this] { return ended_; })) return true;
    if (std::exchange(gave_up_, true)) return false;
    lock.unlock();
    on_lost_(absl::StrCat("an abort of NCCL did not end within ", absl::FormatDuration(limit_), " (", why,
                          "); only the end of the process frees the device"));
    return false;
  }

  // Only for a communicator in good order: ends it with its peers. False: not in time, or not in order, or a peer is
  // gone as `control` knows.
  bool Finalize(Communicator& control, absl::Duration limit) {
    const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(limit);
    if (!Do("finalizing", [](ncclComm_t comm) { return ncclCommFinalize(comm); }).ok()) return false;
    while (true) {
      const absl::StatusOr<bool> settled = Settled("finalizing");
      if (!settled.ok()) return false;
      if (*settled) break;
      if (std::chrono::steady_clock::now() > deadline || !control.Health().ok()) return false;
      std::this_thread::sleep_for(kPoll);
    }
    std::lock_guard lock(mu_);
    if (ending_) return false;
    ending_ = ended_ = true;
    ncclCommDestroy(comm_);
    spent_ = absl::CancelledError("the communicator was destroyed");
    return true;
  }

  void Put(ncclComm_t comm) { comm_ = comm; }

 private:
  void End() {
    std::lock_guard lock(mu_);
    ended_ = true;
    changed_.notify_all();
  }

  const absl::Duration limit_;
  const std::function<void(absl::string_view)> on_lost_;
  int device_ = 0;
  ncclComm_t comm_ = nullptr;  // fixed once it is put

  std::mutex mu_;
  std::condition_variable changed_;
  absl::Status spent_;  // Guarded by mu_, as are:
  bool ending_ = false;
  bool ended_ = false;
  bool gave_up_ = false;
};

NcclCommunicator::NcclCommunicator(Communicator* control, NcclOptions options, std::shared_ptr<Handle> handle)
    : control_(*control), options_(std::move(options)), handle_(std::move(handle)) {}

absl::StatusOr<std::unique_ptr<NcclCommunicator>> NcclCommunicator::Join(Communicator* control, NcclOptions options) {
  CHECK(options.on_lost != nullptr);
  // Peers may still read their weights; the control plane watches over them, and the deadline is for what comes after.
  if (absl::Status met = control->Barrier(); !met.ok()) return met;
  const absl::Time deadline = absl::Now() + options.init_limit;
  const absl::StatusOr<bool> direct = ChooseNcclPath(*control, deadline, options.on_lost);
  if (!direct.ok()) return direct.status();
  absl::StatusOr<std::unique_ptr<NcclCommunicator>> joined = Start(control, options, deadline);
  if (!joined.ok() || !*direct || options.window_bytes == 0) return joined;
  const absl::StatusOr<bool> whole = (*joined)->TryWindow(deadline);
  if (!whole.ok()) {
    (*joined)->Abort(whole.status().message());
    return whole.status();
  }
  if (*whole) return joined;
  joined->reset();
  return Start(control, options, deadline);
}

absl::StatusOr<std::unique_ptr<NcclCommunicator>> NcclCommunicator::Start(Communicator* control,
                                                                          const NcclOptions& options,
                                                                          absl::Time deadline) {
  ncclUniqueId id{};
  absl::Status made;
  if (control->rank() == 0) {
    if (const ncclResult_t error = ncclGetUniqueId(&id); error != ncclSuccess)
      made = Failure("unique id", error, nullptr);
  }
  // A rank 0 without an id still takes part: its peers get none, and everybody knows why.
  const absl::StatusOr<std::vector<ncclUniqueId>> ids = ExchangeFacts(*control, id);
  if (!ids.ok()) return ids.status();
  if (!made.ok()) return made;
  const ncclUniqueId none{};
  if (std::memcmp(&ids->front(), &none, sizeof(none)) == 0) {
    return absl::InternalError("rank 0 got no unique id from NCCL");
  }

  auto handle = std::make_shared<Handle>(options);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = nullptr;
  const ncclResult_t begun = ncclCommInitRankConfig(&comm, control->size(), ids->front(), control->rank(), &config);
  handle->Put(comm);
  std::unique_ptr<NcclCommunicator> joined(new NcclCommunicator(control, options, handle));
  if (begun != ncclSuccess && begun != ncclInProgress) {
    absl::Status failed = Failure("starting", begun, nullptr);
    joined->Abort(failed.message());
    return failed;
  }
  const auto health = [control] { return control->Health(); };
  absl::Status up = AwaitDevice("NCCL coming up", {.limit = absl::ToChronoNanoseconds(deadline - absl::Now()),
                                                   .health = health,
                                                   .passed = [&handle] { return handle->Settled("starting"); }});
  if (up.ok()) up = joined->SelfTest(deadline);
  if (up.ok()) return joined;
  joined->Abort(up.message());
  return up;
}

NcclCommunicator::~NcclCommunicator() {
  if (!handle_->Spent() && control_.Health().ok()) {
    ForgetWindow();
    if (handle_->Finalize(control_, options_.finalize_limit)) return;
  }
  Handle::BeginAbort(handle_);
  if (!handle_->AwaitAbort("leaving the group")) window_memory_.Leak();
}

int NcclCommunicator::rank() const { return control_.rank(); }
int NcclCommunicator::size() const { return control_.size(); }

std::chrono::nanoseconds NcclCommunicator::AbortTime(int64_t collectives) const {
  return Version() < kFirstQuickAbort ? collectives * kSlowAbort : std::chrono::nanoseconds(0);
}

std::string NcclCommunicator::numerics() const {
  const int version = Version();
  return absl::StrCat("nccl-", NcclVersionName(version), window_limit_ > 0 ? "+windows" : "");
}

// Numbers of which every rank knows the sum: whole, so that fp32 holds it exactly in any order.
absl::Status NcclCommunicator::SelfTest(absl::Time deadline) {
  absl::StatusOr<Stream> stream = Stream::Create();
  if (!stream.ok()) return stream.status();
  for (const int64_t count : kSelfTestCounts) {
    absl::StatusOr<DeviceMemory> memory = DeviceMemory::Allocate(count * 4, "the self-test of NCCL");
    if (!memory.ok()) return memory.status();
    std::vector<float> values(count);
    for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>((rank() + 1) * (i % 97 + 1));
    const size_t bytes = values.size() * sizeof(float);
    TANDEM_CUDA_RETURN_IF_ERROR(
        cudaMemcpyAsync(memory->data(), values.data(), bytes, cudaMemcpyHostToDevice, stream->get()));
    absl::Status done = AllReduceSum(memory->data(), count, model::DType::kFloat32, stream->get());
    const auto passed = [&stream]() -> absl::StatusOr<bool> {
      const cudaError_t error = cudaStreamQuery(stream->get());
      if (error == cudaErrorNotReady) return false;
      if (error != cudaSuccess) return ToStatus(error, "the self-test of NCCL");
      return true;
    };
    if (done.ok()) {
      done = AwaitDevice("the self-test of NCCL", {.limit = absl::ToChronoNanoseconds(deadline - absl::Now()),
                                                   .health = [this] { return Health(); },
                                                   .passed = passed});
    }
    if (!done.ok()) {
      // What runs on the stream uses the memory: it has to end before that is given back.
      Abort(done.message());
      handle_->AwaitAbort(done.message());
      return done;
    }
    TANDEM_CUDA_RETURN_IF_ERROR(
        cudaMemcpyAsync(values.data(), memory->data(), bytes, cudaMemcpyDeviceToHost, stream->get()));
    TANDEM_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream->get()));  // of a copy: the group is not in it any more
    const int ranks = size() * (size() + 1) / 2;
    for (int64_t i = 0; i < count; ++i) {
      const auto expected = static_cast<float>(ranks * (i % 97 + 1));
      if (values[i] == expected) continue;
      return absl::InternalError(absl::StrCat("NCCL sums wrong on rank ", rank(), ": element ", i, " of ", count,
                                              " is ", values[i], ", not ", expected));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> NcclCommunicator::TryWindow(absl::Time deadline) {
  const auto agree = [this](WindowState mine) -> absl::StatusOr<WindowState> {
    const absl::StatusOr<std::vector<WindowState>> all = ExchangeFacts(control_, mine);
    if (!all.ok()) return all.status();
    return *std::min_element(all->begin(), all->end());
  };
  const bool able = NcclHasWindows(options_.stuck_windows) && window_memory_.Allocate(options_.window_bytes);
  absl::StatusOr<WindowState> state = agree(able ? WindowState::kThere : WindowState::kNone);
  if (!state.ok()) return state.status();
  if (*state != WindowState::kThere) {
    if (rank() == 0)
      LOG(INFO) << "sums go without windows: the loaded NCCL has none that an abort ends, or no memory for one";
    return true;
  }
  absl::Status registered = handle_->Do(
      "registering a window", [this](ncclComm_t comm) { return RegisterWindow(comm, window_memory_, &window_); });
  if (registered.ok()) registered = AwaitAccepted("a window");
  state = agree(!registered.ok()     ? WindowState::kFailed
                : window_ == nullptr ? WindowState::kNone
                                     : WindowState::kThere);
  if (!state.ok()) return state.status();
  if (*state == WindowState::kFailed) {
    LOG(WARNING) << "NCCL can not register a window" << (registered.ok() ? " on a peer" : ": ") << registered.message()
                 << "; the ranks start it anew, without";
    handle_->Spend(absl::AbortedError("a window could not be registered"));
    return false;
  }
  if (*state == WindowState::kNone) {
    if (rank() == 0) LOG(INFO) << "sums go without windows: NCCL does not take one between these devices";
    ForgetWindow();
    return true;
  }
  if (absl::Status measured = MeasureSums(deadline); !measured.ok()) return measured;
  return true;
}

void NcclCommunicator::ForgetWindow() {
  window_limit_ = 0;
  void* const window = std::exchange(window_, nullptr);
  if (window == nullptr) return;
  const absl::Status forgotten =
      handle_->Do("giving a window back", [&](ncclComm_t comm) { return DeregisterWindow(comm, window); });
  if (!forgotten.ok() || !AwaitAccepted("giving a window back").ok()) LOG(WARNING) << "a window was not given back";
}

absl::Status NcclCommunicator::MeasureSums(absl::Time deadline) {
  absl::StatusOr<Stream> stream = Stream::Create();
  if (!stream.ok()) return stream.status();
  absl::StatusOr<DeviceMemory> plain = DeviceMemory::Allocate(options_.window_bytes, "a measurement of NCCL");
  if (!plain.ok()) return plain.status();
  std::vector<SumTimes> times;
  for (int64_t bytes = kSmallestTimedSum; bytes <= options_.window_bytes; bytes *= kTimedSumStep) {
    SumTimes size{.bytes = bytes};
    for (const bool in_window : {false, true}) {
      const absl::StatusOr<float> took =
          TimeSums(in_window ? window_memory_.data() : plain->data(), bytes, stream->get(), deadline);
      if (!took.ok()) {
        // What runs on the stream uses the memory: it has to end before that is given back.
        Abort(took.status().message());
        if (!handle_->AwaitAbort(took.status().message())) window_memory_.Leak();
        return took.status();
      }
      // The slowest rank's time is the group's.
      const absl::StatusOr<std::vector<float>> all = ExchangeFacts(control_, *took);
      if (!all.ok()) return all.status();
      (in_window ? size.window_us : size.plain_us) = *std::max_element(all->begin(), all->end());
    }
    times.push_back(size);
  }
  window_limit_ = ChooseWindowLimit(times);
  if (rank() == 0) {
    LOG(INFO) << "sums: " << DescribeSumTimes(times) << "; "
              << (window_limit_ > 0 ? absl::StrCat("in a window up to ", window_limit_ >> 10, " KiB")
                                    : "none in a window");
  }
  if (window_limit_ == 0) ForgetWindow();
  return absl::OkStatus();
}

absl::StatusOr<float> NcclCommunicator::TimeSums(void* buffer, int64_t bytes, cudaStream_t stream,
                                                 absl::Time deadline) {
  absl::StatusOr<Event> begin = Event::Create(/*timed=*/true);
  if (!begin.ok()) return begin.status();
  absl::StatusOr<Event> end = Event::Create(/*timed=*/true);
  if (!end.ok()) return end.status();
  TANDEM_CUDA_RETURN_IF_ERROR(cudaMemsetAsync(buffer, 0, static_cast<size_t>(bytes), stream));
  const auto sum = [&](int times) {
    absl::Status summed;
    for (int i = 0; i < times && summed.ok(); ++i) {
      summed = AllReduceSum(buffer, bytes / 2, model::DType::kBFloat16, stream);
    }
    return summed;
  };
  if (absl::Status summed = sum(kUntimedSums); !summed.ok()) return summed;
  // From a graph, as in decoding. One by one each would take as long as NCCL needs to start it by a thread of its own,
  // and the device would wait in between.
  const absl::StatusOr<Graph> graph = Graph::Capture(stream, [&] { return sum(kTimedSums); });
  if (!graph.ok() && handle_->Spent()) return graph.status();
  // A rank alone would sum for ever.
  const absl::StatusOr<std::vector<uint8_t>> captured = ExchangeFacts(control_, static_cast<uint8_t>(graph.ok()));
  if (!captured.ok()) return captured.status();
  if (std::count(captured->begin(), captured->end(), 0) > 0) return std::numeric_limits<float>::infinity();
  if (absl::Status first = graph->Launch(stream); !first.ok()) return first;  // brings it to the device
  if (absl::Status recorded = begin->Record(stream); !recorded.ok()) return recorded;
  if (absl::Status second = graph->Launch(stream); !second.ok()) return second;
  if (absl::Status recorded = end->Record(stream); !recorded.ok()) return recorded;
  const absl::Status done = AwaitDevice("timing NCCL", {.limit = absl::ToChronoNanoseconds(deadline - absl::Now()),
                                                        .health = [this] { return Health(); },
                                                        .passed = [&end] { return end->Passed(); }});
  if (!done.ok()) return done;
  float milliseconds = 0;
  TANDEM_CUDA_RETURN_IF_ERROR(cudaEventElapsedTime(&milliseconds, begin->get(), end->get()));
  return milliseconds * 1000 / kTimedSums;
}

absl::Status NcclCommunicator::AllReduceSum(void* buffer, int64_t count, model::DType type, cudaStream_t stream) {
  const absl::Status accepted = handle_->Do("all-reduce", [&](ncclComm_t comm) {
    return ncclAllReduce(buffer, buffer, static_cast<size_t>(count), TypeOf(type), ncclSum, comm, stream);
  });
  return accepted.ok() ? AwaitAccepted("all-reduce") : accepted;
}

absl::Status NcclCommunicator::Gather(const void* send, void* receive, int64_t count, model::DType type,
                                      cudaStream_t stream) {
  const auto elements = static_cast<size_t>(count);
  const int64_t bytes = count * model::BytesOf(type);
  if (rank() == 0) {
    TANDEM_CUDA_RETURN_IF_ERROR(
        cudaMemcpyAsync(receive, send, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream));
  }
  const absl::Status accepted = handle_->Do("gather", [&](ncclComm_t comm) {
    if (rank() != 0) return ncclSend(send, elements, TypeOf(type), 0, comm, stream);
    ncclResult_t result = ncclGroupStart();
    for (int p = 1; p < size() && (result == ncclSuccess || result == ncclInProgress); ++p) {
      result = ncclRecv(static_cast<uint8_t*>(receive) + p * bytes, elements, TypeOf(type), p, comm, stream);
    }
    const ncclResult_t ended = ncclGroupEnd();
    return result == ncclSuccess || result == ncclInProgress ? ended : result;
  });
  return accepted.ok() ? AwaitAccepted("gather") : accepted;
}

// The first call of a kind connects the ranks, in NCCL's own thread; until it has, no other call may be made.
absl::Status NcclCommunicator::AwaitAccepted(absl::string_view what) {
  const absl::StatusOr<bool> settled = handle_->Settled(what);
  if (!settled.ok()) return settled.status();
  if (*settled) return absl::OkStatus();
  return AwaitDevice(absl::StrCat("NCCL, accepting ", what), {.limit = absl::ToChronoNanoseconds(options_.call_limit),
                                                              .health = [this] { return control_.Health(); },
                                                              .passed = [&] { return handle_->Settled(what); }});
}

absl::Status NcclCommunicator::Health() {
  if (absl::Status health = control_.Health(); !health.ok()) return health;
  return handle_->Health();
}

void NcclCommunicator::Abort(absl::string_view reason) {
  control_.Abort(reason);
  handle_->Spend(absl::AbortedError(reason));
  Handle::BeginAbort(handle_);
}

}  // namespace tandem::worker::cuda
