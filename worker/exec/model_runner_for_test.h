// Drives an executor the way an engine would, for tests: block tables, chunks, greedy decoding, ranks as threads.
#ifndef TANDEM_WORKER_EXEC_MODEL_RUNNER_FOR_TEST_H_
#define TANDEM_WORKER_EXEC_MODEL_RUNNER_FOR_TEST_H_

#include <glog/logging.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "worker/comm/local_group_for_test.h"
#include "worker/comm/shm_communicator.h"
#include "worker/comm/solo_communicator.h"
#include "worker/exec/cpu_executor.h"

namespace tandem::worker {

inline std::string SourcePath(const std::string& relative) {
  const char* root = std::getenv("TANDEM_SOURCE_DIR");
  return absl::StrCat(root != nullptr ? root : ".", "/", relative);
}

// One model on one or several ranks. Run() hands the same step to every rank and returns rank 0's logits.
class TestModel {
 public:
  static constexpr int32_t kBlocks = 96;

  using Load = std::function<absl::StatusOr<std::unique_ptr<Executor>>(Communicator*)>;

  TestModel(const CpuModelOptions& options, int ranks)
      : TestModel([&options](Communicator* communicator) { return LoadCpuModel(options, communicator); }, ranks) {}

  // `call_timeout`: of a call between the ranks; one that a peer does not answer ends then.
  TestModel(const Load& load, int ranks, absl::Duration call_timeout = absl::Seconds(60)) {
    if (ranks == 1) {
      communicators_.push_back(std::make_unique<SoloCommunicator>());
    } else {
      group_ = std::make_unique<LocalGroup>(ranks);
      for (int r = 0; r < ranks; ++r)
        communicators_.push_back(std::make_unique<ShmCommunicator>(group_->member(r), call_timeout));
    }
    executors_.resize(communicators_.size());
    // Side by side: ranks of some kinds meet while they load.
    OnEveryRank([&](int r) {
      absl::StatusOr<std::unique_ptr<Executor>> loaded = load(&communicator(r));
      CHECK(loaded.ok()) << loaded.status();
      CHECK((*loaded)->AllocateKv(kBlocks).ok());
      executors_[static_cast<size_t>(r)] = *std::move(loaded);
    });
  }

  Communicator& communicator(int r) { return *communicators_[static_cast<size_t>(r)]; }
  Executor& rank(int r) { return *executors_[static_cast<size_t>(r)]; }
  int32_t vocab() const { return executors_[0]->facts().vocab_size; }

  // Rows of logits, one for each sequence with `sample`.
  std::vector<std::vector<float>> Run(const std::vector<SequenceInput>& sequences) {
    std::vector<std::vector<float>> rows;
    const auto body = [&](int r) {
      const absl::StatusOr<absl::Span<const float>> logits = rank(r).Run({absl::MakeConstSpan(sequences)});
      CHECK(logits.ok()) << logits.status();
      if (r != 0) {
        CHECK(logits->empty());
        return;
      }
      const size_t width = static_cast<size_t>(vocab());
      CHECK_EQ(logits->size() % width, 0u);
      for (size_t at = 0; at < logits->size(); at += width) {
        rows.emplace_back(logits->begin() + at, logits->begin() + at + width);
      }
    };
    OnEveryRank(body);
    return rows;
  }

 private:
  void OnEveryRank(const std::function<void(int rank)>& body) {
    if (group_ == nullptr) {
      body(0);
    } else {
      group_->Run(body);
    }
  }

  std::unique_ptr<LocalGroup> group_;
  std::vector<std::unique_ptr<Communicator>> communicators_;
  std::vector<std::unique_ptr<Executor>> executors_;
};

// One sequence: its tokens, how far it is computed, and its blocks.
struct TestSequence {
  std::vector<TokenId> tokens;
  int32_t computed = 0;
  std::vector<BlockId> blocks;

  // The next `count` tokens as a part of a step.
  SequenceInput Next(int32_t count, bool sample) {
    const SequenceInput input{
        absl::MakeConstSpan(tokens).subspan(static_cast<size_t>(computed), static_cast<size_t>(count)), computed,
        blocks, sample};
    computed += count;
    return input;
  }
  int32_t left() const { return static_cast<int32_t>(tokens.size()) - computed; }
};

// Block ids first, first + step, ..: scattered, so that nothing depends on neighbours in the pool.
inline std::vector<BlockId> ScatteredBlocks(int32_t first, int32_t count, int32_t step = 7) {
  std::vector<BlockId> blocks;
  for (int32_t i = 0; i < count; ++i) blocks.push_back((first + i * step) % TestModel::kBlocks);
  return blocks;
}

inline TokenId Best(const std::vector<float>& logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_MODEL_RUNNER_FOR_TEST_H_
