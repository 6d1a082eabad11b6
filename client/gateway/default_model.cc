#include "client/gateway/default_model.h"

#include <algorithm>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tandem::gateway {
namespace {

constexpr size_t kMostNames = 16;  // of a message

}  // namespace

std::variant<std::string, ApiError> DefaultModel(const v1::ListModelsResponse& list, absl::string_view task) {
  std::vector<std::string> names;
  for (const v1::ServedModel& model : list.models()) {
    if (!task.empty() && model.task() != task) continue;
    if (absl::c_linear_search(model.aliases(), "*")) return model.name();
    names.push_back(model.name());
  }
  if (names.size() == 1) return names[0];
  ApiError error{.param = "model", .code = "model_required"};
  if (names.empty()) {
    const std::string kind = task.empty() ? "" : absl::StrCat(" of task ", task);
    error.message = absl::StrCat("model is missing, and no model", kind, " is served");
    return error;
  }
  const auto end = names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kMostNames));
  error.message = absl::StrCat("model is missing; send one of ", absl::StrJoin(names.begin(), end, ", "),
                               names.size() > kMostNames ? ", ..." : "");
  return error;
}

}  // namespace tandem::gateway
