#include "worker/engine/step_plan.h"

#include <bit>
#include <cstddef>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tandem::worker {
namespace {

constexpr uint32_t kMagic = 0x32505354;  // "TSP2"
constexpr uint8_t kFresh = 1;
constexpr uint8_t kSample = 2;
constexpr uint8_t kRow = 4;
constexpr size_t kEntryBytes = 4 + 1 + 1 + 4 + 4 + 4 + 4;

template <typename T>
void Put(std::string& out, T value) {
  using Word = std::make_unsigned_t<T>;
  for (size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<char>(static_cast<Word>(value) >> (8 * i)));
}

template <typename T>
void PutList(std::string& out, const std::vector<T>& values) {
  Put(out, static_cast<uint32_t>(values.size()));
  for (T value : values) Put(out, value);
}

// Reads words until there are too few bytes; then it stays failed and yields zeros.
class Reader {
 public:
  explicit Reader(absl::string_view bytes) : rest_(bytes) {}

  template <typename T>
  T Take() {
    if (rest_.size() < sizeof(T)) {
      failed_ = true;
      rest_ = {};
      return T{};
    }
    std::make_unsigned_t<T> value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) {
      value |= static_cast<std::make_unsigned_t<T>>(static_cast<uint8_t>(rest_[i])) << (8 * i);
    }
    rest_.remove_prefix(sizeof(T));
    return static_cast<T>(value);
  }

  // A count of items that take `item_bytes` each; fails rather than promise more than there is.
  size_t TakeCount(size_t item_bytes) {
    size_t count = Take<uint32_t>();
    if (count > rest_.size() / item_bytes) {
      failed_ = true;
      return 0;
    }
    return count;
  }

  template <typename T>
  std::vector<T> TakeList() {
    std::vector<T> values(TakeCount(sizeof(T)));
    for (T& value : values) value = Take<T>();
    return values;
  }

  bool failed() const { return failed_; }
  size_t left() const { return rest_.size(); }

 private:
  absl::string_view rest_;
  bool failed_ = false;
};

}  // namespace

std::string EncodePlan(const StepPlan& plan) {
  std::string out;
  out.reserve(64 + 4 * (plan.retired.size() + plan.tokens.size() + plan.blocks.size()) +
              kEntryBytes * plan.entries.size());
  Put(out, kMagic);
  Put(out, static_cast<uint8_t>(plan.kind));
  Put(out, plan.group_id);
  Put(out, plan.epoch.leader);
  Put(out, plan.epoch.counter);
  Put(out, plan.step);
  Put(out, plan.graph_size);
  PutList(out, plan.retired);
  Put(out, static_cast<uint32_t>(plan.entries.size()));
  for (const PlanEntry& entry : plan.entries) {
    Put(out, entry.slot);
    Put(out, static_cast<uint8_t>((entry.fresh ? kFresh : 0) | (entry.sample ? kSample : 0) |
                                  (entry.wanted.row ? kRow : 0)));
    Put(out, static_cast<uint8_t>(entry.wanted.best));
    Put(out, std::bit_cast<uint32_t>(entry.wanted.temperature));
    Put(out, entry.start);
    Put(out, entry.token_count);
    Put(out, entry.block_count);
  }
  PutList(out, plan.tokens);
  PutList(out, plan.blocks);
  return out;
}

absl::StatusOr<StepPlan> DecodePlan(absl::string_view bytes) {
  Reader in(bytes);
  if (in.Take<uint32_t>() != kMagic) return absl::InvalidArgumentError("step plan: it does not begin as one");
  StepPlan plan;
  uint8_t kind = in.Take<uint8_t>();
  if (kind != static_cast<uint8_t>(StepPlan::Kind::kRun) && kind != static_cast<uint8_t>(StepPlan::Kind::kDissolve)) {
    return absl::InvalidArgumentError(absl::StrCat("step plan: unknown kind ", kind));
  }
  plan.kind = static_cast<StepPlan::Kind>(kind);
  plan.group_id = in.Take<uint64_t>();
  plan.epoch.leader = in.Take<uint64_t>();
  plan.epoch.counter = in.Take<uint32_t>();
  plan.step = in.Take<uint64_t>();
  plan.graph_size = in.Take<uint32_t>();
  plan.retired = in.TakeList<uint32_t>();
  plan.entries.resize(in.TakeCount(kEntryBytes));
  uint64_t tokens = 0;
  uint64_t blocks = 0;
  for (PlanEntry& entry : plan.entries) {
    entry.slot = in.Take<uint32_t>();
    uint8_t flags = in.Take<uint8_t>();
    if (flags > (kFresh | kSample | kRow)) {
      return absl::InvalidArgumentError(absl::StrCat("step plan: unknown flags ", flags));
    }
    entry.fresh = (flags & kFresh) != 0;
    entry.sample = (flags & kSample) != 0;
    entry.wanted.row = (flags & kRow) != 0;
    entry.wanted.best = in.Take<uint8_t>();
    entry.wanted.temperature = std::bit_cast<float>(in.Take<uint32_t>());
    if (entry.wanted.best > kMostBestTokens || !(entry.wanted.temperature >= 0)) {
      return absl::InvalidArgumentError(
          absl::StrCat("step plan: ", entry.wanted.best, " best tokens at temperature ", entry.wanted.temperature));
    }
    entry.start = in.Take<int32_t>();
    entry.token_count = in.Take<uint32_t>();
    entry.block_count = in.Take<uint32_t>();
    tokens += entry.token_count;
    blocks += entry.block_count;
  }
  plan.tokens = in.TakeList<TokenId>();
  plan.blocks = in.TakeList<BlockId>();
  if (in.failed()) return absl::InvalidArgumentError(absl::StrCat("step plan: cut short at ", bytes.size(), " bytes"));
  if (in.left() > 0) return absl::InvalidArgumentError(absl::StrCat("step plan: ", in.left(), " bytes too many"));
  if (tokens != plan.tokens.size() || blocks != plan.blocks.size()) {
    return absl::InvalidArgumentError(absl::StrCat("step plan: entries speak of ", tokens, " tokens and ", blocks,
                                                   " blocks, there are ", plan.tokens.size(), " and ",
                                                   plan.blocks.size()));
  }
  return plan;
}

}  // namespace tandem::worker
