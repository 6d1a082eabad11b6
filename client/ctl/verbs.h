// The verbs of tandemctl, one file a family. Each function adds its subcommands; a verb that runs sets
// Context::exit_code and prints its own failure. `context` outlives the app.
#ifndef TANDEM_CLIENT_CTL_VERBS_H_
#define TANDEM_CLIENT_CTL_VERBS_H_

#include <CLI/CLI.hpp>

#include "client/ctl/context.h"

namespace tandem::client::ctl {

void AddUp(CLI::App& app, Context& context);
void AddServe(CLI::App& app, Context& context);
void AddWait(CLI::App& app, Context& context);
void AddStatus(CLI::App& app, Context& context);
void AddGet(CLI::App& app, Context& context);
void AddDescribe(CLI::App& app, Context& context);
void AddExplain(CLI::App& app, Context& context);
void AddGenerate(CLI::App& app, Context& context);
void AddEmbed(CLI::App& app, Context& context);
void AddCordon(CLI::App& app, Context& context);
void AddDrain(CLI::App& app, Context& context);
void AddDeploy(CLI::App& app, Context& context);
void AddTopology(CLI::App& app, Context& context);
void AddEvents(CLI::App& app, Context& context);
void AddPlan(CLI::App& app, Context& context);
void AddSimulate(CLI::App& app, Context& context);
void AddReplay(CLI::App& app, Context& context);
void AddConfig(CLI::App& app, Context& context);
void AddBench(CLI::App& app, Context& context);
void AddConfigure(CLI::App& app, Context& context);
void AddTop(CLI::App& app, Context& context);
void AddVersion(CLI::App& app, Context& context);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_VERBS_H_
