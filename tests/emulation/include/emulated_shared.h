// Pointers into the emulated shared memory: they read as plain pointers do, and every access is bounded and noted.
#ifndef TANDEM_TESTS_EMULATION_INCLUDE_EMULATED_SHARED_H_
#define TANDEM_TESTS_EMULATION_INCLUDE_EMULATED_SHARED_H_

#include <cstddef>
#include <cstring>
#include <type_traits>

#include "tests/emulation/block.h"

namespace tandem::emulation {

template <class T>
class SharedReference {
 public:
  using Value = std::remove_const_t<T>;

  SharedReference(const SharedMemory::Array& array, ptrdiff_t offset) : array_(array), offset_(offset) {}
  SharedReference(const SharedReference&) = default;

  // All of these are inlined, so that what is noted has the kernel's own place.
  [[gnu::always_inline]] operator Value() const { return Get(); }  // NOLINT: it stands for the value
  [[gnu::always_inline]] const SharedReference& operator=(const Value& value) const {
    if (current_block->counter() != nullptr) {
      current_block->NoteShared(AccessKind::kSharedWrite, offset_, sizeof(Value));
    }
    current_block->shared().Write(array_, offset_, &value, sizeof(Value), alignof(Value));
    return *this;
  }
  [[gnu::always_inline]] const SharedReference& operator=(const SharedReference& other) const {
    return *this = other.Get();
  }
  [[gnu::always_inline]] const SharedReference& operator+=(const Value& value) const {
    return *this = static_cast<Value>(Get() + value);
  }

 private:
  [[gnu::always_inline]] Value Get() const {
    if (current_block->counter() != nullptr) {
      current_block->NoteShared(AccessKind::kSharedRead, offset_, sizeof(Value));
    }
    Value value;
    std::memset(static_cast<void*>(&value), 0xff, sizeof(Value));
    current_block->shared().Read(array_, offset_, &value, sizeof(Value), alignof(Value));
    return value;
  }

  SharedMemory::Array array_;
  ptrdiff_t offset_;
};

template <class T>
class SharedPointer {
 public:
  SharedPointer() = default;
  SharedPointer(const SharedMemory::Array& array, ptrdiff_t offset) : array_(array), offset_(offset) {}
  template <class U>
  requires std::is_same_v<const U, T> SharedPointer(const SharedPointer<U>& other)  // NOLINT: as U* becomes const U*
      : array_(other.array()), offset_(other.offset()) {}

  SharedReference<T> operator[](ptrdiff_t i) const { return {array_, offset_ + i * static_cast<ptrdiff_t>(sizeof(T))}; }
  SharedReference<T> operator*() const { return (*this)[0]; }
  SharedPointer operator+(ptrdiff_t i) const { return {array_, offset_ + i * static_cast<ptrdiff_t>(sizeof(T))}; }
  SharedPointer& operator+=(ptrdiff_t i) { return *this = *this + i; }

  const SharedMemory::Array& array() const { return array_; }
  ptrdiff_t offset() const { return offset_; }

 private:
  SharedMemory::Array array_;
  ptrdiff_t offset_ = 0;
};

template <class T>
SharedPointer<T> StaticShared(const void* key, const char* name, size_t count) {
  const SharedMemory::Array array =
      current_block->shared().Static(key, name, count * sizeof(T), alignof(T) > 16 ? alignof(T) : 16);
  return {array, static_cast<ptrdiff_t>(array.begin)};
}

template <class T>
SharedPointer<T> DynamicShared() {
  const SharedMemory::Array array = current_block->shared().Dynamic();
  return {array, static_cast<ptrdiff_t>(array.begin)};
}

}  // namespace tandem::emulation

namespace tandem::worker::cuda {

template <class T>
using Shared = emulation::SharedPointer<T>;

template <class U, class T>
Shared<U> SharedCast(const Shared<T>& pointer) {
  return {pointer.array(), pointer.offset()};
}

}  // namespace tandem::worker::cuda

#define TANDEM_SHARED(type, name, count)                \
  static const char name##_shared_key = 0;              \
  const ::tandem::emulation::SharedPointer<type> name = \
      ::tandem::emulation::StaticShared<type>(&name##_shared_key, #name, (count))

#define TANDEM_DYNAMIC_SHARED(type, name) \
  const ::tandem::emulation::SharedPointer<type> name = ::tandem::emulation::DynamicShared<type>()

#endif  // TANDEM_TESTS_EMULATION_INCLUDE_EMULATED_SHARED_H_
