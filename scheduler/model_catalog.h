// The models that this scheduler serves, as the configuration or an operator names them and as their files say: limits,
// tokenizer, manifest, and what one rank costs at each tensor-parallel degree.
//
// A core::ModelId indexes the table; models stand in the order in which the core hears of them. Entries are immutable:
// a model that is deployed in another shape gets a new one, and who holds the old one keeps it. Any thread may look;
// one at a time (deployments.h) changes, before it tells the core.
#ifndef TANDEM_SCHEDULER_MODEL_CATALOG_H_
#define TANDEM_SCHEDULER_MODEL_CATALOG_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/model/model_folder.h"
#include "config/cluster_config.h"
#include "scheduler/chat_template/chat_template.h"
#include "scheduler/core/types.h"
#include "scheduler/tokenizer/tokenizer.h"
#include "scheduler/validate_request.h"

namespace tandem::scheduler {

// Of a model of the task embed or rerank.
struct EncoderLimits {
  uint32_t max_tokens = 0;    // of one input, all that is put around it included
  uint32_t vector_size = 0;   // numbers in an answer
  uint32_t image_tokens = 0;  // how many tokens a picture counts; 0: the model reads none
};

struct ServedModel {
  config::ModelConfig config;  // what was asked for
  core::ModelSpec spec;
  ModelLimits limits;
  std::vector<model::ManifestEntry> manifest;
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
  std::shared_ptr<const chat::ChatTemplate> chat_template;  // null: none, and no chat
  std::optional<EncoderLimits> encoder;                     // there unless the task is generate
};

using ServedModelPtr = std::shared_ptr<const ServedModel>;

class ModelCatalog {
 public:
  // Reads the model's files; takes as long as its tokenizer. An error names the model and what is wrong with it.
  static absl::StatusOr<ServedModel> LoadModel(const config::ModelConfig& model, const model::FolderSearch& search);
  // All of them or none: a scheduler that serves half of what its file says is worse than one that does not start.
  static absl::StatusOr<ModelCatalog> Load(const std::vector<config::ModelConfig>& models,
                                           const model::FolderSearch& search);
  // For those that are put together elsewhere.
  explicit ModelCatalog(std::vector<ServedModel> models);

  // By name, alias, or the alias "*". Null: there is none.
  ServedModelPtr Find(const std::string& name) const;
  // By name alone.
  ServedModelPtr FindNamed(const std::string& name) const;
  ServedModelPtr At(core::ModelId id) const;
  // Of every id that was given, those that were removed too.
  std::vector<ServedModelPtr> models() const;
  // "chat, minilm", for messages.
  std::string Names() const;

  // `id` is the next free one or that of a model of this name.
  void Put(core::ModelId id, ServedModel model);
  // Its names are free again; its entry stays.
  void Remove(core::ModelId id);

 private:
  struct Table {
    absl::Mutex mu;
    std::vector<ServedModelPtr> models ABSL_GUARDED_BY(mu);
    std::vector<bool> removed ABSL_GUARDED_BY(mu);
    absl::flat_hash_map<std::string, size_t> names ABSL_GUARDED_BY(mu);
  };
  std::unique_ptr<Table> table_;  // on the heap, so that a catalog can be moved
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_MODEL_CATALOG_H_
