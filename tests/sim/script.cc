#include "tests/sim/script.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tests/sim/random.h"

namespace tandem::sim {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;
constexpr int64_t kMiB = int64_t{1} << 20;

core::ModelSpec DrawModel(Random& random, int number, int most_degree) {
  core::ModelSpec spec;
  spec.name = absl::StrCat("m", number);
  spec.path = spec.name;
  spec.revision = "sim";
  const int degrees[] = {0, 1, 1, 2, 4};
  spec.tensor_parallel = degrees[random.Below(5)];
  if (spec.tensor_parallel > most_degree) spec.tensor_parallel = 1;
  spec.replicas_min = 1;
  spec.replicas_max = static_cast<int>(random.Between(1, 3));
  spec.max_model_len = static_cast<int32_t>(random.Between(4, 16) * 24);
  spec.max_sequences = static_cast<int32_t>(random.Between(1, 6));
  spec.max_batch_tokens = static_cast<int32_t>(random.Between(1, 4) * 32);
  spec.priority = static_cast<int>(random.Below(2));
  const int64_t weights = random.Between(256, 3072) * kMiB;
  const int64_t per_token = 4 * kMiB;
  for (int degree : {1, 2, 4}) {
    spec.costs.push_back({degree, "", {weights / degree}, {per_token / degree}});
  }
  if (random.Chance(500)) spec.kv_most = {random.Between(8, 30) * 16 * per_token};
  return spec;
}

// Happenings of one kind come at this mean distance; 0: never in this run.
int64_t DrawDistance(Random& random) {
  const int64_t seconds[] = {0, 0, 60, 20, 8, 4};
  return seconds[random.Below(6)] * 1000;
}

class Drawer {
 public:
  explicit Drawer(uint64_t seed) : random_(seed ^ 0x5C1F7), setup_(DrawSetup(seed)) { script_.seed = seed; }

  Script Draw() {
    DrawRequests();
    const auto several = [&](What what, auto with) {
      const int64_t distance = DrawDistance(random_);
      if (distance == 0) return;
      for (int64_t at = random_.Below(2 * distance); at < setup_.storm_ms; at += 1 + random_.Below(2 * distance)) {
        Add(at, what, with());
      }
    };
    several(What::kCrash, [&] { return With{Place(), random_.Between(50, 4000)}; });
    several(What::kStop, [&] { return With{Place(), random_.Between(100, 2000)}; });
    several(What::kFreeze, [&] { return With{Place(), random_.Chance(300) ? 100000 : random_.Between(100, 12000)}; });
    several(What::kSlow, [&] { return With{Place(), random_.Between(2, 10), random_.Between(1000, 10000)}; });
    several(What::kCutStream, [&] { return With{Place()}; });
    several(What::kCutTokens, [&] { return With{Place()}; });
    several(What::kPartition, [&] { return With{Place(), random_.Between(1, 3), random_.Between(200, 12000)}; });
    several(What::kStepFault, [&] { return With{Place()}; });
    several(What::kClientBreak, [&] { return With{random_.Below(std::max<int64_t>(requests_, 1))}; });
    several(What::kClientCancel, [&] { return With{random_.Below(std::max<int64_t>(requests_, 1))}; });
    several(What::kClientStall, [&] {
      return With{random_.Below(std::max<int64_t>(requests_, 1)), random_.Between(100, 8000)};
    });
    if (random_.Chance(300)) several(What::kStick, [&] { return With{Place(), random_.Between(100, 20000)}; });
    if (random_.Chance(300)) {
      several(What::kLie, [&] { return With{Place(), random_.Between(100, 20000), random_.Below(2)}; });
    }
    if (random_.Chance(250)) {
      several(What::kDeploy, [&] {
        return With{Model(), random_.Between(1, 6), random_.Between(1, 3),
                    random_.Chance(500) ? random_.Between(8, 30) * 16 : 0};
      });
      several(What::kScale, [&] {
        const int64_t least = random_.Between(1, 2);
        return With{Model(), least, least + random_.Below(2)};
      });
      if (random_.Chance(400)) several(What::kUndeploy, [&] { return With{Model()}; });
    }
    if (random_.Chance(400)) several(What::kSchedulerCrash, [&] { return With{random_.Between(50, 6000)}; });
    if (random_.Chance(400)) several(What::kSchedulerPause, [&] { return With{random_.Between(50, 5000)}; });
    if (random_.Chance(600)) {
      several(What::kDrain, [&] {
        return With{Place(), random_.Between(200, 15000), random_.Below(3), random_.Below(2)};
      });
      several(What::kUndrain, [&] { return With{Place()}; });
    }
    if (random_.Chance(300)) {
      several(What::kCordon, [&] { return With{Place()}; });
      several(What::kUncordon, [&] { return With{Place()}; });
    }
    std::stable_sort(script_.happenings.begin(), script_.happenings.end(),
                     [](const Happening& a, const Happening& b) { return a.at_ms < b.at_ms; });
    return std::move(script_);
  }

