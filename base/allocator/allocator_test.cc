// The programs that link tandem_allocator really run with jemalloc, set up as jemalloc.cc says.
#include <jemalloc/jemalloc.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "gtest/gtest.h"

namespace tandem {
namespace {

uint64_t Allocated() {
  uint64_t bytes = 0;
  size_t size = sizeof(bytes);
  EXPECT_EQ(mallctl("thread.allocated", &bytes, &size, nullptr, 0), 0);
  return bytes;
}

TEST(AllocatorTest, PagesAreAskedToBeHuge) {
  if (std::getenv("MALLOC_CONF") != nullptr) GTEST_SKIP() << "MALLOC_CONF overrides it";
  const char* thp = nullptr;
  size_t size = sizeof(thp);
  ASSERT_EQ(mallctl("opt.thp", &thp, &size, nullptr, 0), 0);
  EXPECT_STREQ(thp, "always");
}

TEST(AllocatorTest, OperatorNewComesFromIt) {
  const uint64_t before = Allocated();
  const auto block = std::make_unique<std::string>(1 << 20, 'x');
  EXPECT_GE(Allocated() - before, uint64_t{1} << 20);
}

}  // namespace
}  // namespace tandem
