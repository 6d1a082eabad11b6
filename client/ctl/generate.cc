// tandemctl generate: one completion, streamed to the terminal or gathered into one JSON object.
#include <atomic>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/ctl/interrupt.h"
#include "client/ctl/verbs.h"
#include "config/units.h"

namespace tandem::client::ctl {
namespace {

using Json = nlohmann::ordered_json;

struct GenerateFlags {
  std::string model, prompt, format = "text", timeout;
  std::vector<uint32_t> prompt_ids;
  std::vector<std::string> stop;
  std::optional<uint32_t> max_tokens, logprobs;
  std::optional<uint64_t> seed;
  std::optional<float> top_p;
  std::optional<int32_t> top_k;
  float temperature = 0;
  int32_t priority = 0;
  bool ignore_eos = false;
};

v1::GenerateRequest ToRequest(const GenerateFlags& flags) {
  v1::GenerateRequest request;
  request.set_model(flags.model);
  if (!flags.prompt_ids.empty()) {
    request.mutable_token_ids()->mutable_ids()->Assign(flags.prompt_ids.begin(), flags.prompt_ids.end());
  } else if (flags.prompt == "-") {
    request.set_text(std::string(std::istreambuf_iterator<char>(std::cin), {}));
  } else {
    request.set_text(flags.prompt);
  }
  v1::SamplingParams& sampling = *request.mutable_sampling();
  sampling.set_temperature(flags.temperature);
  if (flags.seed.has_value()) sampling.set_seed(*flags.seed);
  if (flags.top_p.has_value()) sampling.set_top_p(*flags.top_p);
  if (flags.top_k.has_value()) sampling.set_top_k(*flags.top_k);
  v1::StoppingCriteria& stopping = *request.mutable_stopping();
  if (flags.max_tokens.has_value()) stopping.set_max_tokens(*flags.max_tokens);
  for (const std::string& stop : flags.stop) stopping.add_stop(stop);
  stopping.set_ignore_eos(flags.ignore_eos);
  if (flags.logprobs.has_value()) request.set_logprobs(*flags.logprobs);
  request.set_priority(flags.priority);
  return request;
}

Json ToJson(const v1::TokenLogprob& logprob) {
  return {{"token_id", logprob.token_id()}, {"logprob", logprob.logprob()}};
}

Json ToJson(const v1::PositionLogprobs& position) {
  Json top = Json::array();
  for (const v1::TokenLogprob& each : position.top()) top.push_back(ToJson(each));
  return {{"chosen", ToJson(position.chosen())}, {"top", top}};
}

// Everything that came, gathered for -o json.
struct Gathered {
  std::string text;
  Json token_ids = Json::array();
  Json logprobs = Json::array();

