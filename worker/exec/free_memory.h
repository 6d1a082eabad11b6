// How many bytes this process can still take: the smaller of what the machine and its control group have left.
#ifndef TANDEM_WORKER_EXEC_FREE_MEMORY_H_
#define TANDEM_WORKER_EXEC_FREE_MEMORY_H_

#include <cstdint>
#include <string>

namespace tandem::worker {

// INT64_MAX where neither can be read. `root` stands before /proc and /sys.
int64_t FreeMemoryBytes(const std::string& root = "");

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_FREE_MEMORY_H_
