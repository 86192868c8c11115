// A team of threads that run one function together, phase by phase.
//
// A phase ends when its tasks are done, not when every thread has arrived: a helper that is late,
// because another process has its core, misses phases instead of holding up the others.

#pragma once

#include <cstdint>

namespace elmo {

class Team {
 public:
  using Work = void (*)(void* context, int thread);

  // Thrown in a helper whose call has ended without it; caught by the team.
  struct TooLate {};

  // Starts size - 1 helpers; fewer where the system has no more threads to give.
  Team(int size, bool spinning);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return size_; }

  // The caller runs work(context, 0) and helpers run it with their own numbers, if they come in
  // time. When it returns, no helper is in `work` any more. One call at a time.
  void run(Work work, void* context);

  // The number of the first phase of the current call. Every thread counts phases on its own.
  int32_t first_phase() const;

  // The next task of `count` in a phase, or -1 where there is none.
  int64_t claim(int32_t phase, int64_t count);

  // A claimed task is done.
  void finish(int32_t phase, int64_t count);

  // Returns when all tasks of the phase are done. Throws TooLate in a helper (thread > 0).
  void wait_for_end(int32_t phase, int thread);

  // Leaves helpers alone that a fork did not copy. No other function may be called after it.
  void abandon();

 private:
  struct Shared;
  void serve(int thread);

  int size_;
  Shared* shared_;
};

}  // namespace elmo
