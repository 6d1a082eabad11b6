#include "scheduler/metrics_snapshot.h"

#include <utility>

#include "scheduler/row_pages.h"

namespace tandem::scheduler {
namespace {

template <typename Row>
bool ReadAll(CoreReader& reader, TakePiece<Row> take, std::vector<Row>* rows) {
  auto all = Read(reader, take);
  if (all) *rows = std::move(all->rows);
  return all.has_value();
}

}  // namespace

std::optional<MetricsSnapshot> TakeVllmMetrics(CoreReader& reader) {
  MetricsSnapshot taken;
  auto cluster = reader.Ask([](const core::Core& core) { return RowOf(core.state()); });
  if (!cluster) return std::nullopt;
  taken.cluster = *std::move(cluster);
  // Models last: a group's model was there before it.
  if (!ReadAll(reader, TakeGroupNumbers, &taken.groups) || !ReadAll(reader, TakeModels, &taken.models)) {
    return std::nullopt;
  }
  return taken;
}

std::optional<MetricsSnapshot> TakeMetrics(CoreReader& reader) {
  MetricsSnapshot taken;
  if (!ReadAll(reader, TakeWaiters, &taken.waiters) || !ReadAll(reader, TakeDevices, &taken.devices)) {
    return std::nullopt;
  }
  auto rest = TakeVllmMetrics(reader);
  if (!rest) return std::nullopt;
  rest->waiters = std::move(taken.waiters);
  rest->devices = std::move(taken.devices);
  return rest;
}

}  // namespace tandem::scheduler
