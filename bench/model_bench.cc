// Decode and prefill speed of the CPU executor, for a Llama with random bf16 weights made on the spot, beside what the
// machine's memory gives: tokens per second at batch 1 are bandwidth over bytes read per token, and no engine can be
// faster. TP=2 runs two processes on two cores, joined as the workers join.
//
//   model_bench [--folder DIR] [--layers N] [--context N] [--decode N] [--isa NAME]
//
// Decode at batch 1 alternates with passes of a bandwidth probe on the same core or cores; each round's share of the
// bandwidth that it found is what counts, and the medians over rounds are printed. The rest is the best of three runs.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "bench/machine.h"
#include "bench/random_llama.h"
#include "glog/logging.h"
#include "worker/comm/group_bootstrap.h"
#include "worker/comm/solo_communicator.h"
#include "worker/exec/cpu_executor.h"

namespace tandem::bench {
namespace {

using worker::BlockId;
using worker::Executor;
using worker::kBlockTokens;
using worker::SequenceInput;
using worker::TokenId;

struct Options {
  std::string folder;
  LlamaShape shape;
  int context = 128;
  int decode = 24;
  std::string isa = "auto";
};

struct Figures {
  double read_bandwidth = 0;  // bytes/s of this core, the other one reading too where there are two
  double prefill = 0;         // tokens/s over `context`
  double decode1 = 0;         // tokens/s, batch 1
  double share = 0;           // of the read bandwidth that decode at batch 1 uses
  double collective = 0;      // share of decode1's time inside collectives: copies, sums and waiting for the other rank
  double decode8 = 0;         // tokens/s, batch 8, all sequences together
  int64_t held_bytes = 0;     // of this rank
  char numerics[64] = {};
};

constexpr int kBatch = 8;
constexpr int kRounds = 15;
constexpr int kStepsPerRound = 4;

// Adds up the time inside the collectives of another communicator.
class TimedCommunicator final : public worker::Communicator {
 public:
  explicit TimedCommunicator(worker::Communicator* inner) : inner_(inner) {}
  double seconds() const { return seconds_; }

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  absl::Status AllReduceSum(absl::Span<float> values) override {
    return Timed([&] { return inner_->AllReduceSum(values); });
  }
  absl::Status Gather(absl::Span<const float> send, absl::Span<float> receive) override {
    return Timed([&] { return inner_->Gather(send, receive); });
  }
  absl::Status AllGather(absl::Span<const uint8_t> send, absl::Span<uint8_t> receive) override {
    return Timed([&] { return inner_->AllGather(send, receive); });
  }
  absl::Status Barrier() override { return inner_->Barrier(); }
  absl::Status Health() const override { return inner_->Health(); }
  void Abort(absl::string_view reason) override { inner_->Abort(reason); }

 private:
  template <typename Call>
  absl::Status Timed(Call call) {
    const double begin = Now();
    absl::Status status = call();
    seconds_ += Now() - begin;
    return status;
  }

  worker::Communicator* const inner_;
  double seconds_ = 0;
};

class Runner {
 public:
  Runner(const Options& options, worker::Communicator* communicator) : options_(options), communicator_(communicator) {
    worker::CpuModelOptions load;
    load.folder = options.folder;
    load.isa = options.isa;
    load.max_batch_tokens = std::max(options.context, kBatch);
    load.max_sequences = kBatch;
    auto loaded = LoadCpuModel(load, &communicator_);
    CHECK(loaded.ok()) << loaded.status();
    executor_ = std::move(*loaded);
    blocks_per_sequence_ = (options.context + options.decode) / kBlockTokens + 1;
    const absl::Status allocated = executor_->AllocateKv(kBatch * blocks_per_sequence_);
    CHECK(allocated.ok()) << allocated;
    for (int i = 0; i < options.context; ++i) prompt_.push_back(3 + (i * 7919) % 31000);
  }

