#include "config/schema.h"

#include <algorithm>
#include <limits>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "config/endpoint.h"
#include "config/units.h"

namespace tandem::config {
namespace {

constexpr int kMostReplicas = 10000;
constexpr uint64_t kLeastCpuMemory = 1ull << 20;

// ---- readers of one value; each leaves `into` alone when it fails ---------------------------------------------------

absl::Status Read(absl::string_view text, int64_t least, int64_t most, int& into) {
  const auto value = ParseInteger(text, least, most);
  if (value.ok()) into = static_cast<int>(*value);
  return value.status();
}
absl::Status Read(absl::string_view text, double above, double most, double& into) {
  const auto value = ParseReal(text, above, most);
  if (value.ok()) into = *value;
  return value.status();
}
absl::Status ReadSpeedup(absl::string_view text, double& into) {
  if (text != "0") return Read(text, 0.0, 1e6, into);
  into = 0;
  return absl::OkStatus();
}
absl::Status ReadBool(absl::string_view text, bool& into) {
  const auto value = ParseBool(text);
  if (value.ok()) into = *value;
  return value.status();
}
absl::Status ReadBytes(absl::string_view text, uint64_t& into) {
  const auto value = ParseBytes(text);
  if (value.ok()) into = *value;
  return value.status();
}
absl::Status ReadAddress(absl::string_view text, std::string& into) {
  const auto value = ParseEndpoint(text);
  if (value.ok()) into = value->ToString();
  return value.status();
}
absl::Status ReadWord(absl::string_view text, const std::vector<std::string>& words, std::string& into) {
  if (std::find(words.begin(), words.end(), text) == words.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not one of ", absl::StrJoin(words, ", "), DidYouMean(text, words)));
  }
  into = std::string(text);
  return absl::OkStatus();
}
absl::Status ReadPath(absl::string_view text, std::string& into) {
  if (text.empty()) return absl::InvalidArgumentError("an empty path");
  if (absl::StrContains(text, '\0')) return absl::InvalidArgumentError("a path with a zero byte");
  into = std::string(text);
  return absl::OkStatus();
}

// A name that people type and that stands in URLs and metrics.
absl::Status ReadName(absl::string_view text, std::string& into) {
  const bool fits = !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(c) || absl::StrContains("._:/@+-", c);
  });
  if (!fits) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text.substr(0, 140), "\" is not a name; 1 to 128 of letters, digits and . _ : / @ + -"));
  }
  into = std::string(text);
  return absl::OkStatus();
}

absl::Status ReadAliases(absl::string_view text, std::vector<std::string>& into) {
  std::vector<std::string> aliases;
  for (const absl::string_view item : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    const absl::string_view alias = absl::StripAsciiWhitespace(item);
    aliases.emplace_back(alias);
    if (alias == "*") continue;
    if (const absl::Status status = ReadName(alias, aliases.back()); !status.ok()) return status;
  }
  into = std::move(aliases);
  return absl::OkStatus();
}

absl::Status CheckDevice(absl::string_view device) {
  const size_t colon = device.find(':');
  const absl::string_view kind = device.substr(0, colon);
  const absl::string_view which = colon == absl::string_view::npos ? "" : device.substr(colon + 1);
  const bool known = kind == "cpu" || kind == "cuda" || kind == "sim";
  const bool by_name = (kind == "cuda" && absl::StartsWith(which, "GPU-")) || (kind == "sim" && !which.empty());
  if (known && (by_name || ParseInteger(which, 0, 4095).ok())) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", device, "\" is not a device; write cpu:N, cuda:N, cuda:GPU-UUID or sim:MODEL"));
}

absl::Status ReadSelect(absl::string_view text, std::vector<std::string>& into) {
  if (text == "all") {
    into.clear();
    return absl::OkStatus();
  }
  std::vector<std::string> devices;
  std::set<std::string> seen;
  for (const absl::string_view item : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    const std::string device(absl::StripAsciiWhitespace(item));
    if (const absl::Status status = CheckDevice(device); !status.ok()) return status;
    // Two simulated devices of one model are two devices; a real one exists once.
    if (!seen.insert(device).second && !absl::StartsWith(device, "sim:")) {
      return absl::InvalidArgumentError(absl::StrCat("device ", device, " is named twice"));
    }
    devices.push_back(device);
  }
  if (devices.empty()) return absl::InvalidArgumentError("no device; write all, or a list such as [cpu:0, cpu:1]");
  into = std::move(devices);
  return absl::OkStatus();
}

