// Reads an encoder into the catalog: the models of the tasks embed and rerank.
//
// To the core an encoder's request is a completion of one token, the vector, so its context is one longer than what it
// reads, and the queue of its engine stands in the place of a KV pool (base/model/encoder_memory.h).
#ifndef TANDEM_SCHEDULER_ENCODER_CATALOG_H_
#define TANDEM_SCHEDULER_ENCODER_CATALOG_H_

#include <string>

#include "absl/status/statusor.h"
#include "base/model/model_folder.h"
#include "config/cluster_config.h"
#include "scheduler/model_catalog.h"

namespace tandem::scheduler {

// `folder` is where `from` was found.
absl::StatusOr<ServedModel> LoadEncoder(const config::ModelConfig& from, const std::string& folder);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_ENCODER_CATALOG_H_
