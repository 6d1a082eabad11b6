// tandemctl embed and rerank: vectors of texts and pictures, scores of documents.
#include <cmath>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/model/image_limits.h"
#include "base/model/json_fields.h"
#include "client/ctl/print.h"
#include "client/ctl/verbs.h"

namespace tandem::client::ctl {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kShownValues = 4;

struct EncodeFlags {
  std::string model, query, format = "table";
  std::vector<std::string> texts, images;
  std::optional<uint32_t> truncate;
  uint32_t dimensions = 0;
  uint32_t top_n = 0;
  int32_t priority = 0;
};

// What a table can hold of a vector: its beginning, and its length.
std::vector<std::string> Row(int index, const v1::Embedding& embedding) {
  double square = 0;
  std::string values;
  for (int i = 0; i < embedding.values_size(); ++i) {
    square += static_cast<double>(embedding.values(i)) * embedding.values(i);
    if (i < kShownValues) absl::StrAppend(&values, i == 0 ? "" : " ", absl::StrFormat("%+.5f", embedding.values(i)));
  }
  if (embedding.values_size() > kShownValues) values += " ...";
  return {absl::StrCat(index), absl::StrCat(embedding.prompt_tokens(), embedding.truncated() ? " (cut)" : ""),
          absl::StrCat(embedding.values_size()), absl::StrFormat("%.5f", std::sqrt(square)), values};
}

void Print(const v1::EmbedResponse& response, bool json) {
  if (!json) {
    Table table({"INPUT", "TOKENS", "DIMENSIONS", "LENGTH", "VALUES"});
    for (int i = 0; i < response.embeddings_size(); ++i) table.Add(Row(i, response.embeddings(i)));
    std::cout << table.ToString();
    return;
  }
  Json embeddings = Json::array();
  for (const v1::Embedding& each : response.embeddings()) {
    embeddings.push_back({{"values", std::vector<float>(each.values().begin(), each.values().end())},
                          {"prompt_tokens", each.prompt_tokens()},
                          {"truncated", each.truncated()}});
  }
  const Json object = {{"embeddings", embeddings},
                       {"usage", {{"prompt_tokens", response.usage().prompt_tokens()}}},
                       {"model_revision", response.model_revision()}};
  std::cout << object.dump(2) << std::endl;
}

void Print(const v1::RerankResponse& response, bool json) {
  if (json) {
    std::cout << ToJson(response);
    return;
  }
  Table table({"DOCUMENT", "SCORE", "TOKENS"});
  for (const v1::RerankResult& result : response.results()) {
    table.Add({absl::StrCat(result.index()), absl::StrFormat("%.5f", result.score()),
               absl::StrCat(result.prompt_tokens(), result.truncated() ? " (cut)" : "")});
  }
  std::cout << table.ToString();
}

template <typename Response>
int Show(const absl::StatusOr<Response>& response, const EncodeFlags& flags) {
  if (!response.ok()) return Report(response.status());
  Print(*response, flags.format == "json");
  return kOk;
}

int Embed(const Context& context, const EncodeFlags& flags) {
  const auto client = context.ConnectClient();
  if (!client.ok()) return Report(client.status());
  v1::EmbedRequest request;
  request.set_model(flags.model);
  for (const std::string& text : flags.texts) request.add_inputs()->set_text(text);
  for (const std::string& path : flags.images) {
    absl::StatusOr<std::string> file = model::ReadSmallFile(path, model::kMaxImageFileBytes);
    if (!file.ok()) return Report(file.status());
    request.add_inputs()->set_image(*std::move(file));
  }
  if (request.inputs().empty()) return Report(absl::InvalidArgumentError("name a TEXT or an --image"));
  if (flags.truncate.has_value()) request.set_truncate_tokens(*flags.truncate);
  request.set_dimensions(flags.dimensions);
  request.set_priority(flags.priority);
  return Show((*client)->Embed(request), flags);
}

int Rerank(const Context& context, const EncodeFlags& flags) {
  const auto client = context.ConnectClient();
  if (!client.ok()) return Report(client.status());
  v1::RerankRequest request;
  request.set_model(flags.model);
  request.set_query(flags.query);
  for (const std::string& text : flags.texts) request.add_documents(text);
  if (flags.truncate.has_value()) request.set_truncate_tokens(*flags.truncate);
  request.set_top_n(flags.top_n);
  request.set_priority(flags.priority);
  return Show((*client)->Rerank(request), flags);
}

void AddShared(CLI::App* verb, EncodeFlags* flags, const char* task) {
  verb->add_option("--model", flags->model, absl::StrCat("Name or alias of a model of the task ", task))->required();
  verb->add_option("--truncate", flags->truncate,
                   "Cut what is too long to so many tokens; 0: to what the model takes. Without it that is an error");
  verb->add_option("--priority", flags->priority, "Higher is served first, -100 to 100")->capture_default_str();
  verb->add_option("-o,--output", flags->format, "table or json")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
}

}  // namespace

void AddEmbed(CLI::App& app, Context& context) {
  auto flags = std::make_shared<EncodeFlags>();
  CLI::App* embed = app.add_subcommand("embed", "Print the vectors of texts and of pictures");
  embed->add_option("TEXT", flags->texts, "The texts");
  embed->add_option("--image", flags->images, "PNG and JPEG files, behind the texts")->allow_extra_args(false);
  embed->add_option("--dimensions", flags->dimensions, "Only the first so many values, brought to length 1; 0 is all");
  AddShared(embed, flags.get(), "embed");
  embed->callback([&context, flags] { context.exit_code = Embed(context, *flags); });

  auto ranked = std::make_shared<EncodeFlags>();
  CLI::App* rerank = app.add_subcommand("rerank", "Print how well documents answer a query, best first");
  rerank->add_option("QUERY", ranked->query, "The query")->required();
  rerank->add_option("DOCUMENT", ranked->texts, "The documents")->required();
  rerank->add_option("--top-n", ranked->top_n, "So many results at most; 0 is all");
  AddShared(rerank, ranked.get(), "rerank");
  rerank->callback([&context, ranked] { context.exit_code = Rerank(context, *ranked); });
}

}  // namespace tandem::client::ctl
