// Kills its process right before the Nth change to a file under a folder: LD_PRELOAD for tests/e2e/test_kill_at_write.py.
//
// TANDEM_KILL_UNDER is the folder. TANDEM_KILL_ARM names a file that holds N; it is removed when the shot is fired, so
// that the process that is started next lives. Without that file nothing happens.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long left = -1;  // changes until the shot; negative: not armed

__attribute__((constructor)) static void Arm(void) {
  const char* path = getenv("TANDEM_KILL_ARM");
  FILE* file = path ? fopen(path, "r") : NULL;
  long n = -1;
  if (file == NULL) return;
  if (fscanf(file, "%ld", &n) != 1) n = -1;
  fclose(file);
  atomic_store(&left, n);
}

static int Under(const char* path) {
  const char* folder = getenv("TANDEM_KILL_UNDER");
  return folder != NULL && strncmp(path, folder, strlen(folder)) == 0;
}

static int IsState(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return Under(path);
}

static void Count(void) {
  if (atomic_load(&left) < 0 || atomic_fetch_sub(&left, 1) > 0) return;
  unlink(getenv("TANDEM_KILL_ARM"));
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void* bytes, size_t size) {
  if (atomic_load(&left) >= 0 && IsState(fd)) Count();
  return NEXT(write)(fd, bytes, size);
}
ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t at) {
  if (atomic_load(&left) >= 0 && IsState(fd)) Count();
  return NEXT(pwrite64)(fd, bytes, size, at);
}
ssize_t pwrite(int fd, const void* bytes, size_t size, off_t at) {
  if (atomic_load(&left) >= 0 && IsState(fd)) Count();
  return NEXT(pwrite)(fd, bytes, size, at);
}
int fsync(int fd) {
  if (atomic_load(&left) >= 0 && IsState(fd)) Count();
  return NEXT(fsync)(fd);
}
int fdatasync(int fd) {
  if (atomic_load(&left) >= 0 && IsState(fd)) Count();
  return NEXT(fdatasync)(fd);
}
int ftruncate64(int fd, off64_t size) {
  if (atomic_load(&left) >= 0 && IsState(fd)) Count();
  return NEXT(ftruncate64)(fd, size);
}
int rename(const char* from, const char* to) {
  if (atomic_load(&left) >= 0 && Under(to)) Count();
  return NEXT(rename)(from, to);
}
int unlink(const char* path) {
  if (atomic_load(&left) >= 0 && Under(path)) Count();
  return NEXT(unlink)(path);
}
