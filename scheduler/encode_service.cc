#include "scheduler/encode_service.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/model/image_limits.h"
#include "scheduler/validate_request.h"
#include "scheduler/validate_task.h"

namespace tandem::scheduler {
namespace {

constexpr int kMostInputs = 2048;

Error Invalid(std::string message, const std::string& field) {
  return {kInvalidParameter, std::move(message), {}, {{"field", field}}};
}

std::optional<Error> CheckCount(int count, const char* field) {
  if (count >= 1 && count <= kMostInputs) return std::nullopt;
  return Invalid(absl::StrFormat("%s has %d entries; allowed are 1 to %d", field, count, kMostInputs), field);
}

template <typename Request>
std::optional<uint32_t> Truncation(const Request& request) {
  return request.has_truncate_tokens() ? std::optional<uint32_t>(request.truncate_tokens()) : std::nullopt;
}

class EmbedCall final : public EncodeCall {
 public:
  EmbedCall(const Parts& parts, RefusedCall asked, ServedModelPtr model, int32_t priority,
            const v1::EmbedRequest* request, v1::EmbedResponse* response)
      : EncodeCall(parts, std::move(asked), std::move(model), priority), request_(*request), response_(response) {}

  std::optional<Error> Check() const {
    if (auto wrong = ValidateTask(model(), "embed", "Embed")) return wrong;
    if (auto wrong = ValidateCaller(request_.priority(), request_.tenant())) return wrong;
    if (request_.texts_size() > 0 && request_.inputs_size() > 0) {
      return Invalid("both texts and inputs are set; set one of the two", "inputs");
    }
    const bool texts = request_.texts_size() > 0;
    if (auto wrong = CheckCount(texts ? request_.texts_size() : request_.inputs_size(), texts ? "texts" : "inputs")) {
      return wrong;
    }
    if (request_.dimensions() > model().encoder->vector_size) {
      return Invalid(absl::StrFormat("dimensions is %d; the vectors of model %s have %d", request_.dimensions(),
                                     model().spec.name, model().encoder->vector_size),
                     "dimensions");
    }
    return std::nullopt;
  }

  size_t bytes() const { return request_.ByteSizeLong(); }

 private:
  std::optional<Error> Prepare(std::vector<Question>* questions) override {
    const bool texts = request_.texts_size() > 0;
    const int count = texts ? request_.texts_size() : request_.inputs_size();
    questions->resize(static_cast<size_t>(count));
    const tokenizer::PairOptions options = InputOptions(Truncation(request_));
    for (int i = 0; i < count; ++i) {
      if (auto unwanted = Unwanted()) return unwanted;
      Question* question = &(*questions)[static_cast<size_t>(i)];
      const std::string field = absl::StrFormat(texts ? "texts[%d]" : "inputs[%d]", i);
      const std::string* text = texts ? &request_.texts(i) : nullptr;
      if (!texts) {
        const v1::EmbedInput& input = request_.inputs(i);
        switch (input.input_case()) {
          case v1::EmbedInput::kText:
            text = &input.text();
            break;
          case v1::EmbedInput::kTokenIds:
            if (auto wrong = TakeIds(input.token_ids().ids(), field, question)) return wrong;
            continue;
          case v1::EmbedInput::kImage:
            if (auto wrong = TakeImage(input.image(), field, question)) return wrong;
            continue;
          case v1::EmbedInput::INPUT_NOT_SET:
            return Invalid(absl::StrCat(field, " is empty; set text, token_ids or image"), field);
        }
      }
      if (text->empty()) return Invalid(absl::StrCat(field, " is empty"), field);
      if (auto wrong = ValidateUtf8(*text, field.c_str())) return wrong;
      auto input = model().tokenizer->EncodeForEncoder(*text, std::nullopt, options);
      if (auto wrong = Take(std::move(input), options, field, question)) return wrong;
    }
    return std::nullopt;
  }

  // Decoding is the worker's part: here nothing is believed of a file but its size.
  std::optional<Error> TakeImage(const std::string& file, const std::string& field, Question* question) const {
    const uint32_t tokens = model().encoder->image_tokens;
    if (tokens == 0) {
      return Invalid(absl::StrCat(field, " is an image; model ", model().spec.name, " reads text only"), field);
    }
    if (static_cast<int64_t>(file.size()) > model::kMaxImageFileBytes) {
      return Invalid(
          absl::StrFormat("%s is an image of %d bytes; allowed are %d", field, file.size(), model::kMaxImageFileBytes),
          field);
    }
    if (!model::LooksLikePng(file) && !model::LooksLikeJpeg(file)) {
      return Invalid(absl::StrCat(field, " is neither a PNG nor a JPEG file"), field);
    }
    question->field = field;
    question->image = &file;
    question->ids.assign(tokens, 0);
    return std::nullopt;
  }

  std::optional<Error> TakeIds(const google::protobuf::RepeatedField<uint32_t>& ids, const std::string& field,
                               Question* question) const {
    if (ids.empty()) return Invalid(absl::StrCat(field, " has no token ids"), field);
    if (auto wrong = ValidateIds(ids, field.c_str(), model().limits)) return wrong;
    size_t most = model().encoder->max_tokens;
    if (request_.truncate_tokens() > 0) most = std::min<size_t>(most, request_.truncate_tokens());
    const size_t count = static_cast<size_t>(ids.size());
    if (count > most && !request_.has_truncate_tokens()) {
      return Error{kContextLengthExceeded,
                   absl::StrFormat("%s has %d tokens; model %s takes %d; shorten it, or set truncate_tokens", field,
                                   count, model().spec.name, most),
                   {},
                   {{"field", field}, {"max_model_len", absl::StrCat(most)}}};
    }
    question->ids.assign(ids.begin(), ids.begin() + static_cast<int>(std::min(count, most)));
    question->field = field;
    question->truncated = count > most;
    return std::nullopt;
  }

