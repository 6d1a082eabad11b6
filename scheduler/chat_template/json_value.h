// JSON that a request brought, as values of a template. All its strings are given.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_JSON_VALUE_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_JSON_VALUE_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/chat_template/value.h"

namespace tandem::chat {

// INVALID_ARGUMENT, beginning with `what`, for what is no JSON, nests more than 48 levels or has whole numbers beyond
// 64 bits. Members keep their order; the last of two with one name counts.
absl::StatusOr<Value> ParseJsonValue(absl::string_view json, absl::string_view what);

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_JSON_VALUE_H_
