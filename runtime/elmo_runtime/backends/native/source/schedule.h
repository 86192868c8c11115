// A batch of sentences -> time steps over packed rows, as in torch's PackedSequence.
//
// Sentences are sorted by falling length (their place is the rank), so that step t runs on the
// first counts(t) of them. A packed row is one (step, rank). The backward direction packs its own
// reversed order, which has the same counts.

#pragma once

#include "interface.h"
#include "matrix.h"

namespace elmo::ELMO_ISA {

constexpr int64_t kProductBytes = 32 << 20;  // of a block's input products: about an L3 cache

// Steps whose input products are computed together, once for each distinct input.
struct Block {
  int64_t first_step, last_step;
  int64_t first_input, n_inputs;  // a range of Plan::inputs
};

// The blocks of one layer and direction.
struct Plan {
  Buffer<Block> blocks;
  int64_t n_blocks = 0;
  Buffer<int32_t> inputs;  // rows of the layer's input
  Buffer<int32_t> slots;   // (packed rows,): which input of its block each one is
  int64_t most_inputs = 0;
};

struct Schedule {
  int64_t batch = 0, steps = 0, rows = 0;
  Buffer<int32_t> sentence;  // (batch,) by rank
  Buffer<int32_t> rank;      // (batch,) by sentence
  Buffer<int64_t> starts;    // (steps + 1,): the first packed row of each step
  Buffer<int32_t> words[2];  // (rows,): the word of each packed row, forward and backward
  Plan lowest[2];            // inputs are words
  Plan upper;                // inputs are packed rows of the layer below

  int64_t count(int64_t step) const { return starts[step + 1] - starts[step]; }
};

inline void sort_sentences(Schedule& s, const Batch& batch) {
  s.batch = batch.batch;
  s.sentence.reserve(s.batch);
  s.rank.reserve(s.batch);
  s.starts.reserve(batch.marked_length + 2);
  std::memset(s.starts.data(), 0, (batch.marked_length + 2) * sizeof(int64_t));
  int64_t* longer = s.starts.data();  // for now: sentences of more than `length` places
  s.steps = 0;
  for (int64_t b = 0; b < s.batch; ++b) {
    const int64_t length = batch.lengths[b] + 2;
    s.steps = maximum(s.steps, length);
    for (int64_t t = 0; t < length; ++t) ++longer[t];
  }
  Buffer<int64_t> next;  // where the next sentence of each length goes
  next.reserve(s.steps + 1);
  for (int64_t length = 0; length <= s.steps; ++length) next[length] = longer[length];
  for (int64_t b = 0; b < s.batch; ++b) {
    const int64_t rank = next[batch.lengths[b] + 2]++;
    s.sentence[rank] = int32_t(b);
    s.rank[b] = int32_t(rank);
  }
  int64_t start = 0;  // counts -> starts
  for (int64_t t = 0; t <= s.steps; ++t) {
    const int64_t count = t < s.steps ? longer[t] : 0;
    s.starts[t] = start;
    start += count;
  }
  s.rows = start;
}

inline void place_words(Schedule& s, const Batch& batch) {
  for (Buffer<int32_t>& words : s.words) words.reserve(s.rows);
  for (int64_t t = 0; t < s.steps; ++t)
    for (int64_t rank = 0; rank < s.count(t); ++rank) {
      const int64_t b = s.sentence[rank], last = batch.lengths[b] + 1;
      const int32_t* index = batch.word_index + b * batch.marked_length;
      s.words[0][s.starts[t] + rank] = index[t];
      s.words[1][s.starts[t] + rank] = index[last - t];
    }
}

// Cuts the steps into blocks of at most `most` distinct inputs, or of one step.
inline void plan_blocks(Plan& plan, const Schedule& s, const int32_t* inputs, int64_t n_inputs,
                        int64_t most) {
  plan.blocks.reserve(s.steps);
  plan.inputs.reserve(s.rows);
  plan.slots.reserve(s.rows);
  Buffer<int32_t> seen;  // the slot of each input, where its number in plan.inputs is the same
  seen.reserve(n_inputs);
  std::memset(seen.data(), 0, n_inputs * sizeof(int32_t));
  plan.n_blocks = 0;
  plan.most_inputs = 0;
  int64_t total = 0;
  Block block{0, 0, 0, 0};
  const auto close = [&](int64_t step) {
    block.last_step = step;
    plan.blocks[plan.n_blocks++] = block;
    plan.most_inputs = maximum(plan.most_inputs, block.n_inputs);
    block = {step, step, total, 0};
  };
  for (int64_t t = 0; t < s.steps; ++t) {
    if (block.n_inputs && block.n_inputs + s.count(t) > most) close(t);
    for (int64_t row = s.starts[t]; row < s.starts[t + 1]; ++row) {
      const int32_t input = inputs ? inputs[row] : int32_t(row);
      int32_t slot = seen[input];
      if (slot >= block.n_inputs || plan.inputs[block.first_input + slot] != input) {
        slot = int32_t(block.n_inputs++);
        seen[input] = slot;
        plan.inputs[total++] = input;
      }
      plan.slots[row] = slot;
    }
  }
  close(s.steps);
}

inline void make_schedule(Schedule& s, const Batch& batch, int64_t lstm_dim) {
  sort_sentences(s, batch);
  place_words(s, batch);
  const int64_t row_bytes = round_up(lstm_dim, kLanes) * 4 * sizeof(float);
  const int64_t most = maximum(kProductBytes / row_bytes, kPanel);
  for (int direction = 0; direction < 2; ++direction)
    plan_blocks(s.lowest[direction], s, s.words[direction].data(), batch.n_words, most);
  plan_blocks(s.upper, s, nullptr, s.rows, most);
}

}  // namespace elmo::ELMO_ISA
