// tandemctl cordon, uncordon, drain, undrain: taking devices out of service and back.
#include <chrono>
#include <condition_variable>
#include <deque>
#include <iostream>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/ctl/interrupt.h"
#include "client/ctl/names.h"
#include "client/ctl/tables.h"
#include "client/ctl/verbs.h"
#include "client/error.h"
#include "config/units.h"

namespace tandem::client::ctl {
namespace {

struct DrainFlags {
  std::vector<std::string> names;
  std::string reason, deadline = "10m", on_deadline = "migrate";
  bool detach = false, force = false, dry_run = false;
};

absl::StatusOr<std::vector<ResourceName>> ParseNames(const std::vector<std::string>& texts, bool groups_too) {
  std::vector<ResourceName> names;
  for (const std::string& text : texts) {
    const auto name = ParseName(text, Kind::kDevice);
    if (!name.ok()) return name.status();
    const bool fits =
        name->kind == Kind::kDevice || name->kind == Kind::kNode || (groups_too && name->kind == Kind::kGroup);
    if (!fits) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", text, "\" is neither a device nor a node", groups_too ? " nor a group" : ""));
    }
    names.push_back(*name);
  }
  return names;
}

// ---- one call per name, all of one shape ----------------------------------------------------------------------------

template <typename Request>
Request Make(const std::string& name, const std::string& reason) {
  Request request;
  request.set_name(name);
  request.mutable_mutation()->set_reason(reason);
  return request;
}

void Say(const v1::Device& device) {
  std::cout << ShortName(device.name()) << " " << StateWord(device, "state") << (device.cordoned() ? " cordoned" : "")
            << (device.reason().empty() ? "" : " (" + device.reason() + ")") << std::endl;
}

template <typename Response>
absl::Status SayAll(const absl::StatusOr<Response>& response) {
  if (!response.ok()) return response.status();
  if constexpr (requires { response->device(); }) {
    Say(response->device());
  } else {
    for (const v1::Device& device : response->devices()) Say(device);
  }
  return absl::OkStatus();
}

using Verb = absl::Status (*)(AdminClient&, const ResourceName&, const std::string& reason);

absl::Status Cordon(AdminClient& admin, const ResourceName& name, const std::string& reason) {
  if (name.kind == Kind::kNode) return SayAll(admin.CordonNode(Make<v1::CordonNodeRequest>(name.name, reason)));
  return SayAll(admin.CordonDevice(Make<v1::CordonDeviceRequest>(name.name, reason)));
}

absl::Status Uncordon(AdminClient& admin, const ResourceName& name, const std::string& reason) {
  if (name.kind == Kind::kNode) return SayAll(admin.UncordonNode(Make<v1::UncordonNodeRequest>(name.name, reason)));
  return SayAll(admin.UncordonDevice(Make<v1::UncordonDeviceRequest>(name.name, reason)));
}

absl::Status Undrain(AdminClient& admin, const ResourceName& name, const std::string& reason) {
  if (name.kind == Kind::kNode) return SayAll(admin.UndrainNode(Make<v1::UndrainNodeRequest>(name.name, reason)));
  return SayAll(admin.UndrainDevice(Make<v1::UndrainDeviceRequest>(name.name, reason)));
}

// Stops at the first that fails; what was done before stays done and has been printed.
absl::Status ForEach(const Context& context, Verb verb, const std::vector<std::string>& texts,
                     const std::string& reason) {
  const auto names = ParseNames(texts, /*groups_too=*/false);
  if (!names.ok()) return names.status();
  const auto admin = context.ConnectAdmin();
  if (!admin.ok()) return admin.status();
  for (const ResourceName& name : *names) {
    if (const auto status = verb(**admin, name, reason); !status.ok()) return status;
  }
  return absl::OkStatus();
}

void AddEach(CLI::App& app, Context& context, const char* verb_name, const char* help, Verb verb) {
  auto names = std::make_shared<std::vector<std::string>>();
  auto reason = std::make_shared<std::string>();
  CLI::App* sub = app.add_subcommand(verb_name, help);
  sub->add_option("NAME", *names, "Device or node: 0, box/0, a UUID, a PCI bus id, gpu/0, node/box")->required();
  sub->add_option("--reason", *reason, "Why, for whoever reads the status");
  sub->callback(
      [&context, names, reason, verb] { context.exit_code = Report(ForEach(context, verb, *names, *reason)); });
}

