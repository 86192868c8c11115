// What a kernel sees of its threads: the whole team, or itself alone.

#pragma once

#include "team.h"

namespace elmo::ELMO_ISA {

struct Crew {
  Team* team;      // null: alone
  float* scratch;  // of this thread: kScratchRows rows of a panel

  Crew alone() const { return {nullptr, scratch}; }

  // Calls task(0) ... task(count - 1), each once, by whichever thread is free. All members of
  // the crew call it together and leave it together, when every task is done.
  template <class Task>
  void each(int64_t count, Task task) const {
    if (!team) {
      for (int64_t i = 0; i < count; ++i) task(i);
      return;
    }
    for (int64_t i; (i = team->claim()) < count;) task(i);
    team->arrive();
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
