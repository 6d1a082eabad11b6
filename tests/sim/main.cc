// tandem_sim: the real core and the real engine in a simulated cluster, by seed.
//
//   tandem_sim --seed N [--trace]         one seed; --check-determinism runs it twice
//   tandem_sim --seeds FROM:TO [--jobs J] many; ends with a table, and with a command for each seed that failed
//   tandem_sim --seed N --shrink FILE     cuts a failing seed down to what it needs, and writes that
//   tandem_sim --replay FILE              runs what was written
//   tandem_sim --scale [--devices 10000 --rate 1000 --hours 1]   the core alone, with a large fleet
#include <glog/logging.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "tests/sim/campaign.h"
#include "tests/sim/scale.h"
#include "tests/sim/shrink.h"
#include "tests/sim/simulation.h"

namespace tandem::sim {
namespace {

int Complain(const std::string& what) {
  std::fprintf(stderr, "tandem_sim: %s\n", what.c_str());
  return 2;
}

void Report(const Result& result) {
  absl::PrintF(
      "seed %d: %s\n  %d events in %.1f simulated seconds, trace %016x\n", result.seed,
      result.failure.empty() ? "all held" : absl::StrCat("BROKEN at event ", result.events, ": ", result.failure),
      result.events, static_cast<double>(result.simulated_us) / 1e6, result.hash);
  for (const auto& [word, count] : result.counts) absl::PrintF("  %-22s %d\n", word, count);
}

int RunOne(const Script& script, const RunOptions& options, bool check_determinism) {
  const Result result = RunScript(script, options);
  Report(result);
  if (check_determinism) {
    const Result again = RunScript(script, options);
    if (again.hash != result.hash || again.events != result.events) {
      absl::PrintF("not deterministic: trace %016x of %d events, and %016x of %d\n", result.hash, result.events,
                   again.hash, again.events);
      return 1;
    }
  }
  return result.failure.empty() ? 0 : 1;
}

int Shrink(uint64_t seed, const std::string& file, const RunOptions& options) {
  const Script whole = DrawScript(seed);
  const Result result = RunScript(whole, options);
  if (result.failure.empty()) return Complain(absl::StrCat("seed ", seed, " does not fail"));
  const Script least = ShrinkScript(whole, result.failure, options);
  std::ofstream out(file);
  out << "# " << result.failure << "\n" << ToText(least);
  if (!out.flush()) return Complain(absl::StrCat("cannot write ", file));
  absl::PrintF("%d happenings of %d are left: %s\nreplay: tandem_sim --replay %s --trace\n", least.happenings.size(),
               whole.happenings.size(), result.failure, file);
  return 0;
}

int Main(int argc, char** argv) {
  uint64_t seed = 0;
  std::string seeds, shrink, replay, models;
  int jobs = 1;
  bool trace = false, check = false, demand = false, until_broken = false;
  CLI::App app("The core and the engine in a simulated cluster", "tandem_sim");
  app.add_option("--seed", seed, "Run this seed");
  app.add_option("--seeds", seeds, "FROM:TO, run all of these");
  app.add_option("--jobs", jobs, "Processes")->check(CLI::Range(1, 256));
  app.add_flag("--trace", trace, "Print what happens");
  app.add_flag("--check-determinism", check, "Run each seed twice and compare");
  app.add_flag("--demand-coverage", demand, "Fail unless every case was met");
  app.add_flag("--until-broken", until_broken, "With --seeds: stop at the first that fails");
  app.add_option("--shrink", shrink, "Write the least script that still fails to this file");
  app.add_option("--replay", replay, "Run the script in this file");
  app.add_option("--tokenizer", models, "Folder of a tokenizer (models/tandem-tiny)");
  bool scale = false;
  Scale fleet;
  double hours = 1;
  app.add_flag("--scale", scale, "Run the core alone with a large fleet, and print what events cost");
  app.add_option("--devices", fleet.devices, "With --scale")->check(CLI::Range(20, 1000000));
  app.add_option("--rate", fleet.requests_per_second, "With --scale: requests per second")->check(CLI::PositiveNumber);
  app.add_option("--hours", hours, "With --scale: simulated hours")->check(CLI::PositiveNumber);
  app.add_option("--heartbeat-ms", fleet.heartbeat_ms, "With --scale")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  fleet.seconds = static_cast<int64_t>(hours * 3600);
  if (scale) return RunScale(fleet);
  FLAGS_minloglevel = trace ? 2 : 3;
  FLAGS_logtostderr = true;
  google::InitGoogleLogging("tandem_sim");

  if (models.empty()) {
    const char* root = std::getenv("TANDEM_SOURCE_DIR");
    models = absl::StrCat(root != nullptr ? root : TANDEM_SOURCE_DIR, "/models/tandem-tiny");
  }
  auto tokenizer = tokenizer::Tokenizer::Load(models);
  if (!tokenizer.ok()) return Complain(absl::StrCat(models, ": ", tokenizer.status().message()));
  const RunOptions options{.print = trace, .tokenizer = *tokenizer};

  if (!replay.empty()) {
    std::ifstream in(replay);
    std::stringstream text;
    text << in.rdbuf();
    const auto script = ScriptFrom(text.str());
    if (!in || !script.ok()) return Complain(absl::StrCat(replay, ": ", std::string(script.status().message())));
    return RunOne(*script, options, check);
  }
  if (!seeds.empty()) {
    const std::vector<std::string> ends = absl::StrSplit(seeds, ':');
    Campaign campaign{
        .jobs = jobs, .check_determinism = check, .until_broken = until_broken, .demand_coverage = demand};
    if (ends.size() != 2 || !absl::SimpleAtoi(ends[0], &campaign.from) || !absl::SimpleAtoi(ends[1], &campaign.to)) {
      return Complain(absl::StrCat("--seeds: expected FROM:TO, got ", seeds));
    }
    return RunCampaign(campaign, options);
  }
  if (!shrink.empty()) return Shrink(seed, shrink, options);
  return RunOne(DrawScript(seed), options, check);
}

}  // namespace
}  // namespace tandem::sim

int main(int argc, char** argv) { return tandem::sim::Main(argc, argv); }