// ---- drain ----------------------------------------------------------------------------------------------------------

// Names this drain among all others, so that it can be asked for again when the scheduler went away under it.
std::string RandomKey() {
  std::random_device source;
  std::string key = "drain-";
  for (int i = 0; i < 4; ++i) absl::StrAppend(&key, absl::Hex(source(), absl::kZeroPad8));
  return key;
}

// One drain that is followed; each has a connection and a thread of its own, so that several go on at the same time.
struct Following {
  ResourceName name;
  std::shared_ptr<AdminClient> admin;  // under Drainer::mu_
  std::string key = RandomKey();
  absl::Status status;
  bool heard = false;  // the scheduler has taken it up
  bool done = false;
  std::string last;
};

// Follows drains to their ends, through restarts of the scheduler: the key makes a repeated call the same drain.
class Drainer {
 public:
  Drainer(const Context& context, const DrainFlags& flags, uint64_t deadline_ms, std::deque<Following>& drains)
      : context_(context), flags_(flags), deadline_ms_(deadline_ms), drains_(drains) {}

  void Follow(Following& following) {
    do {
      following.status = Call(following, Admin(following));
    } while (IsAway(following) && DialAgain(following));
    if (following.status.ok() && !following.done && !flags_.dry_run) {
      following.status = absl::InternalError("the drain's stream ended without saying that it is done");
    }
  }

  // The user has seen enough.
  void Leave() {
    const std::lock_guard<std::mutex> lock(mu_);
    left_ = true;
    left_now_.notify_all();
    for (Following& each : drains_) each.admin->CancelAll();
  }

 private:
  static constexpr auto kBetweenDials = std::chrono::milliseconds(300);

  std::shared_ptr<AdminClient> Admin(const Following& following) {
    const std::lock_guard<std::mutex> lock(mu_);
    return following.admin;
  }

  absl::Status Call(Following& following, const std::shared_ptr<AdminClient>& admin) {
    const auto on_progress = [this, &following](const v1::DrainProgress& progress) { Hear(following, progress); };
    switch (following.name.kind) {
      case Kind::kNode:
        return admin->DrainNode(Request<v1::DrainNodeRequest>(following), on_progress);
      case Kind::kGroup:
        return admin->DrainGroup(Request<v1::DrainGroupRequest>(following), on_progress);
      default:
        return admin->DrainDevice(Request<v1::DrainDeviceRequest>(following), on_progress);
    }
  }

  // The stream broke, and it was neither the user nor Tandem that ended it.
  bool IsAway(const Following& following) {
    const std::lock_guard<std::mutex> lock(mu_);
    const bool detached = flags_.detach && following.heard;
    if (left_ || detached || flags_.dry_run || following.done) return false;
    return following.status.ok() || Unreachable(following.status) ||
           (absl::IsCancelled(following.status) && ErrorReason(following.status).empty());
  }

  // False: the user left first.
  bool DialAgain(Following& following) {
    {
      const std::lock_guard<std::mutex> lock(print_mu_);
      std::cout << following.name.name << ": scheduler is away, dialling again" << std::endl;
    }
    while (true) {
      auto admin = context_.ConnectAdmin();
      std::unique_lock<std::mutex> lock(mu_);
      if (left_) break;
      if (admin.ok()) {
        following.admin = std::move(*admin);
        return true;
      }
      left_now_.wait_for(lock, kBetweenDials, [this] { return left_; });
    }
    following.status = absl::CancelledError("left while the scheduler was away");
    return false;
  }

  template <typename DrainRequest>
  DrainRequest Request(const Following& following) const {
    auto request = Make<DrainRequest>(following.name.name, flags_.reason);
    request.mutable_mutation()->set_validate_only(flags_.dry_run);
    request.mutable_mutation()->set_idempotency_key(following.key);
    request.set_deadline_ms(deadline_ms_);
    request.set_on_deadline(flags_.on_deadline == "abort"  ? v1::ABORT
                            : flags_.on_deadline == "wait" ? v1::WAIT
                                                           : v1::MIGRATE);
    request.set_force(flags_.force);
    return request;
  }

