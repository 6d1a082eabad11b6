// What the reference implementation makes of texts and pictures with the tiny CLIP model of tests/golden/encoders/clip.
#ifndef TANDEM_WORKER_EXEC_CLIP_GOLDEN_FOR_TEST_H_
#define TANDEM_WORKER_EXEC_CLIP_GOLDEN_FOR_TEST_H_

#include <glog/logging.h>

#include <map>
#include <string>
#include <vector>

#include "base/model/json_fields.h"
#include "nlohmann/json.hpp"
#include "worker/exec/encoder_golden_for_test.h"
#include "worker/exec/executor.h"
#include "worker/exec/model_runner_for_test.h"

namespace tandem::worker {

class ClipGolden {
 public:
  static std::string Folder() { return SourcePath("tests/golden/encoders/clip"); }

  ClipGolden() {
    const nlohmann::json golden = nlohmann::json::parse(ReadWhole(Folder() + "/golden.json"));
    for (const nlohmann::json& text : golden.at("texts")) ids_.push_back(text.at("ids").get<std::vector<TokenId>>());
    names_ = golden.at("images").get<std::vector<std::string>>();
    texts_ = ReadGoldenRows(Folder(), "texts");
    images_ = ReadGoldenRows(Folder(), "images");
    CHECK_EQ(texts_.size(), ids_.size());
    CHECK_EQ(images_.size(), names_.size());
  }

  // Reads the pictures as `executor` wants them. Before Image().
  void Prepare(const Executor& executor) {
    for (const std::string& name : names_) {
      auto image = executor.ReadImage(ReadWhole(SourcePath("tests/golden/images/" + name)));
      CHECK(image.ok()) << name << ": " << image.status();
      pixels_[name] = *std::move(image);
    }
    image_ids_.assign(static_cast<size_t>(executor.facts().image_tokens), 0);
  }

  const std::vector<std::vector<TokenId>>& ids() const { return ids_; }
  const std::vector<std::string>& names() const { return names_; }
  const std::vector<std::vector<float>>& texts() const { return texts_; }
  const std::vector<std::vector<float>>& images() const { return images_; }

  SequenceInput Text(size_t i) const { return {.tokens = ids_[i], .sample = true}; }
  SequenceInput Image(size_t i) const { return {.tokens = image_ids_, .sample = true, .image = pixels_.at(names_[i])}; }

  // Texts and pictures in turn, as they may stand in a step, and the references' vectors of them.
  struct Mixed {
    std::vector<SequenceInput> inputs;
    std::vector<std::vector<float>> vectors;
  };
  Mixed All() const {
    Mixed all;
    for (size_t i = 0; i < names_.size(); ++i) {
      if (i < ids_.size()) {
        all.inputs.push_back(Text(i));
        all.vectors.push_back(texts_[i]);
      }
      all.inputs.push_back(Image(i));
      all.vectors.push_back(images_[i]);
    }
    return all;
  }

 private:
  static std::string ReadWhole(const std::string& path) {
    const absl::StatusOr<std::string> text = model::ReadSmallFile(path, 1 << 20);
    CHECK(text.ok()) << text.status();
    return *text;
  }

  std::vector<std::vector<TokenId>> ids_;
  std::vector<std::string> names_;
  std::vector<std::vector<float>> texts_, images_;
  std::map<std::string, std::vector<uint8_t>> pixels_;
  std::vector<TokenId> image_ids_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_CLIP_GOLDEN_FOR_TEST_H_
