// Memory that grows and never shrinks, at the start of a cache line.

#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace elmo::ELMO_ISA {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

  // Room for `count` elements; what was there is lost where it grows. Throws std::bad_alloc.
  T* reserve(int64_t count) {
    if (count <= capacity_) return data_;
    std::free(data_);
    data_ = nullptr;
    capacity_ = 0;
    // Large ones on whole huge pages: a pass over the weights then misses the TLB 512 times less.
    const size_t page = count * sizeof(T) >= kHugePage ? kHugePage : 64;
    const size_t bytes = (count * sizeof(T) + page - 1) / page * page;
    data_ = static_cast<T*>(std::aligned_alloc(page, bytes));
    if (!data_) throw std::bad_alloc();
    if (page == kHugePage) madvise(data_, bytes, MADV_HUGEPAGE);
#ifdef ELMO_POISON
    std::memset(static_cast<void*>(data_), 0xff, bytes);  // what is read too early is not a number
#endif
    capacity_ = count;
    return data_;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }

 private:
  static constexpr size_t kHugePage = size_t{1} << 21;
  T* data_ = nullptr;
  int64_t capacity_ = 0;
};

}  // namespace elmo::ELMO_ISA
