// Speed of the CPU encoder on one core: tokens and texts per second of processor time, for inputs that somebody else
// tokenized. bench/embed_bench.py sets it beside the reference implementation.
//
//   encoder_bench --model FOLDER --ids FILE [--batch-tokens N] [--seconds S] [--isa NAME]
//
// FILE has one text a line, ids between spaces. The texts are taken in the order of the file, again and again, in steps
// of at most N tokens, as the engine fills them. Time of the processor rather than of the clock, so that a neighbour on
// the machine does not count.
#include <cstdio>
#include <ctime>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "bench/machine.h"
#include "glog/logging.h"
#include "worker/comm/solo_communicator.h"
#include "worker/exec/cpu_encoder.h"

namespace tandem::bench {
namespace {

using worker::SequenceInput;
using worker::TokenId;

double ProcessorSeconds() {
  timespec time{};
  CHECK_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time), 0);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::vector<std::vector<TokenId>> ReadIds(const std::string& path) {
  std::ifstream file(path);
  CHECK(file) << path << " cannot be read";
  std::vector<std::vector<TokenId>> texts;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::vector<TokenId> ids;
    for (TokenId id; words >> id;) ids.push_back(id);
    if (!ids.empty()) texts.push_back(std::move(ids));
  }
  CHECK(!texts.empty()) << path << " has no ids";
  return texts;
}

int Main(int argc, char** argv) {
  std::string folder, ids, isa = "auto";
  int32_t batch_tokens = 1024;
  double seconds = 3;
  CLI::App app("Speed of the CPU encoder on one core");
  app.add_option("--model", folder)->required();
  app.add_option("--ids", ids)->required();
  app.add_option("--batch-tokens", batch_tokens)->capture_default_str();
  app.add_option("--seconds", seconds)->capture_default_str();
  app.add_option("--isa", isa)->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  const auto texts = ReadIds(ids);
  constexpr int32_t kSequences = 256;
  worker::SoloCommunicator solo;
  const auto encoder = worker::LoadCpuEncoder(
      {.folder = folder, .isa = isa, .threads = 1, .max_batch_tokens = batch_tokens, .max_sequences = kSequences},
      "embed", &solo);
  CHECK(encoder.ok()) << encoder.status();
  CHECK((*encoder)->AllocateKv(1).ok());

  std::vector<std::vector<SequenceInput>> steps(1);
  int32_t filled = 0;
  int64_t tokens = 0;
  for (const auto& text : texts) {
    const int32_t size = static_cast<int32_t>(text.size());
    if (filled > 0 && (filled + size > batch_tokens || steps.back().size() == kSequences)) {
      steps.emplace_back();
      filled = 0;
    }
    steps.back().push_back({.tokens = text, .sample = true});
    filled += size;
    tokens += size;
  }
  const auto pass = [&] {
    for (const auto& step : steps) CHECK((*encoder)->Run({step}).ok());
  };
  pass();
  const double begin = ProcessorSeconds();
  double spent = 0;
  int passes = 0;
  do {
    pass();
    ++passes;
    spent = ProcessorSeconds() - begin;
  } while (spent < seconds);
  std::printf("{\"tokens_per_s\": %.1f, \"texts_per_s\": %.2f, \"numerics\": \"%s\"}\n", tokens * passes / spent,
              static_cast<double>(texts.size()) * passes / spent, (*encoder)->numerics_id().c_str());
  return 0;
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) { return tandem::bench::Main(argc, argv); }
