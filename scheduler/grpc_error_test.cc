#include "scheduler/grpc_error.h"

#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace tandem::scheduler {
namespace {

google::rpc::Status Details(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  return details;
}

TEST(GrpcErrorTest, CarriesReasonDomainAndNumbers) {
  const grpc::Status status =
      ToGrpc({kContextLengthExceeded, "too long", {}, {{"prompt_tokens", "9"}, {"max_model_len", "8"}}});
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "too long");
  const auto details = Details(status);
  EXPECT_EQ(details.code(), grpc::StatusCode::INVALID_ARGUMENT);
  ASSERT_EQ(details.details_size(), 1) << "trying again does not help, so there is no RetryInfo";
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(details.details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "CONTEXT_LENGTH_EXCEEDED");
  EXPECT_EQ(info.domain(), "tandem");
  EXPECT_EQ(info.metadata().at("max_model_len"), "8");
}

TEST(GrpcErrorTest, SaysWhenToTryAgain) {
  const auto details = Details(ToGrpc({kQueueFull, "full", core::Milliseconds(2500)}));
  ASSERT_EQ(details.details_size(), 2);
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(details.details(1).UnpackTo(&retry));
  EXPECT_EQ(retry.retry_delay().seconds(), 2);
  EXPECT_EQ(retry.retry_delay().nanos(), 500000000);
}

TEST(GrpcErrorTest, ALongMessageIsCutAtACharacter) {
  std::string message(2047, 'x');
  message += "\xC3\xA9\xC3\xA9";
  const grpc::Status status = ToGrpc({kInvalidParameter, message});
  EXPECT_EQ(status.error_message(), std::string(2047, 'x'));
}

TEST(GrpcErrorTest, EveryReasonOfTheCoreHasARow) {
  for (int i = 1; i <= static_cast<int>(core::Reason::kModelUnusable); ++i) {
    const ErrorKind& kind = KindOf(static_cast<core::Reason>(i));
    EXPECT_NE(kind.code, grpc::StatusCode::OK);
    EXPECT_EQ(kind.retry,
              kind.code == grpc::StatusCode::UNAVAILABLE || kind.code == grpc::StatusCode::RESOURCE_EXHAUSTED)
        << kind.reason;
  }
}

}  // namespace
}  // namespace tandem::scheduler
