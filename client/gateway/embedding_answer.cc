#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client/gateway/embedding_request.h"
#include "client/gateway/json_text.h"

namespace tandem::gateway {
namespace {

static_assert(std::endian::native == std::endian::little, "base64 embeddings are little-endian");

void AppendVector(const google::protobuf::RepeatedField<float>& values, bool base64, std::string* out) {
  if (base64) {
    const absl::string_view bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    absl::StrAppend(out, "\"", absl::Base64Escape(bytes), "\"");
    return;
  }
  out->push_back('[');
  for (int i = 0; i < values.size(); ++i) {
    if (i > 0) out->push_back(',');
    AppendJsonNumber(values[i], out);
  }
  out->push_back(']');
}

}  // namespace

std::string EmbeddingsJson(const EmbeddingRequest& request, const v1::EmbedResponse& response) {
  std::string out = "{\"object\":\"list\",\"data\":[";
  for (int i = 0; i < response.embeddings_size(); ++i) {
    absl::StrAppend(&out, i > 0 ? "," : "", "{\"object\":\"embedding\",\"index\":", i, ",\"embedding\":");
    AppendVector(response.embeddings(i).values(), request.base64, &out);
    out.push_back('}');
  }
  const uint64_t tokens = response.usage().prompt_tokens();
  absl::StrAppend(&out, "],\"model\":", JsonString(request.call.model()), ",\"usage\":{\"prompt_tokens\":", tokens,
                  ",\"total_tokens\":", tokens, "}}");
  return out;
}

std::string RerankJson(const RerankQuestion& question, const std::string& id, const v1::RerankResponse& response) {
  std::string out =
      absl::StrCat("{\"id\":\"rerank-", id, "\",\"model\":", JsonString(question.call.model()), ",\"results\":[");
  const uint32_t top_n = question.call.top_n();
  const int most = top_n == 0
                       ? response.results_size()
                       : static_cast<int>(std::min<uint32_t>(top_n, static_cast<uint32_t>(response.results_size())));
  for (int i = 0; i < most; ++i) {
    const v1::RerankResult& result = response.results(i);
    absl::StrAppend(&out, i > 0 ? "," : "", "{\"index\":", result.index(), ",\"relevance_score\":");
    AppendJsonNumber(result.score(), &out);
    if (question.return_documents && result.index() < static_cast<uint32_t>(question.call.documents_size())) {
      absl::StrAppend(&out, ",\"document\":{\"text\":");
      AppendJsonString(question.call.documents(static_cast<int>(result.index())), &out);
      out.push_back('}');
    }
    out.push_back('}');
  }
  const uint64_t tokens = response.usage().prompt_tokens();
  absl::StrAppend(&out, "],\"usage\":{\"prompt_tokens\":", tokens, ",\"total_tokens\":", tokens,
                  "},\"meta\":{\"tokens\":{\"input_tokens\":", tokens, "},\"billed_units\":{\"total_tokens\":", tokens,
                  "}}}");
  return out;
}

}  // namespace tandem::gateway
