// Characters of words -> their context-independent vectors. No word sees another.

#pragma once

#include "weights.h"

namespace elmo::ELMO_ISA {

constexpr int64_t kWordsAtOnce = 512;  // features of so many words stay in a few MB
constexpr int64_t kWordsOfTask = 32;

// Features before and after a highway: in FP32, and as the next product takes them.
struct Features {
  Buffer<float> x;  // (words, features)
  Rows rows;

  void reserve(const Weights& w, int64_t words) {
    x.reserve(words * w.features);
    rows.shape(w.formats.encoder, words, w.features);
  }

  void store_lanes(const Weights& w, int64_t word, int64_t place, Floats value) {
    store(x.data() + word * w.features + place, value);
    rows.store_lanes(word, place, value);
  }
};

struct EncoderMemory {
  Features features[2];
  Buffer<int32_t> used;  // (words,): see used_characters
};

// Characters before the run of equal ones that ends the word: past them all windows are the same.
inline int64_t used_characters(const int32_t* ids, int64_t characters) {
  int64_t used = characters;
  while (used > 1 && ids[used - 2] == ids[characters - 1]) --used;
  return used;
}

// `V` vectors of filters of one word: relu or tanh of the strongest of
//   bias + sum over places j of table[j][character at p + j], over positions p.
// Bound: reading the table, of which a word touches width rows a position, from L2.
template <int V>
void convolve(const Weights& w, const Bank& bank, int64_t filter, const int32_t* ids,
              int64_t positions, int64_t word, Features& features) {
  const int64_t place_stride = (w.n_characters + 1) * bank.count;
  const float* table = bank.table.data() + filter;
  Floats strongest[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) strongest[v] = all(-__builtin_inff());
  for (int64_t p = 0; p < positions; ++p) {
    Floats sum[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[v] = load(table + ids[p] * bank.count + v * kLanes);
    for (int64_t j = 1; j < bank.width; ++j) {
      const float* row = table + j * place_stride + ids[p + j] * bank.count;
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[v] = sum[v] + load(row + v * kLanes);
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) strongest[v] = most(strongest[v], sum[v]);
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    const Floats z = strongest[v] + load(w.bank_bias.data() + bank.first + filter + v * kLanes);
    features.store_lanes(w, word, bank.first + filter + v * kLanes,
                         w.tanh_activation ? tanh(z) : relu(z));
  }
}

// 64 filters of one bank, whose part of the table stays in L2, over some words.
inline void convolve_slice(const Weights& w, EncoderMemory& memory, const Bank& bank,
                           int64_t filter, int64_t first, int64_t last, const int32_t* ids,
                           int64_t characters) {
  const int64_t end = minimum(filter + kPanel, bank.count);
  for (int64_t word = first; word < last; ++word) {
    const int32_t* word_ids = ids + word * characters;
    // One window of the tail alone stands for all of them.
    const int64_t positions = minimum(memory.used[word], characters - bank.width + 1);
    int64_t f = filter;
    for (; f + kPanel <= end; f += kPanel)
      convolve<4>(w, bank, f, word_ids, positions, word, memory.features[0]);
    for (; f < end; f += kLanes)
      convolve<1>(w, bank, f, word_ids, positions, word, memory.features[0]);
  }
}

// Features (words, F); the tasks of all banks in one phase, the widest last in the file and first
// here, since they take longest.
inline void convolve_words(const Weights& w, EncoderMemory& memory, const int32_t* ids,
                           int64_t words, int64_t characters, const Crew& crew) {
  const int64_t groups = (words + kWordsOfTask - 1) / kWordsOfTask;
  int64_t slices = 0;
  for (int64_t b = 0; b < w.n_banks; ++b) slices += (w.banks[b].count + kPanel - 1) / kPanel;
  crew.each(slices * groups, [&](int64_t task) {
    int64_t slice = task / groups, b = w.n_banks - 1;
    for (int64_t n; slice >= (n = (w.banks[b].count + kPanel - 1) / kPanel); --b) slice -= n;
    const int64_t first = task % groups * kWordsOfTask;
    convolve_slice(w, memory, w.banks[b], slice * kPanel, first,
                   minimum(first + kWordsOfTask, words), ids, characters);
  });
}

// y = x + gate * (relu(transform) - x), with gate = sigmoid(x Wg + bg), transform = x Wt + bt.
inline void apply_highway(const Weights& w, const Linear& highway, int64_t words,
                          const Features& from, Features& to, const Crew& crew) {
  product(highway.weight, from.rows, words, crew,
          [&](int64_t word, int64_t panel, const float* sums) {
            const float* bias = highway.bias.data() + panel * kPanel;
            for (int64_t v = 0; v < kHighwayColumns; v += kLanes) {
              const int64_t place = panel * kHighwayColumns + v;
              const Floats transform = relu(load(sums + v) + load(bias + v));
              const Floats gate =
                  sigmoid(load(sums + kHighwayColumns + v) + load(bias + kHighwayColumns + v));
              const Floats carried = load(from.x.data() + word * w.features + place);
              to.store_lanes(w, word, place, fma(gate, transform - carried, carried));
            }
          });
}

inline void project_words(const Weights& w, int64_t words, const Features& features, float* vectors,
                          const Crew& crew) {
  product(w.projection.weight, features.rows, words, crew,
          [&](int64_t word, int64_t panel, const float* sums) {
            for (int64_t v = 0; v < kPanel && panel * kPanel + v < w.P; v += kLanes) {
              const int64_t place = panel * kPanel + v;
              const Floats z = load(sums + v) + load(w.projection.bias.data() + place);
              store_some(vectors + word * w.P + place, z, w.P - place);
            }
          });
}

// Room for at most kWordsAtOnce words, whose tails are found here.
inline void prepare_words(const Weights& w, EncoderMemory& memory, const int32_t* ids,
                          int64_t words, int64_t characters) {
  for (Features& features : memory.features) features.reserve(w, words);
  memory.used.reserve(words);
  for (int64_t word = 0; word < words; ++word)
    memory.used[word] = int32_t(used_characters(ids + word * characters, characters));
}

// Prepared words (words, characters) -> vectors (words, P).
inline void encode(const Weights& w, EncoderMemory& memory, const int32_t* ids, int64_t words,
                   int64_t characters, float* vectors, const Crew& crew) {
  convolve_words(w, memory, ids, words, characters, crew);
  for (int64_t i = 0; i < w.n_highway; ++i)
    apply_highway(w, w.highways[i], words, memory.features[i % 2], memory.features[(i + 1) % 2],
                  crew);
  project_words(w, words, memory.features[w.n_highway % 2], vectors, crew);
}

}  // namespace elmo::ELMO_ISA
