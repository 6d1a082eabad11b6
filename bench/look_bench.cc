// How long the core's thread is held by those that only look at it: a scrape of the metrics, and each list of the
// service for operators. Nothing is decided meanwhile, so the longest turn is what a look adds to the wait of a
// request; all turns together are what it takes of the thread.
//
//   build/bench/look_bench [--devices N] [--requests N]
//
// A core in this process with one device a group, hosts of 8 devices, requests of which a fifth waits, and links that
// are known by label.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "bench/machine.h"
#include "scheduler/core/core.h"
#include "scheduler/core_reader.h"
#include "scheduler/metrics_snapshot.h"
#include "scheduler/metrics_text.h"
#include "scheduler/queue_positions.h"
#include "scheduler/row_messages.h"
#include "scheduler/row_pages.h"
#include "scheduler/topology_view.h"

namespace tandem::scheduler {
namespace {

using Clock = std::chrono::steady_clock;

double Milliseconds(Clock::time_point from) {
  return std::chrono::duration<double, std::milli>(Clock::now() - from).count();
}

class Cluster {
 public:
  Cluster(int devices, int requests) : core_(Options(requests)) {
    core_.Step(now_, core::LeaderStarted{1, devices});
    const int per_group = std::max(1, requests / devices + 1);
    core_.Step(now_, core::ModelConfigured{Spec("chat", devices, devices, per_group)});
    core_.Step(now_, core::ModelConfigured{Spec("asleep", 0, 1, per_group)});
    core::Actions actions;
    for (int i = 0; i < devices; ++i) actions = core_.Step(now_, Device(i));
    for (const core::Action& action : actions) {
      const auto* form = std::get_if<core::FormGroup>(&action);
      if (form == nullptr) continue;
      const core::DeviceId rank0 = form->members[0];
      core_.Step(now_, core::GroupFormed{rank0, form->group, form->epoch});
      core_.Step(now_,
                 core::GroupReady{rank0, form->group, form->epoch, 1 << 16, 16, per_group, 4096, {1}, "numerics"});
    }
    for (int i = 0; i < requests; ++i) {
      core::RequestArrived event;
      event.request = {1, static_cast<uint64_t>(i) + 1};
      event.model = i % 5 == 0 ? "asleep" : "chat";  // no device is free for the one that sleeps
      event.prompt = {100};
      event.max_tokens = core::Tokens{100};
      event.tenant = absl::StrCat("tenant-", i % 20);
      event.caller_id = absl::StrCat("a-caller-that-counts-its-requests-", i);
      core_.Step(now_, event);
    }
  }
  const core::Core& core() const { return core_; }

 private:
  static core::CoreOptions Options(int requests) {
    core::CoreOptions options;
    options.waiting_room_requests = 2 * requests;
    options.fence_after = options.suspect_after = core::Seconds(100000);
    return options;
  }
  static core::ModelSpec Spec(const std::string& name, int least, int most, int sequences) {
    core::ModelSpec spec;
    spec.name = name;
    spec.tensor_parallel = 1;
    spec.replicas_min = least;
    spec.replicas_max = most;
    spec.max_model_len = 4096;
    spec.max_sequences = sequences;
    spec.costs = {{1, "", {int64_t{60} << 30}, {1 << 16}}};
    return spec;
  }
  static core::WorkerAttached Device(int i) {
    core::WorkerAttached event;
    core::DeviceSpec& spec = event.device;
    spec.node = absl::StrCat("rack-", i / 64, "-host-", i / 8);
    spec.index = static_cast<uint32_t>(i % 8);
    spec.kind = "cuda";
    spec.model = "NVIDIA H100 80GB HBM3";
    spec.uuid = absl::StrCat("GPU-6fd5dc2e-3a1b-4c0e-9d51-", 100000000000 + i);
    spec.pci_bus_id = absl::StrCat("00000000:0", i % 8, ":00.0");
    spec.build = "0.1.0+0123456789ab";
    spec.numerics = "cuda-sm90-bf16-nccl2.27";
    spec.memory_total = spec.memory_budget = spec.memory_free = {int64_t{80} << 30};
    event.incarnation = {1, static_cast<uint64_t>(i)};
    return event;
  }

