#include "worker/cuda/peer_check.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "worker/cuda/check.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/stream.h"

namespace tandem::worker::cuda {
namespace {

constexpr int64_t kSlotBytes = 64 << 10;  // of each writer; more than any cache line or write combiner holds back
constexpr size_t kReasonBytes = 200;
// For a copy of 64 KiB, which takes microseconds or, behind some IOMMUs, for ever.
constexpr absl::Duration kMostOfACopy = absl::Seconds(5);

// What a rank tells the others between two steps: what went wrong, if anything did.
struct Word {
  cudaIpcMemHandle_t handle;
  PeerAccess access;
  char reason[kReasonBytes];
};

uint8_t PatternByte(int writer, int owner, int64_t i) {
  return static_cast<uint8_t>(17 + 31 * writer + 7 * owner + i % 251);
}

void Complain(Word& word, PeerAccess access, const std::string& reason) {
  if (word.access != PeerAccess::kWorks) return;  // the first reason is the cause
  word.access = access;
  std::strncpy(word.reason, reason.c_str(), kReasonBytes - 1);
}

class PeerCheck {
 public:
  PeerCheck(Communicator& control, absl::Time deadline) : control_(control), deadline_(deadline) {
    for (int p = 0; p < control_.size(); ++p) {
      if (p != control_.rank()) peers_.push_back(p);
    }
  }
  ~PeerCheck() { Close(); }

  absl::StatusOr<PeerFinding> Run() {
    Offer();
    // Each step ends with a word to all, so that no rank waits for one that gave up, and none opens what is closed.
    PeerFinding finding;
    for (void (PeerCheck::*step)() : {&PeerCheck::Write, &PeerCheck::Verify, &PeerCheck::Close}) {
      absl::StatusOr<std::vector<Word>> words = Tell();
      if (!words.ok()) return words.status();
      words_ = *std::move(words);
      for (const Word& word : words_) {
        if (word.access <= finding.access) continue;
        finding = {word.access, std::string(word.reason, strnlen(word.reason, kReasonBytes))};
      }
      if (!lost_.ok()) continue;  // it only tells
      if (finding.access == PeerAccess::kWorks || step == &PeerCheck::Close) (this->*step)();
    }
    return finding;
  }

  // Why this process must not touch the device any more; OK: nothing of the kind.
  const absl::Status& lost() const { return lost_; }

 private:
  absl::StatusOr<std::vector<Word>> Tell() {
    std::vector<Word> all(control_.size());
    const auto bytes = [](Word* words, size_t count) {
      return absl::MakeSpan(reinterpret_cast<uint8_t*>(words), count * sizeof(Word));
    };
    const absl::Status told = control_.AllGather(bytes(&mine_, 1), bytes(all.data(), all.size()));
    if (!told.ok()) return told;
    return all;
  }

  void Check(cudaError_t error, const std::string& what, PeerAccess means = PeerAccess::kBroken) {
    if (error == cudaSuccess) return;
    const absl::Status failed = ToStatus(error, what);
    Complain(mine_, IsSticky(failed) ? PeerAccess::kBroken : means, std::string(failed.message()));
    if (IsSticky(failed)) lost_.Update(failed);
    cudaGetLastError();  // a refusal is no fault of what comes next
  }

  // A buffer of this rank's device, with a slot for each writer.
  void Offer() {
    absl::StatusOr<DeviceMemory> memory =
        DeviceMemory::Allocate(kSlotBytes * control_.size(), "the check of peer access");
    absl::StatusOr<Stream> stream = Stream::Create();
    if (!memory.ok() || !stream.ok()) {
      return Complain(
          mine_, PeerAccess::kRefused,
          absl::StrCat("rank ", control_.rank(), ": ", (memory.ok() ? stream.status() : memory.status()).message()));
    }
    memory_ = *std::move(memory);
    stream_ = *std::move(stream);
    Check(cudaMemsetAsync(memory_.data(), 0, static_cast<size_t>(memory_.bytes()), stream_.get()), "clearing a buffer");
    Await();
    Check(cudaIpcGetMemHandle(&mine_.handle, memory_.data()),
          absl::StrCat("rank ", control_.rank(), " can not share its memory"), PeerAccess::kRefused);
  }

