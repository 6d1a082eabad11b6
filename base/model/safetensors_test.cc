#include "base/model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/model/temporary_folder_for_test.h"

namespace tandem::model {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kTwoTensors[] =
    R"({"__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
        "b": {"dtype": "BF16", "shape": [3], "data_offsets": [8, 14]}})";

std::string HeaderError(const std::string& header, int64_t data_bytes) {
  return std::string(ParseSafetensorsHeader(header, data_bytes, "w").status().message());
}

// One tensor of 8 bytes, with one field replaced.
std::string One(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"t": {"dtype": )" + dtype + R"(, "shape": )" + shape + R"(, "data_offsets": )" + offsets + "}}";
}

TEST(SafetensorsHeader, TensorsWithTheirPlaces) {
  const auto tensors = ParseSafetensorsHeader(kTwoTensors, 14, "w");
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 2u);
  EXPECT_EQ(tensors->at("a").dtype, DType::kFloat32);
  EXPECT_THAT(tensors->at("a").shape, ElementsAre(2, 1));
  EXPECT_EQ(tensors->at("b").dtype, DType::kBFloat16);
  EXPECT_EQ(tensors->at("b").begin, 8);
}

TEST(SafetensorsHeader, ScalarsAndEmptyTensorsAreFine) {
  EXPECT_TRUE(ParseSafetensorsHeader(One("\"F32\"", "[]", "[0, 4]"), 4, "w").ok());
  EXPECT_TRUE(ParseSafetensorsHeader(One("\"F32\"", "[0, 7]", "[0, 0]"), 0, "w").ok());
  EXPECT_FALSE(ParseSafetensorsHeader(One("\"I64\"", "[1]", "[0, 8]"), 8, "w")->at("t").dtype.has_value());
}

