// NCCL over shared memory, between the threads or the processes of a machine, with faults on demand.
//
// As NCCL does: the unique id names a meeting place; coming up is not blocking and ends when all ranks are there; calls
// enqueue on a stream and may be captured; a peer that died is waited for without end, and only an abort on this rank
// ends what this rank waits for, silently. And where NCCL may do a thing sooner or later, here it is always the one
// that a caller is more likely to have forgotten:
//   - A call that enqueues returns ncclInProgress, and a thread of NCCL's own puts the work on the stream a while
//   after;
//     until then the communicator takes no other call, and a capture that ends has nothing of it.
//   - To finalize, to destroy and to abort wait until no graph holds an operation of the communicator.
//   - An abort takes its thread to the communicator's device, and back to the one that it was on.
//
// TANDEM_FAKE_NCCL orders faults, separated by ";", each with the rank that it befalls, or "*" for all. Operations of a
// communicator are counted from 1; the self-test of NcclCommunicator is the first two.
//   R:init-error  R:init-hang   R:error@N     an error that ncclCommGetAsyncError tells while operation N stands still
//   R:hang@N      R:wrong@N     R:slow=MS     R:abort-blocks
//   R:later=MS    until a call has been taken and its work put on the stream
//   R:finalize-hang   finalizing waits for peers that never come to it, until an abort
//   R:slow-plain=MS   of sums outside of windows   R:window-none   R:window-error, which spoils the communicator
#include <fcntl.h>
#include <nccl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/model/dtype.h"
#include "tests/emulation/control.h"
#include "tests/emulation/runtime.h"

namespace {

using namespace tandem;

constexpr int kMostRanks = 8;
constexpr size_t kSlotBytes = 256 << 10;
constexpr size_t kChannelBytes = 64 << 10;

// One way between two ranks: a ring of one, filled by the sender and emptied by the receiver.
struct Channel {
  std::atomic<uint64_t> written, read;  // pieces
  std::atomic<uint32_t> length;
  uint8_t bytes[kChannelBytes];
};

// The meeting place. All zero at first.
struct Segment {
  std::atomic<int> size;
  std::atomic<int> arrived;
  std::atomic<uint64_t> phase[kMostRanks];
  uint8_t slots[kMostRanks][kSlotBytes];
  Channel channels[kMostRanks][kMostRanks];
};

struct Faults {
  bool init_error = false, init_hang = false, finalize_hang = false, abort_blocks = false, window_none = false,
       window_error = false;
  int64_t error_at = 0, hang_at = 0, wrong_at = 0, slow_ms = 0, slow_plain_ms = 0, later_ms = 0;

