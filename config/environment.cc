#include "config/environment.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "config/schema.h"
#include "config/units.h"

namespace tandem::config {
namespace {

// Without a value is not set: compose files pass on "VLLM_MODEL=" for what the user left out.
const std::string* Find(const Environment& environment, const char* variable) {
  const auto it = environment.find(variable);
  return it == environment.end() || it->second.empty() ? nullptr : &it->second;
}

// vLLM's names for what the first model's keys say.
struct Borrowed {
  const char* variable;
  const char* key;
};
constexpr Borrowed kBorrowed[] = {
    {"VLLM_MODEL", "path"},
    {"VLLM_TENSOR_PARALLEL_SIZE", "tensor_parallel"},
    {"VLLM_GPU_MEMORY_UTILIZATION", "memory_utilization"},
    {"VLLM_MAX_MODEL_LEN", "max_model_len"},
    {"VLLM_MAX_NUM_SEQS", "max_num_seqs"},
};

// Short names, the same for every program and the client libraries, of how to dial.
constexpr Borrowed kDial[] = {
    {"TANDEM_CA", "security.dial.ca"},
    {"TANDEM_CERT", "security.dial.certificate"},
    {"TANDEM_KEY", "security.dial.key"},
    {"TANDEM_TOKEN_FILE", "security.dial.token_file"},
    {"TANDEM_TLS_SERVER_NAME", "security.dial.server_name"},
};

// Variables that nothing here looks at. VLLM_API_KEY is the gateway's to read.
struct Unserved {
  const char* variable;
  const char* harmless;  // a value that asks for nothing
  const char* why;
};
constexpr Unserved kUnserved[] = {
    {"GPU_COUNT", "0", "it is not looked at; say which GPUs with CUDA_VISIBLE_DEVICES or devices.select"},
};

}  // namespace

std::string VariableOf(const std::string& key) {
  return absl::StrCat("TANDEM_", absl::AsciiStrToUpper(absl::StrReplaceAll(key, {{".", "_"}})));
}

absl::StatusOr<EnvironmentContents> ReadEnvironment(const Environment& environment) {
  EnvironmentContents contents;
  for (const Borrowed& borrowed : kBorrowed) {
    const std::string* text = Find(environment, borrowed.variable);
    if (text == nullptr) continue;
    // 0.0 is how the user's CPU profile says "no GPU memory at all".
    const auto number = ParseReal(*text, -1, 1);
    if (absl::string_view(borrowed.key) == "memory_utilization" && number.ok() && *number == 0) continue;
    contents.entries.push_back({true, borrowed.key, *text, borrowed.variable});
  }
  const std::string *host = Find(environment, "VLLM_HOST"), *port = Find(environment, "VLLM_PORT");
  if (host != nullptr || port != nullptr) {
    const std::string where = host == nullptr                 ? "127.0.0.1"
                              : absl::StrContains(*host, ':') ? absl::StrCat("[", *host, "]")
                                                              : *host;
    contents.entries.push_back({false, "server.http", absl::StrCat(where, ":", port == nullptr ? "8000" : *port),
                                host != nullptr ? "VLLM_HOST" : "VLLM_PORT"});
  }
  if (const std::string* size = Find(environment, "VLLM_PIPELINE_PARALLEL_SIZE"); size != nullptr && *size != "1") {
    return absl::InvalidArgumentError(absl::StrCat("environment VLLM_PIPELINE_PARALLEL_SIZE: pipeline parallelism of ",
                                                   *size, " is not served; set it to 1 and use tensor parallelism"));
  }
  for (const Unserved& unserved : kUnserved) {
    const std::string* text = Find(environment, unserved.variable);
    if (text != nullptr && *text != unserved.harmless) {
      contents.warnings.push_back(absl::StrCat("environment ", unserved.variable, " is set: ", unserved.why));
    }
  }

  for (const Borrowed& dial : kDial) {
    const std::string* text = Find(environment, dial.variable);
    if (text != nullptr) contents.entries.push_back({false, dial.key, *text, dial.variable});
  }
  if (const std::string* token = Find(environment, "TANDEM_TOKEN"); token != nullptr) contents.token = *token;

  std::vector<std::string> known;
  for (const ClusterKey& key : ClusterKeys()) {
    known.push_back(VariableOf(key.name));
    if (const std::string* text = Find(environment, known.back().c_str()); text != nullptr) {
      contents.entries.push_back({false, key.name, *text, known.back()});
    }
  }
  for (const auto& [variable, text] : environment) {
    for (const char* section : {"TANDEM_SERVER_", "TANDEM_DEVICES_", "TANDEM_SCHEDULING_", "TANDEM_SECURITY_"}) {
      if (!absl::StartsWith(variable, section)) continue;
      if (std::find(known.begin(), known.end(), variable) != known.end()) continue;
      contents.warnings.push_back(
          absl::StrCat("environment ", variable, " names no key of the configuration", DidYouMean(variable, known)));
    }
  }
  return contents;
}

}  // namespace tandem::config
