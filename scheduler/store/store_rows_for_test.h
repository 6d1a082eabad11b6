// Rows with something in every field, different for every number.
#ifndef TANDEM_SCHEDULER_STORE_STORE_ROWS_FOR_TEST_H_
#define TANDEM_SCHEDULER_STORE_STORE_ROWS_FOR_TEST_H_

#include "absl/strings/str_cat.h"
#include "scheduler/store/store.h"

namespace tandem::scheduler::store {

inline Device SampleDevice(uint32_t i) {
  return {"box",
          i,
          "cuda",
          absl::StrCat("card ", i),
          absl::StrCat("GPU-", i * 7919),
          int64_t{24} << 30,
          i % 2 == 1,
          i % 3 == 1,
          i % 5 == 1,
          absl::StrCat("because of \"", i, "\"\xc3\xa9"),
          1700000000000000 + i,
          1700000000000001 + i};
}

inline Operation SampleOperation(uint64_t i) {
  Operation operation;
  operation.id = uint64_t{3} << 32 | (i + 1);
  operation.verb = "drain";
  operation.key = absl::StrCat("key ", i);
  operation.request = "0123456789abcdef";
  operation.devices = {absl::StrCat("nodes/box/devices/", i), "nodes/box/devices/77"};
  operation.group = i;
  operation.reason = "new card";
  operation.on_deadline = "abort";
  operation.force = i % 2 == 0;
  operation.deadline_us = 1800000000000000 + static_cast<int64_t>(i);
  operation.requests_at_start = static_cast<int32_t>(i);
  operation.state = static_cast<Operation::State>(i % 5);
  operation.refused = i % 5 == 4 ? "would-lose-last-replica" : "";
  operation.message = i % 5 > 1 ? "drained" : "";
  operation.asked_us = 1700000000000000;
  return operation;
}

inline Deployment SampleDeployment(uint64_t i) {
  return {absl::StrCat("model-", i), i % 2 == 0 ? "name=x\npath=y\n" : "", absl::StrCat("base ", i), "asked for",
          1700000000000002 + static_cast<int64_t>(i)};
}

}  // namespace tandem::scheduler::store

#endif  // TANDEM_SCHEDULER_STORE_STORE_ROWS_FOR_TEST_H_