  void Add(const v1::Chunk& chunk) {
    text += chunk.text();
    for (const uint32_t id : chunk.token_ids()) token_ids.push_back(id);
    for (const v1::PositionLogprobs& position : chunk.logprobs()) logprobs.push_back(ToJson(position));
  }
};

void PrintJson(const Gathered& gathered, const GenerateResult& result, bool with_logprobs) {
  const v1::Usage& usage = result.finished.usage();
  const v1::Timings& timings = result.finished.timings();
  Json object = {
      {"request_id", result.accepted.request_id()},
      {"text", gathered.text},
      {"token_ids", gathered.token_ids},
      {"finish_reason", v1::FinishReason_Name(result.finished.reason())},
      {"usage",
       {{"prompt_tokens", usage.prompt_tokens()},
        {"completion_tokens", usage.completion_tokens()},
        {"cached_tokens", usage.cached_tokens()}}},
      {"group", result.accepted.group()},
      {"seed", result.accepted.seed()},
      {"model_revision", result.accepted.model_revision()},
      {"numerics_id", result.accepted.numerics_id()},
      {"timings",
       {{"queue_us", timings.queue_us()},
        {"first_token_us", timings.first_token_us()},
        {"total_us", timings.total_us()},
        {"preemptions", timings.preemptions()}}},
      {"resumes", result.resumes},
  };
  if (with_logprobs) object["logprobs"] = gathered.logprobs;
  // Text is whole UTF-8 by the protocol; should it not be, a replacement character is better than no answer.
  std::cout << object.dump(2, ' ', false, Json::error_handler_t::replace) << std::endl;
}

// The model that is served, where there is one only.
absl::StatusOr<std::string> OnlyModel(Client& client) {
  const auto models = client.ListModels();
  if (!models.ok()) return models.status();
  if (models->models_size() == 1) return models->models(0).name();
  std::vector<std::string> names;
  for (const v1::ServedModel& model : models->models()) names.push_back(model.name());
  return absl::InvalidArgumentError(absl::StrCat("--model is needed, one of: ", absl::StrJoin(names, ", ")));
}

absl::Status CheckFlags(const GenerateFlags& flags, bool has_prompt) {
  if (has_prompt == !flags.prompt_ids.empty()) {
    return absl::InvalidArgumentError("give either a PROMPT or --prompt-ids");
  }
  return absl::OkStatus();
}

int Generate(const Context& context, GenerateFlags flags, bool has_prompt) {
  if (const auto status = CheckFlags(flags, has_prompt); !status.ok()) return Report(status);
  GenerateOptions options;
  if (!flags.timeout.empty()) {
    const auto timeout = config::ParseDuration(flags.timeout);
    if (!timeout.ok())
      return Report(absl::InvalidArgumentError(absl::StrCat("--timeout: ", timeout.status().message())));
    options.timeout = *timeout;
  }
  options.on_resume = [](const absl::Status& why, size_t tokens) {
    std::cerr << "the stream broke after " << tokens << " tokens (" << why.message() << "); resuming" << std::endl;
  };
  const auto client = context.ConnectClient();
  if (!client.ok()) return Report(client.status());
  if (flags.model.empty()) {
    const auto only = OnlyModel(**client);
    if (!only.ok()) return Report(only.status());
    flags.model = *only;
  }

  TokenStream stream = (*client)->Generate(ToRequest(flags), options);
  const OnInterrupt on_interrupt([&stream] { stream.Cancel(); });
  const bool json = flags.format == "json";
  Gathered gathered;
  bool at_line_start = true;
  while (const auto chunk = stream.Next()) {
    if (json) {
      gathered.Add(*chunk);
    } else if (!chunk->text().empty()) {
      std::cout << chunk->text() << std::flush;
      at_line_start = chunk->text().back() == '\n';
    }
  }
  const auto& result = stream.Result();
  // A line of its own for what comes after: the prompt of the shell, or the error.
  if (!json && (!at_line_start || result.ok())) std::cout << std::endl;
  if (!result.ok()) {
    const int code = Report(result.status());
    return on_interrupt.happened() ? kInterrupted : code;
  }
  if (json) PrintJson(gathered, *result, flags.logprobs.has_value());
  return kOk;
}

}  // namespace

void AddGenerate(CLI::App& app, Context& context) {
  auto flags = std::make_shared<GenerateFlags>();
  CLI::App* generate = app.add_subcommand("generate", "Stream one completion to standard output");
  generate->add_option("--model", flags->model, "Name or alias of the model; may be left out where there is only one");
  CLI::Option* prompt = generate->add_option("PROMPT", flags->prompt, "The prompt; - reads standard input");
  generate->add_option("--prompt-ids", flags->prompt_ids, "The prompt as token ids: 1,2,3")->delimiter(',');
  generate->add_option("--max-tokens", flags->max_tokens, "At most so many tokens; default: what the context leaves");
  generate->add_option("--temperature", flags->temperature, "0 is greedy")->capture_default_str();
  generate->add_option("--top-p", flags->top_p, "Share of probability to draw from, (0, 1]");
  generate->add_option("--top-k", flags->top_k, "Number of tokens to draw from; 0 is all");
  generate->add_option("--seed", flags->seed, "Equal seeds draw equal tokens");
  generate->add_option("--stop", flags->stop, "End before this text; may be given again");
  generate->add_flag("--ignore-eos", flags->ignore_eos, "Go on past the model's end of sequence");
  generate->add_option("--logprobs", flags->logprobs, "Alternatives per token, 0 to 20; shown by -o json");
  generate->add_option("--priority", flags->priority, "Higher is served first, -100 to 100")->capture_default_str();
  generate->add_option("--timeout", flags->timeout, "Give up after this long, such as 30s");
  generate->add_option("-o,--output", flags->format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  generate->callback([&context, flags, prompt] { context.exit_code = Generate(context, *flags, prompt->count() > 0); });
}

}  // namespace tandem::client::ctl
