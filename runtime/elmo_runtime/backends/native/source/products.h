// Rows of activations times panels of weights.
//
// Each lane adds its column's terms in the order of k, whatever the rows beside it, the blocks of
// k and the instruction set. So the bits of a row depend on that row alone.

#pragma once

#include "matrix.h"

namespace elmo::ELMO_ISA {

constexpr int64_t kScratchRows = 240;  // rows of a task: 60 KB of sums
constexpr int64_t kBlock = 512;        // k of a block, so that its part of a panel stays in L2

#ifdef __AVX512F__
constexpr int kRegisterColumns = 4;  // vectors of columns in registers, where there are many rows
#else
constexpr int kRegisterColumns = 1;
#endif

// How each format makes a step. Bound: two FMAs a cycle, which 6 x 4 or 6 x 2 registers of sums
// reach in full, or reading the weights, where there are fewer than about 6 rows.
template <class F>
struct Step;

template <>
struct Step<Fp32> {
  static constexpr int kRows = 6;
  using Sums = Floats;
  using Columns = Floats;
  using Term = Floats;
  ELMO_INLINE Sums load_sums(const float* p) { return load(p); }
  ELMO_INLINE void store_sums(float* p, Sums x) { store(p, x); }
  ELMO_INLINE Sums zero() { return all(0.0f); }
  ELMO_INLINE Columns columns(const float* w) { return load(w); }
  ELMO_INLINE Term term(const char* row, int64_t k) {
    return all(reinterpret_cast<const float*>(row)[k]);
  }
  ELMO_INLINE Sums add(Sums sums, Term x, Columns w) { return fma(x, w, sums); }
};

// vdpbf16ps: sums + x1 w1, rounded, + x0 w0, rounded, which two FMAs give as well.
template <>
struct Step<Bf16> {
  using Sums = Floats;
  ELMO_INLINE Sums load_sums(const float* p) { return load(p); }
  ELMO_INLINE void store_sums(float* p, Sums x) { store(p, x); }
  ELMO_INLINE Sums zero() { return all(0.0f); }
  ELMO_INLINE int32_t pair(const char* row, int64_t k) {
    int32_t bits;
    std::memcpy(&bits, row + k * sizeof(uint16_t), sizeof bits);
    return bits;
  }
#ifdef __AVX512BF16__
  static constexpr int kRows = 6;
  using Columns = __m512bh;
  using Term = __m512bh;
  ELMO_INLINE Columns columns(const uint16_t* w) { return (__m512bh)_mm512_loadu_si512(w); }
  ELMO_INLINE Term term(const char* row, int64_t k) {
    return (__m512bh)_mm512_set1_epi32(pair(row, k));
  }
  ELMO_INLINE Sums add(Sums sums, Term x, Columns w) { return {_mm512_dpbf16_ps(sums.v, x, w)}; }
#else
  static constexpr int kRows = 4;  // both halves of the weights take registers too
  struct Halves {
    Floats even, odd;
  };
  using Columns = Halves;
  using Term = Halves;
  ELMO_INLINE Halves halves(Ints pairs) {
    return {from_bits(shifted_left<16>(pairs)), from_bits(pairs & all(int32_t(0xffff0000)))};
  }
  ELMO_INLINE Columns columns(const uint16_t* w) {
    return halves(load(reinterpret_cast<const int32_t*>(w)));
  }
  ELMO_INLINE Term term(const char* row, int64_t k) { return halves(all(pair(row, k))); }
  ELMO_INLINE Sums add(Sums sums, Term x, Columns w) {
    return fma(x.even, w.even, fma(x.odd, w.odd, sums));
  }
#endif
};

// The sums are exact integers, in the memory of floats until `panel_product` scales them.
template <>
struct Step<Int8> {
  static constexpr int kRows = 6;
  using Sums = Ints;
  using Term = Ints;
  ELMO_INLINE Sums load_sums(const float* p) { return load(reinterpret_cast<const int32_t*>(p)); }
  ELMO_INLINE void store_sums(float* p, Sums x) { store(reinterpret_cast<int32_t*>(p), x); }
  ELMO_INLINE Sums zero() { return all(0); }
  ELMO_INLINE Term term(const char* row, int64_t k) {
    int32_t numbers;  // kDepth of them
    std::memcpy(&numbers, row + k * sizeof(Int8::Activation), sizeof numbers);
    return all(numbers);
  }
  using Columns = Ints;
#ifdef __AVX512VNNI__
  ELMO_INLINE Columns columns(const uint8_t* w) { return {_mm512_loadu_si512(w)}; }
  ELMO_INLINE Sums add(Sums sums, Term x, Columns w) {
    return {_mm512_dpbusd_epi32(sums.v, w.v, x.v)};
  }
#elif defined(__AVX512F__)
  ELMO_INLINE Columns columns(const int8_t* w) {
    return {_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)))};
  }
  ELMO_INLINE Sums add(Sums sums, Term x, Columns w) {
    return sums + Ints{_mm512_madd_epi16(w.v, x.v)};
  }
#else
  ELMO_INLINE Columns columns(const int8_t* w) {
    const auto* halves = reinterpret_cast<const __m128i*>(w);
    return {_mm256_cvtepi8_epi16(_mm_loadu_si128(halves)),
            _mm256_cvtepi8_epi16(_mm_loadu_si128(halves + 1))};
  }
  ELMO_INLINE Sums add(Sums sums, Term x, Columns w) {
    return sums + Ints{_mm256_madd_epi16(w.a, x.a), _mm256_madd_epi16(w.b, x.b)};
  }
