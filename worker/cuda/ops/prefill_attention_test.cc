// Many new tokens per sequence over a paged cache, against attention in double; whole and cut into chunks.

#include "worker/cuda/ops/prefill_attention.h"

#include <gtest/gtest.h>

#include "worker/cuda/ops/attention_case_for_test.h"

namespace tandem::worker::cuda {
namespace {

// Of sequence s, the last new_tokens[s] of its context are new.
class PrefillAttentionTest : public DeviceTest {
 protected:
  std::vector<uint16_t> Run(const AttentionCase& one, const std::vector<float>& queries, int64_t query_stride,
                            const std::vector<int32_t>& begin, const std::vector<int32_t>& start, int32_t window,
                            size_t first_sequence = 0, bool both_ways = false) {
    const OnDevice<uint16_t> query_bits(BitsOf(queries, one.type));
    const int64_t width = one.heads * one.kv.head_dim;
    const OnDevice<uint16_t> output(static_cast<size_t>(begin.back() * width), 0x7fff);
    const OnDevice<int32_t> device_begin(begin), device_start(start);
    int32_t most = 0;
    for (size_t s = 0; s + 1 < begin.size(); ++s) most = std::max(most, begin[s + 1] - begin[s]);
    const absl::Status done = Done(PrefillAttention(
        {.queries = query_bits.data(),
         .query_stride = query_stride,
         .output = output.data(),
         .output_stride = width,
         .token_begin = device_begin.data(),
         .start = device_start.data(),
         .block_tables = one.device_tables->data() + static_cast<int64_t>(first_sequence) * one.table_stride,
         .table_stride = one.table_stride,
         .sequences = static_cast<int32_t>(start.size()),
         .max_tokens = most,
         .heads = one.heads,
         .window = window,
         .both_ways = both_ways,
         .scale = one.scale,
         .kv = one.kv},
        stream_));
    EXPECT_TRUE(done.ok()) << done;
    return output.Read();
  }

  void Check(const AttentionCase& one, const std::vector<int32_t>& new_tokens, int32_t window) {
    const int64_t width = one.heads * one.kv.head_dim;
    const int64_t stride = (one.heads + 2 * one.kv.kv_heads) * one.kv.head_dim;
    std::vector<int32_t> begin = {0}, start;
    for (size_t s = 0; s < new_tokens.size(); ++s) {
      begin.push_back(begin.back() + new_tokens[s]);
      start.push_back(one.contexts[s] - new_tokens[s]);
    }
    const std::vector<float> queries = Noise(78, static_cast<size_t>(begin.back() * stride), one.type);
    const std::vector<uint16_t> bits = Run(one, queries, stride, begin, start, window);
    const std::vector<float> got = FromBits(bits, one.type);
    for (size_t s = 0; s < start.size(); ++s) {
      for (int32_t t = 0; t < new_tokens[s]; ++t) {
        for (int32_t head = 0; head < one.heads; ++head) {
          const int64_t row = begin[s] + t;
          const std::vector<double> wanted = one.Attend(
              s, start[s] + t, head, queries.data() + row * stride + int64_t{head} * one.kv.head_dim, window);
          for (size_t i = 0; i < wanted.size(); ++i) {
            const size_t place = static_cast<size_t>(row * width + int64_t{head} * one.kv.head_dim) + i;
            ASSERT_NEAR(got[place], wanted[i], one.Slack(wanted[i]))
                << "sequence " << s << ", position " << start[s] + t << ", head " << head << ", element " << i;
          }
        }
      }
    }
    // The second half of each sequence by itself: the first half is a cached prefix now.
    for (size_t s = 0; s < start.size(); ++s) {
      const int32_t cut = new_tokens[s] / 2;
      if (cut == 0) continue;
      const auto from = queries.begin() + (begin[s] + cut) * stride;
      const std::vector<float> part(from, queries.begin() + begin[s + 1] * stride);
      const std::vector<uint16_t> alone = Run(one, part, stride, {0, new_tokens[s] - cut}, {start[s] + cut}, window, s);
      ASSERT_TRUE(std::equal(alone.begin(), alone.end(), bits.begin() + (begin[s] + cut) * width))
          << "a row's bits depend neither on its company nor on where the prompt was cut";
    }
  }
};

TEST_F(PrefillAttentionTest, HeadSizesAndGroups) {
  for (const model::DType type : kSixteenBits) {
    for (const int32_t head_dim : {8, 12, 16, 40, 64, 80, 96, 128, 256}) {
      const int32_t group = 1 + head_dim % 5;
      Check(AttentionCase(static_cast<uint32_t>(head_dim), type, 2 * group, 2, head_dim, {1, 18, 35}), {1, 18, 20}, 0);
    }
  }
}

TEST_F(PrefillAttentionTest, PromptsOfSeveralTilesBehindCachedPrefixes) {
  for (const model::DType type : kSixteenBits) {
    Check(AttentionCase(1, type, 4, 2, 32, {64, 65, 200, 130, 129}), {64, 65, 70, 2, 129}, 0);
  }
}

TEST_F(PrefillAttentionTest, WindowsBeginAnywhere) {
  for (const int32_t window : {1, 7, 16, 64, 100}) {
    Check(AttentionCase(2, model::DType::kBFloat16, 3, 1, 16, {20, 150, 260}), {20, 150, 60}, window);
  }
  // Heads whose tiles are smaller than the rows of a block.
  for (const int32_t window : {0, 40}) {
    Check(AttentionCase(7, model::DType::kBFloat16, 2, 1, 256, {100, 70}), {85, 70}, window);
  }
}

TEST_F(PrefillAttentionTest, BothWaysEveryTokenSeesTheWholeText) {
  for (const model::DType type : kSixteenBits) {
    for (const int32_t head_dim : {12, 32, 64}) {
      const std::vector<int32_t> lengths = {1, 17, 64, 65, 130};
      const AttentionCase one(3, type, 3, 3, head_dim, lengths);
      std::vector<int32_t> begin = {0};
      for (const int32_t length : lengths) begin.push_back(begin.back() + length);
      const int64_t width = int64_t{3} * head_dim;
      const std::vector<float> queries = Noise(79, static_cast<size_t>(begin.back() * width), type);
      const std::vector<float> got =
          FromBits(Run(one, queries, width, begin, std::vector<int32_t>(lengths.size(), 0), 0, 0, true), type);
      for (size_t s = 0; s < lengths.size(); ++s) {
        for (int32_t t = 0; t < lengths[s]; ++t) {
          const int64_t row = begin[s] + t;
          for (int32_t head = 0; head < 3; ++head) {
            const int64_t place = row * width + int64_t{head} * head_dim;
            const std::vector<double> wanted = one.Attend(s, lengths[s] - 1, head, queries.data() + place, 0);
            for (size_t i = 0; i < wanted.size(); ++i) {
              ASSERT_NEAR(got[static_cast<size_t>(place) + i], wanted[i], one.Slack(wanted[i]))
                  << "text " << s << ", token " << t << ", head " << head << ", element " << i;
            }
          }
        }
      }
    }
  }
}

TEST_F(PrefillAttentionTest, AHeadThatIsTooLargeIsRefused) {
  const absl::Status refused =
      PrefillAttention({.sequences = 1, .max_tokens = 1, .heads = 1, .kv = {nullptr, {}, 1, 300}}, stream_);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << refused;
}

}  // namespace
}  // namespace tandem::worker::cuda