absl::Status ReadTensorParallel(absl::string_view text, int& into) {
  if (text == "auto") {
    into = 0;
    return absl::OkStatus();
  }
  if (Read(text, 1, 1024, into).ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is neither auto nor a number from 1 to 1024"));
}

absl::Status ReadReplicas(absl::string_view text, ModelConfig& into) {
  const size_t dots = text.find("..");
  const absl::string_view least = text.substr(0, dots);
  const absl::string_view most = dots == absl::string_view::npos ? least : text.substr(dots + 2);
  int min = 0, max = 0;
  if (const absl::Status status = Read(least, 0, kMostReplicas, min); !status.ok()) return status;
  if (const absl::Status status = Read(most, 1, kMostReplicas, max); !status.ok()) return status;
  if (min > max) return absl::InvalidArgumentError(absl::StrCat("min ", min, " is above max ", max));
  into.replicas_min = min;
  into.replicas_max = max;
  return absl::OkStatus();
}

absl::Status ReadModelPath(absl::string_view text, std::string& into) {
  for (const absl::string_view part : absl::StrSplit(text, '/')) {
    if (part == "..") return absl::InvalidArgumentError("a model's path may not leave its root (\"..\")");
  }
  return ReadPath(text, into);
}

absl::Status ReadIdentities(absl::string_view text, std::vector<security::IdentityRule>& into) {
  std::vector<security::IdentityRule> rules;
  for (const absl::string_view item : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    auto rule = security::ParseIdentityRule(absl::StripAsciiWhitespace(item));
    if (!rule.ok()) return rule.status();
    rules.push_back(*std::move(rule));
  }
  into = std::move(rules);
  return absl::OkStatus();
}
std::string WriteIdentities(const std::vector<security::IdentityRule>& rules) {
  return absl::StrJoin(
      rules, ",", [](std::string* out, const security::IdentityRule& rule) { absl::StrAppend(out, rule.ToString()); });
}

absl::Status ReadRefresh(absl::string_view text, absl::Duration& into) {
  const auto value = ParseDuration(text);
  if (!value.ok()) return value.status();
  if (*value < absl::Seconds(1) || *value > absl::Hours(24)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not from 1s to 24h"));
  }
  into = *value;
  return absl::OkStatus();
}

absl::Status ReadStopGrace(absl::string_view text, absl::Duration& into) {
  const auto value = ParseDuration(text);
  if (!value.ok()) return value.status();
  if (*value > absl::Hours(1)) return absl::InvalidArgumentError(absl::StrCat(text, " is out of range; 0 to 1h"));
  into = *value;
  return absl::OkStatus();
}

std::string Number(double value) { return absl::StrFormat("%.10g", value); }
std::string Truth(bool value) { return value ? "true" : "false"; }

// ---- rows that several sections have alike --------------------------------------------------------------------------

template <auto Section, auto Field>
constexpr ClusterKey SecurityPath(const char* name) {
  return {name, Shape::kPath,
          [](absl::string_view t, ClusterConfig& c) { return ReadPath(t, c.security.*Section.*Field); },
          [](const ClusterConfig& c) { return c.security.*Section.*Field; }};
}
template <auto Door>
constexpr ClusterKey ClientCertificates(const char* name) {
  return {name, Shape::kScalar,
          [](absl::string_view t, ClusterConfig& c) {
            return ReadWord(t, {"off", "optional", "required"}, (c.security.*Door).client_certificates);
          },
          [](const ClusterConfig& c) { return (c.security.*Door).client_certificates; }};
}

using Security = SecurityConfig;
using Door = security::DoorSettings;
using Dial = security::DialSettings;

// ---- the tables -----------------------------------------------------------------------------------------------------

using Text = absl::string_view;
using Config = ClusterConfig;
using Model = ModelConfig;

constexpr ClusterKey kClusterKeys[] = {
    {"profile", Shape::kScalar,
     [](Text t, Config& c) {
       return ReadWord(t, {"development", "staging", "production"}, c.profile);
     },
     [](const Config& c) { return c.profile; }},
    {"state_dir", Shape::kPath, [](Text t, Config& c) { return ReadPath(t, c.state_dir); },
     [](const Config& c) { return c.state_dir; }},
    {"model_root", Shape::kPath, [](Text t, Config& c) { return ReadPath(t, c.model_root); },
     [](const Config& c) { return c.model_root; }},
    {"time_scale", Shape::kScalar, [](Text t, Config& c) { return Read(t, 0.0, 1000.0, c.time_scale); },
     [](const Config& c) { return Number(c.time_scale); }},
    {"server.clients", Shape::kScalar, [](Text t, Config& c) { return ReadAddress(t, c.server.clients); },
     [](const Config& c) { return c.server.clients; }},
    {"server.workers", Shape::kScalar, [](Text t, Config& c) { return ReadAddress(t, c.server.workers); },
     [](const Config& c) { return c.server.workers; }},
    {"server.admin", Shape::kScalar, [](Text t, Config& c) { return ReadAddress(t, c.server.admin); },
     [](const Config& c) { return c.server.admin; }},
    {"server.http", Shape::kScalar, [](Text t, Config& c) { return ReadAddress(t, c.server.http); },
     [](const Config& c) { return c.server.http; }},
    {"server.metrics", Shape::kScalar, [](Text t, Config& c) { return ReadAddress(t, c.server.metrics); },
     [](const Config& c) { return c.server.metrics; }},
    {"server.api_keys_file", Shape::kPath, [](Text t, Config& c) { return ReadPath(t, c.server.api_keys_file); },
     [](const Config& c) { return c.server.api_keys_file; }},
    {"server.plaintext_beyond_loopback", Shape::kScalar,
     [](Text t, Config& c) { return ReadBool(t, c.server.plaintext_beyond_loopback); },
     [](const Config& c) { return Truth(c.server.plaintext_beyond_loopback); }},
    {"server.stop_grace", Shape::kScalar, [](Text t, Config& c) { return ReadStopGrace(t, c.server.stop_grace); },
     [](const Config& c) { return absl::FormatDuration(c.server.stop_grace); }},
    {"server.reflection", Shape::kScalar,
     [](Text t, Config& c) {
       return ReadWord(t, {"loopback", "always", "never"}, c.server.reflection);
     },
     [](const Config& c) { return c.server.reflection; }},
    SecurityPath<&Security::all, &Door::certificate>("security.certificate"),
    SecurityPath<&Security::all, &Door::key>("security.key"),
    SecurityPath<&Security::all, &Door::client_ca>("security.client_ca"),
    ClientCertificates<&Security::all>("security.client_certificates"),
    SecurityPath<&Security::clients, &Door::certificate>("security.clients.certificate"),
    SecurityPath<&Security::clients, &Door::key>("security.clients.key"),
    SecurityPath<&Security::clients, &Door::client_ca>("security.clients.client_ca"),
    ClientCertificates<&Security::clients>("security.clients.client_certificates"),
    SecurityPath<&Security::workers, &Door::certificate>("security.workers.certificate"),
    SecurityPath<&Security::workers, &Door::key>("security.workers.key"),
    SecurityPath<&Security::workers, &Door::client_ca>("security.workers.client_ca"),
    ClientCertificates<&Security::workers>("security.workers.client_certificates"),
    SecurityPath<&Security::admin, &Door::certificate>("security.admin.certificate"),
    SecurityPath<&Security::admin, &Door::key>("security.admin.key"),
    SecurityPath<&Security::admin, &Door::client_ca>("security.admin.client_ca"),
    ClientCertificates<&Security::admin>("security.admin.client_certificates"),
    SecurityPath<&Security::http, &Door::certificate>("security.http.certificate"),
    SecurityPath<&Security::http, &Door::key>("security.http.key"),
    SecurityPath<&Security::http, &Door::client_ca>("security.http.client_ca"),
    ClientCertificates<&Security::http>("security.http.client_certificates"),
    {"security.identities", Shape::kList, [](Text t, Config& c) { return ReadIdentities(t, c.security.identities); },
     [](const Config& c) { return WriteIdentities(c.security.identities); }},
    {"security.tokens", Shape::kPath, [](Text t, Config& c) { return ReadPath(t, c.security.tokens); },
     [](const Config& c) { return c.security.tokens; }},
    {"security.refresh", Shape::kScalar, [](Text t, Config& c) { return ReadRefresh(t, c.security.refresh); },
     [](const Config& c) { return absl::FormatDuration(c.security.refresh); }},
    SecurityPath<&Security::dial, &Dial::ca>("security.dial.ca"),
    SecurityPath<&Security::dial, &Dial::certificate>("security.dial.certificate"),
    SecurityPath<&Security::dial, &Dial::key>("security.dial.key"),
    SecurityPath<&Security::dial, &Dial::token_file>("security.dial.token_file"),
    {"security.dial.server_name", Shape::kScalar,
     [](Text t, Config& c) { return ReadName(t, c.security.dial.server_name); },
     [](const Config& c) { return c.security.dial.server_name; }},
    {"devices.select", Shape::kList, [](Text t, Config& c) { return ReadSelect(t, c.devices.select); },
     [](const Config& c) { return c.devices.select.empty() ? "all" : absl::StrJoin(c.devices.select, ","); }},
    {"devices.memory_utilization", Shape::kScalar,
     [](Text t, Config& c) { return Read(t, 0.0, 1.0, c.devices.memory_utilization); },
     [](const Config& c) { return Number(c.devices.memory_utilization); }},
    {"devices.reserve", Shape::kScalar, [](Text t, Config& c) { return ReadBytes(t, c.devices.reserve_bytes); },
     [](const Config& c) { return FormatBytes(c.devices.reserve_bytes); }},
    {"devices.cpu_memory", Shape::kScalar,
     [](Text t, Config& c) {
       const auto bytes = ParseBytes(t);
       if (!bytes.ok()) return bytes.status();
       if (*bytes != 0 && *bytes < kLeastCpuMemory) {
         return absl::InvalidArgumentError(absl::StrCat(t, " is too little for any model; at least 1MiB, or 0"));
       }
       c.devices.cpu_memory_bytes = *bytes;
       return absl::OkStatus();
     },
     [](const Config& c) { return FormatBytes(c.devices.cpu_memory_bytes); }},
    {"devices.cpu_threads", Shape::kScalar,
     [](Text t, Config& c) { return Read(t, int64_t{0}, 1024, c.devices.cpu_threads); },
     [](const Config& c) { return absl::StrCat(c.devices.cpu_threads); }},
    {"devices.sim_memory", Shape::kScalar, [](Text t, Config& c) { return ReadBytes(t, c.devices.sim_memory_bytes); },
     [](const Config& c) { return FormatBytes(c.devices.sim_memory_bytes); }},
    {"devices.sim_speedup", Shape::kScalar, [](Text t, Config& c) { return ReadSpeedup(t, c.devices.sim_speedup); },
     [](const Config& c) { return Number(c.devices.sim_speedup); }},
    {"scheduling.waiting_room_requests", Shape::kScalar,
     [](Text t, Config& c) { return Read(t, int64_t{1}, 1000000, c.scheduling.waiting_room_requests); },
     [](const Config& c) { return absl::StrCat(c.scheduling.waiting_room_requests); }},
    {"scheduling.waiting_room_tokens", Shape::kScalar,
     [](Text t, Config& c) {
       const auto tokens = ParseInteger(t, 1, int64_t{1} << 36);
       if (tokens.ok()) c.scheduling.waiting_room_tokens = *tokens;
       return tokens.status();
     },
     [](const Config& c) { return absl::StrCat(c.scheduling.waiting_room_tokens); }},
    {"scheduling.waiting_room_bytes", Shape::kScalar,
     [](Text t, Config& c) {
       const auto bytes = ParseBytes(t);
       if (bytes.ok() && (*bytes < 1 << 16 || *bytes > uint64_t{1} << 40)) {
         return absl::InvalidArgumentError(absl::StrCat("expected 64KiB to 1TiB, got ", t));
       }
       if (bytes.ok()) c.scheduling.waiting_room_bytes = static_cast<int64_t>(*bytes);
       return bytes.status();
     },
     [](const Config& c) { return FormatBytes(static_cast<uint64_t>(c.scheduling.waiting_room_bytes)); }},
    {"scheduling.class_room_percent", Shape::kScalar,
     [](Text t, Config& c) { return Read(t, int64_t{1}, 100, c.scheduling.class_room_percent); },
     [](const Config& c) { return absl::StrCat(c.scheduling.class_room_percent); }},
    {"scheduling.tenant_room_percent", Shape::kScalar,
     [](Text t, Config& c) { return Read(t, int64_t{1}, 100, c.scheduling.tenant_room_percent); },
     [](const Config& c) { return absl::StrCat(c.scheduling.tenant_room_percent); }},
    {"scheduling.quarantine_after", Shape::kScalar,
     [](Text t, Config& c) { return Read(t, int64_t{0}, 1000, c.scheduling.quarantine_after); },
     [](const Config& c) { return absl::StrCat(c.scheduling.quarantine_after); }},
    {"scheduling.quarantine_cool_off", Shape::kScalar,
     [](Text t, Config& c) {
       const auto time = ParseDuration(t);
       if (!time.ok()) return time.status();
       if (*time < absl::Seconds(1) || *time > absl::Hours(24)) {
         return absl::InvalidArgumentError(absl::StrCat(t, " is out of range; 1s to 24h"));
       }
       c.scheduling.quarantine_cool_off = *time;
       return absl::OkStatus();
     },
     [](const Config& c) { return absl::FormatDuration(c.scheduling.quarantine_cool_off); }},
    {"scheduling.quarantine_percent", Shape::kScalar,
     [](Text t, Config& c) { return Read(t, int64_t{0}, 100, c.scheduling.quarantine_percent); },
     [](const Config& c) { return absl::StrCat(c.scheduling.quarantine_percent); }},
    {"scheduling.device_health", Shape::kPath,
     [](Text t, Config& c) { return ReadPath(t, c.scheduling.device_health); },
     [](const Config& c) { return c.scheduling.device_health; }},
    {"scheduling.overcommit", Shape::kScalar,
     [](Text t, Config& c) { return Read(t, 0.0, 10.0, c.scheduling.overcommit); },
     [](const Config& c) { return Number(c.scheduling.overcommit); }},
    {"scheduling.remembered", Shape::kScalar,
     [](Text t, Config& c) { return Read(t, int64_t{16}, 20000, c.scheduling.remembered); },
     [](const Config& c) { return absl::StrCat(c.scheduling.remembered); }},
    {"scheduling.client_stall", Shape::kScalar,
     [](Text t, Config& c) {
       const auto time = ParseDuration(t);
       if (!time.ok()) return time.status();
       if (*time != absl::ZeroDuration() && (*time < absl::Seconds(1) || *time > absl::Hours(24))) {
         return absl::InvalidArgumentError(absl::StrCat(t, " is out of range; 1s to 24h, or 0"));
       }
       c.scheduling.client_stall = *time;
       return absl::OkStatus();
     },
     [](const Config& c) { return absl::FormatDuration(c.scheduling.client_stall); }},
    {"scheduling.step_budget", Shape::kScalar,
     [](Text t, Config& c) {
       const auto budget = ParseDuration(t);
       if (!budget.ok()) return budget.status();
       if (*budget < absl::Milliseconds(1) || *budget > absl::Seconds(60)) {
         return absl::InvalidArgumentError(absl::StrCat(t, " is out of range; 1ms to 60s"));
       }
       c.scheduling.step_budget = *budget;
       return absl::OkStatus();
     },
     [](const Config& c) { return absl::FormatDuration(c.scheduling.step_budget); }},
    {"scheduling.prefix_cache", Shape::kScalar,
     [](Text t, Config& c) { return ReadBool(t, c.scheduling.prefix_cache); },
     [](const Config& c) { return Truth(c.scheduling.prefix_cache); }},
    {"scheduling.sharing", Shape::kScalar, [](Text t, Config& c) { return ReadBool(t, c.scheduling.sharing); },
     [](const Config& c) { return Truth(c.scheduling.sharing); }},
    {"scheduling.move_gain", Shape::kScalar,
     [](Text t, Config& c) { return Read(t, 0.0, 1.0, c.scheduling.move_gain); },
     [](const Config& c) { return Number(c.scheduling.move_gain); }},
    {"scheduling.link_probe", Shape::kScalar,
     [](Text t, Config& c) {
       if (t != "off" && t != "once" && t != "periodic") {
         return absl::InvalidArgumentError(absl::StrCat("\"", t, "\": off, once or periodic"));
       }
       c.scheduling.link_probe = std::string(t);
       return absl::OkStatus();
     },
     [](const Config& c) { return c.scheduling.link_probe; }},
    {"metrics.compat", Shape::kList,
     [](Text t, Config& c) {
       std::vector<std::string> names;
       for (const absl::string_view item : absl::StrSplit(t, ',', absl::SkipWhitespace())) {
         std::string& name = names.emplace_back(absl::StripAsciiWhitespace(item));
         if (const absl::Status status = ReadWord(name, {"vllm"}, name); !status.ok()) return status;
       }
       c.metrics.compat = std::move(names);
       return absl::OkStatus();
     },
     [](const Config& c) { return absl::StrJoin(c.metrics.compat, ","); }},
    {"log.format", Shape::kScalar,
     [](Text t, Config& c) {
       return ReadWord(t, {"text", "json"}, c.log.format);
     },
     [](const Config& c) { return c.log.format; }},
};

constexpr ModelKey kModelKeys[] = {
    {"name", Shape::kScalar, [](Text t, Model& m) { return ReadName(t, m.name); },
     [](const Model& m) { return m.name; }},
    {"aliases", Shape::kList, [](Text t, Model& m) { return ReadAliases(t, m.aliases); },
     [](const Model& m) { return absl::StrJoin(m.aliases, ","); }},
    {"path", Shape::kScalar, [](Text t, Model& m) { return ReadModelPath(t, m.path); },
     [](const Model& m) { return m.path; }},
    {"task", Shape::kScalar,
     [](Text t, Model& m) {
       return ReadWord(t, {"generate", "embed", "rerank"}, m.task);
     },
     [](const Model& m) { return m.task; }},
    {"tensor_parallel", Shape::kScalar, [](Text t, Model& m) { return ReadTensorParallel(t, m.tensor_parallel); },
     [](const Model& m) { return m.tensor_parallel == 0 ? "auto" : absl::StrCat(m.tensor_parallel); }},
    {"replicas", Shape::kRange, [](Text t, Model& m) { return ReadReplicas(t, m); },
     [](const Model& m) {
       return m.replicas_min == m.replicas_max ? absl::StrCat(m.replicas_min)
                                               : absl::StrCat(m.replicas_min, "..", m.replicas_max);
     }},
    {"dtype", Shape::kScalar,
     [](Text t, Model& m) {
       return ReadWord(t, {"auto", "float32", "bfloat16", "float16"}, m.dtype);
     },
     [](const Model& m) { return m.dtype; }},
    {"max_model_len", Shape::kScalar, [](Text t, Model& m) { return Read(t, int64_t{0}, 1 << 24, m.max_model_len); },
     [](const Model& m) { return absl::StrCat(m.max_model_len); }},
    {"memory_utilization", Shape::kScalar, [](Text t, Model& m) { return Read(t, 0.0, 1.0, m.memory_utilization); },
     [](const Model& m) { return Number(m.memory_utilization); }},
    {"kv_memory", Shape::kScalar, [](Text t, Model& m) { return ReadBytes(t, m.kv_memory_bytes); },
     [](const Model& m) { return FormatBytes(m.kv_memory_bytes); }},
    {"max_num_seqs", Shape::kScalar, [](Text t, Model& m) { return Read(t, int64_t{0}, 65536, m.max_num_seqs); },
     [](const Model& m) { return absl::StrCat(m.max_num_seqs); }},
    {"goal", Shape::kScalar,
     [](Text t, Model& m) {
       return ReadWord(t, {"throughput", "latency"}, m.goal);
     },
     [](const Model& m) { return m.goal; }},
    {"priority", Shape::kScalar, [](Text t, Model& m) { return Read(t, int64_t{-100}, 100, m.priority); },
     [](const Model& m) { return absl::StrCat(m.priority); }},
    {"chat_template", Shape::kPath, [](Text t, Model& m) { return ReadPath(t, m.chat_template); },
     [](const Model& m) { return m.chat_template; }},
};

// Insertions, deletions and replacements between two short words.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

}  // namespace

absl::Span<const ClusterKey> ClusterKeys() { return kClusterKeys; }
absl::Span<const ModelKey> ModelKeys() { return kModelKeys; }

const ClusterKey* FindClusterKey(absl::string_view name) {
  for (const ClusterKey& key : kClusterKeys) {
    if (name == key.name) return &key;
  }
  return nullptr;
}

const ModelKey* FindModelKey(absl::string_view name) {
  for (const ModelKey& key : kModelKeys) {
    if (name == key.name) return &key;
  }
  return nullptr;
}

std::string DidYouMean(absl::string_view word, const std::vector<std::string>& known) {
  if (word.size() > 64) return "";
  const std::string* nearest = nullptr;
  size_t least = std::max<size_t>(2, word.size() / 3) + 1;  // further than this is another word
  for (const std::string& candidate : known) {
    const size_t distance = EditDistance(word, candidate);
    if (distance < least) {
      least = distance;
      nearest = &candidate;
    }
  }
  return nearest == nullptr ? "" : absl::StrCat(" (did you mean \"", *nearest, "\"?)");
}

}  // namespace tandem::config
