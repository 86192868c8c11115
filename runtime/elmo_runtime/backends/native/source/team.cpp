#include "team.h"

#include <immintrin.h>
#include <sched.h>

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

// Which helpers are in the work of the current call, and whether more may come in.
class Door {
 public:
  void open(uint32_t call) { state_.store(uint64_t{call} << 32 | kOpen); }

  // False where the call is over.
  bool enter(uint32_t call) {
    uint64_t state = state_.load(std::memory_order_acquire);
    do {
      if (state >> 32 != call || !(state & kOpen)) return false;
    } while (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel));
    return true;
  }

  void leave() { state_.fetch_sub(1, std::memory_order_acq_rel); }

  // Waits for helpers between two phases, who have a few instructions to go.
  void close() {
    state_.fetch_and(~kOpen, std::memory_order_acq_rel);
    for (int spins = 0; state_.load(std::memory_order_acquire) & kInside; ++spins) {
      if (spins < 1000) {
        _mm_pause();
      } else {
        sched_yield();
      }
    }
  }

 private:
  static constexpr uint64_t kOpen = uint64_t{1} << 31;
  static constexpr uint64_t kInside = kOpen - 1;
  std::atomic<uint64_t> state_{0};  // number of the call, open, helpers inside
};

}  // namespace

struct Team::Shared {
  explicit Shared(bool spinning) : spinning(spinning) {}

  const bool spinning;
  std::vector<std::thread> helpers;
  Work work = nullptr;
  void* context = nullptr;
  int32_t first_phase = 0;
  std::atomic<bool> stopping{false};
  // Each on a cache line of its own, for several threads write them at the same time.
  alignas(64) std::atomic<int32_t> call{0};
  alignas(64) std::atomic<int32_t> phase{0};
  alignas(64) std::atomic<uint64_t> next{0};  // number of the phase, next task
  alignas(64) std::atomic<int64_t> done{0};   // tasks of the phase
  alignas(64) Door door;
};

Team::Team(int size, bool spinning) : size_(1), shared_(new Shared(spinning)) {
  shared_->helpers.reserve(size);
  try {
    for (; size_ < size; ++size_)
      shared_->helpers.emplace_back([this, thread = size_] { serve(thread); });
  } catch (const std::system_error&) {
    // The helpers that did start are enough.
  }
}

Team::~Team() {
  if (!shared_) return;
  shared_->stopping.store(true);
  shared_->call.fetch_add(1, std::memory_order_release);
  shared_->call.notify_all();
  for (std::thread& helper : shared_->helpers) helper.join();
  delete shared_;
}

void Team::abandon() { shared_ = nullptr; }

void Team::run(Work work, void* context) {
  Shared& shared = *shared_;
  shared.work = work;
  shared.context = context;
  shared.first_phase = shared.phase.load();
  const int32_t call = shared.call.load() + 1;
  shared.door.open(uint32_t(call));
  shared.call.store(call, std::memory_order_release);
  shared.call.notify_all();
  work(context, 0);
  shared.door.close();
}

void Team::serve(int thread) {
  _mm_setcsr(_mm_getcsr() | _MM_FLUSH_ZERO_ON | 0x0040);  // and denormals are zero
  Shared& shared = *shared_;
  for (int32_t call = 0;;) {
    wait_for_change(shared.call, call, shared.spinning);
    call = shared.call.load(std::memory_order_acquire);
    if (shared.stopping.load()) return;
    if (!shared.door.enter(uint32_t(call))) continue;
    try {
      shared.work(shared.context, thread);
      shared.door.leave();
    } catch (const TooLate&) {
      // It has left already.
    }
  }
}

int32_t Team::first_phase() const { return shared_->first_phase; }

int64_t Team::claim(int32_t phase, int64_t count) {
  std::atomic<uint64_t>& next = shared_->next;
  uint64_t value = next.load(std::memory_order_acquire);
  do {
    if (int32_t(value >> 32) != phase || int64_t(value & 0xffffffff) >= count) return -1;
  } while (!next.compare_exchange_weak(value, value + 1, std::memory_order_acq_rel));
  return int64_t(value & 0xffffffff);
}

void Team::finish(int32_t phase, int64_t count) {
  Shared& shared = *shared_;
  if (shared.done.fetch_add(1, std::memory_order_acq_rel) + 1 < count) return;
  shared.done.store(0, std::memory_order_relaxed);
  const auto following = int32_t(uint32_t(phase) + 1);
  shared.next.store(uint64_t{uint32_t(following)} << 32, std::memory_order_release);
  shared.phase.store(following, std::memory_order_release);
  shared.phase.notify_all();
}

void Team::wait_for_end(int32_t phase, int thread) {
  Shared& shared = *shared_;
  if (shared.phase.load(std::memory_order_acquire) != phase) return;
  if (thread == 0) return wait_for_change(shared.phase, phase, shared.spinning);
  // A helper waits outside, so that a call can end without it.
  const int32_t call = shared.call.load(std::memory_order_relaxed);
  shared.door.leave();
  wait_for_change(shared.phase, phase, shared.spinning);
  if (!shared.door.enter(uint32_t(call))) throw TooLate();
}

}  // namespace elmo
