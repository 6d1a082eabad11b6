// A conversation on the terminal: each line that is read is a turn, each answer is streamed and remembered.
//
//   chat_example HOST:PORT MODEL
#include <iostream>
#include <string>

#include "client/client.h"
#include "client/error.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: " << argv[0] << " HOST:PORT MODEL\n";
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
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(256);

  for (std::string line; std::getline(std::cin, line);) {
    auto* turn = request.mutable_chat()->add_messages();
    turn->set_role("user");
    turn->set_content(line);
    auto stream = (*client)->Generate(request);
    std::string answer;
    while (auto chunk = stream.Next()) {
      std::cout << chunk->text() << std::flush;
      answer += chunk->text();
    }
    std::cout << std::endl;
    if (!stream.Result().ok()) {
      std::cerr << tandem::client::ErrorReason(stream.Result().status()) << ": " << stream.Result().status().message()
                << "\n";
      return 1;
    }
    auto* reply = request.mutable_chat()->add_messages();
    reply->set_role("assistant");
    reply->set_content(answer);
  }
}
