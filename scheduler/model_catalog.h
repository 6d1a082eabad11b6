// The models that this scheduler serves, as the configuration names them and as their files say: limits, tokenizer,
// manifest, and what one rank costs at each tensor-parallel degree.
//
// Read once at start and immutable then; any thread may look. Models stand in the order of the configuration, which is
// the order in which the core hears of them, so a core::ModelId indexes this table.
#ifndef TANDEM_SCHEDULER_MODEL_CATALOG_H_
#define TANDEM_SCHEDULER_MODEL_CATALOG_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/model/model_folder.h"
#include "config/cluster_config.h"
#include "scheduler/chat_template/chat_template.h"
#include "scheduler/core/types.h"
#include "scheduler/tokenizer/tokenizer.h"
#include "scheduler/validate_request.h"

namespace tandem::scheduler {

struct ServedModel {
  core::ModelSpec spec;
  ModelLimits limits;
  std::vector<model::ManifestEntry> manifest;
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
  std::shared_ptr<const chat::ChatTemplate> chat_template;  // null: none, and no chat
};

class ModelCatalog {
 public:
  // An error names the model and what is wrong with it: a scheduler that serves half of what it was told is worse than
  // one that does not start.
  static absl::StatusOr<ModelCatalog> Load(const std::vector<config::ModelConfig>& models,
                                           const model::FolderSearch& search);
  // For those that are put together elsewhere.
  explicit ModelCatalog(std::vector<ServedModel> models);

  // By name, alias, or the alias "*". Null: there is none.
  const ServedModel* Find(const std::string& name) const;
  const ServedModel& At(core::ModelId id) const { return models_.at(id.value); }
  const std::vector<ServedModel>& models() const { return models_; }
  // "chat, minilm", for messages.
  std::string Names() const;

 private:
  std::vector<ServedModel> models_;
  absl::flat_hash_map<std::string, size_t> names_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_MODEL_CATALOG_H_
