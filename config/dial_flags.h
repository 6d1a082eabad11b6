// The flags by which a program is told how to dial the scheduler's doors, the same for tandemctl, tandem-gateway and
// tandem-worker. A token is not among them: what stands on a command line, every user of the machine can read.
#ifndef TANDEM_CONFIG_DIAL_FLAGS_H_
#define TANDEM_CONFIG_DIAL_FLAGS_H_

#include <string>

#include "base/security/settings.h"

namespace tandem::config {

struct DialFlag {
  const char* flag;
  const char* key;
  const char* help;
  std::string security::DialSettings::*field;
};
inline constexpr DialFlag kDialFlags[] = {
    {"--ca", "security.dial.ca", "CA (PEM) of the scheduler's certificate; speaks TLS (TANDEM_CA)",
     &security::DialSettings::ca},
    {"--cert", "security.dial.certificate", "Our own certificate (PEM), for doors that ask for one (TANDEM_CERT)",
     &security::DialSettings::certificate},
    {"--key", "security.dial.key", "Its key (PEM, TANDEM_KEY)", &security::DialSettings::key},
    {"--token-file", "security.dial.token_file", "File with our bearer token (TANDEM_TOKEN_FILE; or TANDEM_TOKEN)",
     &security::DialSettings::token_file},
    {"--tls-server-name", "security.dial.server_name",
     "Name in the scheduler's certificate, where it is not the host that is dialled (TANDEM_TLS_SERVER_NAME)",
     &security::DialSettings::server_name},
};

}  // namespace tandem::config

#endif  // TANDEM_CONFIG_DIAL_FLAGS_H_
