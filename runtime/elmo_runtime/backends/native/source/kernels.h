// What one instruction set offers to api.cpp. kernels.cpp is compiled once for each of them.

#pragma once

#include "interface.h"
#include "team.h"

namespace elmo {

struct Kernels {
  const char* name;

  // Packed weights; null with a sentence in `message`. Throws std::bad_alloc.
  void* (*pack)(const Config& config, const Tensors& tensors, int32_t form, Team& team,
                char* message);
  void (*free_weights)(void* weights);

  // Memory of one call at a time, which grows as needed and is kept for the next.
  void* (*make_memory)();
  void (*free_memory)(void* memory);

  // Inputs are checked: see check_batch and check_char_ids in api.cpp. Throw std::bad_alloc.
  void (*encode)(const void* weights, void* memory, const int32_t* char_ids, int64_t words,
                 int64_t characters, float* vectors, Team& team);
  void (*run)(const void* weights, void* memory, const Batch& batch, Team& team);
};

extern const Kernels kAvx2, kAvx512, kAvx512Vnni;

}  // namespace elmo
