#include "scheduler/model_report.h"

#include <nlohmann/json.hpp>

#include "scheduler/core/planning.h"
#include "scheduler/model_catalog.h"

namespace tandem::scheduler {
namespace {

using nlohmann::ordered_json;

ordered_json NeedsOf(const core::ModelSpec& spec) {
  core::Model model;
  model.spec = spec;
  ordered_json needs = ordered_json::array();
  for (const core::ShardCost& cost : spec.costs) {
    if (spec.tensor_parallel != 0 && spec.tensor_parallel != cost.tensor_parallel) continue;
    ordered_json need = {{"ranks", cost.tensor_parallel}};
    if (cost.impossible.empty()) {
      for (const char* kind : {"cpu", "cuda"}) need[kind] = core::NeedOf({kind}, model, cost).Least().value;
    } else {
      need["impossible"] = cost.impossible;
    }
    needs.push_back(std::move(need));
  }
  return needs;
}

}  // namespace

std::string ReportModels(const std::vector<config::ModelConfig>& models, const model::FolderSearch& search) {
  std::string report;
  for (const config::ModelConfig& config : models) {
    ordered_json line = {{"model", config.name}};
    if (const auto served = ModelCatalog::LoadModel(config, search); served.ok()) {
      line["needs"] = NeedsOf(served->spec);
    } else {
      line["error"] = std::string(served.status().message());
    }
    report += line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  }
  return report;
}

}  // namespace tandem::scheduler
