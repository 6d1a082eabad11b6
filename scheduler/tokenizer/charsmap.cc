#include "scheduler/tokenizer/charsmap.h"

#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "scheduler/tokenizer/unicode.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::tokenizer {
namespace {

constexpr size_t kUnitBytes = 4;
constexpr size_t kShortCluster = 6;  // clusters of fewer bytes are looked up whole

// A unit of the double array: the byte that leads to it, where its children are, whether a value hangs below it. A unit
// that is a value has the top bit set.
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t Value(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t Label(uint32_t unit) { return unit & 0x800000FF; }
size_t Offset(uint32_t unit) { return size_t{unit >> 10} << ((unit & 1u << 9) >> 6); }

}  // namespace

absl::StatusOr<Charsmap> Charsmap::Parse(absl::string_view bytes) {
  // Files are written on little-endian machines, and read on such.
  uint32_t array_bytes = 0;
  if (bytes.size() < kUnitBytes) return absl::InvalidArgumentError("the charsmap is cut off");
  std::memcpy(&array_bytes, bytes.data(), kUnitBytes);
  bytes.remove_prefix(kUnitBytes);
  if (array_bytes == 0 || array_bytes % kUnitBytes != 0 || array_bytes > bytes.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the charsmap claims an array of ", array_bytes, " bytes and has ", bytes.size()));
  }
  Charsmap map;
  map.units_.resize(array_bytes / kUnitBytes);
  std::memcpy(map.units_.data(), bytes.data(), array_bytes);
  map.replacements_ = std::string(bytes.substr(array_bytes));
  if (FindInvalidUtf8(map.replacements_)) return absl::InvalidArgumentError("the charsmap's texts are no valid UTF-8");
  map.replacements_.push_back('\0');
  return map;
}

std::optional<absl::string_view> Charsmap::Find(absl::string_view key) const {
  size_t node = Offset(units_[0]);
  for (const char c : key) {
    const auto byte = static_cast<uint8_t>(c);
    node ^= byte;
    if (byte == 0 || node >= units_.size() || Label(units_[node]) != byte) return std::nullopt;
    const uint32_t unit = units_[node];
    node ^= Offset(unit);
    if (!HasLeaf(unit)) continue;
    const size_t begin = node < units_.size() ? Value(units_[node]) : replacements_.size();
    // A file could point into the middle of a character.
    if (begin >= replacements_.size() || (static_cast<uint8_t>(replacements_[begin]) & 0xC0) == 0x80)
      return std::nullopt;
    const absl::string_view rest = absl::string_view(replacements_).substr(begin);
    return rest.substr(0, rest.find('\0'));
  }
  return std::nullopt;
}

std::string Charsmap::Apply(absl::string_view utf8) const {
  std::string out;
  out.reserve(utf8.size());
  const auto add = [&](absl::string_view text) { out.append(text.data(), text.size()); };
  for (size_t begin = 0; begin < utf8.size();) {
    const size_t end = ClusterEnd(utf8, begin);
    const absl::string_view cluster = utf8.substr(begin, end - begin);
    begin = end;
    if (cluster.size() < kShortCluster) {
      if (const auto found = Find(cluster)) {
        add(*found);
        continue;
      }
    }
    for (size_t at = 0; at < cluster.size();) {
      const size_t from = at;
      TakeChar(cluster, &at);
      const absl::string_view character = cluster.substr(from, at - from);
      add(Find(character).value_or(character));
    }
  }
  return out;
}

}  // namespace tandem::tokenizer
