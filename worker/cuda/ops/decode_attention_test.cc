// One new token per sequence over a paged cache, against attention in double; alone and in company.

#include "worker/cuda/ops/decode_attention.h"

#include <gtest/gtest.h>

#include "worker/cuda/ops/attention_case_for_test.h"

namespace tandem::worker::cuda {
namespace {

class DecodeAttentionTest : public DeviceTest {
 protected:
  // Bits of the output rows.
  std::vector<uint16_t> Run(const AttentionCase& one, const std::vector<float>& queries, int64_t query_stride,
                            int32_t window, int32_t max_context, size_t first = 0, size_t count = SIZE_MAX) {
    count = std::min(count, one.contexts.size() - first);
    const std::vector<float> part(queries.begin() + static_cast<std::ptrdiff_t>(first) * query_stride,
                                  queries.begin() + static_cast<std::ptrdiff_t>(first + count) * query_stride);
    const OnDevice<uint16_t> query_bits(BitsOf(part, one.type));
    const int64_t width = one.heads * one.kv.head_dim;
    const OnDevice<uint16_t> output(count * static_cast<size_t>(width), 0x7fff);
    const int64_t bytes = DecodeWorkspaceBytes(static_cast<int32_t>(count), one.heads, one.kv.head_dim, max_context);
    const OnDevice<float> workspace(static_cast<size_t>(bytes) / sizeof(float), NAN);
    const absl::Status done = Done(
        DecodeAttention({.queries = query_bits.data(),
                         .query_stride = query_stride,
                         .output = output.data(),
                         .output_stride = width,
                         .contexts = one.device_contexts->data() + first,
                         .block_tables = one.device_tables->data() + static_cast<int64_t>(first) * one.table_stride,
                         .table_stride = one.table_stride,
                         .sequences = static_cast<int32_t>(count),
                         .max_context = max_context,
                         .heads = one.heads,
                         .window = window,
                         .scale = one.scale,
                         .kv = one.kv,
                         .workspace = workspace.data()},
                        stream_));
    EXPECT_TRUE(done.ok()) << done;
    return output.Read();
  }

  void Check(const AttentionCase& one, int32_t window, int32_t max_context) {
    // As the executor has them: queries are the front of rows that hold keys and values too.
    const int64_t width = one.heads * one.kv.head_dim;
    const int64_t stride = (one.heads + 2 * one.kv.kv_heads) * one.kv.head_dim;
    const std::vector<float> queries = Noise(77, one.contexts.size() * static_cast<size_t>(stride), one.type);
    const std::vector<uint16_t> bits = Run(one, queries, stride, window, max_context);
    const std::vector<float> got = FromBits(bits, one.type);
    for (size_t s = 0; s < one.contexts.size(); ++s) {
      for (int32_t head = 0; head < one.heads; ++head) {
        const size_t place = s * static_cast<size_t>(width) + static_cast<size_t>(head * one.kv.head_dim);
        std::vector<double> wanted(static_cast<size_t>(one.kv.head_dim), 0.0);
        if (one.contexts[s] > 0) {
          const float* const query =
              queries.data() + static_cast<int64_t>(s) * stride + int64_t{head} * one.kv.head_dim;
          wanted = one.Attend(s, one.contexts[s] - 1, head, query, window);
        }
        for (size_t i = 0; i < wanted.size(); ++i) {
          ASSERT_NEAR(got[place + i], wanted[i], one.Slack(wanted[i]))
              << "context " << one.contexts[s] << ", head " << head << ", element " << i << ", window " << window;
        }
      }
    }
    for (size_t s = 0; s < one.contexts.size(); ++s) {
      const std::vector<uint16_t> alone = Run(one, queries, stride, window, max_context, s, 1);
      ASSERT_TRUE(std::equal(alone.begin(), alone.end(), bits.begin() + static_cast<std::ptrdiff_t>(s) * width))
          << "a sequence's bits do not depend on its company";
    }
  }
};

TEST_F(DecodeAttentionTest, HeadSizesAndGroups) {
  for (const model::DType type : kSixteenBits) {
    for (const int32_t head_dim : {8, 12, 16, 40, 64, 80, 96, 128, 256}) {
      const int32_t group = 1 + head_dim % 7;
      Check(AttentionCase(static_cast<uint32_t>(head_dim), type, 2 * group, 2, head_dim, {1, 17, 0, 70}), 0, 70);
    }
  }
}

TEST_F(DecodeAttentionTest, MoreQueryHeadsThanATile) {
  Check(AttentionCase(1, model::DType::kBFloat16, 20, 1, 32, {33, 5}), 0, 40);
  Check(AttentionCase(2, model::DType::kFloat16, 32, 2, 16, {16}), 0, 40);
  // The most shared memory that a block asks for: 66 KiB beside the static arrays.
  Check(AttentionCase(6, model::DType::kBFloat16, 17, 1, 256, {300, 5}), 0, 600);
}

TEST_F(DecodeAttentionTest, ContextsOfSeveralPartitions) {
  for (const model::DType type : kSixteenBits) {
    Check(AttentionCase(3, type, 4, 2, 64, {255, 256, 257, 1100, 3, 513}), 0, 1200);
  }
}

TEST_F(DecodeAttentionTest, PartitionsInTurnsWhereSequencesAreMany) {
  std::vector<int32_t> contexts(600, 1);
  contexts[7] = 600;
  contexts[599] = 1030;
  Check(AttentionCase(5, model::DType::kBFloat16, 2, 2, 16, contexts), 0, 1100);
}

TEST_F(DecodeAttentionTest, WindowsBeginAnywhere) {
  for (const int32_t window : {1, 5, 16, 64, 300}) {
    Check(AttentionCase(4, model::DType::kBFloat16, 4, 1, 32, {1, 4, 16, 40, 300, 600}), window, 600);
  }
}

TEST_F(DecodeAttentionTest, AHeadThatIsTooLargeIsRefused) {
  const absl::Status refused = DecodeAttention({.sequences = 1, .heads = 1, .kv = {nullptr, {}, 1, 300}}, stream_);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << refused;
}

}  // namespace
}  // namespace tandem::worker::cuda
