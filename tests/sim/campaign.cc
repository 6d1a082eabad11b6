#include "tests/sim/campaign.h"

#include <glog/logging.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace tandem::sim {
namespace {

// A thousand seeds that never met one of these say nothing about it.
constexpr const char* kCases[] = {"requests",
                                  "finished",
                                  "cancelled",
                                  "ended by deadline",
                                  "resumes",
                                  "attached by key",
                                  "tokens",
                                  "crash",
                                  "stop",
                                  "freeze",
                                  "slow",
                                  "cut-stream",
                                  "cut-tokens",
                                  "partition",
                                  "step-fault",
                                  "scheduler-crash",
                                  "scheduler-pause",
                                  "drain",
                                  "drains done",
                                  "cordon",
                                  "client-break",
                                  "client-cancel",
                                  "client-stall",
                                  "stick",
                                  "lie",
                                  "deploy",
                                  "undeploy",
                                  "scale",
                                  "sampled",
                                  "logprobs",
                                  "stopped by a string",
                                  "resumed by id",
                                  "strangers refused",
                                  "writes lost",
                                  "late words",
                                  "workers fenced",
                                  "orphaned",
                                  "attempts after the first",
                                  "groups formed"};

struct Totals {
  uint64_t seeds = 0, events = 0;
  int64_t simulated_us = 0;
  std::map<std::string, int64_t> counts;
  std::vector<std::string> failures;
};

// One job: every seed from `first` on, in steps. A line for each before and after, so that the parent knows which seed
// a process died of.
void RunJob(uint64_t first, const Campaign& campaign, const RunOptions& options, FILE* out) {
  for (uint64_t seed = first; seed <= campaign.to; seed += campaign.jobs) {
    std::fprintf(out, "begin\t%llu\n", static_cast<unsigned long long>(seed));
    std::fflush(out);
    const Script script = DrawScript(seed);
    Result result = RunScript(script, options);
    if (campaign.check_determinism && result.failure.empty()) {
      const Result again = RunScript(script, options);
      if (again.hash != result.hash) result.failure = "a second run has another trace";
    }
    std::string line =
        absl::StrCat("end\t", seed, "\t", result.events, "\t", result.simulated_us, "\t",
                     result.failure.empty() ? "-" : absl::StrCat("event ", result.events, ": ", result.failure));
    for (const auto& [word, count] : result.counts) absl::StrAppend(&line, "\t", word, "=", count);
    for (char& c : line) {
      if (c == '\n') c = ' ';
    }
    std::fprintf(out, "%s\n", line.c_str());
    std::fflush(out);
  }
}

void Take(absl::string_view line, Totals* totals) {
  const std::vector<std::string> parts = absl::StrSplit(line, '\t');
  if (parts.size() < 5 || parts[0] != "end") return;
  int64_t number = 0;
  ++totals->seeds;
  if (absl::SimpleAtoi(parts[2], &number)) totals->events += number;
  if (absl::SimpleAtoi(parts[3], &number)) totals->simulated_us += number;
  if (parts[4] != "-") totals->failures.push_back(absl::StrCat("seed ", parts[1], ", ", parts[4]));
  for (size_t i = 5; i < parts.size(); ++i) {
    const std::vector<std::string> pair = absl::StrSplit(parts[i], '=');
    if (pair.size() == 2 && absl::SimpleAtoi(pair[1], &number)) totals->counts[pair[0]] += number;
  }
}

// Runs job `number` until it is through; a seed that kills the process is noted and passed over.
void Supervise(std::vector<uint64_t> next, const Campaign& campaign, const RunOptions& options, Totals* totals) {
  struct Job {
    pid_t pid = -1;
    FILE* from = nullptr;
    uint64_t running = 0;
    bool busy = false;
  };
  std::vector<Job> jobs(next.size());
  const auto start = [&](size_t j) {
    jobs[j] = {};
    if (next[j] > campaign.to) return;
    int ends[2];
    PCHECK(pipe(ends) == 0);
    std::fflush(nullptr);
    jobs[j].pid = fork();
    PCHECK(jobs[j].pid >= 0);
    if (jobs[j].pid == 0) {
      close(ends[0]);
      FILE* out = fdopen(ends[1], "w");
      RunJob(next[j], campaign, options, out);
      std::fclose(out);
      _exit(0);
    }
    close(ends[1]);
    jobs[j].from = fdopen(ends[0], "r");
  };
  for (size_t j = 0; j < jobs.size(); ++j) start(j);
  while (true) {
    std::vector<pollfd> fds;
    std::vector<size_t> of;
    for (size_t j = 0; j < jobs.size(); ++j) {
      if (jobs[j].from == nullptr) continue;
      fds.push_back({fileno(jobs[j].from), POLLIN, 0});
      of.push_back(j);
    }
    if (campaign.until_broken && !totals->failures.empty()) {
      for (const Job& job : jobs) {
        if (job.from == nullptr) continue;
        kill(job.pid, SIGKILL);
        waitpid(job.pid, nullptr, 0);
      }
      return;
    }
    if (fds.empty()) return;
    PCHECK(poll(fds.data(), fds.size(), -1) > 0);
    for (size_t i = 0; i < fds.size(); ++i) {
      if (fds[i].revents == 0) continue;
      Job& job = jobs[of[i]];
      char* text = nullptr;
      size_t room = 0;
      const ssize_t length = getline(&text, &room, job.from);
      if (length > 0) {
        absl::string_view line(text, static_cast<size_t>(length) - 1);
        if (absl::ConsumePrefix(&line, "begin\t")) {
          job.busy = absl::SimpleAtoi(line, &job.running);
        } else {
          Take(line, totals);
          job.busy = false;
        }
        std::free(text);
        continue;
      }
      std::free(text);
      std::fclose(job.from);
      waitpid(job.pid, nullptr, 0);
      if (!job.busy) {
        job = {};
        continue;
      }
      totals->failures.push_back(absl::StrCat("seed ", job.running, ", the process died (a CHECK?)"));
      ++totals->seeds;
      next[of[i]] = job.running + campaign.jobs;
      start(of[i]);
    }
  }
}

}  // namespace