 private:
  using With = std::array<int64_t, 6>;

  int64_t Place() { return random_.Below(static_cast<int64_t>(setup_.places.size())); }

  int64_t Model() { return random_.Below(static_cast<int64_t>(setup_.models.size())); }

  void Add(int64_t at, What what, With with) { script_.happenings.push_back({at, what, with}); }

  void DrawRequests() {
    const int64_t distance = random_.Between(1, 20) * 40;
    for (int64_t at = random_.Below(3000); at < setup_.storm_ms; at += 1 + random_.Below(2 * distance)) {
      const int64_t model = random_.Below(static_cast<int64_t>(setup_.models.size()));
      const int64_t context = setup_.models[model].max_model_len;
      const int64_t prompt = 1 + random_.Below(context * 2 / 3);
      const int64_t output = 1 + random_.Below(context - prompt);
      int64_t flags = 0;
      if (random_.Chance(400)) flags |= kWithKey;
      if (random_.Chance(80)) flags |= kSlowReader;
      if (random_.Chance(150)) flags |= kGathers;
      if (random_.Chance(150)) flags |= kUrgent;
      if (random_.Chance(400)) flags |= kSharedPrefix;
      if (random_.Chance(250)) flags |= kSampled | (random_.Chance(300) ? kUnseeded : 0);
      if (random_.Chance(200)) flags |= kLogprobs;
      if (random_.Chance(250)) flags |= kStops;
      if (random_.Chance(300)) flags |= kById;
      Add(at, What::kRequest,
          {model, prompt, output, random_.Chance(250) ? random_.Between(100, 15000) : 0, flags, requests_++});
    }
  }

  Random random_;
  const Setup setup_;
  Script script_;
  int64_t requests_ = 0;
};

constexpr absl::string_view kWords[kKinds] = {
    "request",         "crash",         "stop",         "freeze",     "slow",
    "cut-stream",      "cut-tokens",    "partition",    "step-fault", "scheduler-crash",
    "scheduler-pause", "cordon",        "uncordon",     "drain",      "undrain",
    "client-break",    "client-cancel", "client-stall", "stick",      "lie",
    "deploy",          "undeploy",      "scale"};

}  // namespace

