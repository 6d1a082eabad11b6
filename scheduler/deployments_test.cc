#include "scheduler/deployments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

config::ModelConfig InFile(const std::string& name, std::vector<std::string> aliases) {
  config::ModelConfig config;
  config.name = name;
  config.path = "files/" + name;
  config.aliases = std::move(aliases);
  return config;
}

store::Deployment AtRunTime(const std::string& name, const std::string& aliases) {
  store::Deployment row;
  row.name = name;
  row.spec = "name=" + name + "\naliases=" + aliases + "\npath=files/" + name + "\n";
  return row;
}

std::vector<std::string> NamesOf(const DeployedModels& models) {
  std::vector<std::string> names;
  for (const config::ModelConfig& model : models.models) names.push_back(model.name);
  return names;
}

TEST(ApplyDeploymentsTest, WhatWasDeployedStandsBesideTheFile) {
  const DeployedModels models = ApplyDeployments({InFile("tiny", {"small"})}, {AtRunTime("second", "other")});
  EXPECT_THAT(NamesOf(models), ElementsAre("tiny", "second"));
  EXPECT_THAT(models.models[1].aliases, ElementsAre("other"));
  EXPECT_THAT(models.run_time, ElementsAre("second"));
  EXPECT_THAT(models.told, IsEmpty());
}

TEST(ApplyDeploymentsTest, ANameThatTheFileGivesToAnotherEndsWhatWasDeployedUnderIt) {
  const DeployedModels models = ApplyDeployments({InFile("tiny", {"second"})}, {AtRunTime("second", "other")});
  EXPECT_THAT(NamesOf(models), ElementsAre("tiny"));
  EXPECT_THAT(models.superseded, ElementsAre("second"));
  EXPECT_THAT(models.told, ElementsAre(HasSubstr("models/second: the configuration gives this name to models/tiny")));
}

TEST(ApplyDeploymentsTest, AnAliasThatTheFileGivesToAnotherIsLostAndTheRestServed) {
  for (const auto& file : {InFile("tiny", {"x"}), InFile("x", {})}) {
    const DeployedModels models = ApplyDeployments({file}, {AtRunTime("second", "x, y")});
    EXPECT_THAT(NamesOf(models), ElementsAre(file.name, "second"));
    EXPECT_THAT(models.models[1].aliases, ElementsAre("y"));
    EXPECT_THAT(models.superseded, IsEmpty());
    EXPECT_THAT(models.told, ElementsAre(HasSubstr("models/second: its alias x is that of models/" + file.name)));
  }
}

TEST(ApplyDeploymentsTest, ARowOfAnEntryThatHasChangedIsForgotten) {
  store::Deployment row = AtRunTime("tiny", "");
  row.base = "the hash of what stood there";
  const DeployedModels models = ApplyDeployments({InFile("tiny", {"small"})}, {row});
  EXPECT_THAT(models.models[0].aliases, ElementsAre("small"));
  EXPECT_THAT(models.superseded, ElementsAre("tiny"));
  EXPECT_THAT(models.told, ElementsAre(HasSubstr("its entry in the configuration has changed")));
}

}  // namespace
}  // namespace tandem::scheduler
