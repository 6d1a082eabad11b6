// Pictures in a JSON request. They come as base64, in a data URL or bare; a reference to a place elsewhere is refused,
// since nothing is ever fetched for a caller.
#ifndef TANDEM_CLIENT_GATEWAY_IMAGE_INPUT_H_
#define TANDEM_CLIENT_GATEWAY_IMAGE_INPUT_H_

#include <string>
#include <variant>

#include "absl/strings/string_view.h"
#include "client/gateway/api_error.h"

namespace tandem::gateway {

// What stands in front of a picture where a text could be: such a string is a picture.
bool IsImageUrl(absl::string_view text);

// The file's bytes, or what is wrong with `image`, said of the field `param`. The bytes are not looked into.
std::variant<std::string, ApiError> ImageBytes(absl::string_view image, absl::string_view param);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_IMAGE_INPUT_H_
