#include "base/model/image_preparation.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "base/model/image_limits.h"
#include "base/model/json_fields.h"

namespace tandem::model {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr int64_t kMaxFileBytes = 1 << 20;
constexpr int64_t kBicubic = 3;  // as PIL counts its filters

// A whole number stands for the shorter edge, or for both sides of a crop.
void ReadSize(JsonFields* fields, const json& object, ImagePreparation* out) {
  if (const auto it = object.find("size"); it != object.end() && it->is_number()) {
    out->shortest_edge = static_cast<int32_t>(fields->Int("size", 1, kMaxImageSide));
    return;
  }
  const json* size = fields->Object("size");
  if (size == nullptr) return fields->Refuse("size is missing");
  JsonFields inner(*size, "size");
  if (inner.Has("shortest_edge")) {
    out->shortest_edge = static_cast<int32_t>(inner.Int("shortest_edge", 1, kMaxImageSide));
    if (inner.Has("longest_edge"))
      inner.Refuse("size: longest_edge is not supported (shortest_edge; height and width)");
  } else {
    out->resize_height = static_cast<int32_t>(inner.Int("height", 1, kMaxImageSide));
    out->resize_width = static_cast<int32_t>(inner.Int("width", 1, kMaxImageSide));
  }
  if (!inner.status().ok()) fields->Refuse(inner.status().message());
}

void ReadCrop(JsonFields* fields, const json& object, ImagePreparation* out) {
  if (const auto it = object.find("crop_size"); it != object.end() && it->is_number()) {
    out->crop_height = out->crop_width = static_cast<int32_t>(fields->Int("crop_size", 1, kMaxImageSide));
    return;
  }
  const json* size = fields->Object("crop_size");
  if (size == nullptr) return fields->Refuse("crop_size is missing");
  JsonFields inner(*size, "crop_size");
  out->crop_height = static_cast<int32_t>(inner.Int("height", 1, kMaxImageSide));
  out->crop_width = static_cast<int32_t>(inner.Int("width", 1, kMaxImageSide));
  if (!inner.status().ok()) fields->Refuse(inner.status().message());
}

void ReadColours(JsonFields* fields, const json& object, const char* name, double lowest, std::array<double, 3>* out) {
  const auto it = object.find(name);
  if (it == object.end() || !it->is_array() || it->size() != 3) {
    return fields->Refuse(absl::StrCat(name, " must be three numbers"));
  }
  for (size_t i = 0; i < 3; ++i) {
    const json& value = (*it)[i];
    if (!value.is_number() || !(value.get<double>() >= lowest && value.get<double>() <= 1e6)) {
      return fields->Refuse(absl::StrCat(name, "[", i, "] is no number from ", lowest, " to 1e6"));
    }
    (*out)[i] = value.get<double>();
  }
}

}  // namespace

ColourTable ImagePreparation::Colours() const {
  ColourTable table;
  for (size_t c = 0; c < table.size(); ++c) {
    for (size_t byte = 0; byte < table[c].size(); ++byte) {
      const auto scaled = static_cast<float>(static_cast<double>(byte) * scale);
      table[c][byte] = (scaled - static_cast<float>(mean[c])) / static_cast<float>(deviation[c]);
    }
  }
  return table;
}

absl::StatusOr<ImagePreparation> ReadImagePreparation(const std::string& folder, int32_t side) {
  // Newer folders have one file for text and image together.
  const fs::path old = fs::path(folder) / "preprocessor_config.json";
  std::error_code error;
  const bool nested = !fs::exists(old, error) && fs::exists(fs::path(folder) / "processor_config.json", error);
  const std::string name = nested ? "processor_config.json" : "preprocessor_config.json";
  const absl::StatusOr<std::string> text = ReadSmallFile((fs::path(folder) / name).string(), kMaxFileBytes);
  if (!text.ok()) return text.status();
  absl::StatusOr<json> object = ParseJsonObject(*text, name);
  if (!object.ok()) return object.status();
  if (nested) {
    const auto it = object->find("image_processor");
    if (it == object->end() || !it->is_object()) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": image_processor is missing"));
    }
    json inner = *it;
    *object = std::move(inner);
  }
  JsonFields fields(*object, name);
  ImagePreparation out;
  out.resize = fields.BoolOr("do_resize", true);
  if (out.resize) ReadSize(&fields, *object, &out);
  if (const int64_t filter = fields.IntOr("resample", 0, 16, kBicubic); out.resize && filter != kBicubic) {
    fields.Refuse(absl::StrCat("resample ", filter, " is not supported (3, bicubic)"));
  }
  out.crop = fields.BoolOr("do_center_crop", true);
  if (out.crop) ReadCrop(&fields, *object, &out);
  if (fields.BoolOr("do_pad", false)) fields.Refuse("do_pad is not supported");
  if (fields.BoolOr("do_rescale", true)) out.scale = fields.NumberOr("rescale_factor", 1e-9, 1e9, 1.0 / 255);
  if (fields.BoolOr("do_normalize", true)) {
    ReadColours(&fields, *object, "image_mean", -1e6, &out.mean);
    ReadColours(&fields, *object, "image_std", 1e-6, &out.deviation);
  }
  if (!fields.BoolOr("do_convert_rgb", true)) fields.Refuse("do_convert_rgb: false is not supported");
  if (!fields.status().ok()) return fields.status();
  const bool fits = out.crop ? out.crop_height == side && out.crop_width == side
                             : out.resize && out.resize_height == side && out.resize_width == side;
  if (!fits) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " does not give pictures of ", side, " x ", side, ", which config.json asks for"));
  }
  return out;
}

}  // namespace tandem::model
