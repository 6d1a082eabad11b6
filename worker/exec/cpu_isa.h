// Which kernels this CPU can run, and which one was asked for.
#ifndef TANDEM_WORKER_EXEC_CPU_ISA_H_
#define TANDEM_WORKER_EXEC_CPU_ISA_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/exec/ops/cpu_kernels.h"

namespace tandem::worker {

// Names that ChooseKernels takes on this CPU; "auto" means the first. avx512_bf16 is not first although it computes
// batches twice as fast: it rounds activations, so that it is chosen and not met by chance.
std::vector<std::string> AvailableIsas();

// INVALID_ARGUMENT for an unknown name, FAILED_PRECONDITION for one that this CPU does not have; both list those it
// has.
absl::StatusOr<const CpuKernels*> ChooseKernels(absl::string_view isa);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_CPU_ISA_H_