  void Hear(Following& following, const v1::DrainProgress& progress) {
    const std::lock_guard<std::mutex> lock(print_mu_);
    std::string text;
    if (!following.heard) {
      const auto list = [&text](const char* what, const auto& names) {
        if (names.empty()) return;
        absl::StrAppend(&text, "  ", what, ": ", absl::StrJoin(names, ", "), "\n");
      };
      list("devices", progress.devices());
      list("groups that leave service", progress.groups());
      list("models", progress.models_affected());
    }
    const std::string line = absl::StrCat(following.name.name, ": ", progress.done() ? "done; " : "",
                                          progress.overdue() ? "OVERDUE; " : "", progress.message());
    if (line != following.last) std::cout << line << "\n" << text << std::flush;
    following.last = line;
    following.heard = true;
    following.done = progress.done();
    if (flags_.detach) Admin(following)->CancelAll();
  }

  const Context& context_;
  const DrainFlags& flags_;
  const uint64_t deadline_ms_;
  std::deque<Following>& drains_;
  std::mutex print_mu_;  // taken before mu_
  std::mutex mu_;
  std::condition_variable left_now_;
  bool left_ = false;
};

int Drain(const Context& context, const DrainFlags& flags) {
  const auto deadline = config::ParseDuration(flags.deadline);
  if (!deadline.ok())
    return Report(absl::InvalidArgumentError(absl::StrCat("--deadline: ", deadline.status().message())));
  if (*deadline < absl::Milliseconds(1)) return Report(absl::InvalidArgumentError("--deadline: at least 1ms"));
  const auto names = ParseNames(flags.names, /*groups_too=*/true);
  if (!names.ok()) return Report(names.status());

  std::deque<Following> drains;
  for (const ResourceName& name : *names) {
    auto admin = context.ConnectAdmin();
    if (!admin.ok()) return Report(admin.status());
    drains.push_back({name, std::move(*admin)});
  }
  Drainer drainer(context, flags, static_cast<uint64_t>(absl::ToInt64Milliseconds(*deadline)), drains);
  const OnInterrupt on_interrupt([&drainer] { drainer.Leave(); });
  std::vector<std::thread> threads;
  for (Following& each : drains) threads.emplace_back([&drainer, &each] { drainer.Follow(each); });
  for (std::thread& thread : threads) thread.join();

  int code = kOk;
  for (const Following& each : drains) {
    const bool left = absl::IsCancelled(each.status) && each.heard && (flags.detach || on_interrupt.happened());
    if (left && !each.done) {
      std::cerr << each.name.name
                << ": left alone; the drain goes on. The same command looks on, tandemctl events tells all, tandemctl "
                << "undrain takes it back\n";
      if (on_interrupt.happened()) code = kInterrupted;
    } else if (!left && !each.status.ok()) {
      code = Report(each.status);
    }
  }
  return code;
}

}  // namespace

void AddCordon(CLI::App& app, Context& context) {
  AddEach(app, context, "cordon", "Form no new group on a device; what runs there goes on", Cordon);
  AddEach(app, context, "uncordon", "Let new groups form on a device again", Uncordon);
}

void AddDrain(CLI::App& app, Context& context) {
  auto flags = std::make_shared<DrainFlags>();
  CLI::App* drain = app.add_subcommand(
      "drain", "Take devices out of service without failing a request; a device takes its whole group with it");
  drain->add_option("NAME", flags->names, "Device, node or group: 0, box/0, gpu/0, node/box, group/7")->required();
  drain->add_option("--reason", flags->reason, "Why, for whoever reads the status")->required();
  drain->add_option("--deadline", flags->deadline, "How long requests may take to end")->capture_default_str();
  drain
      ->add_option("--on-deadline", flags->on_deadline,
                   "migrate: move what still runs to other groups. wait: never force, be reported overdue. abort: end "
                   "it by name")
      ->check(CLI::IsMember({"wait", "migrate", "abort"}))
      ->capture_default_str();
  drain->add_flag("--detach", flags->detach, "Start the drain and return");
  drain->add_flag("--force", flags->force, "Even the last replica of a model");
  drain->add_flag("--dry-run", flags->dry_run, "Say what it would take, and change nothing");
  drain->footer("Ctrl-C leaves the drain alone; it goes on. A scheduler that restarts meanwhile is dialled again.");
  drain->callback([&context, flags] { context.exit_code = Drain(context, *flags); });
  AddEach(app, context, "undrain", "Take a drain back, before or after its end", Undrain);
}

}  // namespace tandem::client::ctl
