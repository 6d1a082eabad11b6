// Stands in for CUDA's header of this name where kernels and their callers are built for the host.
#ifndef TANDEM_TESTS_EMULATION_INCLUDE_CUDA_RUNTIME_H_
#define TANDEM_TESTS_EMULATION_INCLUDE_CUDA_RUNTIME_H_

#include "tests/emulation/device_api.h"
#include "tests/emulation/runtime_api.h"

#endif  // TANDEM_TESTS_EMULATION_INCLUDE_CUDA_RUNTIME_H_