int RunCampaign(const Campaign& campaign, const RunOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  Totals totals;
  std::vector<uint64_t> first;
  for (int j = 0; j < campaign.jobs; ++j) first.push_back(campaign.from + j);
  Supervise(first, campaign, options, &totals);
  const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();

  absl::PrintF("seeds            %d (%d to %d)\n", totals.seeds, campaign.from, campaign.to);
  absl::PrintF("simulated hours  %.2f\n", static_cast<double>(totals.simulated_us) / 3.6e9);
  absl::PrintF("events           %d\n", totals.events);
  absl::PrintF("wall             %.1f s, %.1f ms a seed and process\n", wall,
               wall * 1000 * campaign.jobs / std::max<uint64_t>(totals.seeds, 1));
  for (const auto& [word, count] : totals.counts) absl::PrintF("  %-26s %d\n", word, count);
  bool bad = !totals.failures.empty();
  for (const char* word : kCases) {
    if (totals.counts[word] > 0 || !campaign.demand_coverage) continue;
    absl::PrintF("NEVER MET: %s\n", word);
    bad = true;
  }
  constexpr size_t kMostShown = 20;
  for (size_t i = 0; i < totals.failures.size() && i < kMostShown; ++i) {
    absl::PrintF("BROKEN: %s\n", totals.failures[i]);
    const std::vector<std::string> words = absl::StrSplit(totals.failures[i], absl::ByAnyChar(" ,"));
    absl::PrintF("  replay: tandem_sim --seed %s --trace\n", words[1]);
  }
  absl::PrintF("%d of %d seeds failed\n", totals.failures.size(), totals.seeds);
  return bad ? 1 : 0;
}

}  // namespace tandem::sim
