// Products of a few rows with a matrix that is stored in panels of sixteen columns.
//
// A weight format says how its panels are read and how a step of the sum is made. The sum of one
// row and column always runs from the first to the last element, alone in its lane, so that its
// bits depend neither on the other rows nor on the threads.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace lstmp {

constexpr int kPanel = 16;    // columns of a panel: two vectors
constexpr int kMostRows = 6;  // that any format takes at once

struct Float32 {
  using Stored = float;
  using Activation = float;
  using Sum = __m256;
  static constexpr int kDepth = 1;  // rows of the matrix that lie together in a panel
  static constexpr int kRows = 6;   // 12 sums, 2 weights and 1 activation fill the registers
  static constexpr bool kScaled = false;

  static __m256 load(const Stored* weights) { return _mm256_loadu_ps(weights); }
  static __m256 spread(const Activation* x) { return _mm256_broadcast_ss(x); }
  static Sum zero() { return _mm256_setzero_ps(); }
  static Sum add(Sum sum, __m256 x, __m256 w) { return _mm256_fmadd_ps(x, w, sum); }
  static __m256 value(Sum sum) { return sum; }
  static void store(Activation* to, __m256 x) { _mm256_storeu_ps(to, x); }
};

// Weights of eight bits, activations of up to sixteen, sums of 32 bits that cannot overflow.
struct Int8 {
  using Stored = int8_t;
  using Activation = int16_t;
  using Sum = __m256i;
  static constexpr int kDepth = 2;
  static constexpr int kRows = 6;
  static constexpr bool kScaled = true;

  static __m256i load(const Stored* weights) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights)));
  }
  static __m256i spread(const Activation* x) {
    return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(x)));
  }
  static Sum zero() { return _mm256_setzero_si256(); }
  static Sum add(Sum sum, __m256i x, __m256i w) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
    // Or GCC makes all products before the first sum, and has no registers for them.
    __asm__ volatile("" : "+x"(sum));
    return sum;
  }
  static __m256 value(Sum sum) { return _mm256_cvtepi32_ps(sum); }
  static void store(Activation* to, __m256 x) {
    const __m256i whole = _mm256_cvtps_epi32(x);
    const __m128i packed = _mm_packs_epi32(_mm256_castsi256_si128(whole),
                                           _mm256_extracti128_si256(whole, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), packed);
  }
};

// A weight (depth, columns), and how the activations that it multiplies are held.
template <class Format>
struct Matrix {
  const typename Format::Stored* panels;  // (columns / 16, depth / kDepth, 16, kDepth)
  const float* scales;                    // (columns,), or none
  int64_t depth;
  float step = 1;  // an activation is a multiple of it

  // No activation is above `range`.
  Matrix(const void* panels, const void* scales, int64_t depth, float range)
      : panels(static_cast<const typename Format::Stored*>(panels)),
        scales(static_cast<const float*>(scales)),
        depth(depth) {
    if constexpr (Format::kScaled) {
      const int64_t most = std::numeric_limits<int32_t>::max() / (127 * depth);
      step = range / static_cast<float>(std::min<int64_t>(most, 32767));
    }
  }

  const typename Format::Stored* panel(int64_t number) const {
    return panels + number * depth * kPanel;
  }

  // Eight columns of a finished sum.
  __m256 value(typename Format::Sum sum, int64_t column) const {
    const __m256 x = Format::value(sum);
    if constexpr (!Format::kScaled) return x;
    const __m256 unit = _mm256_mul_ps(_mm256_loadu_ps(scales + column), _mm256_set1_ps(step));
    return _mm256_mul_ps(x, unit);
  }

  void store(typename Format::Activation* to, __m256 x) const {
    if constexpr (Format::kScaled) x = _mm256_mul_ps(x, _mm256_set1_ps(1 / step));
    Format::store(to, x);
  }
};

// kRows rows of activations (rows, depth) times kPanels panels, `stride` panels apart, whose
// numbers begin with `first` -> out (panels, 6, 16).
template <class Format, int kRows, int kPanels>
void multiply(const Matrix<Format>& matrix, const typename Format::Activation* x, int64_t first,
              int64_t stride, float (*out)[kMostRows][kPanel]) {
  constexpr int kVectors = 2 * kPanels;
  typename Format::Sum sums[kRows][kVectors];  // in registers, given that every loop is unrolled
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sums[r][v] = Format::zero();
  const typename Format::Activation* rows[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) rows[r] = x + r * matrix.depth;
  const auto* weights = matrix.panel(first);
  const int64_t depth = matrix.depth, apart = stride * depth * kPanel;
  for (int64_t k = 0; k < depth; k += Format::kDepth) {
    decltype(Format::load(weights)) w[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v)
      w[v] = Format::load(weights + (v / 2) * apart + (v % 2) * 8 * Format::kDepth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto one = Format::spread(rows[r] + k);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums[r][v] = Format::add(sums[r][v], one, w[v]);
    }
    weights += kPanel * Format::kDepth;
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const int64_t column = (first + (v / 2) * stride) * kPanel + (v % 2) * 8;
      _mm256_storeu_ps(&out[v / 2][r][(v % 2) * 8], matrix.value(sums[r][v], column));
    }
}

// The same for any number of panels, a few at once: with few rows more of them fit in registers.
template <class Format, int kRows, int kPanels>
void multiply_panels(const Matrix<Format>& matrix, const typename Format::Activation* x,
                     int64_t first, int64_t stride, float (*out)[kMostRows][kPanel]) {
  constexpr int kAtOnce = std::min(kPanels, kRows == 1 ? 4 : kRows <= 3 ? 2 : 1);
  for (int panel = 0; panel < kPanels; panel += kAtOnce)
    multiply<Format, kRows, kAtOnce>(matrix, x, first + panel * stride, stride, out + panel);
}

// The same for 1 to 6 rows.
template <class Format, int kPanels>
void multiply_rows(const Matrix<Format>& matrix, const typename Format::Activation* x, int64_t rows,
                   int64_t first, int64_t stride, float (*out)[kMostRows][kPanel]) {
  switch (rows) {
    case 1: return multiply_panels<Format, 1, kPanels>(matrix, x, first, stride, out);
    case 2: return multiply_panels<Format, 2, kPanels>(matrix, x, first, stride, out);
    case 3: return multiply_panels<Format, 3, kPanels>(matrix, x, first, stride, out);
    case 4: return multiply_panels<Format, 4, kPanels>(matrix, x, first, stride, out);
    case 5: return multiply_panels<Format, 5, kPanels>(matrix, x, first, stride, out);
    default: return multiply_panels<Format, 6, kPanels>(matrix, x, first, stride, out);
  }
}

}  // namespace lstmp