Setup DrawSetup(uint64_t seed) {
  Random random(seed);
  Setup setup;
  const int nodes = random.Chance(700) ? 1 : 2;
  const int per_node = static_cast<int>(random.Between(1, 4));
  const int64_t memory = random.Between(3, 8) * kGiB;
  const int64_t step_us = random.Between(4, 40) * 1000;
  for (int node = 0; node < nodes; ++node) {
    for (int index = 0; index < per_node; ++index) {
      setup.places.push_back({.node = absl::StrCat("h", node),
                              .index = static_cast<uint32_t>(index),
                              .memory_bytes = memory,
                              .step_us = step_us,
                              .per_token_us = random.Between(20, 200),
                              .load_us = random.Between(50, 1500) * 1000});
    }
  }
  const int models = static_cast<int>(random.Between(1, 3));
  for (int i = 0; i < models; ++i) setup.models.push_back(DrawModel(random, i, per_node));

  const int64_t scales[] = {250, 500, 1000};
  const int64_t scale = scales[random.Below(3)];
  core::CoreOptions& options = setup.options;
  options.sharing = false;  // a simulated worker has one engine
  for (core::Duration* time :
       {&options.suspect_after, &options.fence_after, &options.detach_grace, &options.stuck_after,
        &options.reattach_window, &options.form_deadline, &options.leave_deadline, &options.retry_first,
        &options.pool_down_after, &options.pool_hold, &options.probe_again}) {
    time->us = time->us * scale / 1000;
  }
  options.load_deadline = core::Seconds(20);
  options.retry_most = core::Seconds(4);
  options.waiting_room_requests = static_cast<int>(random.Between(4, 64));
  options.engine_queue = static_cast<int>(random.Below(4));
  options.overcommit = random.Chance(500) ? 1.0 : 1.5;
  options.default_output = {random.Between(4, 128)};
  options.pool_down_after = core::Milliseconds(random.Between(500, 5000));
  options.pool_hold = core::Milliseconds(random.Between(500, 5000));
  options.link_probe = static_cast<core::LinkProbing>(random.Below(3));
  options.move_gain_permille = static_cast<int>(random.Below(4)) * 50;
  options.move_calm = core::Milliseconds(random.Between(500, 5000));
  options.move_rest = core::Milliseconds(random.Between(1000, 10000));
  options.move_rest_most = core::Seconds(60);
  setup.heartbeat_ms = 500 * scale / 1000;
  setup.orphan_grace_ms = random.Between(3000, 20000);
  setup.delay_us = random.Between(50, 3000);
  setup.expected_devices = random.Chance(500) ? static_cast<int>(setup.places.size()) : 0;
  setup.prefix_cache = random.Chance(800);
  const int64_t lags_us[] = {100, 100, 5000, 50000};
  setup.core_lag_us = lags_us[random.Below(4)];
  const int64_t disks_us[] = {0, 1000, 20000, 500000};
  setup.disk_us = disks_us[random.Below(4)];
  options.tenant_room_percent = static_cast<int>(random.Between(20, 100));
  options.class_room_percent = random.Chance(500) ? 100 : static_cast<int>(random.Between(30, 90));
  if (random.Chance(300)) options.waiting_room_bytes = {random.Between(2, 32) << 10};
  setup.storm_ms = random.Between(6, 30) * 1000;
  return setup;
}

Script DrawScript(uint64_t seed) { return Drawer(seed).Draw(); }

absl::string_view Word(What what) { return kWords[static_cast<int>(what)]; }

std::string ToText(const Happening& happening) {
  std::string line = absl::StrCat(happening.at_ms, " ", Word(happening.what));
  for (int64_t number : happening.with) absl::StrAppend(&line, " ", number);
  return line;
}

std::string ToText(const Script& script) {
  std::string text = absl::StrCat("seed ", script.seed, "\n");
  for (const Happening& happening : script.happenings) absl::StrAppend(&text, ToText(happening), "\n");
  return text;
}

absl::StatusOr<Script> ScriptFrom(absl::string_view text) {
  Script script;
  bool seeded = false;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.empty() || words[0][0] == '#') continue;
    const auto bad = [&](absl::string_view why) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", why, ": ", line));
    };
    if (words[0] == "seed" && words.size() == 2) {
      if (!absl::SimpleAtoi(words[1], &script.seed)) return bad("the seed is no number");
      seeded = true;
      continue;
    }
    Happening happening;
    if (words.size() < 2 || words.size() > 8 || !absl::SimpleAtoi(words[0], &happening.at_ms)) {
      return bad("expected a time in ms, a word and up to 6 numbers");
    }
    const auto word = std::find(std::begin(kWords), std::end(kWords), words[1]);
    if (word == std::end(kWords)) return bad("unknown word");
    happening.what = static_cast<What>(word - std::begin(kWords));
    for (size_t i = 2; i < words.size(); ++i) {
      if (!absl::SimpleAtoi(words[i], &happening.with[i - 2])) return bad("not a number");
    }
    script.happenings.push_back(happening);
  }
  if (!seeded) return absl::InvalidArgumentError("no line \"seed N\"");
  return script;
}

}  // namespace tandem::sim
