#include "scheduler/security/token_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace tandem::scheduler {
namespace {

using security::Role;
using security::RoleSet;
using ::testing::HasSubstr;

constexpr char kOne[] = "aaaaaaaaaaaaaaaaaaaaaaaa", kTwo[] = "bbbbbbbbbbbbbbbbbbbbbbbb";

class TokenStoreTest : public ::testing::Test {
 protected:
  TokenStoreTest() {
    char name[] = "/tmp/token_store_XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~TokenStoreTest() override { std::filesystem::remove_all(folder_); }

  std::string File(const std::string& text) {
    std::ofstream(folder_ + "/tokens") << text;
    return folder_ + "/tokens";
  }
  std::unique_ptr<TokenStore> Open(const std::string& file) {
    auto store = TokenStore::Open(file);
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }

  std::string folder_;
};

TEST_F(TokenStoreTest, FindsTheBearerByTheWholeToken) {
  const auto store = Open(File(std::string("ops admin ") + kOne + "\n"));
  const auto bearer = store->Find(kOne);
  ASSERT_TRUE(bearer.has_value());
  EXPECT_EQ(bearer->name, "ops");
  EXPECT_EQ(bearer->grant.roles, RoleSet(Role::kAdmin));
  EXPECT_FALSE(store->Find(std::string(kOne).substr(1)).has_value());
  EXPECT_FALSE(store->Find(std::string(kOne) + "a").has_value());
  EXPECT_FALSE(store->Find("").has_value());
}

TEST_F(TokenStoreTest, TakesANewFileAndForgetsWhoIsNoLongerInIt) {
  const auto store = Open(File(std::string("ops admin ") + kOne + "\n"));
  ASSERT_TRUE(store->Find(kOne).has_value());
  File(std::string("ops viewer ") + kTwo + "\n");
  EXPECT_TRUE(store->Find(kOne).has_value()) << "nobody waits for the disk";
  store->Refresh();
  EXPECT_FALSE(store->Find(kOne).has_value());
  ASSERT_TRUE(store->Find(kTwo).has_value());
  EXPECT_EQ(store->Find(kTwo)->grant.roles, RoleSet(Role::kViewer));
}

TEST_F(TokenStoreTest, TellsHowUrgentABearersRequestsMayBe) {
  const auto store =
      Open(File(std::string("day client ") + kOne + "\nnight client " + kTwo + " highest_priority=-10\n"));
  EXPECT_EQ(store->Find(kOne)->grant.highest_priority, security::kHighestPriority);
  EXPECT_EQ(store->Find(kTwo)->grant.highest_priority, -10);
}

TEST_F(TokenStoreTest, ANameHasTheRolesOfAllItsTokens) {
  const auto store = Open(File(std::string("ops admin ") + kOne + "\nops viewer " + kTwo + "\n"));
  EXPECT_EQ(store->RolesOf("ops"), Role::kAdmin | RoleSet(Role::kViewer));
  EXPECT_TRUE(store->RolesOf("nobody").empty());
  File(std::string("ops viewer ") + kTwo + "\n");
  store->Refresh();
  EXPECT_EQ(store->RolesOf("ops"), RoleSet(Role::kViewer));
}

TEST_F(TokenStoreTest, AFileThatIsBrokenOrGoneChangesNothing) {
  const std::string file = File(std::string("ops admin ") + kOne + "\n");
  const auto store = Open(file);
  File("half a li");
  store->Refresh();
  EXPECT_TRUE(store->Find(kOne).has_value());
  std::filesystem::remove(file);
  store->Refresh();
  EXPECT_TRUE(store->Find(kOne).has_value());
  File(std::string("ops admin ") + kTwo + "\n");
  store->Refresh();
  EXPECT_TRUE(store->Find(kTwo).has_value());
}

TEST_F(TokenStoreTest, DoesNotBeginWithABrokenFile) {
  EXPECT_THAT(std::string(TokenStore::Open(File("x\n")).status().message()), HasSubstr("tokens:1:"));
  EXPECT_THAT(std::string(TokenStore::Open(folder_ + "/none").status().message()), HasSubstr("No such file"));
}

}  // namespace
}  // namespace tandem::scheduler
