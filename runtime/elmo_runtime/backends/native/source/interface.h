// The plain C interface of the native backend, called through ctypes (library.py).
//
// Every function that can fail returns 0, or a Status with a sentence in `message`. Arrays are C
// contiguous float32 or int32 unless a stride is given, and belong to the caller.

#pragma once

#include <cstdint>

#define ELMO_API extern "C" __attribute__((visibility("default")))

namespace elmo {

constexpr int32_t kInterfaceVersion = 1;
constexpr int64_t kMessageSize = 256;

enum Status : int32_t { kOk = 0, kBadInput = 1, kNoMemory = 2, kUnsupported = 3 };

enum Form : int32_t { kFp32 = 0, kBf16 = 1, kInt8 = 2 };

// The numbers that define an ELMo; see elmo_runtime/config.py. A clip of infinity binds nothing.
struct Config {
  int32_t projection_dim;  // P
  int32_t lstm_dim;        // C
  int32_t n_layers;
  int32_t skip_connections;
  int32_t n_characters;  // rows of the embedding; id 0 is "no character" and has no row
  int32_t char_embedding_dim;
  int32_t n_banks;  // convolutions, each with a width and a count of filters
  int32_t n_highway;
  int32_t tanh_activation;  // of the convolutions: 1 tanh, 0 relu
  float cell_clip;
  float proj_clip;
  const int32_t* bank_widths;
  const int32_t* bank_counts;
};

// The FP32 tensors of a checkpoint in this order, with the shapes of expected_shapes():
//   embedding; weight and bias of each bank; weight and bias of transform and of gate of each
//   highway; weight and bias of the projection; and for each layer of the forward, then of the
//   backward stack: input_weight, recurrent_weight, bias, projection_weight.
struct Tensors {
  const float* const* data;
  const int64_t* sizes;  // elements of each tensor
  int64_t count;
};

// A state (layers, 2, batch, width) whose last axis is contiguous; strides count floats.
struct StateView {
  const float* data;
  int64_t layer_stride, direction_stride, row_stride;
};

// Inputs and results of a batch, shaped as in docs/graphs.md. A null result is not computed.
struct Batch {
  int64_t n_words, batch, marked_length, n_mixes;
  const float* word_vectors;  // (words, P)
  const int32_t* word_index;  // (batch, marked_length)
  const int32_t* lengths;     // (batch,)
  const float* shares;        // (mixes, layers + 1): gamma * softmax(weights)
  StateView initial_h, initial_c;
  float* const* layers;  // n_layers pointers to (batch, marked_length - 2, 2P)
  float* elmo;           // (mixes, batch, marked_length - 2, 2P)
  float* pooled;         // (mixes, batch, 2P)
  float* final_h;        // (layers, 2, batch, P)
  float* final_c;        // (layers, 2, batch, C)
};

struct Model;

}  // namespace elmo

ELMO_API int32_t elmo_native_interface_version();

// The instruction set that a model opened now would use, or null where none is supported.
ELMO_API const char* elmo_native_instruction_set();

// Packs the tensors, which may be freed afterwards.
ELMO_API int32_t elmo_native_open(const elmo::Config* config, const elmo::Tensors* tensors,
                                  int32_t form, int32_t threads, int32_t spinning,
                                  elmo::Model** model, char* message);

// char_ids (words, characters) -> word_vectors (words, P).
ELMO_API int32_t elmo_native_encode(elmo::Model* model, const int32_t* char_ids, int64_t words,
                                    int64_t characters, float* word_vectors, char* message);

ELMO_API int32_t elmo_native_run(elmo::Model* model, const elmo::Batch* batch, char* message);

// Frees the weights and ends the threads; no call is running or follows.
ELMO_API void elmo_native_close(elmo::Model* model);
