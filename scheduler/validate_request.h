// Is this Generate one that could be served, and what exactly does it ask? Everything that can be told from the request
// and the model's limits alone, before any work is spent on it.
//
// An answer names the field, what was given and what is allowed. No answer quotes a prompt or a stop string.
#ifndef TANDEM_SCHEDULER_VALIDATE_REQUEST_H_
#define TANDEM_SCHEDULER_VALIDATE_REQUEST_H_

#include <optional>
#include <string>
#include <vector>

#include "scheduler/grpc_error.h"
#include "tandem/v1/inference.pb.h"
#include "tandem/v1/worker.pb.h"

namespace tandem::scheduler {

// What of a model a request is checked against.
struct ModelLimits {
  std::string name;
  uint32_t max_model_len = 0;  // tokens, prompt and completion together
  uint32_t vocab_size = 0;     // ids below are valid
  bool has_chat_template = false;
  // From generation_config.json; used where the request says nothing.
  std::optional<float> temperature, top_p, repetition_penalty;
  std::optional<int32_t> top_k;
};

// Every field of `request` but the length of a text prompt, which is not known yet.
std::optional<Error> ValidateGenerate(const v1::GenerateRequest& request, const ModelLimits& model);

// The rest, once the prompt's length is known: what does not fit the context, with the numbers.
std::optional<Error> ValidateLengths(const v1::GenerateRequest& request, size_t prompt_tokens,
                                     const ModelLimits& model);

// A Tokenize: a text, or a conversation for a model with a chat template.
std::optional<Error> ValidateTokenize(const v1::TokenizeRequest& request, const ModelLimits& model);

// INVALID_PARAMETER with the byte offset, unless `text` is valid UTF-8. `field` is how the caller knows it.
std::optional<Error> ValidateUtf8(const std::string& text, const char* field);
// INVALID_PARAMETER with the position of the first id that the model does not have.
std::optional<Error> ValidateIds(const google::protobuf::RepeatedField<uint32_t>& ids, const char* field,
                                 const ModelLimits& model);

// Everything of the request that an engine needs, complete: no field unset, a seed drawn where none was given, the
// model's own defaults filled in. Prompt ids, key, group and deadline are left to those who know them.
// REQUIRES: ValidateGenerate found nothing.
void FillAssignment(const v1::GenerateRequest& request, const ModelLimits& model, v1::AssignRequest* out);

// Equal for two requests that ask the same question: of model, prompt and all that changes the answer, a field at its
// default being one that was left out. The seed is not in it: one that the scheduler drew may be named by the next
// call. The same in every process, since workers keep it for a scheduler that starts anew; never 0, which is no
// fingerprint. REQUIRES: ValidateGenerate found nothing.
uint64_t Fingerprint(const v1::GenerateRequest& request, const ModelLimits& model);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_VALIDATE_REQUEST_H_
