// Which model is meant where a request names none, as vLLM's clients may do: it serves one model, and that is it.
#ifndef TANDEM_CLIENT_GATEWAY_DEFAULT_MODEL_H_
#define TANDEM_CLIENT_GATEWAY_DEFAULT_MODEL_H_

#include <string>
#include <variant>

#include "absl/strings/string_view.h"
#include "client/gateway/api_error.h"
#include "tandem/v1/inference.pb.h"

namespace tandem::gateway {

// Of those of a task (empty: of all), the one that answers to any name ("*"), else the only one. Where there are
// several, the error names them.
std::variant<std::string, ApiError> DefaultModel(const v1::ListModelsResponse& list, absl::string_view task);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_DEFAULT_MODEL_H_
