// Streams one completion: the example of README.md, as a program.
//
//   generate_example HOST:PORT MODEL PROMPT
#include <iostream>

#include "client/client.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: " << argv[0] << " HOST:PORT MODEL PROMPT\n";
    return 2;
  }
  // Plain text, or what TANDEM_CA, TANDEM_TOKEN and the like ask for.
  const auto dialer = tandem::security::Dialer::Open(tandem::security::DialSettingsFromEnvironment());
  if (!dialer.ok()) {
    std::cerr << dialer.status().message() << "\n";
    return 1;
  }
  auto client = tandem::client::Client::Connect(argv[1], {.dialer = *dialer});
  if (!client.ok()) {
    std::cerr << client.status().message() << "\n";
    return 1;
  }
  tandem::v1::GenerateRequest request;
  request.set_model(argv[2]);
  request.set_text(argv[3]);
  request.mutable_sampling()->set_temperature(0);  // the same text each time
  request.mutable_stopping()->set_max_tokens(64);

  auto stream = (*client)->Generate(request, {.timeout = absl::Seconds(30)});
  while (auto chunk = stream.Next()) std::cout << chunk->text() << std::flush;
  std::cout << "\n";
  if (!stream.Result().ok()) {
    std::cerr << stream.Result().status().message() << "\n";
    return 1;
  }
  std::cerr << stream.Result()->finished.usage().completion_tokens() << " tokens\n";
}
