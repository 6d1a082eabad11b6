#include "scheduler/security/access_rules.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "tandem/v1/admin.pb.h"
#include "tandem/v1/inference.pb.h"
#include "tandem/v1/worker.pb.h"

namespace tandem::scheduler {
namespace {

using security::Role;

std::set<std::string> AllMethods() {
  std::set<std::string> methods;
  for (const google::protobuf::FileDescriptor* file :
       {v1::GenerateRequest::descriptor()->file(), v1::AttachRequest::descriptor()->file(),
        v1::GetStatusRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        methods.insert(absl::StrCat(file->service(s)->name(), "/", file->service(s)->method(m)->name()));
      }
    }
  }
  return methods;
}

security::RoleSet Roles(const std::string& method) {
  for (const AccessRule& rule : kAccessRules) {
    if (rule.method == method) return rule.roles;
  }
  return {};
}

TEST(AccessRules, EveryMethodOfEveryServiceHasOneAndNoOtherHas) {
  std::set<std::string> ruled;
  for (const AccessRule& rule : kAccessRules) {
    EXPECT_TRUE(ruled.insert(std::string(rule.method)).second) << rule.method << " twice";
    EXPECT_FALSE(rule.roles.empty()) << rule.method;
  }
  EXPECT_EQ(ruled, AllMethods());
}

TEST(AccessRules, AViewerOnlyLooks) {
  for (const std::string& method : AllMethods()) {
    const std::string verb = method.substr(method.find('/') + 1);
    const bool looks = verb.rfind("Get", 0) == 0 || verb.rfind("List", 0) == 0 || verb.rfind("Explain", 0) == 0 ||
                       verb.rfind("Watch", 0) == 0;
    EXPECT_EQ(Roles(method).Meets(Role::kViewer), looks) << method;
  }
}

TEST(AccessRules, ARoleOpensItsOwnDoor) {
  for (const std::string& method : AllMethods()) {
    const std::string service = method.substr(0, method.find('/'));
    EXPECT_EQ(Roles(method).Meets(Role::kWorker), service == "WorkerService") << method;
    EXPECT_EQ(Roles(method).Meets(Role::kClient), service == "InferenceService") << method;
    if (service == "AdminService") {
      EXPECT_TRUE(Roles(method).Meets(Role::kAdmin)) << method;
    }
  }
}

}  // namespace
}  // namespace tandem::scheduler