#endif
};

// sums (R, 64) += rows (R, count) x w (count, V vectors of columns), for `count` of k.
template <class F, int R, int V>
ELMO_INLINE void multiply_block(const char* const* rows, const typename F::Weight* w, int64_t count,
                                float* sums, bool first) {
  using S = Step<F>;
  typename S::Sums s[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v)
      s[r][v] = first ? S::zero() : S::load_sums(sums + r * kPanel + v * kLanes);
  for (int64_t k = 0; k < count; k += F::kDepth) {
    typename S::Columns columns[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) columns[v] = S::columns(w + k * kPanel + v * kLanes * F::kDepth);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const typename S::Term x = S::term(rows[r], k);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) s[r][v] = S::add(s[r][v], x, columns[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) S::store_sums(sums + r * kPanel + v * kLanes, s[r][v]);
}

template <class F, int V>
void multiply_rows(int64_t n_rows, const char* const* rows, const typename F::Weight* w,
                   int64_t count, float* sums, bool first) {
  switch (n_rows) {
    case 1:
      return multiply_block<F, 1, V>(rows, w, count, sums, first);
    case 2:
      return multiply_block<F, 2, V>(rows, w, count, sums, first);
    case 3:
      return multiply_block<F, 3, V>(rows, w, count, sums, first);
    case 4:
      return multiply_block<F, 4, V>(rows, w, count, sums, first);
    case 5:
      if constexpr (Step<F>::kRows >= 5)
        return multiply_block<F, 5, V>(rows, w, count, sums, first);
      break;
    case 6:
      if constexpr (Step<F>::kRows >= 6)
        return multiply_block<F, 6, V>(rows, w, count, sums, first);
      break;
  }
}

// Blocks of k, then groups of V vectors of columns, then blocks of rows of even sizes.
template <class F, int V>
void multiply_panel(const Matrix& matrix, int64_t panel, const Rows& x, int64_t first_row,
                    int64_t n_rows, float* sums) {
  constexpr int64_t kMost = Step<F>::kRows;
  const typename F::Weight* w = matrix.template panel<F>(panel);
  const int64_t blocks = (n_rows + kMost - 1) / kMost;
  const int64_t length = blocks == 1 ? matrix.depth : kBlock;
  for (int64_t k = 0; k < matrix.depth; k += length)
    for (int64_t v = 0; v < kPanel / kLanes; v += V)
      for (int64_t block = 0; block < blocks; ++block) {
        const int64_t first = n_rows * block / blocks, last = n_rows * (block + 1) / blocks;
        const char* rows[kMost];
        for (int64_t r = first; r < last; ++r)
          rows[r - first] = x.row(first_row + r) + k * sizeof(typename F::Activation);
        multiply_rows<F, V>(last - first, rows, w + k * kPanel + v * kLanes * F::kDepth,
                            minimum(length, matrix.depth - k), sums + first * kPanel + v * kLanes,
                            k == 0);
      }
}

// Integer sums -> floats: x w = (sum of numbers) * scale of the row * scale of the column.
ELMO_INLINE void scale_sums(const Matrix& matrix, int64_t panel, const Rows& x, int64_t first_row,
                            int64_t n_rows, float* sums) {
  for (int64_t r = 0; r < n_rows; ++r) {
    const Floats row_scale = all(x.scale(first_row + r));
    const Ints offset = all(Int8::kOffset * x.sum(first_row + r));
    for (int64_t v = 0; v < kPanel; v += kLanes) {
      float* p = sums + r * kPanel + v;
      const Ints exact = load(reinterpret_cast<const int32_t*>(p)) - offset;
      store(p, as_floats(exact) * load(matrix.scales(panel) + v) * row_scale);
    }
  }
}

// sums (n_rows, 64) = rows of x from first_row on, times one panel.
inline void panel_product(const Matrix& matrix, int64_t panel, const Rows& x, int64_t first_row,
                          int64_t n_rows, float* sums) {
  with_format(matrix.format, [&](auto format) {
    using F = decltype(format);
    // With few rows there are registers left for more columns.
    if (n_rows == 1) {
      multiply_panel<F, 4>(matrix, panel, x, first_row, n_rows, sums);
    } else if (n_rows == 2 && kRegisterColumns < 2) {
      multiply_panel<F, 2>(matrix, panel, x, first_row, n_rows, sums);
    } else {
      multiply_panel<F, kRegisterColumns>(matrix, panel, x, first_row, n_rows, sums);
    }
  });
  if (matrix.format == Format::kInt8) scale_sums(matrix, panel, x, first_row, n_rows, sums);
}

// The product of n_rows rows with the whole matrix: finish(row, panel, sums of 64 columns).
template <class Finish>
void product(const Matrix& matrix, const Rows& x, int64_t n_rows, const Crew& crew, Finish finish) {
  const int64_t chunks = (n_rows + kScratchRows - 1) / kScratchRows;
  crew.each(chunks * matrix.panels, [&](int64_t task) {
    const int64_t chunk = task / matrix.panels, panel = task % matrix.panels;
    const int64_t first = n_rows * chunk / chunks, last = n_rows * (chunk + 1) / chunks;
    panel_product(matrix, panel, x, first, last - first, crew.scratch);
    for (int64_t row = first; row < last; ++row)
      finish(row, panel, crew.scratch + (row - first) * kPanel);
  });
}

}  // namespace elmo::ELMO_ISA
