#include "base/trace/trace.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tandem {
namespace {

constexpr double kLongestTraceMs = 30.0 * 24 * 3600 * 1000;

using Random = std::mt19937_64;

// The distributions of <random> differ between libraries; these do not.
uint64_t Below(Random& random, uint64_t n) { return random() % n; }
double Unit(Random& random) { return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53; }  // (0, 1)

absl::Status Wrong(absl::string_view name, size_t line, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(name, ":", line, ": ", what));
}

// A row as numbers; false where one is none or out of range.
bool Fill(double arrival_ms, double input, double output, TraceRequest* request) {
  const auto tokens = [](double n) { return n >= 0 && n <= kMostTraceTokens; };
  if (!(arrival_ms >= 0 && arrival_ms <= kLongestTraceMs) || !tokens(input) || !tokens(output)) return false;
  request->due_us = std::llround(arrival_ms * 1000);
  request->input_tokens = std::max<uint32_t>(1, static_cast<uint32_t>(input));
  request->output_tokens = std::max<uint32_t>(1, static_cast<uint32_t>(output));  // 0: it was aborted
  return true;
}

// What a JSON row calls its fields: as ours, or as Mooncake does.
struct JsonNames {
  const char *arrival, *input, *output;
};
constexpr JsonNames kJsonNames[] = {{"arrival_ms", "input_tokens", "output_tokens"},
                                    {"timestamp", "input_length", "output_length"}};

absl::StatusOr<TraceRequest> FromJson(absl::string_view row, absl::string_view name, size_t line) {
  const auto json = nlohmann::json::parse(row.begin(), row.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Wrong(name, line, "is no JSON object");
  const auto number = [&](const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_number() ? found->get<double>() : std::nan("");
  };
  const JsonNames& names = kJsonNames[json.contains(kJsonNames[1].arrival) ? 1 : 0];
  TraceRequest request;
  if (!Fill(number(names.arrival), number(names.input), number(names.output), &request)) {
    return Wrong(name, line,
                 absl::StrCat("needs ", names.arrival, ", ", names.input, " and ", names.output, " as numbers"));
  }
  const auto ids = json.find("hash_ids");
  if (ids == json.end()) return request;
  if (!ids->is_array()) return Wrong(name, line, "hash_ids is no array");
  for (const auto& id : *ids) {
    if (!id.is_number_unsigned()) return Wrong(name, line, "hash_ids holds something that is no id");
    request.blocks.push_back(id.get<uint64_t>());
  }
  if (request.blocks.size() > kMostTraceTokens / request.block_tokens) {
    return Wrong(name, line, "hash_ids is too long");
  }
  return request;
}

constexpr uint32_t kSessionBlockTokens = 64;
constexpr int64_t kMostSession = int64_t{1} << 40;

// What the columns of a CSV mean, and the blocks of earlier requests of each session.
class CsvReader {
 public:
  CsvReader(absl::string_view header, absl::string_view name) : name_(name), header_(absl::StrSplit(header, ',')) {}

  absl::StatusOr<TraceRequest> Row(absl::string_view row, size_t line) {
    const std::vector<absl::string_view> cells = absl::StrSplit(row, ',');
    if (cells.size() != header_.size()) {
      return Wrong(name_, line, absl::StrCat(cells.size(), " cells under ", header_.size(), " names"));
    }
    TraceRequest request;
    double arrival = -1, input = -1, output = -1;
    std::optional<int64_t> session, number, parent, shared, blocks;
    for (size_t i = 0; i < cells.size(); ++i) {
      const std::string& column = header_[i];
      double* real = column == "arrival_ms"      ? &arrival
                     : column == "input_tokens"  ? &input
                     : column == "output_tokens" ? &output
                                                 : nullptr;
      std::optional<int64_t>* whole = column == "session"         ? &session
                                      : column == "req"           ? &number
                                      : column == "parent"        ? &parent
                                      : column == "shared_blocks" ? &shared
                                      : column == "blocks"        ? &blocks
                                                                  : nullptr;
      if (real != nullptr && !absl::SimpleAtod(cells[i], real)) {
        return Wrong(name_, line, absl::StrCat(column, " is no number"));
      }
      if (whole != nullptr && !absl::SimpleAtoi(cells[i], &whole->emplace())) {
        return Wrong(name_, line, absl::StrCat(column, " is no whole number"));
      }
      if (column == "client") request.tenant = absl::StrCat("client-", cells[i].substr(0, 32));
    }
    if (!Fill(arrival, input, output, &request)) {
      return Wrong(name_, line, "needs arrival_ms, input_tokens and output_tokens, from 0 on");
    }
    if (!session || !number || !parent || !shared || !blocks) return request;
    if (absl::Status status = Share(*session, *number, *parent, *shared, *blocks, line, request); !status.ok()) {
      return status;
    }
    return request;
  }

 private:
  absl::Status Share(int64_t session, int64_t number, int64_t parent, int64_t shared, int64_t blocks, size_t line,
                     TraceRequest& request) {
    if (session < 0 || session > kMostSession || number < 0 || number > kMostSession) {
      return Wrong(name_, line, "session and req count from 0");
    }
    if (blocks < 0 || blocks > request.input_tokens / kSessionBlockTokens) {
      return Wrong(
          name_, line,
          absl::StrCat(blocks, " blocks of ", kSessionBlockTokens, " tokens in a prompt of ", request.input_tokens));
    }
    std::vector<uint64_t> known;
    if (parent >= 0) {
      const auto found = earlier_.find({session, parent});
      if (found == earlier_.end()) {
        return Wrong(name_, line,
                     absl::StrCat("parent ", parent, " of session ", session, " does not stand before it"));
      }
      known = found->second;
    }
    if (shared < 0 || shared > blocks || shared > static_cast<int64_t>(known.size())) {
      return Wrong(name_, line,
                   absl::StrCat("shares ", shared, " blocks; it has ", blocks, " and its parent ", known.size()));
    }
    known.resize(static_cast<size_t>(shared));
    while (static_cast<int64_t>(known.size()) < blocks) known.push_back(fresh_++);
    request.blocks = known;
    request.block_tokens = kSessionBlockTokens;
    earlier_.insert_or_assign({session, number}, std::move(known));
    return absl::OkStatus();
  }

  const absl::string_view name_;
  const std::vector<std::string> header_;
  absl::flat_hash_map<std::pair<int64_t, int64_t>, std::vector<uint64_t>> earlier_;  // by session and number
  uint64_t fresh_ = 0;
};

}  // namespace

