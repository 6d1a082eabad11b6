#include "scheduler/core_loop.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "scheduler/action_runner.h"
#include "scheduler/clock.h"
#include "scheduler/journal.h"

namespace tandem::scheduler {
namespace {

// The core says when it wants to be woken; these bound what a mistake there could do.
constexpr absl::Duration kShortestSleep = absl::Milliseconds(1);
constexpr absl::Duration kLongestSleep = absl::Minutes(1);

}  // namespace

CoreLoop::CoreLoop(const core::CoreOptions& options, ActionRunner* runner, Journal* journal)
    : core_(options), runner_(runner), journal_(journal), mailbox_(kMailboxItems) {}

CoreLoop::~CoreLoop() { Stop(); }

void CoreLoop::Start() {
  thread_ = std::thread([this] { Run(); });
}

void CoreLoop::Stop() {
  mailbox_.Close();
  if (thread_.joinable()) thread_.join();
}

bool CoreLoop::TryPost(core::Event&& event) { return mailbox_.TryPost(Item(std::move(event))); }

void CoreLoop::PostOwed(core::Event event) { mailbox_.PostOwed(Item(std::move(event))); }

bool CoreLoop::PostQuery(Query query) { return mailbox_.TryPost(Item(std::move(query))); }

void CoreLoop::PostOwedQuery(Query query) { mailbox_.PostOwed(Item(std::move(query))); }

void CoreLoop::Step(const core::Event& event) {
  const core::Instant now = Now();
  if (journal_ != nullptr) journal_->Append(now, event, core_);
  const auto begin = std::chrono::steady_clock::now();
  const core::Actions actions = core_.Step(now, event);
  runner_->Decided(absl::FromChrono(std::chrono::steady_clock::now() - begin));
  runner_->Run(now, actions);
}

void CoreLoop::Run() {
  std::vector<Item> items;
  while (true) {
    absl::Duration patience = kLongestSleep;
    if (const core::Instant deadline = core_.NextDeadline(); deadline != core::kNever) {
      patience = std::clamp(absl::Microseconds((deadline - Now()).us), kShortestSleep, kLongestSleep);
    }
    if (!mailbox_.TakeAll(patience, &items)) break;
    for (Item& item : items) {
      if (const auto* event = std::get_if<core::Event>(&item)) {
        Step(*event);
      } else {
        std::get<Query>(item)(core_);
      }
    }
    if (core_.NextDeadline() <= Now()) Step(core::Ticked{});
    runner_->EndOfBatch(core_);
    if (journal_ != nullptr) journal_->Flush();
  }
}

}  // namespace tandem::scheduler
