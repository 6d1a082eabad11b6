// tandem-replay FILE: steps the core through a journal's segment and prints what it decided, line by line.
#include <glog/logging.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <string>

#include "scheduler/core/format.h"
#include "scheduler/journal.h"

int main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  CLI::App app("Replays a journal of tandem-scheduler and prints what the core decided.");
  std::string path;
  bool quiet = false;
  app.add_option("FILE", path, "journal-LEADER-NUMBER.log")->required();
  app.add_flag("--quiet", quiet, "Only count: events and actions");
  CLI11_PARSE(app, argc, argv);
  signal(SIGPIPE, SIG_DFL);

  size_t events = 0, decided = 0;
  const auto core = tandem::scheduler::Replay(
      path, [&](tandem::core::Instant now, const std::string& event, const tandem::core::Actions& actions) {
        ++events;
        decided += actions.size();
        if (quiet) return;
        std::cout << now.us << " " << event << "\n";
        for (const auto& action : actions) std::cout << "    " << tandem::core::Format(action) << "\n";
      });
  if (!core.ok()) {
    std::cerr << "tandem-replay: " << core.status().message() << "\n";
    return 1;
  }
  std::cout << events << " events, " << decided << " actions\n";
  return 0;
}
