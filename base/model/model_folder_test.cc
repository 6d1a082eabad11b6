#include "base/model/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/model/temporary_folder_for_test.h"

namespace tandem::model {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::StartsWith;

constexpr char kHeader[] = R"({"t": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})";

class ModelFolder : public testing::Test {
 protected:
  void WriteModel(const std::string& name, const std::string& data = "abcd") {
    root_.Write(name + "/config.json", "{}");
    root_.Write(name + "/README.md", "not part of the model");
    root_.Write(name + "/model.safetensors", SafetensorsFile(kHeader, data));
  }

  // As the hub's tools lay it out: the snapshot's files are links to blobs.
  void WriteHubModel() {
    root_.Write("hub/models--org--m/refs/main", "abc123");
    root_.Write("hub/models--org--m/blobs/1", "{}");
    root_.Write("hub/models--org--m/blobs/2", SafetensorsFile(kHeader, "abcd"));
    const std::string snapshot = root_.path("hub/models--org--m/snapshots/abc123");
    fs::create_directories(snapshot);
    fs::create_symlink("../../blobs/1", snapshot + "/config.json");
    fs::create_symlink("../../blobs/2", snapshot + "/model.safetensors");
  }

  absl::StatusOr<std::string> Resolve(const std::string& path) {
    return ResolveModelFolder(path, {.model_root = root_.path("models"), .hub_cache = root_.path("hub")});
  }

  TemporaryFolder root_;
};

TEST_F(ModelFolder, RelativeAndAbsolutePathsUnderTheRoot) {
  WriteModel("models/a");
  EXPECT_EQ(*Resolve("a"), root_.path("models/a"));
  EXPECT_EQ(*Resolve(root_.path("models/a")), root_.path("models/a"));
}

TEST_F(ModelFolder, HubIdWithLinksIntoBlobs) {
  WriteHubModel();
  const auto folder = Resolve("org/m");
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_TRUE(ReadManifest(*folder).ok()) << ReadManifest(*folder).status();
}

TEST_F(ModelFolder, WhatIsNotThereIsNamedWithTheCommandThatFetchesIt) {
  EXPECT_THAT(Resolve("org/none").status().message(), HasSubstr("hf download org/none"));
  EXPECT_EQ(Resolve("none").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ModelFolder, NothingOutsideTheRoot) {
  WriteModel("elsewhere");
  EXPECT_THAT(Resolve(root_.path("elsewhere")).status().message(), HasSubstr("outside the model root"));
  EXPECT_THAT(Resolve("../elsewhere").status().message(), HasSubstr("\"..\" is not taken"));
  EXPECT_FALSE(Resolve("").ok());
  EXPECT_FALSE(Resolve(std::string("a\0b", 3)).ok());
  EXPECT_EQ(*ResolveModelFolder(root_.path("elsewhere"), {}), root_.path("elsewhere"));
}

TEST_F(ModelFolder, EqualFoldersHaveEqualRevisions) {
  WriteModel("models/a");
  WriteModel("models/b");
  const auto a = ReadManifest(root_.path("models/a"));
  const auto b = ReadManifest(root_.path("models/b"));
  ASSERT_TRUE(a.ok()) << a.status();
  ASSERT_EQ(a->files.size(), 2u);
  EXPECT_EQ(a->files[1].name, "model.safetensors");
  EXPECT_EQ(a->files[1].sha256.size(), 32u);
  EXPECT_EQ(a->revision, b->revision);
  EXPECT_EQ(a->revision.size(), 32u);
  EXPECT_TRUE(CompareManifests(a->files, b->files).ok());
  EXPECT_EQ(RevisionOf({a->files[1], a->files[0]}), a->revision) << "the order of the entries counts";
}

TEST_F(ModelFolder, TheFirstFileThatDiffersIsNamed) {
  WriteModel("models/a");
  WriteModel("models/b");
  const auto a = ReadManifest(root_.path("models/a"));
  const auto mismatch = [&] {
    const absl::Status status = CompareManifests(a->files, ReadManifest(root_.path("models/b"))->files);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    return std::string(status.message());
  };
  root_.Write("models/b/config.json", "[]");
  EXPECT_EQ(mismatch(), "MODEL_MISMATCH: config.json: has other contents here than announced");
  root_.Write("models/b/config.json", "{ }");
  EXPECT_EQ(mismatch(), "MODEL_MISMATCH: config.json: has 3 bytes here, 2 were announced");
  root_.Write("models/b/config.json", "{}");
  root_.Write("models/b/tokenizer.json", "{}");
  EXPECT_THAT(mismatch(), StartsWith("MODEL_MISMATCH: tokenizer.json: is in this machine's folder but"));
  fs::remove(root_.path("models/b/tokenizer.json"));
  root_.Write("models/a/vocab.json", "{}");
  const auto more = ReadManifest(root_.path("models/a"));
  EXPECT_THAT(std::string(CompareManifests(more->files, a->files).message()),
              StartsWith("MODEL_MISMATCH: vocab.json: is not in this machine's folder"));
}

TEST_F(ModelFolder, AWeightFileCutShortHasNoManifest) {
  WriteModel("models/a");
  root_.Write("models/a/model.safetensors", SafetensorsFile(kHeader, "").substr(0, 30));
  EXPECT_THAT(ReadManifest(root_.path("models/a")).status().message(), HasSubstr("the file is cut short"));
}

}  // namespace
}  // namespace tandem::model
