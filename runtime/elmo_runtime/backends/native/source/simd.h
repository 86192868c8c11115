// Sixteen floats or integers at once: one register of AVX-512, or two of AVX2.
//
// Every operation works lane by lane and rounds once, so both give the same bits. Whoever adds an
// instruction set writes this file for it and nothing else.

#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#define ELMO_INLINE static inline __attribute__((always_inline))

namespace elmo::ELMO_ISA {

constexpr int kLanes = 16;

#ifdef __AVX512F__

struct Floats {
  __m512 v;
};
struct Ints {
  __m512i v;
};

ELMO_INLINE Floats load(const float* p) { return {_mm512_loadu_ps(p)}; }
ELMO_INLINE void store(float* p, Floats x) { _mm512_storeu_ps(p, x.v); }
ELMO_INLINE Ints load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
ELMO_INLINE void store(int32_t* p, Ints x) { _mm512_storeu_si512(p, x.v); }
ELMO_INLINE Floats all(float x) { return {_mm512_set1_ps(x)}; }
ELMO_INLINE Ints all(int32_t x) { return {_mm512_set1_epi32(x)}; }
ELMO_INLINE Floats operator+(Floats x, Floats y) { return {_mm512_add_ps(x.v, y.v)}; }
ELMO_INLINE Floats operator-(Floats x, Floats y) { return {_mm512_sub_ps(x.v, y.v)}; }
ELMO_INLINE Floats operator*(Floats x, Floats y) { return {_mm512_mul_ps(x.v, y.v)}; }
ELMO_INLINE Floats operator/(Floats x, Floats y) { return {_mm512_div_ps(x.v, y.v)}; }
ELMO_INLINE Floats fma(Floats x, Floats y, Floats z) { return {_mm512_fmadd_ps(x.v, y.v, z.v)}; }
// The second operand where one is not a number.
ELMO_INLINE Floats most(Floats x, Floats y) { return {_mm512_max_ps(x.v, y.v)}; }
ELMO_INLINE Floats least(Floats x, Floats y) { return {_mm512_min_ps(x.v, y.v)}; }
ELMO_INLINE Floats rounded(Floats x) {
  return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
ELMO_INLINE Ints as_ints(Floats x) { return {_mm512_cvtps_epi32(x.v)}; }  // rounds to nearest
ELMO_INLINE Floats as_floats(Ints x) { return {_mm512_cvtepi32_ps(x.v)}; }
ELMO_INLINE Ints bits_of(Floats x) { return {_mm512_castps_si512(x.v)}; }
ELMO_INLINE Floats from_bits(Ints x) { return {_mm512_castsi512_ps(x.v)}; }
ELMO_INLINE Ints operator+(Ints x, Ints y) { return {_mm512_add_epi32(x.v, y.v)}; }
ELMO_INLINE Ints operator-(Ints x, Ints y) { return {_mm512_sub_epi32(x.v, y.v)}; }
ELMO_INLINE Ints operator&(Ints x, Ints y) { return {_mm512_and_si512(x.v, y.v)}; }
template <int kBits>
ELMO_INLINE Ints shifted_left(Ints x) {
  return {_mm512_slli_epi32(x.v, kBits)};
}
template <int kBits>
ELMO_INLINE Ints shifted_right(Ints x) {
  return {_mm512_srli_epi32(x.v, kBits)};
}
ELMO_INLINE Ints where_nan(Floats x, Ints nan, Ints otherwise) {
  return {_mm512_mask_mov_epi32(otherwise.v, _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q), nan.v)};
}
// The low 16 or 8 bits of each lane.
ELMO_INLINE void store_low16(void* p, Ints x) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x.v));
}
ELMO_INLINE void store_low8(void* p, Ints x) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x.v));
}

#else

struct Floats {
  __m256 a, b;
};
struct Ints {
  __m256i a, b;
};

