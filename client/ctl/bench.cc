// tandemctl bench: a load generator against a running service.
#include <unistd.h>

#include <atomic>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/ctl/bench_run.h"
#include "client/ctl/bench_stats.h"
#include "client/ctl/interrupt.h"
#include "client/ctl/print.h"
#include "client/ctl/verbs.h"
#include "config/units.h"

namespace tandem::client::ctl {
namespace {

using Json = nlohmann::ordered_json;

// Ids of ordinary words of whichever model: what this text is cut into.
constexpr char kWords[] =
    "In the morning the garden was quiet. A worker carried seven boxes from the old machine to the table near the "
    "window, "
    "counted them twice, and wrote the number into a small book. The capital of the country lies on a river; its "
    "bridges "
    "are known for their length. Nobody had asked for more light, but there was some, and it was enough to read by.";

struct BenchFlags {
  std::string model, trace, format = "table", limits = "ttft=2s,tpot=100ms", timeout = "10m";
  std::string input = "128", output = "64";
  double rate = 0, time_scale = 1;
  size_t concurrency = 0, requests = 0;
  uint64_t seed = 1;
};

struct Bench {
  std::vector<TraceRequest> workload;
  BenchSettings settings;
  ServiceLevel limits;
  std::string load;     // in words
  size_t too_long = 0;  // requests that no context of the model holds; left out
};

absl::StatusOr<std::vector<TraceRequest>> MakeWorkload(const BenchFlags& flags, std::string* load) {
  if (!flags.trace.empty()) {
    auto requests = ReadTraceFile(flags.trace);
    if (!requests.ok()) return requests.status();
    if (flags.requests > 0 && flags.requests < requests->size()) requests->resize(flags.requests);
    for (TraceRequest& request : *requests) {
      request.due_us = static_cast<int64_t>(static_cast<double>(request.due_us) * flags.time_scale);
    }
    *load = flags.concurrency > 0 ? absl::StrFormat("trace %s, closed loop of %d", flags.trace, flags.concurrency)
                                  : absl::StrFormat("trace %s, times x %g", flags.trace, flags.time_scale);
    return requests;
  }
  const auto input = ParseTokenRange(flags.input), output = ParseTokenRange(flags.output);
  if (!input.ok()) return absl::InvalidArgumentError(absl::StrCat("--input: ", input.status().message()));
  if (!output.ok()) return absl::InvalidArgumentError(absl::StrCat("--output-tokens: ", output.status().message()));
  *load = flags.concurrency > 0 ? absl::StrFormat("closed loop of %d", flags.concurrency)
                                : absl::StrFormat("Poisson at %g/s", flags.rate);
  return DrawRequests(flags.requests > 0 ? flags.requests : 100, flags.rate, *input, *output, flags.seed);
}

absl::StatusOr<v1::ServedModel> FindModel(Client& client, const std::string& name) {
  const auto models = client.ListModels();
  if (!models.ok()) return models.status();
  for (const v1::ServedModel& model : models->models()) {
    const bool named = model.name() == name ||
                       std::find(model.aliases().begin(), model.aliases().end(), name) != model.aliases().end();
    if (named || (name.empty() && models->models_size() == 1)) return model;
  }
  return absl::NotFoundError(name.empty() ? "--model is needed: there is not exactly one"
                                          : absl::StrCat("there is no model \"", name, "\""));
}

absl::StatusOr<Bench> Prepare(const Context& context, const BenchFlags& flags) {
  const int ways = (flags.rate > 0) + (flags.concurrency > 0) + (!flags.trace.empty() && flags.concurrency == 0);
  if (ways != 1) {
    return absl::InvalidArgumentError("give --rate, --concurrency or --trace; a trace may also run with --concurrency");
  }
  if (!(flags.time_scale > 0)) return absl::InvalidArgumentError("--time-scale is above 0");
  Bench bench;
  auto limits = ParseServiceLevel(flags.limits);
  if (!limits.ok()) return limits.status();
  bench.limits = *limits;
  const auto timeout = config::ParseDuration(flags.timeout);
  if (!timeout.ok()) return absl::InvalidArgumentError(absl::StrCat("--timeout: ", timeout.status().message()));
  auto workload = MakeWorkload(flags, &bench.load);
  if (!workload.ok()) return workload.status();
  auto address = context.ServerAddress();
  if (!address.ok()) return address.status();
  auto dialer = context.MakeDialer();
  if (!dialer.ok()) return dialer.status();
  const auto client = context.ConnectClient();
  if (!client.ok()) return client.status();
  const auto model = FindModel(**client, flags.model);
  if (!model.ok()) return model.status();
  for (TraceRequest& request : *workload) {
    if (uint64_t{request.input_tokens} + request.output_tokens > model->max_model_len()) {
      ++bench.too_long;
    } else {
      bench.workload.push_back(std::move(request));
    }
  }
  if (bench.workload.empty()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("no request fits the context of model %s, %d tokens", model->name(), model->max_model_len()));
  }
  v1::TokenizeRequest words;
  words.set_model(model->name());
  words.set_text(kWords);
  words.set_no_special_tokens(true);
  const auto ids = (*client)->Tokenize(words);
  if (!ids.ok()) return ids.status();
  bench.settings = {.address = *std::move(address),
                    .dialer = *std::move(dialer),
                    .model = model->name(),
                    .vocabulary = {ids->token_ids().begin(), ids->token_ids().end()},
                    .seed = flags.seed,
                    .concurrency = flags.concurrency,
                    .timeout = *timeout};
  return bench;
}

Json ToJson(const Distribution& d) {
  return {{"count", d.count}, {"mean", d.mean}, {"p50", d.p50}, {"p90", d.p90}, {"p99", d.p99}, {"max", d.most}};
}

void PrintJson(const Bench& bench, const BenchFlags& flags, const BenchReport& report) {
  const Json out = {
      {"model", bench.settings.model},
      {"load", bench.load},
      {"seed", flags.seed},
      {"slo", flags.limits},
      {"offered", report.offered},
      {"completed", report.completed},
      {"rejected", report.rejected},
      {"failed", report.failed},
      {"left_out_too_long", bench.too_long},
      {"within_slo", report.within_limits},
      {"slo_attainment", report.offered == 0 ? 0.0 : double(report.within_limits) / double(report.offered)},
      {"reasons", report.reasons},
      {"seconds", report.seconds},
      {"offered_per_s", report.offered_rate},
      {"completed_per_s", report.completed_rate},
      {"goodput_per_s", report.goodput},
      {"output_tokens_per_s", report.output_token_rate},
      {"prompt_tokens", report.prompt_tokens},
      {"cached_tokens", report.cached_tokens},
      {"output_tokens", report.output_tokens},
      {"ttft_ms", ToJson(report.ttft)},
      {"tpot_ms", ToJson(report.tpot)},
      {"itl_ms", ToJson(report.itl)},
      {"e2e_ms", ToJson(report.e2e)},
      {"send_lateness_ms", ToJson(report.lateness)}};
  std::cout << out.dump(2) << std::endl;
}

void PrintTable(const Bench& bench, const BenchFlags& flags, const BenchReport& report) {
  std::cout << absl::StrFormat("%s: %s, seed %d, %.1f s\n", bench.settings.model, bench.load, flags.seed,
                               report.seconds);
  std::cout << absl::StrFormat("requests   %d offered (%.2f/s), %d completed (%.2f/s), %d rejected, %d failed\n",
                               report.offered, report.offered_rate, report.completed, report.completed_rate,
                               report.rejected, report.failed);
  for (const auto& [reason, count] : report.reasons)
    std::cout << absl::StrFormat("           %d x %s\n", count, reason);
  if (bench.too_long > 0)
    std::cout << absl::StrFormat("           %d left out: longer than the model's context\n", bench.too_long);
  std::cout << absl::StrFormat("tokens     %d prompt (%d cached), %d output (%.1f/s)\n", report.prompt_tokens,
                               report.cached_tokens, report.output_tokens, report.output_token_rate);
  std::cout << absl::StrFormat("goodput    %.2f/s, %.1f %% of the offered requests within %s\n\n", report.goodput,
                               100.0 * double(report.within_limits) / double(std::max<size_t>(report.offered, 1)),
                               flags.limits);
  Table table({"MS", "MEAN", "P50", "P90", "P99", "MAX", "COUNT"});
  const auto add = [&](const char* name, const Distribution& d) {
    const auto cell = [](double ms) { return absl::StrFormat("%.2f", ms); };
    table.Add({name, cell(d.mean), cell(d.p50), cell(d.p90), cell(d.p99), cell(d.most), absl::StrCat(d.count)});
  };
  add("TTFT", report.ttft);
  add("TPOT", report.tpot);
  add("ITL", report.itl);
  add("E2E", report.e2e);
  add("send lateness", report.lateness);
  std::cout << table.ToString();
}

int RunVerb(const Context& context, const BenchFlags& flags) {
  const auto bench = Prepare(context, flags);
  if (!bench.ok()) return Report(bench.status());
  std::atomic<bool> stop = false;
  const OnInterrupt on_interrupt([&stop] { stop = true; });
  const bool shows = isatty(STDERR_FILENO) != 0;
  const auto outcomes = RunBench(
      bench->workload, bench->settings,
      [&](const BenchProgress& p) {
        if (!shows) return;
        std::cerr << absl::StrFormat("\r%d of %d sent, %d running, %d completed, %d missed   ", p.sent,
                                     bench->workload.size(), p.running, p.completed, p.missed)
                  << std::flush;
      },
      stop);
  if (shows) std::cerr << "\n";
  if (!outcomes.ok()) return Report(outcomes.status());
  const BenchReport report = Summarize(*outcomes, bench->limits);
  if (flags.format == "json") {
    PrintJson(*bench, flags, report);
  } else {
    PrintTable(*bench, flags, report);
  }
  if (on_interrupt.happened()) return kInterrupted;
  return report.completed > 0 ? kOk : kFailure;
}

}  // namespace

