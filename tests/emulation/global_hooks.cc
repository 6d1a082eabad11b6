// Sees every load and store of global memory by a kernel that was compiled with -fsanitize=thread: the compiler then
// calls out before each, with address and size. ThreadSanitizer itself is not linked; these functions stand in its
// place. Accesses outside of kernels, and of memory that no device has given out, are passed over.
//
// Linked only by programs that count, with tandem_cuda_ops_counted; itself compiled without that option.

#include <cstdint>

#include "tests/emulation/block.h"

namespace {

using tandem::emulation::AccessKind;
using tandem::emulation::current_block;
using tandem::emulation::current_thread;

// What the counting itself does is nobody's access; functions that it shares with kernels may be compiled to call out.
thread_local constinit bool inside = false;

inline void Note(AccessKind kind, const void* address, size_t bytes, const void* place) {
  if (inside || current_thread == nullptr || current_block->counter() == nullptr) return;
  inside = true;
  // More than a thread can move at once goes in pieces.
  for (size_t at = 0; at < bytes; at += 16) {
    current_block->counter()->NoteGlobal(current_thread->accesses, kind, static_cast<const char*>(address) + at,
                                         bytes - at < 16 ? bytes - at : 16, reinterpret_cast<uintptr_t>(place));
  }
  inside = false;
}

}  // namespace

// NOLINTBEGIN: the compiler chose the names
#define HOOKS(size)                                                                                                    \
  void __tsan_read##size(void* address);                                                                               \
  void __tsan_read##size(void* address) { Note(AccessKind::kGlobalRead, address, size, __builtin_return_address(0)); } \
  void __tsan_write##size(void* address);                                                                              \
  void __tsan_write##size(void* address) {                                                                             \
    Note(AccessKind::kGlobalWrite, address, size, __builtin_return_address(0));                                        \
  }                                                                                                                    \
  void __tsan_unaligned_read##size(void* address);                                                                     \
  void __tsan_unaligned_read##size(void* address) {                                                                    \
    Note(AccessKind::kGlobalRead, address, size, __builtin_return_address(0));                                         \
  }                                                                                                                    \
  void __tsan_unaligned_write##size(void* address);                                                                    \
  void __tsan_unaligned_write##size(void* address) {                                                                   \
    Note(AccessKind::kGlobalWrite, address, size, __builtin_return_address(0));                                        \
  }

extern "C" {
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void* address, size_t bytes);
void __tsan_read_range(void* address, size_t bytes) {
  Note(AccessKind::kGlobalRead, address, bytes, __builtin_return_address(0));
}
void __tsan_write_range(void* address, size_t bytes);
void __tsan_write_range(void* address, size_t bytes) {
  Note(AccessKind::kGlobalWrite, address, bytes, __builtin_return_address(0));
}
void __tsan_init();
void __tsan_init() {}
void __tsan_func_entry(void*);
void __tsan_func_entry(void*) {}
void __tsan_func_exit();
void __tsan_func_exit() {}
// What the code around the launches does atomically.
unsigned char __tsan_atomic8_load(const volatile unsigned char* address, int order);
unsigned char __tsan_atomic8_load(const volatile unsigned char* address, int) {
  return __atomic_load_n(address, __ATOMIC_SEQ_CST);
}
unsigned int __tsan_atomic32_load(const volatile unsigned int* address, int order);
unsigned int __tsan_atomic32_load(const volatile unsigned int* address, int) {
  return __atomic_load_n(address, __ATOMIC_SEQ_CST);
}
unsigned int __tsan_atomic32_fetch_add(volatile unsigned int* address, unsigned int value, int order);
unsigned int __tsan_atomic32_fetch_add(volatile unsigned int* address, unsigned int value, int) {
  return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}
unsigned int __tsan_atomic32_fetch_sub(volatile unsigned int* address, unsigned int value, int order);
unsigned int __tsan_atomic32_fetch_sub(volatile unsigned int* address, unsigned int value, int) {
  return __atomic_fetch_sub(address, value, __ATOMIC_SEQ_CST);
}
void __tsan_vptr_update(void**, void*);
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**);
void __tsan_vptr_read(void**) {}
}
// NOLINTEND
