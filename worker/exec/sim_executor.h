// A model on a GPU that is not there: it takes the time and the memory that the real one would take by our formulas,
// and computes a hash chain (hash_chain.h) in place of a network. Scheduler, engine, KV blocks, groups and their
// communicator are the real ones, so what breaks around a model breaks around this one too, and shows in its tokens.
//
//   memory   only counted (SimMemory): weights, arena and KV by base/model/model_memory.h. What is really held is eight
//            bytes for each token in the KV pool, and pages only where tokens are.
//   time     placement's step model for the chip, over `speedup`; a load takes its weights over PCIe. The engine thread
//            sleeps in short pieces, so that an abort ends a step at once; progress() rises layer by layer meanwhile.
//   output   logits of 100 at the chain's token and 0 elsewhere: greedy at any usual temperature. No end-of-sequence.
//   ranks    every rank keeps the whole chain; they compare it in an all-reduce after each step.
//
// Only config.json and generation_config.json are read.
#ifndef TANDEM_WORKER_EXEC_SIM_EXECUTOR_H_
#define TANDEM_WORKER_EXEC_SIM_EXECUTOR_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "placement/topology/chip.h"
#include "worker/comm/communicator.h"
#include "worker/exec/executor.h"

namespace tandem::worker {

// The memory of a simulated device: how much of it is taken. Any thread.
class SimMemory {
 public:
  void Take(int64_t bytes) { taken_.fetch_add(bytes); }
  void GiveBack(int64_t bytes) { taken_.fetch_sub(bytes); }
  int64_t taken() const { return taken_.load(); }

 private:
  std::atomic<int64_t> taken_{0};
};

// What ails a simulated device just now. Any thread.
struct SimFaults {
  std::atomic<bool> slow{false};   // a step takes ten times as long, and 10 ms at least
  std::atomic<bool> stuck{false};  // a step does not end
};

struct SimModelOptions {
  std::string folder;
  std::string dtype = "auto";  // as CpuModelOptions
  int32_t max_batch_tokens = 512;
  int32_t max_sequences = 64;
  int64_t memory_limit_bytes = 0;  // for weights and arena
  const placement::Chip* chip = nullptr;
  double speedup = 1;                 // 0: no waiting at all
  SimMemory* memory = nullptr;        // outlives the executor
  const SimFaults* faults = nullptr;  // outlives the executor
};

// As LoadCpuModel, and AbortedError or what else the communicator says if the group ends while it "loads".
absl::StatusOr<std::unique_ptr<Executor>> LoadSimModel(const SimModelOptions& options, Communicator* communicator);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_SIM_EXECUTOR_H_