  static Faults Of(int rank) {
    Faults faults;
    const char* text = std::getenv("TANDEM_FAKE_NCCL");
    std::istringstream all(text == nullptr ? "" : text);
    for (std::string order; std::getline(all, order, ';');) {
      const size_t colon = order.find(':');
      const std::string who = order.substr(0, colon), what = order.substr(colon + 1);
      if (colon == std::string::npos || (who != "*" && who != std::to_string(rank))) continue;
      const auto number = [&what](const char* word, int64_t& into) {
        if (what.rfind(word, 0) == 0) into = std::atoll(what.c_str() + std::strlen(word));
      };
      faults.init_error |= what == "init-error";
      faults.init_hang |= what == "init-hang";
      faults.finalize_hang |= what == "finalize-hang";
      faults.abort_blocks |= what == "abort-blocks";
      faults.window_none |= what == "window-none";
      faults.window_error |= what == "window-error";
      number("error@", faults.error_at);
      number("hang@", faults.hang_at);
      number("wrong@", faults.wrong_at);
      number("slow=", faults.slow_ms);
      number("slow-plain=", faults.slow_plain_ms);
      number("later=", faults.later_ms);
    }
    return faults;
  }
};

size_t BytesOf(ncclDataType_t type) { return type == ncclFloat32 ? 4 : 2; }

float Load(const uint8_t* from, ncclDataType_t type) {
  if (type == ncclFloat32) {
    float value;
    std::memcpy(&value, from, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, from, 2);
  return type == ncclBfloat16 ? model::FloatFromBFloat16(bits) : model::FloatFromFloat16(bits);
}

void Store(uint8_t* to, float value, ncclDataType_t type) {
  if (type == ncclFloat32) {
    std::memcpy(to, &value, 4);
    return;
  }
  const uint16_t bits = type == ncclBfloat16 ? model::BFloat16FromFloat(value) : model::Float16FromFloat(value);
  std::memcpy(to, &bits, 2);
}

struct Piece {  // of a group of sends and receives
  const uint8_t* from = nullptr;
  uint8_t* to = nullptr;
  size_t bytes = 0;
  int peer = 0;
};

class State {
 public:
  State(int size, int rank) : size_(size), rank_(rank), faults_(Faults::Of(rank)) {}
  ~State() {
    if (segment_ != nullptr) munmap(segment_, sizeof(Segment));
  }

  void Meet(const std::string& name) {
    if (faults_.init_error) return Fail(ncclSystemError, "ordered by the test: init-error");
    while (faults_.init_hang && Goes()) Pause();
    const int fd = shm_open(name.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(Segment)) != 0) return Fail(ncclSystemError, "no shared memory");
    void* memory = mmap(nullptr, sizeof(Segment), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory == MAP_FAILED) return Fail(ncclSystemError, "no shared memory");
    segment_ = static_cast<Segment*>(memory);
    int none = 0;
    if (!segment_->size.compare_exchange_strong(none, size_) && none != size_) {
      return Fail(ncclInvalidArgument, "the ranks disagree about their number");
    }
    segment_->arrived.fetch_add(1);
    while (segment_->arrived.load() < size_) {
      if (!Goes()) break;
      Pause();
    }
    shm_unlink(name.c_str());  // the first to get here
    result_.store(ncclSuccess);
  }

  // On the stream's thread, as are the next two.
  void Sum(const uint8_t* from, uint8_t* to, size_t count, ncclDataType_t type) {
    if (!BeginOperation()) return;
    const bool in_window = from >= window_begin_ && from < window_end_;
    if (!in_window && faults_.slow_plain_ms > 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(faults_.slow_plain_ms));
    }
    const size_t width = BytesOf(type), most = kSlotBytes / width;
    for (size_t done = 0; done < count; done += most) {
      const size_t now = std::min(most, count - done);
      std::memcpy(segment_->slots[rank_], from + done * width, now * width);
      if (!Arrive()) return;
      std::vector<float> sums(now);
      for (int r = 0; r < size_; ++r) {
        for (size_t i = 0; i < now; ++i) sums[i] += Load(segment_->slots[r] + i * width, type);
      }
      if (faults_.wrong_at == operations_) sums[0] += 1;
      if (!Arrive()) return;  // before anybody writes its slot again
      for (size_t i = 0; i < now; ++i) Store(to + (done + i) * width, sums[i], type);
    }
  }

  void Move(const std::vector<Piece>& pieces) {
    if (!BeginOperation()) return;
    std::vector<size_t> done(pieces.size());
    bool open = true;
    while (open && Goes()) {
      open = false;
      for (size_t i = 0; i < pieces.size(); ++i) {
        const Piece& piece = pieces[i];
        if (done[i] == piece.bytes) continue;
        open = true;
        const size_t now = std::min(kChannelBytes, piece.bytes - done[i]);
        if (piece.from != nullptr) {
          Channel& channel = segment_->channels[rank_][piece.peer];
          if (channel.written.load() != channel.read.load()) continue;
          std::memcpy(channel.bytes, piece.from + done[i], now);
          channel.written.fetch_add(1);
        } else {
          Channel& channel = segment_->channels[piece.peer][rank_];
          if (channel.written.load() == channel.read.load()) continue;
          std::memcpy(piece.to + done[i], channel.bytes, now);
          channel.read.fetch_add(1);
        }
        done[i] += now;
      }
      if (open) Pause();
    }
  }

  // Of the device that was current when it was made.
  int device() const { return device_; }

  // Marks that a call is under way, until `then` has been done by another thread. False: one is already.
  bool Later(std::function<ncclResult_t()> then, std::shared_ptr<State> self) {
    int idle = ncclSuccess;
    if (!result_.compare_exchange_strong(idle, ncclInProgress)) return false;
    ++pending_;
    std::thread([this, self = std::move(self), then = std::move(then)] {
      emulation::current_device = device_;
      std::this_thread::sleep_for(std::max(kPause, std::chrono::microseconds(1000 * faults_.later_ms)));
      const ncclResult_t done = then();
      int busy = ncclInProgress;  // unless something went wrong meanwhile
      result_.compare_exchange_strong(busy, done);
      --pending_;
    }).detach();
    return true;
  }

