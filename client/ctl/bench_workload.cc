#include "client/ctl/bench_workload.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tandem::client::ctl {
namespace {

constexpr uint32_t kMostTokens = 1u << 22;
constexpr double kLongestTraceMs = 30.0 * 24 * 3600 * 1000;

using Random = std::mt19937_64;

// The distributions of <random> differ between libraries; these do not.
uint64_t Below(Random& random, uint64_t n) { return random() % n; }
double Unit(Random& random) { return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53; }  // (0, 1)

absl::Status Wrong(absl::string_view name, size_t line, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(name, ":", line, ": ", what));
}

// A row as numbers; false where one is none or out of range.
bool Fill(double arrival_ms, double input, double output, PlannedRequest* request) {
  const auto tokens = [](double n) { return n >= 0 && n <= kMostTokens; };
  if (!(arrival_ms >= 0 && arrival_ms <= kLongestTraceMs) || !tokens(input) || !tokens(output)) return false;
  request->due_us = std::llround(arrival_ms * 1000);
  request->input_tokens = std::max<uint32_t>(1, static_cast<uint32_t>(input));
  request->output_tokens = std::max<uint32_t>(1, static_cast<uint32_t>(output));  // 0: it was aborted
  return true;
}

absl::StatusOr<PlannedRequest> FromJson(absl::string_view row, absl::string_view name, size_t line) {
  const auto json = nlohmann::json::parse(row.begin(), row.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Wrong(name, line, "is no JSON object");
  const auto number = [&](const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_number() ? found->get<double>() : std::nan("");
  };
  PlannedRequest request;
  if (!Fill(number("arrival_ms"), number("input_tokens"), number("output_tokens"), &request)) {
    return Wrong(name, line, "needs arrival_ms, input_tokens and output_tokens as numbers");
  }
  const auto ids = json.find("hash_ids");
  if (ids == json.end()) return request;
  if (!ids->is_array()) return Wrong(name, line, "hash_ids is no array");
  for (const auto& id : *ids) {
    if (!id.is_number_unsigned()) return Wrong(name, line, "hash_ids holds something that is no id");
    request.blocks.push_back(id.get<uint64_t>());
  }
  if (request.blocks.size() > kMostTokens / kBlockTokens) return Wrong(name, line, "hash_ids is too long");
  return request;
}

}  // namespace

absl::StatusOr<TokenRange> ParseTokenRange(absl::string_view text) {
  const std::vector<absl::string_view> ends = absl::StrSplit(text, '-');
  TokenRange range;
  const bool good = ends.size() <= 2 && absl::SimpleAtoi(ends.front(), &range.least) &&
                    absl::SimpleAtoi(ends.back(), &range.most) && range.least >= 1 && range.least <= range.most &&
                    range.most <= kMostTokens;
  if (good) return range;
  return absl::InvalidArgumentError(absl::StrCat("'", text, "' is no number of tokens; write 128 or 64-256"));
}

std::vector<PlannedRequest> DrawRequests(size_t count, double rate, TokenRange input, TokenRange output,
                                         uint64_t seed) {
  Random random(seed);
  std::vector<PlannedRequest> requests(count);
  double now_us = 0;
  for (PlannedRequest& request : requests) {
    request.due_us = std::llround(now_us);
    if (rate > 0) now_us += -std::log(Unit(random)) / rate * 1e6;
    request.input_tokens = input.least + static_cast<uint32_t>(Below(random, input.most - input.least + 1));
    request.output_tokens = output.least + static_cast<uint32_t>(Below(random, output.most - output.least + 1));
  }
  return requests;
}

absl::StatusOr<std::vector<PlannedRequest>> ReadTrace(absl::string_view text, absl::string_view name) {
  if (absl::StartsWith(text, "\x1F\x8B")) return Wrong(name, 1, "is compressed; unpack it with gunzip first");
  std::vector<PlannedRequest> requests;
  std::vector<std::string> header;
  size_t line = 0;
  for (absl::string_view row : absl::StrSplit(text, '\n')) {
    ++line;
    row = absl::StripAsciiWhitespace(row);
    if (row.empty()) continue;
    if (row.front() == '{') {
      auto request = FromJson(row, name, line);
      if (!request.ok()) return request.status();
      requests.push_back(*std::move(request));
      continue;
    }
    const std::vector<std::string> cells = absl::StrSplit(row, ',');
    if (header.empty()) {
      header = cells;
      continue;
    }
    if (cells.size() != header.size()) {
      return Wrong(name, line, absl::StrCat(cells.size(), " cells under ", header.size(), " names"));
    }
    PlannedRequest request;
    double arrival = -1, input = -1, output = -1;
    for (size_t i = 0; i < cells.size(); ++i) {
      double* to = header[i] == "arrival_ms"      ? &arrival
                   : header[i] == "input_tokens"  ? &input
                   : header[i] == "output_tokens" ? &output
                                                  : nullptr;
      if (to != nullptr && !absl::SimpleAtod(cells[i], to))
        return Wrong(name, line, absl::StrCat(header[i], " is no number"));
      if (header[i] == "client") request.tenant = absl::StrCat("client-", cells[i].substr(0, 32));
    }
    if (!Fill(arrival, input, output, &request)) {
      return Wrong(name, line, "needs arrival_ms, input_tokens and output_tokens, from 0 on");
    }
    requests.push_back(std::move(request));
  }
  if (requests.empty()) return Wrong(name, line, "holds no request");
  std::stable_sort(requests.begin(), requests.end(), [](const auto& a, const auto& b) { return a.due_us < b.due_us; });
  return requests;
}

std::vector<uint32_t> MakePrompt(const PlannedRequest& request, const std::vector<uint32_t>& vocabulary, uint64_t seed,
                                 size_t index) {
  std::vector<uint32_t> ids;
  ids.reserve(request.input_tokens);
  const auto draw = [&](uint64_t from, size_t count) {
    Random random(from);
    for (size_t i = 0; i < count && ids.size() < request.input_tokens; ++i) {
      ids.push_back(vocabulary[Below(random, vocabulary.size())]);
    }
  };
  for (uint64_t block : request.blocks) draw(seed ^ (block + 1) * 0x9E3779B97F4A7C15u, kBlockTokens);
  draw(seed ^ (index + 1) * 0xC2B2AE3D27D4EB4Fu, request.input_tokens);
  return ids;
}

}  // namespace tandem::client::ctl
