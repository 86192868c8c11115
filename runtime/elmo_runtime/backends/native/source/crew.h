// What a kernel sees of its threads: the whole team, or itself alone.

#pragma once

#include "team.h"

namespace elmo::ELMO_ISA {

struct Crew {
  Team* team;      // null: alone
  int thread;      // 0 is the caller
  float* scratch;  // of this thread: kScratchRows rows of a panel
  int32_t* phase;  // how many phases this thread has come through

  Crew alone() const { return {nullptr, 0, scratch, nullptr}; }

  // Calls task(0) ... task(count - 1), each once, by whichever thread is free, and returns when
  // all are done. Every member of the crew makes the same calls in the same order.
  template <class Task>
  void each(int64_t count, Task task) const {
    if (!team) {
      for (int64_t i = 0; i < count; ++i) task(i);
      return;
    }
    if (count == 0) return;
    const int32_t here = *phase;
    *phase = int32_t(uint32_t(here) + 1);
    for (int64_t i; (i = team->claim(here, count)) >= 0;) {
      task(i);
      team->finish(here, count);
    }
    team->wait_for_end(here, thread);
  }

  // The same for task(first, last) over ranges of `size`.
  template <class Task>
  void ranges(int64_t count, int64_t size, Task task) const {
    each((count + size - 1) / size, [&](int64_t i) {
      const int64_t first = i * size;
      task(first, first + size < count ? first + size : count);
    });
  }
};

}  // namespace elmo::ELMO_ISA
