// Characters of words -> their context-independent vectors. No word sees another.

#pragma once

#include "weights.h"

namespace elmo::ELMO_ISA {

constexpr int64_t kWordsAtOnce = 512;  // features of so many words stay in a few MB
constexpr int64_t kWordsOfTask = 32;

struct EncoderMemory {
  Buffer<float> x, y;  // (words, features)
  Rows rows;
  Buffer<int32_t> used;  // (words,)

  void reserve(const Weights& w, int64_t words) {
    const int64_t count = minimum(words, kWordsAtOnce);
    x.reserve(count * w.features);
    y.reserve(count * w.features);
    used.reserve(count);
    rows.shape(w.formats.encoder, count, w.features);
  }
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
              int64_t positions, float* features) {
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
    store(features + bank.first + filter + v * kLanes, w.tanh_activation ? tanh(z) : relu(z));
  }
}

// Features (words, F) of `words` words. A task takes 64 filters, whose part of the table stays in
// L2, over some words.
inline void convolve_words(const Weights& w, EncoderMemory& memory, const int32_t* ids,
                           int64_t words, int64_t characters, const Crew& crew) {
  const int64_t groups = (words + kWordsOfTask - 1) / kWordsOfTask;
  for (int64_t b = w.n_banks - 1; b >= 0; --b) {  // the widest last in the file, so first here
    const Bank& bank = w.banks[b];
    const int64_t slices = (bank.count + kPanel - 1) / kPanel;
    crew.each(slices * groups, [&](int64_t task) {
      const int64_t filter = task / groups * kPanel, group = task % groups;
      const int64_t last = minimum((group + 1) * kWordsOfTask, words);
      for (int64_t word = group * kWordsOfTask; word < last; ++word) {
        const int32_t* word_ids = ids + word * characters;
        float* features = memory.x.data() + word * w.features;
        // One window of the tail alone stands for all of them.
        const int64_t positions = minimum(memory.used[word], characters - bank.width + 1);
        int64_t f = filter;
        const int64_t end = minimum(filter + kPanel, bank.count);
        for (; f + kPanel <= end; f += kPanel)
          convolve<4>(w, bank, f, word_ids, positions, features);
        for (; f < end; f += kLanes) convolve<1>(w, bank, f, word_ids, positions, features);
      }
    });
  }
}

// y = x + gate * (relu(transform) - x), with gate = sigmoid(x Wg + bg), transform = x Wt + bt.
inline void apply_highway(const Weights& w, const Linear& highway, EncoderMemory& memory,
                          int64_t words, const float* x, float* y, const Crew& crew) {
  product(highway.weight, memory.rows, words, crew,
          [&](int64_t word, int64_t panel, const float* sums) {
            const float* bias = highway.bias.data() + panel * kPanel;
            for (int64_t v = 0; v < kHighwayColumns; v += kLanes) {
              const int64_t place = word * w.features + panel * kHighwayColumns + v;
              const Floats transform = relu(load(sums + v) + load(bias + v));
              const Floats gate =
                  sigmoid(load(sums + kHighwayColumns + v) + load(bias + kHighwayColumns + v));
              const Floats carried = load(x + place);
              store(y + place, fma(gate, transform - carried, carried));
            }
          });
}

inline void fill_rows(const Weights& w, EncoderMemory& memory, int64_t words, const float* x,
                      const Crew& crew) {
  crew.ranges(words, 8, [&](int64_t first, int64_t last) {
    for (int64_t word = first; word < last; ++word)
      memory.rows.write(word, x + word * w.features, w.features);
  });
}

// At most kWordsAtOnce words, (words, characters) -> vectors (words, P).
inline void encode_some(const Weights& w, EncoderMemory& memory, const int32_t* ids, int64_t words,
                        int64_t characters, float* vectors, const Crew& crew) {
  crew.ranges(words, kWordsOfTask, [&](int64_t first, int64_t last) {
    for (int64_t word = first; word < last; ++word)
      memory.used[word] = int32_t(used_characters(ids + word * characters, characters));
  });
  convolve_words(w, memory, ids, words, characters, crew);
  float *x = memory.x.data(), *y = memory.y.data();
  for (int64_t i = 0; i < w.n_highway; ++i) {
    fill_rows(w, memory, words, x, crew);
    apply_highway(w, w.highways[i], memory, words, x, y, crew);
    float* const swapped = x;
    x = y;
    y = swapped;
  }
  fill_rows(w, memory, words, x, crew);
  product(w.projection.weight, memory.rows, words, crew,
          [&](int64_t word, int64_t panel, const float* sums) {
            for (int64_t v = 0; v < kPanel; v += kLanes) {
              const int64_t place = panel * kPanel + v;
              if (place >= w.P) break;
              const Floats z = load(sums + v) + load(w.projection.bias.data() + place);
              store_some(vectors + word * w.P + place, z, w.P - place);
            }
          });
}

inline void encode(const Weights& w, EncoderMemory& memory, const int32_t* ids, int64_t words,
                   int64_t characters, float* vectors, const Crew& crew) {
  for (int64_t first = 0; first < words; first += kWordsAtOnce)
    encode_some(w, memory, ids + first * characters, minimum(kWordsAtOnce, words - first),
                characters, vectors + first * w.P, crew);
}

}  // namespace elmo::ELMO_ISA
