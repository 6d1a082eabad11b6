#include "scheduler/validate_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <set>

namespace tandem::scheduler {
namespace {

using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

class ValidateRequestTest : public ::testing::Test {
 protected:
  ValidateRequestTest() {
    request_.set_model("tiny");
    request_.set_text("Hello");
    model_.name = "tiny";
    model_.max_model_len = 100;
    model_.vocab_size = 512;
  }
  // The reason and sentence after `change`, or "" when the request is fine.
  std::string After(const std::function<void(v1::GenerateRequest&)>& change) {
    v1::GenerateRequest request = request_;
    change(request);
    const auto error = ValidateGenerate(request, model_);
    return error ? std::string(error->kind.reason) + ": " + error->message : "";
  }
  v1::GenerateRequest request_;
  ModelLimits model_;
};

TEST_F(ValidateRequestTest, APlainRequestIsFine) { EXPECT_FALSE(ValidateGenerate(request_, model_)); }

TEST_F(ValidateRequestTest, EveryNumberHasItsRange) {
  using S = v1::SamplingParams;
  struct Field {
    const char* name;
    void (*set)(S*, float);
    std::vector<float> good, bad;
  };
  const Field fields[] = {
      {"temperature", [](S* s, float v) { s->set_temperature(v); }, {0, 1, 2}, {-0.1f, 2.1f, kNan, kInf, -kInf}},
      {"top_p", [](S* s, float v) { s->set_top_p(v); }, {0.001f, 1}, {0, -1, 1.01f, kNan, kInf}},
      {"min_p", [](S* s, float v) { s->set_min_p(v); }, {0, 1}, {-0.1f, 1.1f, kNan}},
      {"presence_penalty", [](S* s, float v) { s->set_presence_penalty(v); }, {-2, 2}, {-2.1f, 2.1f, kNan}},
      {"frequency_penalty", [](S* s, float v) { s->set_frequency_penalty(v); }, {-2, 2}, {-2.1f, 2.1f, kNan}},
      {"repetition_penalty", [](S* s, float v) { s->set_repetition_penalty(v); }, {0.1f, 10}, {0, -1, 11, kNan}},
      {"top_k", [](S* s, float v) { s->set_top_k(static_cast<int>(v)); }, {-1, 0, 1, 1000}, {-2, -100}},
  };
  for (const Field& field : fields) {
    for (float value : field.good) {
      EXPECT_EQ(After([&](auto& r) { field.set(r.mutable_sampling(), value); }), "") << field.name << " " << value;
    }
    for (float value : field.bad) {
      EXPECT_THAT(After([&](auto& r) { field.set(r.mutable_sampling(), value); }),
                  HasSubstr(std::string("INVALID_PARAMETER: sampling.") + field.name))
          << value;
    }
  }
}

TEST_F(ValidateRequestTest, StoppingHasLimits) {
  EXPECT_THAT(After([](auto& r) { r.mutable_stopping()->set_max_tokens(0); }), HasSubstr("max_tokens is 0"));
  EXPECT_THAT(After([](auto& r) { r.mutable_stopping()->set_max_tokens(101); }), HasSubstr("100 tokens"));
  EXPECT_THAT(After([](auto& r) { r.mutable_stopping()->set_max_tokens(4294967295u); }), HasSubstr("4294967295"));
  EXPECT_EQ(After([](auto& r) { r.mutable_stopping()->set_max_tokens(99); }), "");
  EXPECT_THAT(After([](auto& r) {
                r.mutable_stopping()->set_max_tokens(5);
                r.mutable_stopping()->set_min_tokens(6);
              }),
              HasSubstr("min_tokens is 6"));
  EXPECT_THAT(After([](auto& r) { r.mutable_stopping()->add_stop(""); }), HasSubstr("stop[0] has 0 bytes"));
  EXPECT_THAT(After([](auto& r) { r.mutable_stopping()->add_stop(std::string(257, 'x')); }), HasSubstr("257"));
  EXPECT_THAT(After([](auto& r) {
                for (int i = 0; i < 17; ++i) r.mutable_stopping()->add_stop("x");
              }),
              HasSubstr("17 strings"));
  EXPECT_THAT(After([](auto& r) { r.mutable_stopping()->add_stop_token_ids(512); }), HasSubstr("ids 0 to 511"));
  EXPECT_THAT(After([](auto& r) {
                for (int i = 0; i < 65; ++i) r.mutable_stopping()->add_stop_token_ids(1);
              }),
              HasSubstr("65 ids"));
}

TEST_F(ValidateRequestTest, ThePromptIsThereAndWhole) {
  EXPECT_THAT(After([](auto& r) { r.clear_text(); }), HasSubstr("no prompt"));
  EXPECT_THAT(After([](auto& r) { r.set_text(""); }), HasSubstr("empty"));
  EXPECT_THAT(After([](auto& r) { r.mutable_token_ids(); }), HasSubstr("empty"));
  EXPECT_THAT(After([](auto& r) { r.mutable_token_ids()->add_ids(512); }), HasSubstr("token_ids[0] is 512"));
  EXPECT_THAT(After([](auto& r) { r.set_text("abc\xFF"); }), HasSubstr("offset 3 of 4"));
  EXPECT_THAT(After([](auto& r) { r.set_text("ab\xE2\x82"); }), HasSubstr("offset 2 of 4"));
  EXPECT_THAT(After([](auto& r) { r.mutable_chat(); }), HasSubstr("has no chat template"));
}

TEST_F(ValidateRequestTest, NothingQuotesThePrompt) {
  EXPECT_THAT(After([](auto& r) { r.set_text("secret\xFF"); }), ::testing::Not(HasSubstr("secret")));
  EXPECT_THAT(After([](auto& r) { r.mutable_stopping()->add_stop("secret" + std::string(300, 'x')); }),
              ::testing::Not(HasSubstr("secret")));
}

TEST_F(ValidateRequestTest, WhatIsNotServedIsNamed) {
  EXPECT_THAT(After([](auto& r) { r.mutable_sampling()->set_n(2); }), HasSubstr("UNSUPPORTED_PARAMETER: sampling.n"));
  EXPECT_THAT(After([](auto& r) { (*r.mutable_sampling()->mutable_logit_bias())[1] = 1; }), HasSubstr("logit_bias"));
}

TEST_F(ValidateRequestTest, TheRestHasLimits) {
  EXPECT_THAT(After([](auto& r) { r.set_logprobs(21); }), HasSubstr("logprobs is 21"));
  EXPECT_THAT(After([](auto& r) { r.set_priority(101); }), HasSubstr("priority is 101"));
  EXPECT_THAT(After([](auto& r) { r.set_tenant(std::string(65, 'x')); }), HasSubstr("tenant"));
  EXPECT_THAT(After([](auto& r) { r.set_session_id(std::string(129, 'x')); }), HasSubstr("session_id"));
  EXPECT_THAT(After([](auto& r) { r.set_idempotency_key(std::string(129, 'x')); }), HasSubstr("idempotency_key"));
  EXPECT_THAT(After([](auto& r) { r.set_chunk_interval_ms(10001); }), HasSubstr("chunk_interval_ms is 10001"));
}

TEST_F(ValidateRequestTest, ResumedSamplingNeedsItsSeed) {
  EXPECT_THAT(After([](auto& r) { r.add_resume_token_ids(1); }), HasSubstr("sampling.seed"));
  EXPECT_EQ(After([](auto& r) {
              r.add_resume_token_ids(1);
              r.mutable_sampling()->set_seed(7);
            }),
            "");
  EXPECT_EQ(After([](auto& r) {
              r.add_resume_token_ids(1);
              r.mutable_sampling()->set_temperature(0);
            }),
            "");
}

TEST_F(ValidateRequestTest, LengthsAreToldWithBothNumbers) {
  const auto error = ValidateLengths(request_, 100, model_);
  ASSERT_TRUE(error);
  EXPECT_STREQ(error->kind.reason, "CONTEXT_LENGTH_EXCEEDED");
  EXPECT_THAT(error->message, HasSubstr("100 tokens; the context of model tiny is 100"));
  EXPECT_FALSE(ValidateLengths(request_, 99, model_));
  request_.mutable_stopping()->set_max_tokens(50);
  EXPECT_FALSE(ValidateLengths(request_, 50, model_));
  EXPECT_TRUE(ValidateLengths(request_, 51, model_));
  EXPECT_TRUE(ValidateLengths(request_, 0, model_));
}

TEST_F(ValidateRequestTest, AFilledAssignmentIsComplete) {
  model_.temperature = 0.7f;
  model_.top_k = 40;
  request_.mutable_sampling()->set_top_p(0.5f);
  v1::AssignRequest first, second;
  FillAssignment(request_, model_, &first);
  FillAssignment(request_, model_, &second);
  const auto& s = first.sampling();
  EXPECT_FLOAT_EQ(s.temperature(), 0.7f);
  EXPECT_FLOAT_EQ(s.top_p(), 0.5f);
  EXPECT_EQ(s.top_k(), 40);
  EXPECT_FLOAT_EQ(s.repetition_penalty(), 1);
  EXPECT_TRUE(s.has_min_p() && s.has_presence_penalty() && s.has_frequency_penalty() && s.has_seed());
  EXPECT_NE(s.seed(), second.sampling().seed()) << "two requests without a seed draw differently";
}

TEST_F(ValidateRequestTest, AFingerprintIsOfAllThatChangesTheAnswer) {
  const auto of = [&](const std::function<void(v1::GenerateRequest&)>& change) {
    v1::GenerateRequest request = request_;
    change(request);
    return Fingerprint(request, model_);
  };
  model_.temperature = 0.6f;
  const uint64_t plain = Fingerprint(request_, model_);
  const std::function<void(v1::GenerateRequest&)> same[] = {
      [](auto& r) { r.set_model("alias"); },  // the same model by another name
      [](auto& r) { r.set_priority(7), r.set_tenant("t"), r.set_session_id("s"), r.set_chunk_interval_ms(50); },
      [](auto& r) { r.add_resume_token_ids(5); },
      [](auto& r) { r.mutable_sampling()->set_seed(5); },  // compared with the seed that was drawn
      [](auto& r) { r.mutable_sampling()->set_temperature(0.6f); },
      [](auto& r) { r.mutable_sampling()->set_top_p(1), r.mutable_sampling()->set_n(1); },
      [](auto& r) { r.mutable_sampling()->set_top_k(-1), r.mutable_sampling()->set_min_p(0); },
      [](auto& r) { r.mutable_stopping()->set_min_tokens(0), r.mutable_stopping()->set_ignore_eos(false); },
  };
  for (size_t i = 0; i < std::size(same); ++i) EXPECT_EQ(of(same[i]), plain) << i;
  const std::function<void(v1::GenerateRequest&)> other[] = {
      [](auto& r) { r.set_text("Hello "); },
      [](auto& r) { r.mutable_token_ids()->add_ids(5); },
      [](auto& r) { r.mutable_chat()->add_messages()->set_content("Hello"); },
      [](auto& r) { r.mutable_sampling()->set_temperature(1); },
      [](auto& r) { r.mutable_sampling()->set_top_k(3); },
      [](auto& r) { r.mutable_sampling()->set_repetition_penalty(1.5f); },
      [](auto& r) { r.mutable_stopping()->set_max_tokens(7); },
      [](auto& r) { r.mutable_stopping()->add_stop("x"); },
      [](auto& r) { r.mutable_stopping()->add_stop_token_ids(5); },
      [](auto& r) { r.mutable_stopping()->set_ignore_eos(true); },
      [](auto& r) { r.mutable_stopping()->set_min_tokens(2); },
      [](auto& r) { r.set_logprobs(0); },
      [](auto& r) { r.set_logprobs(2); },
  };
  std::set<uint64_t> seen = {plain};
  for (size_t i = 0; i < std::size(other); ++i) EXPECT_TRUE(seen.insert(of(other[i])).second) << i;
  model_.name = "other";
  EXPECT_TRUE(seen.insert(Fingerprint(request_, model_)).second);
}

}  // namespace
}  // namespace tandem::scheduler
