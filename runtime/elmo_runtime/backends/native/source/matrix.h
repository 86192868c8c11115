// Weights in panels of 64 columns, and rows of activations, in three formats.
//
// A step of a product takes `depth` neighbors of k at once: 1 in FP32, 2 in BF16 (vdpbf16ps), and
// in int8 4 (vpdpbusd) or, without VNNI, 2 (vpmaddwd). A panel holds, step by step, those of each
// of its columns: weight (k, column) is element (k / depth, column, k % depth).

#pragma once

#include <cmath>

#include "buffer.h"
#include "crew.h"
#include "simd.h"

namespace elmo::ELMO_ISA {

constexpr int64_t kPanel = 64;  // columns

enum class Format { kFp32, kBf16, kInt8 };

// The nearest number in -127..127; any where x is not a number. What is not finite shows in the
// scale instead, which has 0 * x added for every x and so is not a number either.
ELMO_INLINE Ints as_int8(Floats x) { return as_ints(most(least(x, all(127.0f)), all(-127.0f))); }

constexpr int64_t round_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }
constexpr int64_t minimum(int64_t x, int64_t y) { return x < y ? x : y; }
constexpr int64_t maximum(int64_t x, int64_t y) { return x > y ? x : y; }

struct Fp32 {
  using Weight = float;
  using Activation = float;
  static constexpr int kDepth = 1;
};

struct Bf16 {
  using Weight = uint16_t;
  using Activation = uint16_t;
  static constexpr int kDepth = 2;
};

struct Int8 {
#ifdef __AVX512VNNI__
  using Weight = uint8_t;  // the number + kOffset, since vpdpbusd takes one operand without sign
  using Activation = int8_t;
  static constexpr int kDepth = 4;
  static constexpr int32_t kOffset = 128;
#else
  using Weight = int8_t;
  using Activation = int16_t;
  static constexpr int kDepth = 2;
  static constexpr int32_t kOffset = 0;
#endif
  static constexpr int64_t kLargestDepth = 65536;  // 127 * 255 * k stays below 2^31
};

// Calls body(format) with an object of the format's type.
template <class Body>
ELMO_INLINE void with_format(Format format, Body body) {
  switch (format) {
    case Format::kFp32:
      return body(Fp32{});
    case Format::kBf16:
      return body(Bf16{});
    case Format::kInt8:
      return body(Int8{});
  }
}

class Matrix {
 public:
  Format format = Format::kFp32;
  int64_t depth = 0;  // rows, padded with zeros to a multiple of 16
  int64_t panels = 0;

  template <class F>
  const typename F::Weight* panel(int64_t index) const {
    const auto* first = reinterpret_cast<const typename F::Weight*>(weights_.data());
    return first + index * depth * kPanel;
  }
  const float* scales(int64_t panel) const { return scales_.data() + panel * kPanel; }
  int64_t bytes() const { return depth * panels * kPanel * element_size(); }

  void shape(Format new_format, int64_t rows, int64_t columns) {
    format = new_format;
    depth = round_up(rows, kLanes);
    panels = round_up(columns, kPanel) / kPanel;
    weights_.reserve(bytes());
    if (format == Format::kInt8) scales_.reserve(panels * kPanel);
  }

  // Fills a panel from columns (depth, 64) of FP32.
  void pack(int64_t index, const float* columns) {
    with_format(format, [&](auto f) { write(f, index, columns); });
  }

 private:
  int64_t element_size() const {
    return format == Format::kFp32 ? 4 : format == Format::kBf16 ? 2 : 1;
  }

  template <class F>
  typename F::Weight* writable(int64_t index) {
    return const_cast<typename F::Weight*>(panel<F>(index));
  }

  void write(Fp32, int64_t index, const float* columns) {
    std::memcpy(writable<Fp32>(index), columns, depth * kPanel * sizeof(float));
  }

  void write(Bf16, int64_t index, const float* columns) {
    uint16_t* to = writable<Bf16>(index);
    for (int64_t k = 0; k < depth; k += 2)
      for (int64_t v = 0; v < kPanel; v += kLanes) {
        const Ints even = as_bf16(load(columns + k * kPanel + v));
        const Ints odd = as_bf16(load(columns + (k + 1) * kPanel + v));
        int32_t pairs[kLanes];
        store(pairs, even + shifted_left<16>(odd));
        std::memcpy(to + k * kPanel + v * 2, pairs, sizeof(pairs));
      }
  }