TEST(SafetensorsHeader, EachLieHasItsLine) {
  const struct {
    std::string header;
    int64_t data_bytes;
    const char* message;
  } cases[] = {
      {One("\"F32\"", "[2]", "[0, 8]"), 4, "data_offsets end at 8, but the file holds 4"},
      {One("\"F32\"", "[2]", "[0, 8]"), 12, "tensors cover 8 of 12 bytes"},
      {One("\"F32\"", "[3]", "[0, 8]"), 8, "shape and dtype need 12 bytes, data_offsets span 8"},
      {One("\"F32\"", "[2]", "[8, 0]"), 8, "data_offsets run backwards, 8 to 0"},
      {One("\"F32\"", "[2]", "[-8, 0]"), 8, "data_offsets holds something that is not an offset"},
      {One("\"F32\"", "[2]", "[0, 8, 8]"), 8, "data_offsets is not a pair"},
      {One("\"F32\"", "[2]", "[0.0, 8.0]"), 8, "data_offsets holds something that is not an offset"},
      {One("\"F32\"", "[-2]", "[0, 8]"), 8, "shape holds something that is not a size"},
      {One("\"F32\"", "[4611686018427387904, 4]", "[0, 8]"), 8, "the sizes of its shape overflow"},
      {One("\"F32\"", "[18446744073709551615]", "[0, 8]"), 8, "shape holds something that is not a size"},
      {One("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0, 8]"), 8, "shape is not a list of at most 8 sizes"},
      {One("\"F32\"", "8", "[0, 8]"), 8, "shape is not a list"},
      {One("\"Q4_K\"", "[2]", "[0, 8]"), 8, "unknown dtype \"Q4_K\""},
      {One("32", "[2]", "[0, 8]"), 8, "dtype is not a string"},
      {R"({"t": 3})", 0, "tensor \"t\": expected an object"},
      {R"({"t": {"dtype": "F32", "shape": [1]}})", 4, "needs dtype, shape and data_offsets"},
      {R"({"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "b": {"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
       6, "tensor \"b\" begins at 2 inside another, which ends at 4"},
      {R"({"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "b": {"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
       12, "tensor \"b\" begins at 8 after a hole that begins at 4"},
      {R"({"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
       4, "the key \"a\" stands twice"},
      {R"([1, 2])", 0, "expected a JSON object"},
      {R"({"t": )", 0, "not valid JSON"},
      {"", 0, "not valid JSON"},
  };
  for (const auto& one : cases) EXPECT_THAT(HeaderError(one.header, one.data_bytes), HasSubstr(one.message));
}

TEST(SafetensorsLength, LiesAboutTheHeadersLength) {
  const auto error = [](uint64_t length, int64_t file_bytes) {
    std::string first(8, '\0');
    for (int i = 0; i < 8; ++i) first[static_cast<size_t>(i)] = static_cast<char>(length >> (8 * i));
    return std::string(SafetensorsHeaderLength(first, file_bytes, "w").status().message());
  };
  EXPECT_EQ(error(10, 18), "");
  EXPECT_THAT(error(11, 18), HasSubstr("header of 11 bytes in a file of 18: the file is cut short"));
  EXPECT_THAT(error(100'000'001, 1 << 30), HasSubstr("header of 100000001 bytes, at most 100000000 are read"));
  EXPECT_THAT(error(UINT64_MAX, 1 << 30), HasSubstr("at most 100000000 are read"));
  EXPECT_THAT(error(0, 7), HasSubstr("7 bytes are no safetensors file"));
}

TEST(WeightFiles, OneFile) {
  TemporaryFolder folder;
  folder.Write("model.safetensors", SafetensorsFile(kTwoTensors, std::string("\0\0\x80\x3f", 4) + "0123456789"));
  const auto files = WeightFiles::Open(folder.path());
  ASSERT_TRUE(files.ok()) << files.status();
  ASSERT_NE(files->Find("a"), nullptr);
  EXPECT_EQ(files->Find("a")->data[3], 0x3f);
  EXPECT_EQ(files->Find("c"), nullptr);
}

TEST(WeightFiles, ShardsNamedByTheIndex) {
  TemporaryFolder folder;
  folder.Write("x1.safetensors", SafetensorsFile(One("\"F32\"", "[1]", "[0, 4]"), "abcd"));
  folder.Write("x2.safetensors",
               SafetensorsFile(R"({"u": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})", "efgh"));
  folder.Write("model.safetensors.index.json", R"({"weight_map": {"t": "x1.safetensors", "u": "x2.safetensors"}})");
  const auto files = WeightFiles::Open(folder.path());
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->Find("t")->data[0], 'a');
  EXPECT_EQ(files->Find("u")->data[0], 'e');
}

TEST(WeightFiles, AShardThatIsMissingOrRepeatsATensor) {
  TemporaryFolder folder;
  folder.Write("x1.safetensors", SafetensorsFile(One("\"F32\"", "[1]", "[0, 4]"), "abcd"));
  folder.Write("model.safetensors.index.json", R"({"weight_map": {"t": "x1.safetensors", "u": "x2.safetensors"}})");
  EXPECT_THAT(WeightFiles::Open(folder.path()).status().message(), HasSubstr("x2.safetensors: the weight file cannot"));
  folder.Write("x2.safetensors", SafetensorsFile(One("\"F32\"", "[1]", "[0, 4]"), "abcd"));
  EXPECT_THAT(WeightFiles::Open(folder.path()).status().message(), HasSubstr("tensor \"t\" is in an earlier file too"));
}

TEST(WeightFiles, AnIndexMayNotLeadOutOfTheFolder) {
  for (const char* name : {"../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", ".", ""}) {
    TemporaryFolder folder;
    folder.Write("model.safetensors.index.json", std::string(R"({"weight_map": {"t": ")") + name + "\"}}");
    EXPECT_THAT(WeightFiles::Open(folder.path()).status().message(), HasSubstr("is not in a file of this folder"))
        << name;
  }
}

TEST(WeightFiles, PickleIsRefusedWithTheCommandThatConverts) {
  TemporaryFolder folder;
  folder.Write("pytorch_model.bin", "x");
  const absl::Status status = WeightFiles::Open(folder.path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("scripts/convert_model " + folder.path()));
}

TEST(WeightFiles, NoWeightsAndEveryTruncation) {
  TemporaryFolder folder;
  EXPECT_THAT(WeightFiles::Open(folder.path()).status().message(), HasSubstr("no weights"));
  const std::string whole = SafetensorsFile(kTwoTensors, std::string(14, 'x'));
  for (size_t length = 0; length < whole.size(); ++length) {
    folder.Write("model.safetensors", whole.substr(0, length));
    EXPECT_FALSE(WeightFiles::Open(folder.path()).ok()) << length;
  }
  folder.Write("model.safetensors", whole);
  EXPECT_TRUE(WeightFiles::Open(folder.path()).ok());
}

}  // namespace
}  // namespace tandem::model
