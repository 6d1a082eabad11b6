// Stands in for CUDA's header of this name: the calls of the host alone.
#ifndef TANDEM_TESTS_EMULATION_INCLUDE_CUDA_RUNTIME_API_H_
#define TANDEM_TESTS_EMULATION_INCLUDE_CUDA_RUNTIME_API_H_

#include "tests/emulation/runtime_api.h"

#endif  // TANDEM_TESTS_EMULATION_INCLUDE_CUDA_RUNTIME_API_H_
