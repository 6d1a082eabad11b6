#include "tests/emulation/launch_counter.h"

#include <algorithm>
#include <mutex>
#include <tuple>
#include <utility>

#include "tests/emulation/runtime.h"

namespace tandem::emulation {

namespace {

constexpr uint64_t kSector = 32;
constexpr uint64_t kBank = 4;
constexpr uint64_t kBanks = 32;
constexpr int kOffsetBits = 48;

bool IsShared(AccessKind kind) { return kind == AccessKind::kSharedRead || kind == AccessKind::kSharedWrite; }

// How many lanes one pass may serve.
int32_t LanesOfAPass(uint32_t bytes) { return bytes <= 4 ? 32 : bytes <= 8 ? 16 : 8; }

// The different units of `size` bytes that [address, address + bytes) of all entries lie in.
template <class Entry>
void Units(const Entry* begin, const Entry* end, uint64_t size, std::vector<uint64_t>& units) {
  units.clear();
  for (const Entry* one = begin; one != end; ++one) {
    const uint64_t first = one->access.address / size;
    const uint64_t last = (one->access.address + one->access.bytes - 1) / size;
    for (uint64_t unit = first; unit <= last; ++unit) units.push_back(unit);
  }
  std::sort(units.begin(), units.end());
  units.erase(std::unique(units.begin(), units.end()), units.end());
}

// Different bytes; lanes ask for the same ones, or for ones that do not overlap, hardly ever for both.
template <class Entry>
int64_t DistinctBytes(const Entry* begin, const Entry* end) {
  std::pair<uint64_t, uint64_t> ranges[32];
  int count = 0;
  for (const Entry* one = begin; one != end; ++one) {
    ranges[count++] = {one->access.address, one->access.address + one->access.bytes};
  }
  std::sort(ranges, ranges + count);
  uint64_t bytes = 0;
  uint64_t reached = 0;
  for (int i = 0; i < count; ++i) {
    const uint64_t from = std::max(reached, ranges[i].first);
    if (ranges[i].second > from) bytes += ranges[i].second - from;
    reached = std::max(reached, ranges[i].second);
  }
  return static_cast<int64_t>(bytes);
}

}  // namespace

LaunchCounter::LaunchCounter(const std::string& kernel) {
  counts_.kernel = kernel;
  counts_.launches = 1;
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  for (const auto& [pointer, allocation] : runtime.memory) {
    const auto begin = reinterpret_cast<uintptr_t>(pointer);
    allocations_.push_back({begin, begin + allocation.bytes, {}});
  }
}

LaunchCounter::~LaunchCounter() {
  for (const Allocation& one : allocations_) {
    for (int i = 0; i < 2; ++i) {
      counts_.distinct_sectors[i] += std::count(one.touched[i].begin(), one.touched[i].end(), true);
    }
  }
  AddToCounts(counts_);
}

void LaunchCounter::NoteShared(std::vector<Access>& lane, AccessKind kind, size_t offset, size_t bytes,
                               uintptr_t place) {
  lane.push_back({place, offset, static_cast<uint32_t>(bytes), kind});
}

void LaunchCounter::NoteGlobal(std::vector<Access>& lane, AccessKind kind, const void* pointer, size_t bytes,
                               uintptr_t place) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  if (allocations_.empty() || address < allocations_.front().begin || address >= allocations_.back().end) return;
  if (address < allocations_[latest_].begin || address >= allocations_[latest_].end) {
    const auto after = std::upper_bound(allocations_.begin(), allocations_.end(), address,
                                        [](uintptr_t at, const Allocation& one) { return at < one.begin; });
    const auto found = static_cast<size_t>(after - allocations_.begin()) - 1;
    if (address >= allocations_[found].end) return;
    latest_ = found;
  }
  lane.push_back({place, (uint64_t{latest_} << kOffsetBits) + (address - allocations_[latest_].begin),
                  static_cast<uint32_t>(bytes), kind});
}

void LaunchCounter::Assemble(std::vector<Access>* const (&lanes)[32]) {
  entries_.clear();
  std::vector<std::tuple<uintptr_t, AccessKind, uint32_t>> seen;  // places of a lane: a handful
  for (int32_t lane = 0; lane < 32; ++lane) {
    if (lanes[lane] == nullptr) continue;
    seen.clear();
    for (const Access& access : *lanes[lane]) {
      auto known = std::find_if(seen.begin(), seen.end(), [&](const auto& one) {
        return std::get<0>(one) == access.place && std::get<1>(one) == access.kind;
      });
      if (known == seen.end()) known = seen.insert(known, {access.place, access.kind, 0});
      entries_.push_back({access, std::get<2>(*known)++, lane});
    }
    lanes[lane]->clear();
  }
  const auto key = [](const Entry& one) { return std::tuple(one.access.place, one.access.kind, one.nth); };
  std::sort(entries_.begin(), entries_.end(), [&](const Entry& a, const Entry& b) {
    return std::tuple_cat(key(a), std::tuple(a.lane)) < std::tuple_cat(key(b), std::tuple(b.lane));
  });
  for (size_t begin = 0; begin < entries_.size();) {
    size_t end = begin + 1;
    while (end < entries_.size() && key(entries_[end]) == key(entries_[begin])) ++end;
    Request(entries_.data() + begin, entries_.data() + end);
    begin = end;
  }
}

void LaunchCounter::Request(const Entry* begin, const Entry* end) {
  const AccessKind kind = begin->access.kind;
  AccessCounts request;
  request.requests = 1;
  request.bytes = DistinctBytes(begin, end);
  std::vector<uint64_t> units;
  if (IsShared(kind)) {
    const int32_t together = LanesOfAPass(begin->access.bytes);
    for (const Entry* from = begin; from != end;) {
      const Entry* to = from;
      while (to != end && to->lane / together == from->lane / together) ++to;
      Units(from, to, kBank, units);
      int64_t asked[kBanks] = {};
      for (const uint64_t word : units) ++asked[word % kBanks];
      request.taken += *std::max_element(asked, asked + kBanks);
      request.least += 1;
      from = to;
    }
  } else {
    Units(begin, end, kSector, units);
    request.taken = static_cast<int64_t>(units.size());
    request.least = (request.bytes + static_cast<int64_t>(kSector) - 1) / static_cast<int64_t>(kSector);
    const uint64_t sectors_of_offset = (uint64_t{1} << kOffsetBits) / kSector;
    for (const uint64_t unit : units) {
      Allocation& allocation = allocations_[unit / sectors_of_offset];
      std::vector<bool>& touched = allocation.touched[kind == AccessKind::kGlobalWrite ? 1 : 0];
      if (touched.empty()) touched.resize((allocation.end - allocation.begin) / kSector + 1);
      touched[unit % sectors_of_offset] = true;
    }
  }
  counts_.by_kind[static_cast<int>(kind)].Add(request);
  counts_.places[{begin->access.place, kind}].Add(request);
}

}  // namespace tandem::emulation