ELMO_INLINE Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
ELMO_INLINE void store(float* p, Floats x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
ELMO_INLINE Ints load(const int32_t* p) {
  const auto* q = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
ELMO_INLINE void store(int32_t* p, Ints x) {
  auto* q = reinterpret_cast<__m256i*>(p);
  _mm256_storeu_si256(q, x.a);
  _mm256_storeu_si256(q + 1, x.b);
}
ELMO_INLINE Floats all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
ELMO_INLINE Ints all(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
#define ELMO_LANEWISE(name, type, intrinsic) \
  ELMO_INLINE type name(type x, type y) { return {intrinsic(x.a, y.a), intrinsic(x.b, y.b)}; }
ELMO_LANEWISE(operator+, Floats, _mm256_add_ps)
ELMO_LANEWISE(operator-, Floats, _mm256_sub_ps)
ELMO_LANEWISE(operator*, Floats, _mm256_mul_ps)
ELMO_LANEWISE(operator/, Floats, _mm256_div_ps)
// The second operand where one is not a number.
ELMO_LANEWISE(most, Floats, _mm256_max_ps)
ELMO_LANEWISE(least, Floats, _mm256_min_ps)
ELMO_LANEWISE(operator+, Ints, _mm256_add_epi32)
ELMO_LANEWISE(operator-, Ints, _mm256_sub_epi32)
ELMO_LANEWISE(operator&, Ints, _mm256_and_si256)
#undef ELMO_LANEWISE
ELMO_INLINE Floats fma(Floats x, Floats y, Floats z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
ELMO_INLINE Floats rounded(Floats x) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.a, kNearest), _mm256_round_ps(x.b, kNearest)};
}
ELMO_INLINE Ints as_ints(Floats x) {  // rounds to nearest
  return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)};
}
ELMO_INLINE Floats as_floats(Ints x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
ELMO_INLINE Ints bits_of(Floats x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
ELMO_INLINE Floats from_bits(Ints x) {
  return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)};
}
template <int kBits>
ELMO_INLINE Ints shifted_left(Ints x) {
  return {_mm256_slli_epi32(x.a, kBits), _mm256_slli_epi32(x.b, kBits)};
}
template <int kBits>
ELMO_INLINE Ints shifted_right(Ints x) {
  return {_mm256_srli_epi32(x.a, kBits), _mm256_srli_epi32(x.b, kBits)};
}
ELMO_INLINE __m256i where_nan(__m256 x, __m256i nan, __m256i otherwise) {
  const __m256i unordered = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(otherwise, nan, unordered);
}
ELMO_INLINE Ints where_nan(Floats x, Ints nan, Ints otherwise) {
  return {where_nan(x.a, nan.a, otherwise.a), where_nan(x.b, nan.b, otherwise.b)};
}
// The low 16 or 8 bits of each lane.
ELMO_INLINE void store_low16(void* p, Ints x) {
  const __m256i low = _mm256_set1_epi32(0xffff);
  const __m256i pairs = _mm256_packus_epi32(x.a & low, x.b & low);  // within each half
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm256_permute4x64_epi64(pairs, 0xd8));
}
ELMO_INLINE void store_low8(void* p, Ints x) {
  alignas(32) int32_t lanes[kLanes];
  store(lanes, x);
  for (int lane = 0; lane < kLanes; ++lane) static_cast<int8_t*>(p)[lane] = int8_t(lanes[lane]);
}

#endif

// x of a memory of fewer than sixteen floats; the lanes past `count` are 0.
ELMO_INLINE Floats load_some(const float* p, int64_t count) {
  if (count >= kLanes) return load(p);
  alignas(64) float lanes[kLanes] = {};
  std::memcpy(lanes, p, count * sizeof(float));
  return load(lanes);
}

ELMO_INLINE void store_some(float* p, Floats x, int64_t count) {
  if (count >= kLanes) return store(p, x);
  alignas(64) float lanes[kLanes];
  store(lanes, x);
  std::memcpy(p, lanes, count * sizeof(float));
}

ELMO_INLINE float largest(Floats x) {
  alignas(64) float lanes[kLanes];
  store(lanes, x);
  float found = lanes[0];
  for (int lane = 1; lane < kLanes; ++lane) found = lanes[lane] > found ? lanes[lane] : found;
  return found;
}

ELMO_INLINE float total(Floats x) {
  alignas(64) float lanes[kLanes];
  store(lanes, x);
  float sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
  return sum;
}

ELMO_INLINE int32_t total(Ints x) {
  alignas(64) int32_t lanes[kLanes];
  store(lanes, x);
  int32_t sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
  return sum;
}

// The nearest bfloat16 in the low 16 bits of each lane; ties to even.
ELMO_INLINE Ints as_bf16(Floats x) {
  const Ints bits = bits_of(x);
  const Ints odd = shifted_right<16>(bits) & all(1);
  return where_nan(x, all(0x7fc0), shifted_right<16>(bits + all(0x7fff) + odd));
}

}  // namespace elmo::ELMO_ISA
