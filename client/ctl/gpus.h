// The GPUs of this machine, as a worker of this build would find them.
#ifndef TANDEM_CLIENT_CTL_GPUS_H_
#define TANDEM_CLIENT_CTL_GPUS_H_

#include <string>
#include <vector>

#include "client/ctl/question.h"

namespace tandem::client::ctl {

struct Gpus {
  std::vector<std::string> devices;  // "cuda:0", "cuda:1": after CUDA_VISIBLE_DEVICES
  std::string why_none;              // the worker's words where there are none: no plugin, no driver, no GPU
};

// Asks `worker` (--list-devices), which loads what it takes to know; it answers within seconds, or where the driver
// hangs, never.
Gpus AskForGpus(const std::string& worker, const Patience& patience);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_GPUS_H_
