#include "client/gateway/embedding_request.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/gateway/image_input.h"
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

void AddImage(Fields& fields, const char* field, const std::string& image, v1::EmbedRequest* out) {
  auto bytes = ImageBytes(image, field);
  if (auto* error = std::get_if<ApiError>(&bytes)) return fields.Fail(std::move(*error));
  out->add_inputs()->set_image(std::move(std::get<std::string>(bytes)));
}

// {"text": T}, {"image": I}, or a part of a message: {"type": "text", "text": T} and {"type": "image_url", "image_url":
// {"url": I}}, where the URL may also stand by itself. False: it is none of those.
bool AddPart(Fields& fields, const char* field, const json& part, v1::EmbedRequest* out) {
  const auto text_of = [&](const char* name) -> const json* {
    const auto it = part.find(name);
    return it != part.end() && it->is_string() ? &*it : nullptr;
  };
  const auto url = part.find("image_url");
  const json* image = text_of("image");
  if (url != part.end()) image = url->is_object() && url->contains("url") ? &(*url)["url"] : &*url;
  if (image != nullptr) {
    if (!image->is_string()) return false;
    AddImage(fields, field, image->get_ref<const std::string&>(), out);
    return true;
  }
  const json* text = text_of("text");
  if (text != nullptr) out->add_inputs()->set_text(text->get_ref<const std::string&>());
  return text != nullptr;
}

// A text, a picture or token ids.
bool AddOne(Fields& fields, const json& one, v1::EmbedRequest* out) {
  if (one.is_object()) return AddPart(fields, "input", one, out);
  if (one.is_string()) {
    const std::string& text = one.get_ref<const std::string&>();
    if (IsImageUrl(text)) {
      AddImage(fields, "input", text, out);
    } else {
      out->add_inputs()->set_text(text);
    }
    return true;
  }
  const auto ids = TokenIds(one);
  if (!ids.has_value() || ids->empty()) return false;
  out->add_inputs()->mutable_token_ids()->mutable_ids()->Assign(ids->begin(), ids->end());
  return true;
}

// One of AddOne's, or an array of them; an array of numbers is one text.
void ReadInput(Fields& fields, const json& input, v1::EmbedRequest* out) {
  constexpr char kForms[] =
      "must be a string, an array of strings, an array of token ids, an array of those, or of {\"text\"} and "
      "{\"image\"}";
  const bool several = input.is_array() && !input.empty() && !input[0].is_number();
  if (!several) {
    if (!AddOne(fields, input, out)) fields.Fail("input", kForms);
    return;
  }
  if (input.size() > kMostInputs) {
    return fields.Fail("input", absl::StrCat("has ", input.size(), " inputs; allowed are ", kMostInputs));
  }
  for (const json& one : input) {
    if (!AddOne(fields, one, out)) fields.Fail("input", kForms);
    if (fields.error()) return;
  }
}

// vLLM's form for models of text and pictures: a conversation of one message with one part, which becomes one vector.
void ReadMessages(Fields& fields, const json& messages, v1::EmbedRequest* out) {
  constexpr char kForm[] = "must be one message whose content is a text, or one part of type text or image_url";
  if (!messages.is_array() || messages.size() != 1 || !messages[0].is_object()) return fields.Fail("messages", kForm);
  const auto content = messages[0].find("content");
  if (content == messages[0].end()) return fields.Fail("messages", kForm);
  if (content->is_string()) return out->add_inputs()->set_text(content->get_ref<const std::string&>());
  const bool one = content->is_array() && content->size() == 1 && (*content)[0].is_object();
  if (!one || !AddPart(fields, "messages", (*content)[0], out)) fields.Fail("messages", kForm);
}

void ReadQuestion(Fields& fields, v1::EmbedRequest* out) {
  const json* input = fields.Find("input");
  const json* messages = fields.Find("messages");
  if (input != nullptr && messages != nullptr)
    return fields.Fail("messages", "and input are both set; set one of them");
  if (input != nullptr) return ReadInput(fields, *input, out);
  if (messages != nullptr) return ReadMessages(fields, *messages, out);
  fields.Fail("input", "is missing");
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
  out.call.set_model(fields.String("model").value_or(""));
  out.base64 = ReadBase64(fields);
  if (const auto dimensions = fields.Integer("dimensions", 1, 1 << 20)) {
    out.call.set_dimensions(static_cast<uint32_t>(*dimensions));
  }
  ReadTruncation(fields, &out.call);
  ReadQuestion(fields, &out.call);
  if (fields.error()) return *fields.error();
  return out;
}

std::variant<RerankQuestion, ApiError> ParseRerank(const json& body) {
  Fields fields(body);
  RerankQuestion out;
  out.call.set_model(fields.String("model").value_or(""));
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
