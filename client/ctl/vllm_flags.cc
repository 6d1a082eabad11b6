#include "client/ctl/vllm_flags.h"

#include <algorithm>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/ctl/vllm_flag_table.h"

namespace tandem::client::ctl {
namespace {

bool IsFlag(absl::string_view word) {
  return word.size() > 1 && word[0] == '-' && !absl::ascii_isdigit(static_cast<unsigned char>(word[1]));
}

bool IsTruth(absl::string_view word) {
  const std::string low = absl::AsciiStrToLower(word);
  return low == "true" || low == "false";
}

// Goes through the words, and hands out flags with their values.
class Reader {
 public:
  Reader(const std::vector<std::string>& words, ForeignFlags& into) : words_(words), into_(into) {}

  absl::Status Run() {
    while (at_ < words_.size()) {
      const std::string word = words_[at_++];
      if (!IsFlag(word)) {
        into_.strays.push_back(word);
        continue;
      }
      const std::pair<std::string, std::string> split = absl::StrSplit(word, absl::MaxSplits('=', 1));
      name_ = split.first;
      inline_value_ = absl::StrContains(word, '=');
      value_ = split.second;
      if (absl::Status status = Take(); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

 private:
  std::string Value() {
    if (!inline_value_ && at_ < words_.size()) value_ = words_[at_++];
    return value_;
  }

  // Of a flag that needs none.
  bool Truth() {
    if (!inline_value_ && at_ < words_.size() && IsTruth(words_[at_])) value_ = words_[at_++];
    return absl::AsciiStrToLower(value_) != "false";
  }

  absl::Status Take() {
    if (name_ == "--task" || name_ == "--runner" || name_ == "--convert") return TakeTask();
    if (name_ == "--kv-cache-memory-bytes" || name_ == "--kv-cache-memory") {
      into_.kv_memory = Value();
      return absl::OkStatus();
    }
    if (name_ == "--data-parallel-size") {
      into_.replicas = Value();
      return absl::OkStatus();
    }
    if (name_ == "--ssl-cert-reqs") return TakeClientCertificates();
    for (const auto& [flag, into] :
         {std::pair("--ssl-certfile", &into_.ssl_certificate), std::pair("--ssl-keyfile", &into_.ssl_key),
          std::pair("--ssl-ca-certs", &into_.ssl_client_ca)}) {
      if (name_ != flag) continue;
      *into = Value();
      return absl::OkStatus();
    }
    if (name_ == "--enable-prefix-caching" || name_ == "--no-enable-prefix-caching") {
      into_.no_prefix_cache = Truth() == absl::StartsWith(name_, "--no-");
      if (!into_.no_prefix_cache) into_.notes.push_back(absl::StrCat(name_, " has no effect: it is on already"));
      return absl::OkStatus();
    }
    return TakeForeign();
  }

  // Python's ssl.CERT_NONE, CERT_OPTIONAL and CERT_REQUIRED.
  absl::Status TakeClientCertificates() {
    const std::string asked = Value();
    into_.ssl_clients = asked == "0" ? "off" : asked == "1" ? "optional" : asked == "2" ? "required" : "";
    if (!into_.ssl_clients.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("--ssl-cert-reqs: \"", asked.substr(0, 32), "\" is not 0 (none), 1 (optional) or 2 (required)"));
  }

  absl::Status TakeTask() {
    static const auto* const kTasks = new std::map<std::string, std::string>{
        {"auto", ""},           {"none", ""},         {"generate", "generate"}, {"embed", "embed"},
        {"embedding", "embed"}, {"pooling", "embed"}, {"score", "rerank"},      {"classify", "rerank"}};
    const std::string task = Value();
    const auto known = kTasks->find(task);
    if (known == kTasks->end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name_, " ", task.substr(0, 32), " is not served: there are generate, embed and score"));
    }
    if (!known->second.empty()) into_.task = known->second;
    return absl::OkStatus();
  }

  absl::Status TakeForeign() {
    // --compilation-config.level 3 is a part of --compilation-config.
    std::string plain = name_.substr(0, name_.find('.'));
    const bool negated = absl::StartsWith(plain, "--no-");
    if (negated) plain = absl::StrCat("--", plain.substr(5));
    const Foreign* foreign = FindForeign(plain);
    if (foreign == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(name_.substr(0, 64), ": neither ours nor a flag of vLLM that is known"));
    }
    const bool asked = SkipValues(*foreign) != negated;
    const std::vector<std::string> harmless = absl::StrSplit(foreign->harmless, '|', absl::SkipEmpty());
    const bool as_it_is = !asked || std::find(harmless.begin(), harmless.end(), value_) != harmless.end();
    if (foreign->treatment == Treatment::kRefused && !as_it_is) {
      return absl::InvalidArgumentError(absl::StrCat(name_, " is not served: ", foreign->why));
    }
    into_.notes.push_back(absl::StrCat(
        name_, " has no effect: ", foreign->treatment == Treatment::kRefused ? "it is so anyway" : foreign->why));
    return absl::OkStatus();
  }

