#include "scheduler/row_pages.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tandem::scheduler {
namespace {

// What one turn copies, in rows with a dozen words and strings; see docs/metrics.md for what that takes.
constexpr size_t kRowsPerTurn = 256;
// Of rows that are a few numbers, and of those that are only looked at.
constexpr size_t kNumbersPerTurn = 1024;

// From `it` to `end`: `add(*it)` puts a row into the piece and says how many rows it was worth; `key(it)` is its
// number.
template <typename Row, typename Iterator, typename Key, typename Add>
Piece<Row> Take(Iterator it, Iterator end, size_t most, size_t per_turn, Key key, Add add) {
  Piece<Row> piece;
  size_t worth = 0;
  for (; it != end; ++it) {
    if (piece.rows.size() >= most || worth >= per_turn) {
      piece.next = key(it);
      break;
    }
    worth += add(*it, piece.rows);
  }
  return piece;
}

// Of tables whose elements are numbered by their position, the first of them `first`.
template <typename Row, typename Elements, typename Add>
Piece<Row> TakeNumbered(const Elements& elements, uint64_t first, uint64_t from, size_t most, Add add) {
  const uint64_t skipped = std::min<uint64_t>(std::max(from, first) - first, elements.size());
  const auto begin = elements.begin() + static_cast<std::ptrdiff_t>(skipped);
  const auto key = [&](auto it) { return first + static_cast<uint64_t>(it - elements.begin()); };
  return Take<Row>(begin, elements.end(), most, kRowsPerTurn, key, add);
}

size_t WorthOf(const core::Group& group) { return 1 + group.members.size() / 4; }

}  // namespace

Piece<DeviceRow> TakeDevices(const core::ClusterState& state, uint64_t from, size_t most) {
  return TakeNumbered<DeviceRow>(state.devices, 0, from, most, [&](const core::Device& device, auto& rows) {
    rows.push_back(RowOf(state, device));
    size_t worth = 1;  // what it holds is the sum over the ranks of its groups
    for (core::GroupId id : device.groups) worth += state.Find(id)->members.size() / 16;
    return worth;
  });
}

Piece<NodeRow> TakeNodes(const core::ClusterState& state, uint64_t from, size_t most) {
  return TakeNumbered<NodeRow>(state.nodes, 0, from, most, [&](const core::Node& node, auto& rows) {
    rows.push_back(RowOf(state, node));
    return node.devices.size() * (node.devices.size() + 1) / 2;
  });
}

Piece<ModelRow> TakeModels(const core::ClusterState& state, uint64_t from, size_t most) {
  return TakeNumbered<ModelRow>(state.models, 0, from, most, [&](const core::Model& model, auto& rows) {
    rows.push_back(RowOf(state, model));
    return size_t{4};
  });
}

Piece<GroupNumbers> TakeGroupNumbers(const core::ClusterState& state, uint64_t from, size_t most) {
  return Take<GroupNumbers>(
      state.groups.lower_bound(core::GroupId{from}), state.groups.end(), most, kNumbersPerTurn,
      [](auto it) { return it->first.value; },
      [](const auto& entry, auto& rows) {
        rows.push_back(NumbersOf(entry.second));
        return size_t{1};
      });
}

Piece<GroupRow> TakeGroups(const core::ClusterState& state, uint64_t from, size_t most) {
  return Take<GroupRow>(
      state.groups.lower_bound(core::GroupId{from}), state.groups.end(), most, kRowsPerTurn,
      [](auto it) { return it->first.value; },
      [&](const auto& entry, auto& rows) {
        rows.push_back(RowOf(state, entry.second));
        return WorthOf(entry.second);
      });
}

Piece<GroupRow> TakeDissolved(const core::ClusterState& state, uint64_t from, size_t most) {
  return TakeNumbered<GroupRow>(state.dissolved, state.dissolved_forgotten, from, most,
                                [&](const core::Group& group, auto& rows) {
                                  rows.push_back(RowOf(state, group));
                                  return WorthOf(group);
                                });
}

Piece<RequestRow> TakeRequests(const core::ClusterState& state, uint64_t from, size_t most) {
  return Take<RequestRow>(
      state.requests.lower_bound(from), state.requests.end(), most, kRowsPerTurn, [](auto it) { return it->first; },
      [&](const auto& entry, auto& rows) {
        rows.push_back(RowOf(state, *entry.second));
        return size_t{1};
      });
}

Piece<RequestRow> TakeEnded(const core::ClusterState& state, uint64_t from, size_t most) {
  return TakeNumbered<RequestRow>(state.ended, state.ended_forgotten, from, most,
                                  [&](const std::unique_ptr<core::Request>& request, auto& rows) {
                                    rows.push_back(RowOf(state, *request));
                                    return size_t{1};
                                  });
}

Piece<WaiterRow> TakeWaiters(const core::ClusterState& state, uint64_t from, size_t most) {
  return Take<WaiterRow>(
      state.requests.lower_bound(from), state.requests.end(), most, kNumbersPerTurn, [](auto it) { return it->first; },
      [&](const auto& entry, auto& rows) {
        const core::Request& request = *entry.second;
        if (!request.Waits()) return size_t{1};
        const bool for_home = request.home.value != 0 && state.FindLive(request.home) != nullptr;
        rows.push_back({request.model, request.tenant, state.now - request.waits_since, for_home});
        return size_t{4};
      });
}

std::string PageToken::ToString() const { return absl::StrCat(absl::string_view(&letter, 1), from); }

std::optional<PageToken> PageToken::Parse(absl::string_view text) {
  PageToken token;
  if (text.empty() || !absl::SimpleAtoi(text.substr(1), &token.from)) return std::nullopt;
  token.letter = text[0];
  return token;
}

Error CoreIsBehind() { return {kQueueFull, "the scheduler is behind; try again"}; }

Error NoSuchPage() {
  return {kInvalidParameter,
          "page_token is not the next_page_token of a page of this list; leave it empty for the first page",
          {},
          {{"field", "page_token"}}};
}

}  // namespace tandem::scheduler