  Figures Run() {
    Figures figures;
    for (int run = 0; run < 3; ++run) {
      double begin = Now();
      Step({Input(0, prompt_, 0)});
      figures.prefill = std::max(figures.prefill, options_.context / (Now() - begin));
      for (int s = 1; s < kBatch; ++s) Step({Input(s, prompt_, 0)});
      figures.decode8 = std::max(figures.decode8, Decode(kBatch, options_.decode));
    }
    CompareWithBandwidth(figures);
    const worker::MemoryReport memory = executor_->memory();
    figures.held_bytes = memory.packed_bytes + memory.activation_bytes + memory.kv_bytes;
    std::snprintf(figures.numerics, sizeof(figures.numerics), "%s", executor_->numerics_id().c_str());
    return figures;
  }

 private:
  void CompareWithBandwidth(Figures& figures) {
    const BandwidthProbe probe;
    const double bytes = options_.shape.BytesPerDecodeStep() / communicator_.size();
    std::vector<double> bandwidth, decode, share, collective;
    for (int round = 0; round < kRounds; ++round) {
      CHECK(communicator_.Barrier().ok());  // both ranks read at the same time
      bandwidth.push_back(probe.Read());
      CHECK(communicator_.Barrier().ok());
      const double waited = communicator_.seconds();
      decode.push_back(Decode(1, kStepsPerRound));
      collective.push_back((communicator_.seconds() - waited) * decode.back() / kStepsPerRound);
      share.push_back(decode.back() * bytes / bandwidth.back());
    }
    figures.read_bandwidth = Median(bandwidth);
    figures.decode1 = Median(decode);
    figures.share = Median(share);
    figures.collective = Median(collective);
  }

  SequenceInput Input(int sequence, absl::Span<const TokenId> tokens, int start) {
    if (tables_.empty()) {
      tables_.resize(kBatch, std::vector<BlockId>(blocks_per_sequence_));
      for (int s = 0; s < kBatch; ++s) std::iota(tables_[s].begin(), tables_[s].end(), s * blocks_per_sequence_);
    }
    return {.tokens = tokens, .start = start, .blocks = tables_[sequence], .sample = true};
  }

  void Step(const std::vector<SequenceInput>& inputs) {
    auto logits = executor_->Run({.sequences = inputs});
    CHECK(logits.ok()) << logits.status();
  }

  // Which token it is costs nothing, so no sampling stands in the way of the figure.
  double Decode(int batch, int steps) {
    const TokenId token = 17;
    const double begin = Now();
    for (int i = 0; i < steps; ++i) {
      std::vector<SequenceInput> inputs;
      for (int s = 0; s < batch; ++s) inputs.push_back(Input(s, absl::MakeConstSpan(&token, 1), options_.context + i));
      Step(inputs);
    }
    return batch * steps / (Now() - begin);
  }

