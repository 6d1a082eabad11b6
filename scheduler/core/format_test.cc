// Events survive the journal: format, parse, format again, over random events; and what is no event is refused.
#include "scheduler/core/format.h"

#include <cstdint>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/core/action_fields.h"
#include "scheduler/core/event_fields.h"
#include "scheduler/core/parse.h"

namespace tandem::core {
namespace {

// Fills any struct that has Fields with random values.
class Filler {
 public:
  explicit Filler(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}

  uint64_t Next() {
    state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
    return state_;
  }
  void operator()(std::string& text) {
    text.clear();
    for (uint64_t n = Next() % 12; n > 0; --n) text += static_cast<char>(Next() % 5 == 0 ? Next() : 'a' + Next() % 26);
  }
  void operator()(bool& value) { value = Next() % 2 == 0; }
  void operator()(double& value) { value = static_cast<double>(Next() % 100000) / 7; }
  void operator()(DeviceId& id) { id.value = static_cast<uint32_t>(Next()); }
  void operator()(ModelId& id) { id.value = static_cast<uint32_t>(Next()); }
  void operator()(GroupId& id) { id.value = Next(); }
  void operator()(RequestId& id) { id = {Next(), Next()}; }
  void operator()(Incarnation& id) { id = {Next(), Next()}; }
  void operator()(OperationId& id) { id.value = Next(); }
  void operator()(GroupEpoch& epoch) { epoch = {Next(), static_cast<uint32_t>(Next())}; }
  void operator()(Attempt& attempt) { attempt = {Next(), static_cast<uint32_t>(Next())}; }
  void operator()(Bytes& value) { value.value = static_cast<int64_t>(Next()); }
  void operator()(Tokens& value) { value.value = static_cast<int64_t>(Next()); }
  void operator()(Duration& value) { value.us = static_cast<int64_t>(Next()); }
  void operator()(Instant& value) { value = Next() % 4 == 0 ? kNever : Instant{static_cast<int64_t>(Next())}; }
  void operator()(std::array<uint8_t, 16>& hash) {
    for (uint8_t& byte : hash) byte = static_cast<uint8_t>(Next());
  }
  template <typename T>
  void operator()(std::vector<T>& values) {
    for (uint64_t n = Next() % 4; n > 0; --n) (*this)(values.emplace_back());
  }
  template <typename T>
  void operator()(std::optional<T>& value) {
    if (Next() % 2 == 0) (*this)(value.emplace());
  }
  template <typename T>
  void operator()(T& value) {
    if constexpr (std::is_enum_v<T>) {
      value = static_cast<T>(Next() % std::size(EnumWords<T>::kWords));
    } else if constexpr (std::integral<T>) {
      value = static_cast<T>(Next());
    } else {
      Fields<T>::Visit([&](const char*, auto member) { (*this)(value.*member); });
    }
  }

 private:
  uint64_t state_;
};

template <size_t index = 0>
void RoundTrip(Filler& fill) {
  if constexpr (index < std::variant_size_v<Event>) {
    std::variant_alternative_t<index, Event> event{};
    fill(event);
    const std::string line = Format(Event(event));
    ASSERT_EQ(line.find('\n'), std::string::npos);
    const auto parsed = ParseEvent(line);
    ASSERT_TRUE(parsed.ok()) << line << "\n" << parsed.status();
    ASSERT_EQ(parsed->index(), index);
    ASSERT_EQ(Format(*parsed), line);
    RoundTrip<index + 1>(fill);
  }
}

TEST(FormatTest, EveryEventSurvivesTheRoundTrip) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    Filler fill(seed);
    RoundTrip(fill);
  }
}

TEST(FormatTest, ALineReadsLikeASentence) {
  GroupReady event{{3}, {uint64_t{1} << 32 | 4}, {1, 4}, 128, 16, 8, 1024, {1 << 20}, "cpu/avx512 tp2"};
  EXPECT_EQ(Format(Event(event)),
            "group-ready device=d3 group=g1.4 epoch=1.4 kv_blocks=128 max_sequences=8 max_model_len=1024 "
            "kv_bytes=1048576 numerics_id=\"cpu/avx512 tp2\"");
  RequestArrived arrived;
  arrived.request = {1, 255};
  arrived.model = "chat";
  arrived.prompt = {10};
  arrived.deadline = Seconds(2);
  EXPECT_EQ(Format(Event(arrived)),
            "request-arrived request=000000000000000100000000000000ff model=chat prompt=10 deadline=2000000");
}

TEST(FormatTest, WhatIsNoEventIsRefusedWithItsPlace) {
  const auto message = [](absl::string_view line) { return std::string(ParseEvent(line).status().message()); };
  EXPECT_THAT(message(""), testing::HasSubstr("a word is wanted"));
  EXPECT_THAT(message("group-exploded group=g1.1"), testing::HasSubstr("'group-exploded' is no event"));
  EXPECT_THAT(message("ticked now=1"), testing::HasSubstr("there is no 'now' here"));
  EXPECT_THAT(message("group-left device=3"), testing::HasSubstr("device: '3' is not of its type"));
  EXPECT_THAT(message("group-left device=d3 device=d4"), testing::HasSubstr("stands here twice"));
  EXPECT_THAT(message("group-left device=d99999999999"), testing::HasSubstr("not of its type"));
  EXPECT_THAT(message("worker-detached why=\"open"), testing::HasSubstr("not closed"));
  EXPECT_THAT(message("worker-detached why=\"open\\"), testing::HasSubstr("not closed"));
  EXPECT_THAT(message("drain-requested devices=[[[[[[[[[[[["), testing::HasSubstr("nested too deeply"));
  EXPECT_THAT(message("drain-requested devices=[d1 d2"), testing::HasSubstr("']' is wanted"));
}

// Any prefix and any single changed byte is either an event or a clean refusal.
TEST(FormatTest, DamagedLinesNeverCrash) {
  Filler fill(5);
  for (int round = 0; round < 40; ++round) {
    WorkerAttached event{};
    fill(event);
    const std::string line = Format(Event(event));
    for (size_t cut = 0; cut < line.size(); cut += 3) {
      (void)ParseEvent(line.substr(0, cut)).ok();
      std::string changed = line;
      changed[cut] = static_cast<char>(fill.Next());
      (void)ParseEvent(changed).ok();
    }
  }
}

}  // namespace
}  // namespace tandem::core
