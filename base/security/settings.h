// How the doors are kept and how programs knock: plain values, as the configuration gives them. Paths are of PEM files
// and of files with tokens; what is in them is read by whoever uses it.
#ifndef TANDEM_BASE_SECURITY_SETTINGS_H_
#define TANDEM_BASE_SECURITY_SETTINGS_H_

#include <string>

namespace tandem::security {

// Of one listening address. Without a certificate it speaks plain text.
struct DoorSettings {
  std::string certificate;          // the server's, with what leads to its CA
  std::string key;                  // of it
  std::string client_ca;            // who signs the certificates of those who knock
  std::string client_certificates;  // off, optional, required; empty: required where there is a client_ca

  bool encrypted() const { return !certificate.empty(); }
};

// Of a program that dials. Without a CA it speaks plain text.
struct DialSettings {
  std::string ca;           // who signs the servers' certificates
  std::string certificate;  // our own, for a server that asks for one
  std::string key;          // of it
  std::string token_file;   // one token, alone in the file; read again from time to time
  std::string token;        // where there is no file, from the environment; never shown
  std::string server_name;  // that the server's certificate must have; empty: the host that is dialled

  bool encrypted() const { return !ca.empty(); }
};

// What TANDEM_CA, TANDEM_CERT, TANDEM_KEY, TANDEM_TOKEN_FILE, TANDEM_TOKEN and TANDEM_TLS_SERVER_NAME say. For programs
// that link the client library; Tandem's own have them as a layer of their configuration.
DialSettings DialSettingsFromEnvironment();

}  // namespace tandem::security

#endif  // TANDEM_BASE_SECURITY_SETTINGS_H_
