#include "client/gateway/embedding_request.h"

#include "absl/strings/str_cat.h"
#include "client/gateway/json_body.h"

namespace tandem::gateway {
namespace {

using nlohmann::json;

// "float" or "base64"; null and what LiteLLM once made of it, a list of one, are read too.
bool ReadBase64(Fields& fields) {
  const json* format = fields.Find("encoding_format");
  if (format != nullptr && format->is_array() && format->size() == 1) format = &(*format)[0];
  if (format == nullptr || *format == "float") return false;
  if (*format == "base64") return true;
  fields.Fail("encoding_format", "must be \"float\" or \"base64\"");
  return false;
}

// A string, [string], [int] or [[int]].
void ReadInput(Fields& fields, v1::EmbedRequest* out) {
  const json* input = fields.Find("input");
  if (input == nullptr) return fields.Fail("input", "is missing");
  const auto add = [&](const json& one) {
    if (one.is_string()) {
      out->add_inputs()->set_text(one.get<std::string>());
      return true;
    }
    const auto ids = TokenIds(one);
    if (!ids.has_value() || ids->empty()) return false;
    out->add_inputs()->mutable_token_ids()->mutable_ids()->Assign(ids->begin(), ids->end());
    return true;
  };
  constexpr char kForms[] = "must be a string, an array of strings, an array of token ids, or an array of those";
  const bool several = input->is_array() && !input->empty() && !(*input)[0].is_number();
  if (!several) {
    if (!add(*input)) fields.Fail("input", kForms);
    return;
  }
  if (input->size() > kMostInputs) {
    return fields.Fail("input", absl::StrCat("has ", input->size(), " inputs; allowed are ", kMostInputs));
  }
  for (const json& one : *input) {
    if (!add(one)) return fields.Fail("input", kForms);
  }
}

// -1 and 0 mean "to what the model takes", as vLLM has it for -1.
template <typename Call>
void ReadTruncation(Fields& fields, Call* call) {
  if (const auto tokens = fields.Integer("truncate_prompt_tokens", -1, INT32_MAX)) {
    call->set_truncate_tokens(static_cast<uint32_t>(std::max<int64_t>(*tokens, 0)));
  }
}

}  // namespace

std::variant<EmbeddingRequest, ApiError> ParseEmbedding(const json& body) {
  Fields fields(body);
  EmbeddingRequest out;
  out.call.set_model(fields.RequiredString("model"));
  out.base64 = ReadBase64(fields);
  if (const auto dimensions = fields.Integer("dimensions", 1, 1 << 20)) {
    out.call.set_dimensions(static_cast<uint32_t>(*dimensions));
  }
  ReadTruncation(fields, &out.call);
  ReadInput(fields, &out.call);
  if (fields.error()) return *fields.error();
  return out;
}

std::variant<RerankQuestion, ApiError> ParseRerank(const json& body) {
  Fields fields(body);
  RerankQuestion out;
  out.call.set_model(fields.RequiredString("model"));
  out.call.set_query(fields.RequiredString("query"));
  out.return_documents = fields.Boolean("return_documents").value_or(true);
  if (const auto top_n = fields.Integer("top_n", 0, INT32_MAX)) out.call.set_top_n(static_cast<uint32_t>(*top_n));
  for (const char* name : {"rank_fields", "instruction", "max_tokens_per_doc", "max_tokens_per_query"}) {
    const json* value = fields.Find(name);
    if (value != nullptr && !value->empty()) {
      fields.Fail(UnsupportedParameter(name, "query and documents are read as they are; leave it out"));
    }
  }
  ReadTruncation(fields, &out.call);
  const json* documents = fields.Find("documents");
  if (documents == nullptr) {
    fields.Fail("documents", "is missing");
  } else if (!documents->is_array() || documents->empty()) {
    fields.Fail("documents", "must be an array of at least one string or {\"text\": string}");
  } else if (documents->size() > kMostInputs) {
    fields.Fail("documents", absl::StrCat("has ", documents->size(), " documents; allowed are ", kMostInputs));
  } else {
    for (const json& document : *documents) {
      const json* text = document.is_object() && document.contains("text") ? &document["text"] : &document;
      if (!text->is_string()) {
        fields.Fail("documents", "must hold strings or {\"text\": string}");
        break;
      }
      out.call.add_documents(text->get<std::string>());
    }
  }
  if (fields.error()) return *fields.error();
  return out;
}

}  // namespace tandem::gateway
