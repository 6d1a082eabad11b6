// tandemctl status, wait ready, version: the installation as a whole.
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/ctl/tables.h"
#include "client/ctl/verbs.h"
#include "config/units.h"

namespace tandem::client::ctl {
namespace {

// A table of the first ones, and where the others are.
template <typename Rows>
void PrintSome(const Rows& rows, uint32_t total, const char* what) {
  if (rows.empty()) return;
  std::cout << "\n" << ToTable(rows, false).ToString();
  const uint32_t shown = static_cast<uint32_t>(rows.size());
  if (total > shown) std::cout << "and " << total - shown << " more " << what << ": tandemctl get " << what << "\n";
}

void PrintStatus(const v1::GetStatusResponse& status) {
  std::cout << "scheduler  " << OrDash(status.version()) << ", leader epoch " << status.leader_epoch() << ", up "
            << Milliseconds(status.uptime_ms()) << ", " << (status.ready() ? "ready" : "not ready") << "\n"
            << "requests   " << status.requests_running() << " running, " << status.requests_queued() << " queued, "
            << status.requests_finished() << " finished, " << status.requests_failed() << " failed, "
            << status.requests_cancelled() << " cancelled\n";
  if (status.models_size() > 0) std::cout << "\n" << ToTable(status.models(), false).ToString();
  PrintSome(status.groups(), status.groups_total(), "groups");
  PrintSome(status.devices(), status.devices_total(), "devices");
  std::cout << std::flush;
}

absl::Status Status(const Context& context, const std::string& format) {
  const auto admin = context.ConnectAdmin();
  if (!admin.ok()) return admin.status();
  const auto status = (*admin)->GetStatus();
  if (!status.ok()) return status.status();
  if (format == "json") {
    std::cout << ToJson(*status) << std::flush;
  } else if (format == "yaml") {
    std::cout << ToYaml(*status) << std::flush;
  } else {
    PrintStatus(*status);
  }
  return absl::OkStatus();
}

// The same again and again, in place on a terminal, until it is interrupted or `times` are over.
absl::Status Top(const Context& context, const std::string& every, int times) {
  const auto pause = config::ParseDuration(every);
  if (!pause.ok()) return absl::InvalidArgumentError(absl::StrCat("--interval: ", pause.status().message()));
  const auto admin = context.ConnectAdmin();
  if (!admin.ok()) return admin.status();
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  for (int i = 0; times == 0 || i < times; ++i) {
    if (i > 0) absl::SleepFor(std::max(*pause, absl::Milliseconds(100)));
    const auto status = (*admin)->GetStatus();
    if (!status.ok()) return status.status();
    if (terminal) std::cout << "\033[H\033[2J";
    PrintStatus(*status);
  }
  return absl::OkStatus();
}

bool Answers(const v1::Model& model, const std::string& name) {
  return ShortName(model.name()) == name || model.name() == name ||
         std::find(model.aliases().begin(), model.aliases().end(), name) != model.aliases().end();
}

// What is missing, in one sentence; empty when ready. NOT_FOUND for a model that is not configured.
absl::StatusOr<std::string> WhatIsMissing(const v1::GetStatusResponse& status, const std::string& wanted) {
  std::vector<std::string> missing;
  bool found = wanted.empty();
  for (const v1::Model& model : status.models()) {
    if (!wanted.empty() && !Answers(model, wanted)) continue;
    found = true;
    if (model.replicas_ready() > 0 || model.sleeping()) continue;
    missing.push_back(absl::StrCat(ShortName(model.name()), ": ",
                                   model.waits_for().empty() ? "no group is READY" : model.waits_for()));
  }
  if (!found) return absl::NotFoundError(absl::StrCat("no model \"", wanted, "\" is configured"));
  if (missing.empty() && wanted.empty() && !status.ready()) missing.push_back("the scheduler says it is not ready");
  return absl::StrJoin(missing, "; ");
}

absl::Status WaitReady(const Context& context, const std::string& model, absl::Duration timeout) {
  const auto address = context.AdminAddress();
  if (!address.ok()) return address.status();
  const auto dialer = context.MakeDialer();
  if (!dialer.ok()) return dialer.status();
  const absl::Time deadline = absl::Now() + timeout;
  std::unique_ptr<AdminClient> admin;
  absl::Status outcome;
  do {
    if (admin == nullptr) {
      auto connected = AdminClient::Connect(
          *address, {.connect_timeout = absl::Seconds(1), .call_timeout = absl::Seconds(5), .dialer = *dialer});
      outcome = connected.status();
      if (connected.ok()) admin = std::move(*connected);
    }
    if (admin != nullptr) {
      const auto status = admin->GetStatus();
      outcome = status.status();
      if (status.ok()) {
        const auto missing = WhatIsMissing(*status, model);
        if (!missing.ok() || missing->empty()) return missing.status();
        outcome = absl::DeadlineExceededError(
            absl::StrCat("not ready after ", absl::FormatDuration(timeout), ": ", *missing));
      }
    }
    absl::SleepFor(std::min(absl::Milliseconds(100), std::max(absl::ZeroDuration(), deadline - absl::Now())));
  } while (absl::Now() < deadline);
  return outcome;
}

}  // namespace

void AddStatus(CLI::App& app, Context& context) {
  auto format = std::make_shared<std::string>("table");
  CLI::App* status = app.add_subcommand("status", "Show models, groups, devices and requests at a glance");
  status->add_option("-o,--output", *format, "table, json or yaml")->check(CLI::IsMember({"table", "json", "yaml"}));
  status->callback([&context, format] { context.exit_code = Report(Status(context, *format)); });
}

void AddTop(CLI::App& app, Context& context) {
  auto every = std::make_shared<std::string>("2s");
  auto times = std::make_shared<int>(0);
  CLI::App* top = app.add_subcommand("top", "Show the status again and again");
  top->add_option("--interval", *every, "Between two looks")->capture_default_str();
  top->add_option("-n,--times", *times, "End after so many; 0: when interrupted")->check(CLI::NonNegativeNumber);
  top->callback([&context, every, times] { context.exit_code = Report(Top(context, *every, *times)); });
}

void AddWait(CLI::App& app, Context& context) {
  auto model = std::make_shared<std::string>();
  auto timeout = std::make_shared<std::string>("60s");
  CLI::App* wait = app.add_subcommand("wait", "Wait until something is so");
  wait->require_subcommand(1);
  CLI::App* ready = wait->add_subcommand("ready", "Every configured model, or --model, has a READY group; else exit 3");
  ready->add_option("--model", *model, "Wait for this model only");
  ready->add_option("--timeout", *timeout, "How long at most")->capture_default_str();
  ready->callback([&context, model, timeout] {
    const auto duration = config::ParseDuration(*timeout);
    if (!duration.ok()) {
      context.exit_code = Report(absl::InvalidArgumentError(absl::StrCat("--timeout: ", duration.status().message())));
      return;
    }
    context.exit_code = Report(WaitReady(context, *model, *duration));
  });
}

}  // namespace tandem::client::ctl
