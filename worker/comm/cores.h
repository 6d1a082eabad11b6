// How many cores a group of processes may really use at once.
#ifndef TANDEM_WORKER_COMM_CORES_H_
#define TANDEM_WORKER_COMM_CORES_H_

#include <sys/types.h>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tandem::worker {

// The cores that at least one of the processes may run on, or this process's cgroup quota (whole cores) where that is
// lower. At least 1. A process that cannot be asked counts for nothing.
int UsableCores(absl::Span<const pid_t> processes);

// The whole cores that a cgroup v2 `cpu.max` allows ("150000 100000" is 1), or 0 for no limit or another form.
int QuotaCores(absl::string_view cpu_max);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_CORES_H_
