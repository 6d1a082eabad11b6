// tandemctl: the command line for operators and the launcher of one machine.
#include <glog/logging.h>
#include <grpc/support/log.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <vector>

#include "client/ctl/context.h"
#include "client/ctl/verbs.h"
#include "client/ctl/vllm_flags.h"
#include "config/dial_flags.h"

namespace {

// The command line as CLI11 takes it, the last word first. What follows `serve` may be spelled as for vLLM.
std::vector<std::string> Words(const CLI::App& app, int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  const auto verb = std::find_if(words.begin(), words.end(), [&app](const std::string& word) {
    return !app.get_subcommands([&word](const CLI::App* each) { return each->get_name() == word; }).empty();
  });
  if (verb != words.end() && *verb == "serve") {
    const std::vector<std::string> after =
        tandem::client::ctl::SpelledOut(std::vector<std::string>(verb + 1, words.end()));
    std::copy(after.begin(), after.end(), verb + 1);
  }
  std::reverse(words.begin(), words.end());
  return words;
}

}  // namespace

int main(int argc, char** argv) {
  using tandem::client::ctl::Context;
  FLAGS_logtostderr = true;
  // What gRPC has to say about a handshake that fails, we say in one line.
  gpr_set_log_function([](gpr_log_func_args* line) { VLOG(1) << line->message; });
  google::InitGoogleLogging(argv[0]);
  signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of the write, not the end of the program

  Context context;
  CLI::App app("tandemctl: start, watch and operate Tandem", "tandemctl");
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--config", context.config_path, "Configuration of the cluster (YAML); or TANDEM_CONFIG")
      ->envname("TANDEM_CONFIG");
  app.add_option("--server", context.server, "HOST:PORT of the scheduler's clients; or TANDEM_SERVER");
  // After `up` it is that verb's own option: where to serve.
  app.add_option("--admin", context.admin, "HOST:PORT of the scheduler's operators; or TANDEM_ADMIN");
  for (const tandem::config::DialFlag& flag : tandem::config::kDialFlags) {
    app.add_option_function<std::string>(
           flag.flag,
           [&context, &flag](const std::string& text) {
             context.dial_flags.push_back({flag.key, text, flag.flag});
           },
           flag.help)
        ->group("To a scheduler with TLS or tokens");
  }
  app.footer(
      "Exit codes: 0 ok, 1 failure, 2 usage, 3 timed out waiting, 4 not found, 5 scheduler unreachable, 6 refused");

  namespace ctl = tandem::client::ctl;
  for (const auto add :
       {ctl::AddUp,       ctl::AddServe,    ctl::AddWait,     ctl::AddStatus, ctl::AddGet,    ctl::AddDescribe,
        ctl::AddExplain,  ctl::AddGenerate, ctl::AddEmbed,    ctl::AddCordon, ctl::AddDrain,  ctl::AddDeploy,
        ctl::AddTopology, ctl::AddEvents,   ctl::AddPlan,     ctl::AddReplay, ctl::AddConfig, ctl::AddConfigure,
        ctl::AddTop,      ctl::AddBench,    ctl::AddSimulate, ctl::AddVersion}) {
    add(app, context);
  }
  try {
    app.parse(Words(app, argc, argv));
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::CallForAllHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    std::cerr << "tandemctl: " << error.what() << "\n";
    return ctl::kUsage;
  }
  return context.exit_code;
}