  // An operation in a captured graph, until the graph is destroyed.
  std::shared_ptr<void> HoldByGraph(std::shared_ptr<State> self) {
    ++in_graphs_;
    return std::shared_ptr<void>(nullptr, [this, self = std::move(self)](void*) { --in_graphs_; });
  }
  void AwaitGraphs() const {
    while (in_graphs_.load() > 0) Pause();
  }
  void AwaitPeersEnd() const {
    while (faults_.finalize_hang && Goes()) Pause();
  }

  ncclResult_t result() const { return static_cast<ncclResult_t>(result_.load()); }
  const char* words() const { return words_.load(); }
  // One at a time, while nothing is on a stream.
  ncclResult_t SetWindow(const uint8_t* memory, size_t bytes, bool* known) {
    *known = !faults_.window_none && memory != nullptr;
    if (faults_.window_error && memory != nullptr) {
      Fail(ncclSystemError, "ordered by the test: window-error");
      return ncclSystemError;
    }
    window_begin_ = *known ? memory : nullptr;
    window_end_ = *known ? memory + bytes : nullptr;
    return ncclSuccess;
  }
  void Abort() {
    aborted_.store(true);
    while (faults_.abort_blocks) std::this_thread::sleep_for(std::chrono::hours(1));
    while (in_graphs_.load() > 0 || pending_.load() > 0) Pause();
  }

 private:
  bool Goes() const { return !aborted_.load(); }
  static constexpr std::chrono::microseconds kPause{50};
  static void Pause() { std::this_thread::sleep_for(kPause); }
  void Fail(ncclResult_t result, const char* words) {
    words_.store(words);
    result_.store(result);
  }

  // False: nothing more is to be done, since it was aborted.
  bool BeginOperation() {
    ++operations_;
    if (faults_.slow_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(faults_.slow_ms));
    if (faults_.error_at == operations_) Fail(ncclRemoteError, "ordered by the test: error");
    while ((faults_.error_at == operations_ || faults_.hang_at == operations_) && Goes()) Pause();
    return Goes();
  }

  // This rank is at the next phase; returns when all are, or when aborted.
  bool Arrive() {
    const uint64_t phase = segment_->phase[rank_].fetch_add(1) + 1;
    for (int r = 0; r < size_; ++r) {
      for (int looks = 0; segment_->phase[r].load() < phase; ++looks) {
        if (!Goes()) return false;
        if (looks < 100) {
          std::this_thread::yield();
        } else {
          Pause();
        }
      }
    }
    return true;
  }

  const int size_, rank_;
  const Faults faults_;
  const int device_ = emulation::current_device;
  Segment* segment_ = nullptr;
  const uint8_t* window_begin_ = nullptr;
  const uint8_t* window_end_ = nullptr;
  int64_t operations_ = 0;
  std::atomic<int> result_{ncclInProgress};
  std::atomic<const char*> words_{""};
  std::atomic<bool> aborted_{false};
  std::atomic<int> in_graphs_{0};
  std::atomic<int> pending_{0};  // calls under way
};

// Sends and receives between ncclGroupStart and ncclGroupEnd of this thread.
struct Group {
  int depth = 0;
  std::vector<Piece> pieces;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
};
thread_local Group group;

// Puts the work on the stream, later.
ncclResult_t Enqueue(const std::shared_ptr<State>& state, cudaStream_t stream, std::function<void()> work) {
  const auto put = [state, stream, work = std::move(work)] {
    std::shared_ptr<void> hold;
    if (stream->capture != nullptr) hold = state->HoldByGraph(state);
    const cudaError_t error = emulation::Enqueue(stream, [work, hold] {
      work();
      return cudaSuccess;
    });
    return error == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
  };
  return state->Later(put, state) ? ncclInProgress : ncclInvalidUsage;
}

}  // namespace

struct ncclComm {
  std::shared_ptr<State> state;  // shared with what is on streams and in graphs
};