  core::Core core_;
  const core::Instant now_{1};
};

// Runs `look` with a reader whose turns are taken on the spot, and timed.
void Measure(const core::Core& core, const char* what, const std::function<size_t(CoreReader&)>& look) {
  std::vector<double> longest, sum, whole;
  size_t turns = 0, bytes = 0;
  for (int i = 0; i < 9; ++i) {
    std::vector<double> ms;
    CoreReader reader(
        [&](const CoreReader::Query& query) {
          const auto from = Clock::now();
          query(core);
          ms.push_back(Milliseconds(from));
          return true;
        },
        absl::Minutes(1));
    const auto from = Clock::now();
    bytes = look(reader);
    whole.push_back(Milliseconds(from));
    turns = ms.size();
    longest.push_back(*std::max_element(ms.begin(), ms.end()));
    sum.push_back(std::accumulate(ms.begin(), ms.end(), 0.0));
  }
  std::printf("%-14s held for %6.3f ms at a time, %7.2f ms in %3zu turns; made elsewhere in %7.2f ms, %9zu bytes\n",
              what, bench::Median(longest), bench::Median(sum), turns, bench::Median(whole) - bench::Median(sum),
              bytes);
}

template <typename Row>
std::vector<Row> All(CoreReader& reader, TakePiece<Row> take, size_t most = SIZE_MAX) {
  return std::move(Read(reader, take, 0, most)->rows);
}

void Run(int devices, int requests) {
  const Cluster cluster(devices, requests);
  const core::ClusterState& state = cluster.core().state();
  std::printf("%zu devices, %zu groups, %d requests with an engine, %d waiting; medians of 9\n", state.devices.size(),
              state.groups.size(), state.running_requests, state.waiting.requests);
  const auto measure = [&](const char* what, const std::function<size_t(CoreReader&)>& look) {
    Measure(cluster.core(), what, look);
  };
  const RequestMetrics metrics;
  measure("scrape", [&](CoreReader& reader) {
    return MetricsText(*TakeMetrics(reader), metrics.Read(), {.version = "1"}).size();
  });
  // Of each list all pages at once, which is what tandemctl asks for.
  measure("ListDevices", [&](CoreReader& reader) {
    v1::ListDevicesResponse response;
    for (const DeviceRow& row : All(reader, TakeDevices)) *response.add_devices() = DeviceFrom(row);
    return response.ByteSizeLong();
  });
  measure("ListGroups", [&](CoreReader& reader) {
    v1::ListGroupsResponse response;
    for (const GroupRow& row : All(reader, TakeGroups)) *response.add_groups() = GroupFrom(row);
    return response.ByteSizeLong();
  });
  measure("ListRequests", [&](CoreReader& reader) {
    v1::ListRequestsResponse response;
    const auto places = reader.Ask([](const core::Core& core) { return PlacesOf(core.state(), core::ModelId{1}); });
    auto ahead = AheadOfEach(*places);
    for (const RequestRow& row : All(reader, TakeRequests)) {
      *response.add_requests() = RequestFrom(row, row.waits ? ahead[row.serial] : 0);
    }
    return response.ByteSizeLong();
  });
  measure("ListModels", [&](CoreReader& reader) {
    v1::AdminServiceListModelsResponse response;
    const auto accounts = AccountsOf(All(reader, TakeGroupNumbers));
    for (const ModelRow& row : All(reader, TakeModels)) {
      *response.add_models() = ModelFrom(row, AccountOf(accounts, row.id));
    }
    return response.ByteSizeLong();
  });
  measure("GetStatus", [&](CoreReader& reader) {
    v1::GetStatusResponse response;
    const auto accounts = AccountsOf(All(reader, TakeGroupNumbers));
    for (const ModelRow& row : All(reader, TakeModels)) {
      *response.add_models() = ModelFrom(row, AccountOf(accounts, row.id));
    }
    for (const GroupRow& row : All(reader, TakeGroups, kMostOfPage)) *response.add_groups() = GroupFrom(row);
    for (const DeviceRow& row : All(reader, TakeDevices, kMostOfPage)) *response.add_devices() = DeviceFrom(row);
    return response.ByteSizeLong();
  });
  measure("GetTopology", [&](CoreReader& reader) {
    v1::GetTopologyResponse response;
    const auto rows = All(reader, TakeDevices);
    FillTopology(rows, All(reader, TakeNodes), WorkerRegistry(), {2}, &response);
    return response.ByteSizeLong();
  });
  const core::RequestId last = state.requests.rbegin()->second->id;
  measure("ExplainRequest", [&](CoreReader& reader) {  // put into words by the core itself
    size_t bytes = 0;
    const auto lines = reader.Ask([last](const core::Core& core) { return core.ExplainRequest(last); });
    for (const std::string& line : **lines) bytes += line.size();
    return bytes;
  });
  measure("positions", [&](CoreReader& reader) {  // that the router tells its clients every 10 s
    const auto places = reader.Ask([](const core::Core& core) { return PlacesOf(core.state(), core::ModelId{1}); });
    return AheadOfEach(*places).size();
  });
}

}  // namespace
}  // namespace tandem::scheduler

int main(int argc, char** argv) {
  CLI::App app("How long the core's thread is held by those that only look at it.");
  int devices = 10000, requests = 5000;
  app.add_option("--devices", devices, "one group each")->capture_default_str();
  app.add_option("--requests", requests, "of which a fifth waits")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  tandem::bench::PrintMachine(argc, argv);
  tandem::scheduler::Run(devices, requests);
  return 0;
}
