#include "scheduler/security/open_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace tandem::scheduler {
namespace {

using security::Role;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Call final : public AdmittedCall, public std::enable_shared_from_this<Call> {
 public:
  void PutOut(const Error& why) override { heard.push_back(why.message); }
  std::shared_ptr<AdmittedCall> KeepAdmitted() override { return shared_from_this(); }

  std::vector<std::string> heard;
};

std::optional<Error> NobodyOfTheNameGone(const OpenCalls::Ticket& ticket) {
  if (ticket.bearer != "gone") return std::nullopt;
  return Error{kUnauthenticated, "no " + ticket.needed.ToString() + " any more"};
}

TEST(OpenCalls, WhomTheJudgeTurnsAwayIsPutOutAndNobodyElse) {
  OpenCalls calls;
  const auto stays = std::make_shared<Call>(), goes = std::make_shared<Call>(), done = std::make_shared<Call>();
  calls.Enter(stays.get(), {"there", Role::kClient});
  calls.Enter(goes.get(), {"gone", Role::kClient});
  calls.Enter(done.get(), {"gone", Role::kAdmin});
  calls.Leave(done.get());
  EXPECT_EQ(calls.Reconsider(NobodyOfTheNameGone), 1u);
  EXPECT_THAT(goes->heard, ElementsAre("no client any more"));
  EXPECT_THAT(stays->heard, IsEmpty());
  EXPECT_THAT(done->heard, IsEmpty());
}

TEST(OpenCalls, WhoIsPutOutMayLeaveAtOnce) {
  OpenCalls calls;
  class Leaver final : public AdmittedCall, public std::enable_shared_from_this<Leaver> {
   public:
    explicit Leaver(OpenCalls* calls) : calls_(calls) {}
    void PutOut(const Error&) override { calls_->Leave(this); }
    std::shared_ptr<AdmittedCall> KeepAdmitted() override { return shared_from_this(); }

   private:
    OpenCalls* const calls_;
  };
  const auto call = std::make_shared<Leaver>(&calls);
  calls.Enter(call.get(), {"gone", Role::kClient});
  EXPECT_EQ(calls.Reconsider(NobodyOfTheNameGone), 1u);
  EXPECT_EQ(calls.Reconsider(NobodyOfTheNameGone), 0u);
}

}  // namespace
}  // namespace tandem::scheduler