namespace {

ncclResult_t AddPiece(const Piece& piece, ncclComm_t comm, cudaStream_t stream) {
  if (comm->state->result() == ncclInProgress) return ncclInvalidUsage;
  group.pieces.push_back(piece);
  group.comm = comm;
  group.stream = stream;
  if (group.depth > 0) return ncclSuccess;
  ++group.depth;
  return ncclGroupEnd();
}

}  // namespace

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  if (const char* other = std::getenv("TANDEM_FAKE_NCCL_VERSION")) *version = std::atoi(other);
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "unhandled error";
  }
}

const char* ncclGetLastError(ncclComm_t comm) { return comm == nullptr ? "" : comm->state->words(); }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  uint64_t random[2] = {};
  if (getrandom(random, sizeof(random), 0) != static_cast<ssize_t>(sizeof(random))) return ncclSystemError;
  std::memset(id, 0, sizeof(*id));
  std::snprintf(id->internal, sizeof(id->internal), "/tandem-fake-nccl-%016llx%016llx",
                static_cast<unsigned long long>(random[0]), static_cast<unsigned long long>(random[1]));
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  *comm = nullptr;
  const bool named = std::strncmp(id.internal, "/tandem-fake-nccl-", 18) == 0;
  if (ranks < 1 || ranks > kMostRanks || rank < 0 || rank >= ranks || !named) return ncclInvalidArgument;
  if (config->blocking != 0) return ncclInvalidUsage;  // a blocking start has no deadline; Tandem never asks for one
  auto state = std::make_shared<State>(ranks, rank);
  std::thread([state, name = std::string(id.internal)] { state->Meet(name); }).detach();
  *comm = new ncclComm{std::move(state)};
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  *error = comm->state->result();
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  const auto state = comm->state;
  const auto wait = [state] {
    state->AwaitGraphs();
    state->AwaitPeersEnd();
    return ncclSuccess;
  };
  return state->Later(wait, state) ? ncclInProgress : ncclInvalidUsage;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (comm->state->result() == ncclInProgress) return ncclInvalidUsage;
  comm->state->AwaitGraphs();
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  const int before = emulation::current_device;
  cudaSetDevice(comm->state->device());
  comm->state->Abort();
  delete comm;
  cudaSetDevice(before);
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t,
                           ncclComm_t comm, cudaStream_t stream) {
  if (comm->state->result() == ncclInProgress) return ncclInvalidUsage;
  return Enqueue(comm->state, stream, [=, state = comm->state] {
    state->Sum(static_cast<const uint8_t*>(send), static_cast<uint8_t*>(receive), count, type);
  });
}

ncclResult_t ncclSend(const void* send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  const auto* from = static_cast<const uint8_t*>(send);
  return AddPiece({.from = from, .bytes = count * BytesOf(type), .peer = peer}, comm, stream);
}

ncclResult_t ncclRecv(void* receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  auto* to = static_cast<uint8_t*>(receive);
  return AddPiece({.to = to, .bytes = count * BytesOf(type), .peer = peer}, comm, stream);
}

struct FakeNcclWindow {};

ncclResult_t ncclMemAlloc(void** memory, size_t bytes) {
  return cudaMalloc(memory, bytes) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclMemFree(void* memory) {
  return cudaFree(memory) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclCommWindowRegister(ncclComm_t comm, void* memory, size_t bytes, ncclWindow_t* window, int flags) {
  static FakeNcclWindow known;
  *window = nullptr;
  if (comm->state->result() == ncclInProgress || flags != NCCL_WIN_COLL_SYMMETRIC) return ncclInvalidUsage;
  bool registered = false;
  const ncclResult_t result = comm->state->SetWindow(static_cast<const uint8_t*>(memory), bytes, &registered);
  if (result != ncclSuccess) return result;
  const auto tell = [=] {
    if (registered) *window = &known;
    return ncclSuccess;
  };
  return comm->state->Later(tell, comm->state) ? ncclInProgress : ncclInvalidUsage;
}

ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t) {
  bool registered = false;
  return comm->state->SetWindow(nullptr, 0, &registered);
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--group.depth > 0 || group.pieces.empty()) return ncclSuccess;
  std::vector<Piece> pieces;
  pieces.swap(group.pieces);
  const auto state = group.comm->state;
  return Enqueue(state, group.stream, [pieces = std::move(pieces), state] { state->Move(pieces); });
}
