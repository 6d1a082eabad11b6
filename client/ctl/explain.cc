// tandemctl explain, topology, events: why things are as they are.
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "client/ctl/names.h"
#include "client/ctl/tables.h"
#include "client/ctl/verbs.h"

namespace tandem::client::ctl {
namespace {

void Print(const v1::Explanation& explanation) {
  const bool named = absl::StartsWith(explanation.verdict(), explanation.subject());
  std::cout << (named ? "" : explanation.subject() + ": ") << explanation.verdict() << "\n";
  for (const std::string& line : explanation.lines()) std::cout << "  " << line << "\n";
}

void Print(const v1::Event& event) {
  std::cout << (event.sequence() >> 32) << "." << (event.sequence() & 0xffffffff) << "  "
            << Milliseconds(event.age_ms()) << " ago  " << OrDash(event.subject()) << "  " << event.text() << "\n";
}

template <typename Answer>
absl::Status Show(const absl::StatusOr<Answer>& answer, bool json) {
  if (!answer.ok()) return answer.status();
  if (json) {
    std::cout << ToJson(*answer) << std::flush;
    return absl::OkStatus();
  }
  Print(answer->explanation());
  std::cout << std::flush;
  return absl::OkStatus();
}

absl::Status Explain(const Context& context, const std::string& text, bool json) {
  const auto name = ParseName(text, Kind::kRequest);
  if (!name.ok()) return name.status();
  if (name->kind == Kind::kDevice || name->kind == Kind::kNode) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\": write request/ID, group/ID or model/NAME"));
  }
  const auto admin = context.ConnectAdmin();
  if (!admin.ok()) return admin.status();
  if (name->kind == Kind::kRequest) return Show((*admin)->ExplainRequest(name->name), json);
  if (name->kind == Kind::kGroup) return Show((*admin)->ExplainGroup(name->name), json);
  return Show((*admin)->ExplainModel(name->name), json);
}

std::string LinkText(const v1::TopologyLink& link) {
  if (link.bandwidth_bytes_per_s() == 0) return OrDash(link.label());
  // As link rates are written everywhere: powers of ten.
  const double gigabytes = static_cast<double>(link.bandwidth_bytes_per_s()) * 1e-9;
  const double micros = static_cast<double>(link.small_message_ns()) * 1e-3;
  return absl::StrFormat("%s %.1fGB/s %.0fus", link.label(), gigabytes, micros);
}

void PrintMatrix(const v1::GetTopologyResponse& topology) {
  std::vector<std::string> header = {""};
  for (const v1::Device& device : topology.devices()) header.push_back(ShortName(device.name()));
  Table table(header);
  for (const v1::Device& row : topology.devices()) {
    std::vector<std::string> cells = {ShortName(row.name())};
    for (const v1::Device& column : topology.devices()) {
      std::string cell = row.name() == column.name() ? "X" : "-";
      for (const v1::TopologyLink& link : topology.links()) {
        const bool forth = link.a() == row.name() && link.b() == column.name();
        const bool back = link.b() == row.name() && link.a() == column.name();
        if (forth || back) cell = LinkText(link);
      }
      cells.push_back(cell);
    }
    table.Add(std::move(cells));
  }
  std::cout << table.ToString();
  for (const std::string& conflict : topology.conflicts()) std::cout << "conflict: " << conflict << "\n";
  std::cout << std::flush;
}

absl::Status Topology(const Context& context, bool json) {
  const auto admin = context.ConnectAdmin();
  if (!admin.ok()) return admin.status();
  const auto topology = (*admin)->GetTopology();
  if (!topology.ok()) return topology.status();
  if (json) {
    std::cout << ToJson(*topology) << std::flush;
  } else {
    PrintMatrix(*topology);
  }
  return absl::OkStatus();
}

// "3.17", as events are printed, or the number that JSON has.
std::optional<uint64_t> ParseSequence(const std::string& text) {
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits('.', 1));
  uint64_t whole;
  uint32_t leader, count;
  if (parts.second.empty()) return absl::SimpleAtoi(text, &whole) ? std::optional(whole) : std::nullopt;
  if (!absl::SimpleAtoi(parts.first, &leader) || !absl::SimpleAtoi(parts.second, &count)) return std::nullopt;
  return uint64_t{leader} << 32 | count;
}

absl::Status Events(const Context& context, const std::string& text, bool json) {
  const auto from = ParseSequence(text);
  if (!from)
    return absl::InvalidArgumentError(absl::StrCat("--from ", text, ": write a number as events show it, 3.17"));
  const auto admin = context.ConnectAdmin();
  if (!admin.ok()) return admin.status();
  return (*admin)->WatchEvents(*from, [json](const v1::Event& event) {
    if (json) {
      std::cout << ToJson(event) << std::flush;
    } else {
      Print(event);
      std::cout << std::flush;
    }
  });
}

}  // namespace

void AddExplain(CLI::App& app, Context& context) {
  auto name = std::make_shared<std::string>();
  auto format = std::make_shared<std::string>("text");
  CLI::App* explain = app.add_subcommand("explain", "Say why: why here, what else was possible, what it waits for");
  explain
      ->add_option("NAME", *name,
                   "request/ID (its own, its caller's x-request-id or its trace), group/ID or model/NAME")
      ->required();
  explain->add_option("-o,--output", *format, "text or json")->check(CLI::IsMember({"text", "json"}));
  explain->callback(
      [&context, name, format] { context.exit_code = Report(Explain(context, *name, *format == "json")); });
}

void AddTopology(CLI::App& app, Context& context) {
  auto format = std::make_shared<std::string>("table");
  CLI::App* topology = app.add_subcommand("topology", "Show the links between devices as a matrix");
  topology->add_option("-o,--output", *format, "table or json")->check(CLI::IsMember({"table", "json"}));
  topology->callback([&context, format] { context.exit_code = Report(Topology(context, *format == "json")); });
}

void AddEvents(CLI::App& app, Context& context) {
  auto format = std::make_shared<std::string>("text");
  auto from = std::make_shared<std::string>("0");
  CLI::App* events = app.add_subcommand("events", "Follow what happens, until Ctrl-C");
  events->add_option("--from", *from, "Begin at this event (3.17); 0 is now, 1 the oldest that is remembered")
      ->capture_default_str();
  events->add_flag_callback(
      "-w,--watch", [] {}, "Follow; understood for likeness with get, there is no other way");
  events->add_option("-o,--output", *format, "text or json")->check(CLI::IsMember({"text", "json"}));
  events->callback([&context, from, format] { context.exit_code = Report(Events(context, *from, *format == "json")); });
}

}  // namespace tandem::client::ctl