  void Write() {
    pattern_.resize(kSlotBytes);
    for (const int peer : peers_) {
      void* theirs = nullptr;
      Check(cudaIpcOpenMemHandle(&theirs, words_[peer].handle, cudaIpcMemLazyEnablePeerAccess),
            absl::StrCat("rank ", control_.rank(), " can not open the memory of rank ", peer), PeerAccess::kRefused);
      if (theirs == nullptr) return;
      mapped_.push_back(theirs);
      // From this rank's device, as a kernel would: out of its own slot, which nobody else writes.
      for (int64_t i = 0; i < kSlotBytes; ++i) pattern_[i] = PatternByte(control_.rank(), peer, i);
      uint8_t* const own = memory_.data() + control_.rank() * kSlotBytes;
      Check(cudaMemcpyAsync(own, pattern_.data(), pattern_.size(), cudaMemcpyHostToDevice, stream_.get()), "a copy");
      Check(cudaMemcpyAsync(static_cast<uint8_t*>(theirs) + control_.rank() * kSlotBytes, own, kSlotBytes,
                            cudaMemcpyDeviceToDevice, stream_.get()),
            absl::StrCat("rank ", control_.rank(), " can not write to rank ", peer));
      Await();
      if (mine_.access != PeerAccess::kWorks) return;  // the pattern may still be on its way
    }
  }

  void Verify() {
    found_.resize(kSlotBytes);
    for (const int peer : peers_) {
      Check(cudaMemcpyAsync(found_.data(), memory_.data() + peer * kSlotBytes, found_.size(), cudaMemcpyDeviceToHost,
                            stream_.get()),
            "a copy");
      Await();
      if (mine_.access != PeerAccess::kWorks) return;
      for (int64_t i = 0; i < kSlotBytes; ++i) {
        if (found_[i] == PatternByte(peer, control_.rank(), i)) continue;
        return Complain(mine_, PeerAccess::kBroken,
                        absl::StrCat("what rank ", peer, " wrote to rank ", control_.rank(), " did not arrive (byte ",
                                     i, "); see the IOMMU and ACS settings"));
      }
    }
  }

  // Before the owners free what is mapped here.
  void Close() {
    for (void* mapped : mapped_) cudaIpcCloseMemHandle(mapped);
    mapped_.clear();
  }

  void Await() {
    const auto passed = [this]() -> absl::StatusOr<bool> {
      const cudaError_t error = cudaStreamQuery(stream_.get());
      if (error == cudaErrorNotReady) return false;
      if (error != cudaSuccess) return ToStatus(error, "a copy between devices");
      return true;
    };
    const auto health = [this] { return control_.Health(); };
    const absl::Duration left = deadline_ - absl::Now();
    const absl::Status done = AwaitDevice(
        "the check of peer access",
        {.limit = absl::ToChronoNanoseconds(std::min(kMostOfACopy, left)), .health = health, .passed = passed});
    if (done.ok()) return;
    Complain(mine_, PeerAccess::kBroken, absl::StrCat("rank ", control_.rank(), ": ", done.message()));
    // Who came late had no time to wait, which says nothing of the device.
    if ((absl::IsDeadlineExceeded(done) && left >= kMostOfACopy) || IsSticky(done)) lost_.Update(done);
  }

  Communicator& control_;
  const absl::Time deadline_;
  std::vector<int> peers_;
  Word mine_{};
  std::vector<uint8_t> pattern_, found_;  // not a step's own: a copy that does not end still has them
  std::vector<Word> words_;
  DeviceMemory memory_;
  Stream stream_;  // goes before the memory
  std::vector<void*> mapped_;
  absl::Status lost_;
};

}  // namespace

absl::StatusOr<PeerFinding> CheckPeerWrites(Communicator& control, absl::Time deadline,
                                            const std::function<void(absl::string_view reason)>& on_lost) {
  auto check = std::make_unique<PeerCheck>(control, deadline);
  absl::StatusOr<PeerFinding> finding = check->Run();
  if (absl::Status lost = check->lost(); !lost.ok()) {
    on_lost(lost.message());
    check.release();  // what it holds would be waited for without end
    return lost;
  }
  if (!finding.ok()) return finding;
  // Nobody frees a buffer that a peer may still have open. Where one is lost for what was found, that has to be kept.
  const absl::Status met = control.Barrier();
  if (!met.ok() && finding->access != PeerAccess::kBroken) return met;
  return finding;
}

}  // namespace tandem::worker::cuda
