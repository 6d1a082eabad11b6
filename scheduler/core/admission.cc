#include "scheduler/core/admission.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/core/prefetch.h"
#include "scheduler/core/request_life.h"
#include "scheduler/core/rollout.h"
#include "scheduler/core/waiting_room.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

struct Refusal {
  Reason reason = Reason::kNone;
  std::string message;
};

Refusal CheckNumbers(const RequestArrived& event, const ModelSpec& spec) {
  const int64_t prompt = event.prompt.value, known = event.known_output.value, context = spec.max_model_len;
  if (prompt < 1) return {Reason::kInvalidParameter, "the prompt has no tokens"};
  if (known < 0) return {Reason::kInvalidParameter, absl::StrCat("resume_token_ids counts ", known)};
  if (prompt + known + 1 > context) {
    return {Reason::kContextLengthExceeded,
            absl::StrCat("the prompt has ", prompt + known, " tokens; the context of models/", spec.name, " is ",
                         context, " and at least 1 must be left")};
  }
  if (!event.max_tokens.has_value()) return {};
  const int64_t most = event.max_tokens->value;
  if (most < 1) return {Reason::kInvalidParameter, absl::StrCat("max_tokens is ", most, "; it must be at least 1")};
  if (known >= most) {
    return {Reason::kInvalidParameter, absl::StrCat("resume_token_ids has ", known, " tokens, max_tokens is ", most,
                                                    ": nothing is left to compute")};
  }
  if (most > context - prompt) {
    return {Reason::kContextLengthExceeded,
            absl::StrCat("prompt (", prompt, ") and max_tokens (", most, ") are more than the context of models/",
                         spec.name, ", ", context)};
  }
  return {};
}

}  // namespace

void Handle(ClusterState& state, const ModelConfigured& event, Actions& out) {
  const Model& model = AddModel(state, event.spec);
  out.push_back(Tell{Name(model), "configured"});
}

void Handle(ClusterState& state, const RequestArrived& event, Actions& out) {
  if (std::as_const(state).Find(event.request) != nullptr) {
    ++state.counters.stale_attempts;  // the shell draws ids; a repeated one would end somebody else's stream
    return;
  }
  const auto refuse = [&](Refusal refusal) {
    ++state.counters.refused;
    out.push_back(FailRequest{event.request, refusal.reason, std::move(refusal.message), std::nullopt});
  };
  const Model* model = state.FindModel(event.model);
  if (model == nullptr) {
    std::vector<std::string> names;
    for (const Model& known : state.models) {
      if (!known.undeployed) names.push_back(known.spec.name);
    }
    return refuse({Reason::kModelNotFound,
                   absl::StrCat("no model named '", event.model, "'; there ", names.size() == 1 ? "is " : "are ",
                                names.empty() ? "none" : List(names, 8))});
  }
  if (Refusal refusal = CheckNumbers(event, model->spec); refusal.reason != Reason::kNone)
    return refuse(std::move(refusal));
  if (event.deadline.has_value() && event.deadline->us <= 0) {
    return refuse({Reason::kDeadlineExceeded, "the deadline had passed when it arrived"});
  }
  // The group that will most likely take it.
  if (!model->by_share.empty()) Prefetch(state.Find(model->by_share.begin()->second), Group::kHotBytes);
  Request& request = state.AddRequest(event.request);
  request.model = model->id;
  request.prompt = event.prompt;
  request.known_output = event.known_output;
  request.output = event.known_output;
  request.max_tokens = event.max_tokens.value_or(Tokens{model->spec.max_model_len} - event.prompt);
  request.priority = event.priority;
  request.tenant = event.tenant;
  request.prefix = event.prefix;
  request.bytes = event.bytes;
  request.caller_id = event.caller_id;
  request.trace_id = event.trace_id;
  request.arrived = state.now;
  Note(state, request, MomentKind::kArrived, request.prompt.value);
  if (event.deadline.has_value()) {
    state.SetTimer(request.deadline, state.now + *event.deadline, TimerKind::kRequest, request.serial);
  }
  JoinQueue(state, request);
}

}  // namespace tandem::core