  // round(127 w / largest |w| of the column), and that step as the column's scale.
  void write(Int8, int64_t index, const float* columns) {
    Int8::Weight* to = writable<Int8>(index);
    for (int64_t v = 0; v < kPanel; v += kLanes) {
      Floats peak = all(1e-30f), flaw = all(0.0f);
      for (int64_t k = 0; k < depth; ++k) {
        const Floats w = load(columns + k * kPanel + v);
        peak = most(absolute(w), peak);
        flaw = fma(w, all(0.0f), flaw);
      }
      store(scales_.data() + index * kPanel + v, peak / all(127.0f) + flaw);
      const Floats inverse = all(127.0f) / peak;
      for (int64_t k = 0; k < depth; k += Int8::kDepth) {
        alignas(64) int32_t numbers[Int8::kDepth][kLanes];
        for (int j = 0; j < Int8::kDepth; ++j) {
          const Floats w = load(columns + (k + j) * kPanel + v);
          store(numbers[j], as_int8(w * inverse) + all(Int8::kOffset));
        }
        Int8::Weight* step = to + k * kPanel + v * Int8::kDepth;
        for (int lane = 0; lane < kLanes; ++lane)
          for (int j = 0; j < Int8::kDepth; ++j)
            step[lane * Int8::kDepth + j] = Int8::Weight(numbers[j][lane]);
      }
    }
  }

  static Floats absolute(Floats x) { return from_bits(bits_of(x) & all(0x7fffffff)); }

  Buffer<char> weights_;
  Buffer<float> scales_;
};

// Rows of activations in the format of the matrix that they meet.
class Rows {
 public:
  Format format = Format::kFp32;
  int64_t depth = 0;

  // Room for `count` rows of `width`, all zeros.
  void shape(Format new_format, int64_t count, int64_t width) {
    format = new_format;
    depth = round_up(width, kLanes);
    // A cache line more than the row: strides of 4 KB would put all rows in the same cache sets.
    stride_ = round_up(depth * element_size(), 64) + 64;
    std::memset(data_.reserve(count * stride_), 0, count * stride_);
    if (format != Format::kInt8) return;
    std::memset(scales_.reserve(count), 0, count * sizeof(float));
    std::memset(sums_.reserve(count), 0, count * sizeof(int32_t));
  }

  const char* row(int64_t index) const { return data_.data() + index * stride_; }
  int64_t stride() const { return stride_; }
  float scale(int64_t index) const { return scales_[index]; }
  int32_t sum(int64_t index) const { return sums_[index]; }  // of the row's integers

  // Sixteen places of a row; not in int8, which needs the whole row for its scale.
  void store_lanes(int64_t index, int64_t k, Floats x) {
    char* to = data_.data() + index * stride_;
    if (format == Format::kFp32) {
      store(reinterpret_cast<float*>(to) + k, x);
    } else {
      store_low16(reinterpret_cast<uint16_t*>(to) + k, as_bf16(x));
    }
  }

  // A whole row of `width` floats.
  void write(int64_t index, const float* x, int64_t width) {
    if (format == Format::kInt8) return quantize(index, x, width);
    for (int64_t k = 0; k < width; k += kLanes) store_lanes(index, k, load_some(x + k, width - k));
  }

 private:
  int64_t element_size() const {
    return format == Format::kFp32 ? 4 : format == Format::kBf16 ? 2 : sizeof(Int8::Activation);
  }

  // round(127 x / largest |x| of the row), and that step as the row's scale.
  void quantize(int64_t index, const float* x, int64_t width) {
    Floats peaks = all(0.0f), flaws = all(0.0f);
    for (int64_t k = 0; k < width; k += kLanes) {
      const Floats lanes = load_some(x + k, width - k);
      peaks = most(from_bits(bits_of(lanes) & all(0x7fffffff)), peaks);
      flaws = fma(lanes, all(0.0f), flaws);
    }
    const float peak = largest(peaks);
    const Floats inverse = all(peak > 1e-30f ? 127.0f / peak : 0.0f);
    Ints sum = all(0);
    auto* to = reinterpret_cast<Int8::Activation*>(data_.data() + index * stride_);
    for (int64_t k = 0; k < width; k += kLanes) {
      const Ints numbers = as_int8(load_some(x + k, width - k) * inverse);
      sum = sum + numbers;
      if constexpr (sizeof(Int8::Activation) == 1) {
        store_low8(to + k, numbers);
      } else {
        store_low16(to + k, numbers);
      }
    }
    scales_[index] = peak / 127.0f + total(flaws);
    sums_[index] = total(sum);
  }

  int64_t stride_ = 0;
  Buffer<char> data_;
  Buffer<float> scales_;
  Buffer<int32_t> sums_;
};

}  // namespace elmo::ELMO_ISA
