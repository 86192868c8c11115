// A team of threads that run one function together and meet at barriers.

#pragma once

#include <cstdint>

namespace elmo {

class Team {
 public:
  using Work = void (*)(void* context, int thread);

  // Starts size - 1 threads; fewer where the system has no more to give.
  Team(int size, bool spinning);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return size_; }

  // Every thread calls work(context, its number), the caller as number 0. One call at a time.
  void run(Work work, void* context);

  // The number of the next task of the current phase; numbers grow without end.
  int64_t claim();

  // Waits until every thread has arrived. Then tasks are numbered from 0 again.
  void arrive();

  // Leaves threads alone that a fork did not copy. No other function may be called after it.
  void abandon();

 private:
  struct Shared;
  void serve(int thread, int32_t generation);

  int size_;
  Shared* shared_;
};

}  // namespace elmo
