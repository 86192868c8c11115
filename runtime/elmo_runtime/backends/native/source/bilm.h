// A batch -> the outputs asked for: both stacks of layers, then mixes and pooling.

#pragma once

#include "layer.h"

namespace elmo::ELMO_ISA {

// Threads meet two or three times a step. Below this much work a step is left to one thread, and
// the two directions, which do not see each other, are computed at the same time.
constexpr int64_t kSmallStep = 4 << 20;  // bytes of weights read or multiplications / 4

struct BilmMemory {
  Schedule schedule;
  LayerMemory directions[2];
  Buffer<float> y;  // (layers, 2, packed rows, padded P)

  const float* layer(const Weights& w, int64_t depth, int direction) const {
    return y.data() + (depth * 2 + direction) * schedule.rows * w.padded_P();
  }
};

inline bool has_small_steps(const Weights& w, const Schedule& s) {
  const LstmLayer& layer = w.layers[0][0];
  const int64_t bytes = layer.recurrent.bytes() + layer.projection.bytes();
  return bytes * (s.rows / s.steps + 3) / 4 < kSmallStep;
}

inline void run_stack(const Weights& w, BilmMemory& memory, const Batch& batch, int direction,
                      LayerMemory& layer_memory, const Crew& crew) {
  const Schedule& s = memory.schedule;
  for (int64_t depth = 0; depth < w.L; ++depth) {
    const int64_t lane = depth * 2 + direction;
    const StateView &h = batch.initial_h, &c = batch.initial_c;
    const LayerState state{
        h.data + depth * h.layer_stride + direction * h.direction_stride,
        c.data + depth * c.layer_stride + direction * c.direction_stride,
        h.row_stride,
        c.row_stride,
        batch.final_h ? batch.final_h + lane * s.batch * w.P : nullptr,
        batch.final_c ? batch.final_c + lane * s.batch * w.C : nullptr,
    };
    LayerRun{w,
             w.layers[direction][depth],
             s,
             depth ? s.upper : s.lowest[direction],
             layer_memory,
             depth ? memory.layer(w, depth - 1, direction) : batch.word_vectors,
             depth ? w.padded_P() : w.P,
             const_cast<float*>(memory.layer(w, depth, direction)),
             depth > 0 && w.skip,
             state,
             crew}();
  }
}

// The vectors of one token in one direction, layer by layer.
struct Token {
  const Weights& w;
  const BilmMemory& memory;
  const float* word;  // (P,)
  int64_t row;
  int direction;

  const float* layer(int64_t depth) const {  // 0 is the word
    if (depth == 0) return word;
    return memory.layer(w, depth - 1, direction) + row * w.padded_P();
  }

  // gamma * sum over k of softmax(weights)_k layer_k, sixteen places of it.
  Floats mixed(const float* shares, int64_t place) const {
    Floats sum = all(shares[0]) * load_some(word + place, w.P - place);
    for (int64_t k = 1; k <= w.L; ++k) sum = fma(all(shares[k]), load(layer(k) + place), sum);
    return sum;
  }
};

// Writes everything asked for of one sentence, with zeros past its length.
struct SentenceWriter {
  const Weights& w;
  const BilmMemory& memory;
  const Batch& batch;
  int64_t b;

  void operator()() const {
    for (int64_t k = 0; k < w.L; ++k)
      if (batch.layers && batch.layers[k]) copy_layer(k + 1, batch.layers[k]);
    for (int64_t mix = 0; mix < batch.n_mixes; ++mix)
      if (batch.elmo || batch.pooled) write_mix(mix);
  }

 private:
  int64_t length() const { return batch.lengths[b]; }
  int64_t places() const { return batch.marked_length - 2; }
  int64_t width() const { return 2 * w.P; }

  // Token t is step t + 1 of the forward direction and step `length - t` of the backward one.
  Token token(int64_t t, int direction) const {
    const Schedule& s = memory.schedule;
    const int64_t step = direction ? length() - t : t + 1;
    const int64_t word = batch.word_index[b * batch.marked_length + t + 1];
    return {w, memory, batch.word_vectors + word * w.P, s.starts[step] + s.rank[b], direction};
  }

  void clear_padding(float* sentence) const {
    std::memset(sentence + length() * width(), 0, (places() - length()) * width() * sizeof(float));
  }

  void copy_layer(int64_t k, float* layer) const {
    float* sentence = layer + b * places() * width();
    for (int64_t t = 0; t < length(); ++t)
      for (int direction = 0; direction < 2; ++direction)
        std::memcpy(sentence + t * width() + direction * w.P, token(t, direction).layer(k),
                    w.P * sizeof(float));
    clear_padding(sentence);
  }

  void write_mix(int64_t mix) const {
    const float* shares = batch.shares + mix * (w.L + 1);
    float* pooled = batch.pooled ? batch.pooled + (mix * batch.batch + b) * width() : nullptr;
    float* sentence =
        batch.elmo ? batch.elmo + (mix * batch.batch + b) * places() * width() : nullptr;
    if (pooled) std::memset(pooled, 0, width() * sizeof(float));
    for (int64_t t = 0; t < length(); ++t)
      for (int direction = 0; direction < 2; ++direction) {
        const Token one = token(t, direction);
        for (int64_t place = 0; place < w.P; place += kLanes) {
          const Floats mixed = one.mixed(shares, place);
          const int64_t to = direction * w.P + place, count = w.P - place;
          if (sentence) store_some(sentence + t * width() + to, mixed, count);
          if (pooled) store_some(pooled + to, load_some(pooled + to, count) + mixed, count);
        }
      }
    if (sentence) clear_padding(sentence);
    if (pooled && length() > 1)  // the mean over real tokens
      for (int64_t place = 0; place < width(); ++place) pooled[place] /= float(length());
  }
};

inline void run_batch(const Weights& w, BilmMemory& memory, const Batch& batch, const Crew& crew,
                      bool directions_together) {
  if (directions_together) {
    crew.each(2, [&](int64_t direction) {
      run_stack(w, memory, batch, int(direction), memory.directions[direction], crew.alone());
    });
  } else {  // in turn, so that the cache holds the weights of one
    for (int direction = 0; direction < 2; ++direction)
      run_stack(w, memory, batch, direction, memory.directions[0], crew);
  }
  crew.each(batch.batch, [&](int64_t b) { SentenceWriter{w, memory, batch, b}(); });
}

}  // namespace elmo::ELMO_ISA