absl::StatusOr<TokenRange> ParseTokenRange(absl::string_view text) {
  const std::vector<absl::string_view> ends = absl::StrSplit(text, '-');
  TokenRange range;
  const bool good = ends.size() <= 2 && absl::SimpleAtoi(ends.front(), &range.least) &&
                    absl::SimpleAtoi(ends.back(), &range.most) && range.least >= 1 && range.least <= range.most &&
                    range.most <= kMostTraceTokens;
  if (good) return range;
  return absl::InvalidArgumentError(absl::StrCat("'", text, "' is no number of tokens; write 128 or 64-256"));
}

std::vector<TraceRequest> DrawRequests(size_t count, double rate, TokenRange input, TokenRange output, uint64_t seed) {
  Random random(seed);
  std::vector<TraceRequest> requests(count);
  double now_us = 0;
  for (TraceRequest& request : requests) {
    request.due_us = std::llround(now_us);
    if (rate > 0) now_us += -std::log(Unit(random)) / rate * 1e6;
    request.input_tokens = input.least + static_cast<uint32_t>(Below(random, input.most - input.least + 1));
    request.output_tokens = output.least + static_cast<uint32_t>(Below(random, output.most - output.least + 1));
  }
  return requests;
}

absl::StatusOr<std::vector<TraceRequest>> ParseTrace(absl::string_view text, absl::string_view name) {
  if (absl::StartsWith(text, "\x1F\x8B")) return Wrong(name, 1, "is compressed; unpack it with gunzip first");
  std::vector<TraceRequest> requests;
  std::optional<CsvReader> csv;
  size_t line = 0;
  for (absl::string_view row : absl::StrSplit(text, '\n')) {
    ++line;
    row = absl::StripAsciiWhitespace(row);
    if (row.empty()) continue;
    if (row.front() != '{' && !csv) {
      csv.emplace(row, name);
      continue;
    }
    auto request = row.front() == '{' ? FromJson(row, name, line) : csv->Row(row, line);
    if (!request.ok()) return request.status();
    if (requests.size() == kMostTraceRequests) {
      return Wrong(name, line, absl::StrCat("is the end: a trace has at most ", kMostTraceRequests, " requests"));
    }
    requests.push_back(*std::move(request));
  }
  if (requests.empty()) return Wrong(name, line, "holds no request");
  std::stable_sort(requests.begin(), requests.end(), [](const auto& a, const auto& b) { return a.due_us < b.due_us; });
  return requests;
}

std::vector<uint32_t> MakePrompt(const TraceRequest& request, const std::vector<uint32_t>& vocabulary, uint64_t seed,
                                 size_t index) {
  std::vector<uint32_t> ids;
  ids.reserve(request.input_tokens);
  // A generator without a large state: one is begun for each block.
  const auto draw = [&](uint64_t state, size_t count) {
    count = std::min(count, request.input_tokens - ids.size());
    for (size_t i = 0; i < count; ++i) {
      uint64_t mixed = state += 0x9E3779B97F4A7C15u;
      mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
      mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
      mixed ^= mixed >> 31;
      ids.push_back(vocabulary[static_cast<size_t>((mixed >> 32) * vocabulary.size() >> 32)]);
    }
  };
  for (uint64_t block : request.blocks) draw(seed ^ (block + 1) * 0xD6E8FEB86659FD93u, request.block_tokens);
  draw(seed ^ (index + 1) * 0xC2B2AE3D27D4EB4Fu, request.input_tokens);
  return ids;
}

}  // namespace tandem
