// Rows in pieces: what the core's thread copies in one turn is bounded, so no list holds it up for longer than some
// hundred microseconds, however long the list is (bench/look_bench). And lists in pages, of pieces.
//
// Every table has a number to go on from that stays true while rows come and go: the id of a device, group or model,
// the serial of a request, the count of those that were forgotten before. What lives all the while is told once.
#ifndef TANDEM_SCHEDULER_ROW_PAGES_H_
#define TANDEM_SCHEDULER_ROW_PAGES_H_

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "scheduler/core_reader.h"
#include "scheduler/grpc_error.h"
#include "scheduler/rows.h"

namespace tandem::scheduler {

template <typename Row>
struct Piece {
  std::vector<Row> rows;
  std::optional<uint64_t> next;  // where the piece behind it begins; nothing: there is none
};
// One turn's: rows from `from` on, `most` at most.
template <typename Row>
using TakePiece = Piece<Row> (*)(const core::ClusterState& state, uint64_t from, size_t most);

Piece<DeviceRow> TakeDevices(const core::ClusterState& state, uint64_t from, size_t most);
Piece<NodeRow> TakeNodes(const core::ClusterState& state, uint64_t from, size_t most);
Piece<ModelRow> TakeModels(const core::ClusterState& state, uint64_t from, size_t most);
Piece<GroupNumbers> TakeGroupNumbers(const core::ClusterState& state, uint64_t from, size_t most);
Piece<GroupRow> TakeGroups(const core::ClusterState& state, uint64_t from, size_t most);
Piece<GroupRow> TakeDissolved(const core::ClusterState& state, uint64_t from, size_t most);
Piece<RequestRow> TakeRequests(const core::ClusterState& state, uint64_t from, size_t most);
Piece<RequestRow> TakeEnded(const core::ClusterState& state, uint64_t from, size_t most);
Piece<WaiterRow> TakeWaiters(const core::ClusterState& state, uint64_t from, size_t most);

// Piece after piece, until there are `most` rows or no more. Nothing: the core is behind.
template <typename Row>
std::optional<Piece<Row>> Read(CoreReader& reader, TakePiece<Row> take, uint64_t from = 0, size_t most = SIZE_MAX) {
  Piece<Row> all;
  all.next = from;
  while (all.next && all.rows.size() < most) {
    auto piece = reader.Ask([take, from = *all.next, left = most - all.rows.size()](const core::Core& core) {
      return take(core.state(), from, left);
    });
    if (!piece) return std::nullopt;
    std::move(piece->rows.begin(), piece->rows.end(), std::back_inserter(all.rows));
    all.next = piece->next;
  }
  return all;
}

// ---- pages --------------------------------------------------------------------------------------------------------

inline constexpr size_t kMostOfPage = 1000;  // of the largest rows well below 4 MB, the most that gRPC takes by default

// A list is one table after another; a page token names one by its letter, and where to go on in it.
template <typename Row>
struct Table {
  char letter;
  TakePiece<Row> take;
};
struct PageToken {
  char letter = 0;
  uint64_t from = 0;
  std::string ToString() const;
  static std::optional<PageToken> Parse(absl::string_view text);
};

Error CoreIsBehind();
Error NoSuchPage();

// The page that `token` begins; `*next`: of the one behind it, empty: there is none.
template <typename Row>
std::optional<Error> ReadPage(CoreReader& reader, std::initializer_list<Table<Row>> tables, uint32_t size,
                              const std::string& token, std::vector<Row>* rows, std::string* next) {
  const size_t most = size == 0 ? kMostOfPage : std::min<size_t>(size, kMostOfPage);
  auto table = tables.begin();
  uint64_t from = 0;
  if (!token.empty()) {
    const auto parsed = PageToken::Parse(token);
    while (parsed && table != tables.end() && table->letter != parsed->letter) ++table;
    if (!parsed || table == tables.end()) return NoSuchPage();
    from = parsed->from;
  }
  for (; table != tables.end(); ++table, from = 0) {
    if (rows->size() == most) {
      *next = PageToken{table->letter, 0}.ToString();
      return std::nullopt;
    }
    auto piece = Read(reader, table->take, from, most - rows->size());
    if (!piece) return CoreIsBehind();
    std::move(piece->rows.begin(), piece->rows.end(), std::back_inserter(*rows));
    if (piece->next) {
      *next = PageToken{table->letter, *piece->next}.ToString();
      return std::nullopt;
    }
  }
  return std::nullopt;
}

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_ROW_PAGES_H_
