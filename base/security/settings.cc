#include "base/security/settings.h"

#include <cstdlib>

namespace tandem::security {
namespace {

std::string Variable(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? "" : text;
}

}  // namespace

DialSettings DialSettingsFromEnvironment() {
  return {.ca = Variable("TANDEM_CA"),
          .certificate = Variable("TANDEM_CERT"),
          .key = Variable("TANDEM_KEY"),
          .token_file = Variable("TANDEM_TOKEN_FILE"),
          .token = Variable("TANDEM_TOKEN"),
          .server_name = Variable("TANDEM_TLS_SERVER_NAME")};
}

}  // namespace tandem::security