  void Respond(absl::Span<const Question> questions, absl::Span<const std::vector<float>> vectors) override {
    size_t tokens = 0;
    for (size_t i = 0; i < questions.size(); ++i) {
      v1::Embedding& out = *response_->add_embeddings();
      const size_t keep = request_.dimensions() > 0 ? request_.dimensions() : vectors[i].size();
      out.mutable_values()->Add(vectors[i].begin(), vectors[i].begin() + static_cast<std::ptrdiff_t>(keep));
      if (request_.dimensions() > 0) ToUnitLength(out.mutable_values());
      out.set_prompt_tokens(static_cast<uint32_t>(questions[i].ids.size()));
      out.set_truncated(questions[i].truncated);
      tokens += questions[i].ids.size();
    }
    response_->mutable_usage()->set_prompt_tokens(static_cast<uint32_t>(tokens));
    response_->set_model_revision(model().spec.revision);
  }

  static void ToUnitLength(google::protobuf::RepeatedField<float>* values) {
    double square = 0;
    for (const float value : *values) square += static_cast<double>(value) * value;
    const auto scale = static_cast<float>(1.0 / std::max(std::sqrt(square), 1e-12));
    for (float& value : *values) value *= scale;
  }

  const v1::EmbedRequest& request_;
  v1::EmbedResponse* const response_;
};

class RerankCall final : public EncodeCall {
 public:
  RerankCall(const Parts& parts, RefusedCall asked, ServedModelPtr model, int32_t priority,
             const v1::RerankRequest* request, v1::RerankResponse* response)
      : EncodeCall(parts, std::move(asked), std::move(model), priority), request_(*request), response_(response) {}

  std::optional<Error> Check() const {
    if (auto wrong = ValidateTask(model(), "rerank", "Rerank")) return wrong;
    if (auto wrong = ValidateCaller(request_.priority(), request_.tenant())) return wrong;
    return CheckCount(request_.documents_size(), "documents");
  }

  size_t bytes() const { return request_.ByteSizeLong(); }

 private:
  std::optional<Error> Prepare(std::vector<Question>* questions) override {
    if (request_.query().empty()) return Invalid("query is empty", "query");
    if (auto wrong = ValidateUtf8(request_.query(), "query")) return wrong;
    const tokenizer::PairOptions options = InputOptions(Truncation(request_));
    const auto query = model().tokenizer->EncodeFirst(request_.query(), options);  // once, however many documents
    if (!query.ok()) return Unreadable(query.status(), options, "query");
    questions->resize(static_cast<size_t>(request_.documents_size()));
    for (int i = 0; i < request_.documents_size(); ++i) {
      if (auto unwanted = Unwanted()) return unwanted;
      const std::string field = absl::StrFormat("documents[%d]", i);
      if (auto wrong = ValidateUtf8(request_.documents(i), field.c_str())) return wrong;
      auto input = model().tokenizer->EncodePair(*query, request_.documents(i), options);
      if (auto wrong = Take(std::move(input), options, absl::StrCat("query with ", field),
                            &(*questions)[static_cast<size_t>(i)])) {
        return wrong;
      }
    }
    return std::nullopt;
  }

  void Respond(absl::Span<const Question> questions, absl::Span<const std::vector<float>> vectors) override {
    std::vector<size_t> order(questions.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return vectors[a][0] > vectors[b][0]; });
    size_t tokens = 0;
    for (const Question& question : questions) tokens += question.ids.size();
    if (request_.top_n() > 0 && order.size() > request_.top_n()) order.resize(request_.top_n());
    for (const size_t i : order) {
      v1::RerankResult& out = *response_->add_results();
      out.set_index(static_cast<uint32_t>(i));
      out.set_score(vectors[i][0]);
      out.set_prompt_tokens(static_cast<uint32_t>(questions[i].ids.size()));
      out.set_truncated(questions[i].truncated);
    }
    response_->mutable_usage()->set_prompt_tokens(static_cast<uint32_t>(tokens));
    response_->set_model_revision(model().spec.revision);
  }

  const v1::RerankRequest& request_;
  v1::RerankResponse* const response_;
};

template <typename Call>
grpc::ServerUnaryReactor* Start(const std::shared_ptr<Call>& call, grpc::CallbackServerContext* context) {
  call->Hold();
  if (const auto wrong = call->Check()) {
    call->Refuse(*wrong);
  } else {
    call->Begin(*context, call->bytes());
  }
  return call.get();
}

}  // namespace

grpc::ServerUnaryReactor* StartEmbed(const EncodeCall::Parts& parts, RefusedCall asked, ServedModelPtr model,
                                     int32_t priority, grpc::CallbackServerContext* context,
                                     const v1::EmbedRequest* request, v1::EmbedResponse* response) {
  return Start(std::make_shared<EmbedCall>(parts, std::move(asked), std::move(model), priority, request, response),
               context);
}

grpc::ServerUnaryReactor* StartRerank(const EncodeCall::Parts& parts, RefusedCall asked, ServedModelPtr model,
                                      int32_t priority, grpc::CallbackServerContext* context,
                                      const v1::RerankRequest* request, v1::RerankResponse* response) {
  return Start(std::make_shared<RerankCall>(parts, std::move(asked), std::move(model), priority, request, response),
               context);
}

}  // namespace tandem::scheduler
