#include "team.h"

#include <immintrin.h>

#include <atomic>
#include <chrono>
#include <system_error>
#include <thread>
#include <vector>

namespace elmo {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kLongestSpin = std::chrono::microseconds(20);  // then the thread sleeps

// Waits until `value` is no longer `old`.
void wait_for_change(const std::atomic<int32_t>& value, int32_t old, bool spinning) {
  if (spinning) {
    const auto end = Clock::now() + kLongestSpin;
    do {
      for (int i = 0; i < 32; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        _mm_pause();
      }
    } while (Clock::now() < end);
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

}  // namespace

struct Team::Shared {
  explicit Shared(bool spinning) : spinning(spinning) {}

  const bool spinning;
  std::vector<std::thread> threads;
  Work work = nullptr;  // null ends the threads
  void* context = nullptr;
  // Each on a cache line of its own, for other threads write them at the same time.
  alignas(64) std::atomic<int32_t> generation{0};  // counts calls of run()
  alignas(64) std::atomic<int32_t> arrived{0};
  alignas(64) std::atomic<int32_t> phase{0};  // counts barriers
  alignas(64) std::atomic<int64_t> next_task{0};
};

Team::Team(int size, bool spinning) : size_(1), shared_(new Shared(spinning)) {
  shared_->threads.reserve(size);
  try {
    for (; size_ < size; ++size_)
      shared_->threads.emplace_back([this, thread = size_] { serve(thread, 0); });
  } catch (const std::system_error&) {
    // The threads that did start are enough.
  }
}

Team::~Team() {
  if (!shared_) return;
  shared_->work = nullptr;
  shared_->generation.fetch_add(1, std::memory_order_release);
  shared_->generation.notify_all();
  for (std::thread& thread : shared_->threads) thread.join();
  delete shared_;
}

void Team::abandon() { shared_ = nullptr; }

void Team::run(Work work, void* context) {
  Shared& shared = *shared_;
  shared.work = work;
  shared.context = context;
  shared.generation.fetch_add(1, std::memory_order_release);
  shared.generation.notify_all();
  work(context, 0);
  arrive();
}

void Team::serve(int thread, int32_t generation) {
  _mm_setcsr(_mm_getcsr() | _MM_FLUSH_ZERO_ON | 0x0040);  // and denormals are zero
  Shared& shared = *shared_;
  for (;;) {
    wait_for_change(shared.generation, generation, shared.spinning);
    ++generation;
    if (!shared.work) return;
    shared.work(shared.context, thread);
    arrive();
  }
}

int64_t Team::claim() { return shared_->next_task.fetch_add(1, std::memory_order_relaxed); }

void Team::arrive() {
  if (size_ == 1) {
    shared_->next_task.store(0, std::memory_order_relaxed);
    return;
  }
  Shared& shared = *shared_;
  const int32_t phase = shared.phase.load(std::memory_order_relaxed);
  if (shared.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 < size_)
    return wait_for_change(shared.phase, phase, shared.spinning);
  shared.arrived.store(0, std::memory_order_relaxed);
  shared.next_task.store(0, std::memory_order_relaxed);
  shared.phase.store(phase + 1, std::memory_order_release);
  shared.phase.notify_all();
}

}  // namespace elmo