  // Whether what the flag stands for is wanted: "false" after it says the contrary.
  bool SkipValues(const Foreign& foreign) {
    if (foreign.takes == Takes::kNothing) return Truth();
    if (foreign.takes == Takes::kMaybe && !inline_value_ && (at_ == words_.size() || IsFlag(words_[at_]))) return true;
    Value();
    while (foreign.takes == Takes::kValues && !inline_value_ && at_ < words_.size() && !IsFlag(words_[at_])) ++at_;
    return true;
  }

  const std::vector<std::string>& words_;
  ForeignFlags& into_;
  size_t at_ = 0;
  std::string name_, value_;
  bool inline_value_ = false;
};

}  // namespace

std::vector<std::string> SpelledOut(const std::vector<std::string>& arguments) {
  static const auto* const kShort = new std::map<std::string, std::string>{{"-tp", "--tensor-parallel-size"},
                                                                           {"-pp", "--pipeline-parallel-size"},
                                                                           {"-dp", "--data-parallel-size"},
                                                                           {"-dpl", "--data-parallel-size-local"},
                                                                           {"-dpa", "--data-parallel-address"},
                                                                           {"-dpp", "--data-parallel-rpc-port"},
                                                                           {"-dpn", "--data-parallel-rank"},
                                                                           {"-dpr", "--data-parallel-start-rank"},
                                                                           {"-dpb", "--data-parallel-backend"},
                                                                           {"-dph", "--data-parallel-hybrid-lb"},
                                                                           {"-dpe", "--data-parallel-external-lb"},
                                                                           {"-pcp", "--prefill-context-parallel-size"},
                                                                           {"-sc", "--speculative-config"},
                                                                           {"-ac", "--attention-config"},
                                                                           {"-dcp", "--decode-context-parallel-size"},
                                                                           {"-ep", "--enable-expert-parallel"},
                                                                           {"-asc", "--api-server-count"},
                                                                           {"-q", "--quantization"},
                                                                           {"-O", "--compilation-config"},
                                                                           {"-cc", "--compilation-config"},
                                                                           {"-n", "--nnodes"},
                                                                           {"-r", "--node-rank"}};
  std::vector<std::string> words;
  for (const std::string& argument : arguments) {
    const size_t equals = argument.find('=');
    std::string name = argument.substr(0, equals);
    const std::string rest = equals == std::string::npos ? "" : argument.substr(equals);
    if (absl::StartsWith(name, "--")) {
      const size_t dot = name.find('.');  // the rest of a dotted name is a key of vLLM's
      name = absl::StrCat(absl::StrReplaceAll(name.substr(0, dot), {{"_", "-"}}),
                          dot == std::string::npos ? "" : name.substr(dot));
    } else if (const auto known = kShort->find(name); known != kShort->end()) {
      name = known->second;
    } else if (name.size() > 2 && absl::StartsWith(name, "-O") && absl::ascii_isdigit(name[2])) {
      name = absl::StrCat("--compilation-config=", name.substr(2));
    }
    words.push_back(absl::StrCat(name, rest));
  }
  return words;
}

absl::Status ReadForeignFlags(const std::vector<std::string>& words, ForeignFlags& into) {
  return Reader(words, into).Run();
}

}  // namespace tandem::client::ctl
