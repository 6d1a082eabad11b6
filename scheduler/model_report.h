// What the configured models need, told without serving them: the answer of `tandem-scheduler --check-models`, which
// `tandemctl validate` asks for.
#ifndef TANDEM_SCHEDULER_MODEL_REPORT_H_
#define TANDEM_SCHEDULER_MODEL_REPORT_H_

#include <string>
#include <vector>

#include "base/model/model_folder.h"
#include "config/cluster_config.h"

namespace tandem::scheduler {

// A line of JSON for each model. What is wrong with its files or its entry:
//   {"model": "chat", "error": "model chat: ..."}
// or each degree that it may be served at, with the least bytes of one rank on a device of that kind:
//   {"model": "chat", "needs": [{"ranks": 1, "cpu": 12058624, "cuda": 660602880}, {"ranks": 2, "impossible": "..."}]}
std::string ReportModels(const std::vector<config::ModelConfig>& models, const model::FolderSearch& search);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_MODEL_REPORT_H_
