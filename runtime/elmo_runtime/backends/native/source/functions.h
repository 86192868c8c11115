// sigmoid and tanh by one exponential of our own: the C library's would differ between machines.

#pragma once

#include "simd.h"

namespace elmo::ELMO_ISA {

// exp(x) - 1 without the cancellation near 0, for |x| <= 40; a NaN stays one. Error: 1e-7 of
// exp(x).
ELMO_INLINE Floats expm1(Floats x) {
  x = most(all(-40.0f), least(all(40.0f), x));
  const Floats n = rounded(x * all(1.44269504f));
  // ln 2 in two parts, the first of so few bits that n times it is exact.
  Floats r = fma(n, all(-0.693359375f), x);
  r = fma(n, all(2.12194440e-4f), r);
  constexpr float kTerms[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f};
  Floats q = all(1.0f / 5040);
  for (const float term : kTerms) q = fma(q, r, all(term));
  const Floats p = fma(r * r, q, r);  // exp(r) - 1
  const Floats power = from_bits(shifted_left<23>(as_ints(n) + all(127)));
  return fma(power, p, power - all(1.0f));
}

ELMO_INLINE Floats negated(Floats x) { return all(0.0f) - x; }

ELMO_INLINE Floats sigmoid(Floats x) { return all(1.0f) / (expm1(negated(x)) + all(2.0f)); }

ELMO_INLINE Floats tanh(Floats x) {
  const Floats e = expm1(x + x);
  return e / (e + all(2.0f));
}

// sigmoid(x) * tanh(y) with one division instead of two.
ELMO_INLINE Floats sigmoid_times_tanh(Floats x, Floats y) {
  const Floats e = expm1(y + y);
  return e / ((expm1(negated(x)) + all(2.0f)) * (e + all(2.0f)));
}

ELMO_INLINE Floats relu(Floats x) { return most(all(0.0f), x); }

ELMO_INLINE Floats clip(Floats x, float limit) { return most(all(-limit), least(all(limit), x)); }

}  // namespace elmo::ELMO_ISA
