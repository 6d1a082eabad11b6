// What /tokenize and /detokenize are asked for, in vLLM's shapes: JSON to a call of the scheduler, purely.
#ifndef TANDEM_CLIENT_GATEWAY_TOKENIZE_REQUEST_H_
#define TANDEM_CLIENT_GATEWAY_TOKENIZE_REQUEST_H_

#include <nlohmann/json.hpp>
#include <variant>

#include "client/gateway/api_error.h"
#include "tandem/v1/inference.pb.h"

namespace tandem::gateway {

std::variant<v1::TokenizeRequest, ApiError> ParseTokenize(const nlohmann::json& body, absl::string_view text);
std::variant<v1::DetokenizeRequest, ApiError> ParseDetokenize(const nlohmann::json& body);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_TOKENIZE_REQUEST_H_
