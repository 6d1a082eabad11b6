#include "client/gateway/image_input.h"

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tandem::gateway {
namespace {

ApiError Wrong(absl::string_view param, absl::string_view what) {
  return {.message = absl::StrCat(param, " ", what), .param = std::string(param)};
}

}  // namespace

bool IsImageUrl(absl::string_view text) { return absl::StartsWithIgnoreCase(text.substr(0, 16), "data:image/"); }

std::variant<std::string, ApiError> ImageBytes(absl::string_view image, absl::string_view param) {
  absl::string_view data = image;
  if (absl::StartsWithIgnoreCase(image.substr(0, 16), "data:")) {
    const size_t comma = image.substr(0, 256).find(',');
    if (comma == absl::string_view::npos) return Wrong(param, "is a data URL without a comma");
    const std::string head = absl::AsciiStrToLower(image.substr(5, comma - 5));
    absl::string_view kind = head;
    if (!absl::ConsumeSuffix(&kind, ";base64")) return Wrong(param, "is a data URL that is not base64");
    kind = kind.substr(0, kind.find(';'));
    if (kind != "image/png" && kind != "image/jpeg" && kind != "image/jpg") {
      return Wrong(param, "is a data URL of another kind than image/png and image/jpeg, which are read");
    }
    data = image.substr(comma + 1);
  } else if (absl::StrContains(image.substr(0, 16), ":")) {
    // A colon is in no base64, and in every URL.
    return Wrong(param,
                 "is a URL; nothing is fetched: send the picture itself as a data URL, data:image/png;base64,...");
  }
  std::string bytes;
  if (!absl::Base64Unescape(data, &bytes) || bytes.empty()) return Wrong(param, "has no picture in base64");
  return bytes;
}

}  // namespace tandem::gateway