  const Options& options_;
  TimedCommunicator communicator_;
  std::unique_ptr<Executor> executor_;
  std::vector<TokenId> prompt_;
  std::vector<std::vector<BlockId>> tables_;
  int blocks_per_sequence_ = 0;
};

Figures RunAlone(const Options& options) {
  worker::SoloCommunicator communicator;
  return Runner(options, &communicator).Run();
}

void Exchange(int fd_out, int fd_in, const std::string& mine, std::string& theirs) {
  CHECK_EQ(write(fd_out, mine.data(), mine.size()), static_cast<ssize_t>(mine.size()));
  theirs.resize(mine.size());
  CHECK_EQ(read(fd_in, theirs.data(), theirs.size()), static_cast<ssize_t>(theirs.size()));
}

// One rank of two; `out` and `in` are pipes to and from the other.
Figures RunRank(const Options& options, int rank, int out, int in) {
  PinToCore(rank);
  auto rendezvous = worker::Rendezvous::Start();
  CHECK(rendezvous.ok()) << rendezvous.status();
  std::string mine = (*rendezvous)->endpoint(), theirs;
  mine.resize(128);
  Exchange(out, in, mine, theirs);
  worker::GroupIdentity identity;
  identity.group_id = 1;
  identity.epoch = {1, 1};
  identity.rank = rank;
  identity.size = 2;
  identity.endpoints = rank == 0 ? std::vector{mine, theirs} : std::vector{theirs, mine};
  for (std::string& endpoint : identity.endpoints) endpoint.resize(std::strlen(endpoint.c_str()));
  identity.deadline = absl::Seconds(60);
  auto channel = JoinGroup(**rendezvous, identity, {.call_timeout = absl::Seconds(120)});
  CHECK(channel.ok()) << channel.status();
  Figures figures = Runner(options, &(*channel)->communicator()).Run();
  CHECK((*channel)->communicator().Barrier().ok());
  return figures;
}

// Runs `body` in a child, so that each shape starts with clean memory, and returns what it measured.
template <typename Body>
Figures InChild(Body body) {
  int result[2];
  CHECK_EQ(pipe(result), 0);
  const pid_t child = fork();
  CHECK_GE(child, 0);
  if (child == 0) {
    const Figures figures = body();
    CHECK_EQ(write(result[1], &figures, sizeof(figures)), static_cast<ssize_t>(sizeof(figures)));
    _exit(0);
  }
  close(result[1]);
  Figures figures;
  CHECK_EQ(read(result[0], &figures, sizeof(figures)), static_cast<ssize_t>(sizeof(figures)))
      << "the measuring process failed";
  close(result[0]);
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  return figures;
}

Figures RunPair(const Options& options) {
  return InChild([&] {
    int up[2], down[2];
    CHECK(pipe(up) == 0 && pipe(down) == 0);
    const pid_t other = fork();
    CHECK_GE(other, 0);
    if (other == 0) {
      RunRank(options, 1, up[1], down[0]);
      _exit(0);
    }
    const Figures figures = RunRank(options, 0, down[1], up[0]);
    int status = 0;
    CHECK_EQ(waitpid(other, &status, 0), other);
    CHECK_EQ(status, 0);
    return figures;
  });
}

void Print(const char* shape, const Figures& f) {
  std::printf(
      "%-28s %-26s read %5.1f GB/s   prefill %7.1f tok/s   decode b1 %6.2f tok/s (%3.0f %% of the read bandwidth, "
      "%2.0f %% of the time in collectives)   b8 %6.2f tok/s   holds %.2f GB\n",
      shape, f.numerics, f.read_bandwidth / 1e9, f.prefill, f.decode1, 100 * f.share, 100 * f.collective, f.decode8,
      f.held_bytes / 1e9);
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{"Decode and prefill speed of the CPU executor"};
  app.add_option("--folder", options.folder,
                 "where the random model is written; default: a temporary folder, removed after");
  app.add_option("--layers", options.shape.layers, "layers of the model");
  app.add_option("--context", options.context, "prompt tokens");
  app.add_option("--decode", options.decode, "decode steps");
  app.add_option("--isa", options.isa, "auto, generic, avx2, avx512, avx512_bf16");
  CLI11_PARSE(app, argc, argv);
  PrintMachine(argc, argv);
  const bool temporary = options.folder.empty();
  char scratch[] = "/tmp/tandem-bench-XXXXXX";
  if (temporary) options.folder = CHECK_NOTNULL(mkdtemp(scratch));
  const absl::Status written = WriteRandomLlama(options.folder, options.shape);
  CHECK(written.ok()) << written;
  const double bytes = options.shape.BytesPerDecodeStep();
  std::printf("model: Llama, %.2f billion parameters, bf16, %.2f GB read per decode step; prompt %d, %d decode steps\n",
              options.shape.Parameters() / 1e9, bytes / 1e9, options.context, options.decode);

  const Figures one = InChild([&] {
    PinToCore(0);
    return RunAlone(options);
  });
  Print("TP=1, one core", one);
  const Figures two = RunPair(options);
  Print("TP=2, two cores (rank 0)", two);
  const double bandwidth_ratio = 2 * two.read_bandwidth / one.read_bandwidth;
  std::printf(
      "TP=2 over TP=1: decode %.2fx; two cores read %.2fx; share of what was read: %.0f %%; prefill %.2fx, decode "
      "b8 %.2fx\n",
      two.decode1 / one.decode1, bandwidth_ratio, 100 * two.share / one.share, two.prefill / one.prefill,
      two.decode8 / one.decode8);
  if (temporary) {
    for (const char* name : {"/config.json", "/model.safetensors", ""}) {
      const std::string path = options.folder + name;
      *name ? unlink(path.c_str()) : rmdir(path.c_str());
    }
  }
  return 0;
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) { return tandem::bench::Main(argc, argv); }
