// Reads the tree and says in words what the link lines cannot: who may include whom, what the core may not touch, how
// long a file may get.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

struct SourceFile {
  std::string path;  // from the root
  std::vector<std::string> lines;
  std::vector<std::string> includes;  // as written between quotes or brackets
};

std::vector<SourceFile> ReadTree() {
  const fs::path root = std::getenv("TANDEM_SOURCE_DIR");
  std::vector<SourceFile> files;
  for (const char* folder :
       {"base", "placement", "config", "scheduler", "worker", "client", "simulate", "bench", "tests"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string extension = entry.path().extension();
      if (extension != ".h" && extension != ".cc" && extension != ".cu") continue;
      SourceFile file{fs::relative(entry.path(), root), {}, {}};
      std::ifstream in(entry.path());
      for (std::string line; std::getline(in, line);) {
        if (absl::StartsWith(line, "#include ")) {
          const size_t open = line.find_first_of("<\""), close = line.find_last_of(">\"");
          if (open != std::string::npos && close > open)
            file.includes.push_back(line.substr(open + 1, close - open - 1));
        }
        file.lines.push_back(std::move(line));
      }
      files.push_back(std::move(file));
    }
  }
  return files;
}

class Tree : public testing::Test {
 protected:
  // Complains about every file under `folder` (its tests aside) that includes something beginning with one of
  // `prefixes`.
  void Forbid(const std::string& folder, const std::vector<std::string>& prefixes, const std::string& advice) {
    for (const SourceFile& file : files_) {
      if (!absl::StartsWith(file.path, folder) || IsTest(file)) continue;
      for (const std::string& include : file.includes) {
        for (const std::string& prefix : prefixes) {
          if (absl::StartsWith(include, prefix))
            ADD_FAILURE() << file.path << " includes " << include << ": " << advice;
        }
      }
    }
  }

  static bool IsTest(const SourceFile& file) {
    return absl::StrContains(file.path, "_test.cc") || absl::StrContains(file.path, "_for_test") ||
           absl::StartsWith(file.path, "tests/") || absl::StartsWith(file.path, "bench/");
  }

  const std::vector<SourceFile> files_ = ReadTree();
};

TEST_F(Tree, IsRead) { EXPECT_GT(files_.size(), 50u); }

TEST_F(Tree, TheCoreHasNoClockThreadSocketLogOrRandomSource) {
  Forbid("scheduler/core/",
         {"chrono",
          "thread",
          "mutex",
          "condition_variable",
          "random",
          "ctime",
          "iostream",
          "fstream",
          "sys/",
          "unistd",
          "glog/",
          "grpc",
          "google/",
          "tandem/",
          "absl/time",
          "absl/random",
          "absl/synchronization",
          "base/model/",
          "base/prefix_hash/",
          "base/yaml/"},
         "the core is stepped with (now, event) and returns actions; move the effect into the shell");
}

TEST_F(Tree, ProgramsMeetOnlyInProtoConfigAndBase) {
  Forbid("scheduler/", {"worker/", "client/"}, "the scheduler knows workers by worker.proto only");
  Forbid("worker/", {"scheduler/", "client/"}, "the worker knows the scheduler by worker.proto only");
  Forbid("client/", {"scheduler/", "worker/"}, "clients know the service by its protos only");
  Forbid("placement/", {"scheduler/", "worker/", "client/", "config/", "grpc", "tandem/v1"},
         "placement serves them all");
  for (const char* pure : {"placement/topology/", "placement/planner/"}) {
    Forbid(pure, {"chrono", "thread", "random", "fstream", "iostream", "yaml-cpp", "expat", "placement/files/"},
           "the planner is pure; readers are in placement/files");
  }
  Forbid("base/", {"scheduler/", "worker/", "client/", "config/"}, "base stands below the programs");
  Forbid("config/", {"scheduler/", "worker/", "client/"}, "configuration is plain data");
  for (const char* program : {"base/", "placement/", "config/", "scheduler/", "worker/", "client/gateway/"}) {
    Forbid(program, {"simulate/"}, "the simulator looks at the service, never the other way round");
  }
  Forbid("simulate/", {"client/", "config/", "grpc", "tandem/v1", "thread", "mutex"}, "one thread, no service");
}

TEST_F(Tree, TheEngineKnowsInterfacesOnly) {
  const std::string advice = "the engine sees numbers; wire and network stay in scheduler_link";
  Forbid("worker/engine/", {"grpc", "tandem/v1", "worker/exec/cpu", "worker/exec/ops", "dnnl", "cuda", "nccl"}, advice);
  Forbid("worker/kv/", {"grpc", "tandem/v1", "worker/comm", "worker/engine"}, advice);
  Forbid("worker/exec/", {"grpc", "tandem/v1", "worker/engine", "worker/kv"}, advice);
  Forbid("worker/comm/", {"grpc", "tandem/v1", "worker/engine", "worker/kv", "worker/exec"}, advice);
}

TEST_F(Tree, TheTokenizerStandsAlone) {
  Forbid("scheduler/tokenizer/", {"grpc", "tandem/v1", "scheduler/core"}, "the tokenizer is a library of its own");
}

TEST_F(Tree, NothingIncludesTests) {
  for (const SourceFile& file : files_) {
    if (IsTest(file)) continue;
    for (const std::string& include : file.includes) {
      EXPECT_FALSE(absl::StartsWith(include, "tests/") || absl::StrContains(include, "_for_test")) << file.path;
    }
  }
}

TEST_F(Tree, FewFilesIncludeGrpc) {
  std::vector<std::string> users;
  for (const SourceFile& file : files_) {
    if (IsTest(file)) continue;
    if (std::any_of(file.includes.begin(), file.includes.end(), [](const std::string& i) {
          return absl::StartsWith(i, "grpcpp/") || absl::StrContains(i, ".grpc.pb.h");
        })) {
      users.push_back(file.path);
    }
  }
  EXPECT_LE(users.size(), 40u) << "each costs seconds of every build: " << testing::PrintToString(users);
}

TEST_F(Tree, AFileIsARoomNotAHouse) {
  for (const SourceFile& file : files_) {
    EXPECT_LE(file.lines.size(), 600u) << file.path << ": would it be easier to live in as two rooms?";
  }
}

// absl's timed waits are by the wall clock: set back by an hour, it makes each of them an hour longer.
TEST_F(Tree, NoWaitByTheWallClock) {
  for (const SourceFile& file : files_) {
    if (IsTest(file)) continue;
    for (const std::string& line : file.lines) {
      for (const char* wait :
           {"WaitWithTimeout(", "WaitWithDeadline(", "AwaitWithTimeout(", "AwaitWithDeadline(", "LockWhenWithTimeout(",
            "LockWhenWithDeadline(", "WaitForNotificationWithTimeout(", "WaitForNotificationWithDeadline("}) {
        EXPECT_FALSE(absl::StrContains(line, wait))
            << file.path << ": " << line << "\n  waits by the wall clock; base/steady_wait.h does not";
      }
    }
  }
}

TEST_F(Tree, NoPathOfOneMachine) {
  for (const SourceFile& file : files_) {
    if (IsTest(file)) continue;  // tests may speak of any path
    for (const std::string& line : file.lines) {
      for (const char* path : {"/work/", "/root/", "/home/"}) {
        EXPECT_FALSE(absl::StrContains(line, path)) << file.path << ": " << line;
      }
    }
  }
}

}  // namespace
}  // namespace tandem
