#include "client/ctl/tables.h"

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "config/units.h"

namespace tandem::client::ctl {
namespace {

using Row = std::vector<std::string>;

std::string Bytes(uint64_t bytes) { return config::FormatBytesShort(bytes); }

std::string ShortNames(const List<std::string>& names) {
  return OrDash(absl::StrJoin(
      names, ",", [](std::string* out, const std::string& name) { absl::StrAppend(out, ShortName(name)); }));
}

std::string EpochText(const v1::Epoch& epoch) { return absl::StrCat(epoch.leader(), ".", epoch.counter()); }

Table Make(Row header, bool wide, Row wide_header) {
  if (wide) header.insert(header.end(), wide_header.begin(), wide_header.end());
  return Table(std::move(header));
}

void Add(Table& table, Row row, bool wide, Row wide_row) {
  if (wide) row.insert(row.end(), wide_row.begin(), wide_row.end());
  table.Add(std::move(row));
}

}  // namespace

std::string ShortName(absl::string_view resource) {
  for (const char* collection : {"groups/", "models/", "requests/"}) {
    if (absl::ConsumePrefix(&resource, collection)) return std::string(resource);
  }
  if (absl::ConsumePrefix(&resource, "nodes/")) return absl::StrReplaceAll(resource, {{"/devices/", "/"}});
  return std::string(resource);
}

// Why it is as it is; of one in service what it says of its health.
std::string ReasonOf(const v1::Device& device) {
  return device.reason().empty() ? absl::StrJoin(device.health(), "; ") : device.reason();
}

Table ToTable(const List<v1::Device>& devices, bool wide) {
  Table table = Make({"DEVICE", "STATE", "CORDONED", "KIND", "OURS", "BUDGET", "TOTAL", "GROUPS", "REASON"}, wide,
                     {"FREE", "OTHERS", "HEARTBEAT", "THREADS", "NUMERICS", "MODEL", "UUID"});
  for (const v1::Device& device : devices) {
    Add(table,
        {ShortName(device.name()), StateWord(device, "state"), device.cordoned() ? "yes" : "-", device.kind(),
         Bytes(device.memory_ours_bytes()), Bytes(device.memory_budget_bytes()), Bytes(device.memory_total_bytes()),
         ShortNames(device.groups()), OrDash(ReasonOf(device))},
        wide,
        {Bytes(device.memory_free_bytes()), Bytes(device.memory_foreign_bytes()),
         Milliseconds(device.heartbeat_age_ms()), absl::StrCat(device.threads()), OrDash(device.numerics()),
         OrDash(device.model()), OrDash(device.uuid())});
  }
  return table;
}

Table ToTable(const List<v1::Group>& groups, bool wide) {
  Table table = Make({"GROUP", "STATE", "EPOCH", "MODEL", "DEVICES", "RUNNING", "KV-FREE", "REASON"}, wide,
                     {"WAITING", "BOOKED", "STEPS", "PREEMPTIONS", "NUMERICS", "WHY"});
  for (const v1::Group& group : groups) {
    Add(table,
        {ShortName(group.name()), StateWord(group, "state"), EpochText(group.epoch()), ShortName(group.model()),
         ShortNames(group.devices()), absl::StrCat(group.running(), "/", group.max_sequences()),
         absl::StrCat(group.kv_blocks_free(), "/", group.kv_blocks()), OrDash(group.reason())},
        wide,
        {absl::StrCat(group.waiting()), absl::StrCat(group.kv_booked_tokens(), "/", group.kv_capacity_tokens()),
         absl::StrCat(group.steps()), absl::StrCat(group.preemptions()), OrDash(group.numerics_id()),
         OrDash(group.why())});
  }
  return table;
}

Table ToTable(const List<v1::Model>& models, bool wide) {
  Table table = Make({"MODEL", "READY", "TP", "CONTEXT", "QUEUED", "GROUPS", "WAITS FOR"}, wide,
                     {"ALIASES", "TASK", "DTYPE", "PATH", "REVISION"});
  for (const v1::Model& model : models) {
    Add(table,
        {ShortName(model.name()), absl::StrCat(model.replicas_ready(), "/", model.replicas_wanted()),
         OrDash(model.tensor_parallel()), absl::StrCat(model.max_model_len()), absl::StrCat(model.queued()),
         ShortNames(model.groups()), model.sleeping() ? "sleeps" : OrDash(model.waits_for())},
        wide,
        {OrDash(absl::StrJoin(model.aliases(), ",")), OrDash(model.task()), OrDash(model.dtype()), OrDash(model.path()),
         OrDash(model.revision())});
  }
  return table;
}

Table ToTable(const List<v1::Node>& nodes, bool) {
  Table table({"NODE", "DEVICES", "ACTIVE"});
  for (const v1::Node& node : nodes) {
    table.Add({ShortName(node.name()), absl::StrCat(node.devices()), absl::StrCat(node.active_devices())});
  }
  return table;
}

Table ToTable(const List<v1::Request>& requests, bool wide) {
  Table table = Make({"REQUEST", "STATE", "MODEL", "GROUP", "PROMPT", "OUTPUT", "AGE", "OUTCOME"}, wide,
                     {"LIMIT", "QUEUE", "PRIORITY", "TENANT", "ATTEMPT", "PREEMPTIONS", "CALLER", "TRACE"});
  for (const v1::Request& request : requests) {
    Add(table,
        {ShortName(request.name()), StateWord(request, "state"), ShortName(request.model()),
         OrDash(ShortName(request.group())), absl::StrCat(request.prompt_tokens()),
         absl::StrCat(request.output_tokens()), Milliseconds(request.age_ms()), OrDash(request.outcome())},
        wide,
        {absl::StrCat(request.max_tokens()),
         request.state() == v1::REQUEST_QUEUED ? absl::StrCat(request.queue_position()) : "-",
         absl::StrCat(request.priority()), OrDash(request.tenant()), EpochText(request.attempt()),
         absl::StrCat(request.preemptions()), OrDash(request.caller_id()), OrDash(request.trace_id())});
  }
  return table;
}

}  // namespace tandem::client::ctl