void AddBench(CLI::App& app, Context& context) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* bench = app.add_subcommand("bench", "Measure a running service under load");
  bench->add_option("--model", flags->model, "Name or alias of the model; may be left out where there is only one");
  bench->add_option("--rate", flags->rate, "Open loop: requests per second, Poisson arrivals");
  bench->add_option("--trace", flags->trace,
                    "Open loop: arrivals and lengths of this file (CSV or JSON lines, plain or gzip)");
  bench->add_option("--time-scale", flags->time_scale, "Multiplies the trace's times; 0.5 doubles the load")
      ->capture_default_str();
  bench->add_option("--concurrency", flags->concurrency, "Closed loop: so many requests on their way at any time");
  bench->add_option("--requests", flags->requests, "How many; default 100, or the whole trace");
  bench->add_option("--input-tokens", flags->input, "Tokens of a prompt, N or LEAST-MOST")->capture_default_str();
  bench->add_option("--output-tokens", flags->output, "Tokens of an answer, N or LEAST-MOST")->capture_default_str();
  bench->add_option("--slo", flags->limits, "What counts as good: ttft=, tpot=, e2e=, separated by commas")
      ->capture_default_str();
  bench->add_option("--timeout", flags->timeout, "Deadline of each request")->capture_default_str();
  bench->add_option("--seed", flags->seed, "Equal seeds send equal requests at equal times")->capture_default_str();
  bench->add_option("-o,--output", flags->format, "table or json")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  bench->callback([&context, flags] { context.exit_code = RunVerb(context, *flags); });
}

}  // namespace tandem::client::ctl
