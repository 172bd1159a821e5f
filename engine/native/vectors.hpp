// Vectors of the instruction set that a file is compiled for. Included by kernels.cpp alone.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels.hpp"
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace diamond {
namespace {

#if defined(__AVX512F__)
constexpr int L = 16;  // lanes
#elif defined(__AVX2__)
constexpr int L = 8;
#else
constexpr int L = 4;  // NEON
#endif

typedef float Vec __attribute__((vector_size(4 * L)));
typedef float Unaligned __attribute__((vector_size(4 * L), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(4 * L)));

inline Vec load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
inline void store(float* to, Vec value) { *reinterpret_cast<Unaligned*>(to) = value; }
inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Shuffles of two vectors, for any number of lanes.
template <int... I> struct Lanes {};
template <int N, int... I> struct Count : Count<N - 1, N - 1, I...> {};
template <int... I> struct Count<0, I...> { typedef Lanes<I...> All; };

template <int... I> inline Vec evens(Vec a, Vec b, Lanes<I...>) { return __builtin_shufflevector(a, b, 2 * I...); }
template <int... I> inline Vec odds(Vec a, Vec b, Lanes<I...>) { return __builtin_shufflevector(a, b, 2 * I + 1 ...); }
template <int... I> inline Vec zip(Vec a, Vec b, int, Lanes<I...>) {
  return __builtin_shufflevector(a, b, I / 2 + (I % 2) * L...);
}
template <int... I> inline Vec zip_upper(Vec a, Vec b, Lanes<I...>) {
  return __builtin_shufflevector(a, b, L / 2 + I / 2 + (I % 2) * L...);
}
typedef Count<L>::All All;

// All but the first lane of a, then the first of b.
template <int... I> inline Vec next(Vec a, Vec b, Lanes<I...>) { return __builtin_shufflevector(a, b, I + 1 ...); }

// Every fourth of 4 L floats, from each of the four beginnings.
inline void split(const float* from, Vec& a, Vec& b, Vec& c, Vec& d) {
  const Vec p = load(from), q = load(from + L), r = load(from + 2 * L), s = load(from + 3 * L);
  const Vec even0 = evens(p, q, All()), odd0 = odds(p, q, All());
  const Vec even1 = evens(r, s, All()), odd1 = odds(r, s, All());
  a = evens(even0, even1, All());
  b = evens(odd0, odd1, All());
  c = odds(even0, even1, All());
  d = odds(odd0, odd1, All());
}

// The inverse.
inline void join(Vec a, Vec b, Vec c, Vec d, float* to) {
  const Vec even0 = zip(a, c, 0, All()), even1 = zip_upper(a, c, All());
  const Vec odd0 = zip(b, d, 0, All()), odd1 = zip_upper(b, d, All());
  store(to, zip(even0, odd0, 0, All()));
  store(to + L, zip_upper(even0, odd0, All()));
  store(to + 2 * L, zip(even1, odd1, 0, All()));
  store(to + 3 * L, zip_upper(even1, odd1, All()));
}

// Factors of products: floats; or, in the kernels for bf16, a lane holds two of these, of two channels that lie side by side.
// Their products are added in float32.
#if defined(DIAMOND_BF16)
constexpr int TOGETHER = 2;  // channels in a lane
typedef Ints Factors;
typedef int32_t Factor;

inline Factors together(const Vec* values) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i one_after_the_other = (__m512i)_mm512_cvtne2ps_pbh((__m512)values[1], (__m512)values[0]);
  return (Factors)_mm512_permutexvar_epi16(order, one_after_the_other);
}
inline Factor together(const float* values) {
  uint32_t bits[2];
  std::memcpy(bits, values, sizeof bits);
  for (uint32_t& b : bits) {
    if ((b & 0x7fffffff) > 0x7f800000)
      b = 0x7fc0;  // NaN
    else
      b = (b + 0x7fff + (b >> 16 & 1)) >> 16;  // to the nearest, ties to even
  }
  return static_cast<Factor>(bits[0] | bits[1] << 16);
}
inline Vec add_products(Vec sum, Factors a, Factor b) {
  return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)_mm512_set1_epi32(b));
}
#else
constexpr int TOGETHER = 1;
typedef Vec Factors;
typedef float Factor;

inline Factors together(const Vec* values) { return values[0]; }
inline Factor together(const float* values) { return values[0]; }
inline Vec add_products(Vec sum, Factors a, Factor b) { return sum + a * b; }
#endif
typedef Factors UnalignedFactors __attribute__((aligned(4), may_alias));

inline Factors load(const Factor* from, int64_t at) {
  return *reinterpret_cast<const UnalignedFactors*>(from + at);
}
inline void store(Factor* to, int64_t at, Factors value) { *reinterpret_cast<UnalignedFactors*>(to + at) = value; }

#if defined(DIAMOND_BF16)
// 2^x, e^x and silu(x) to 2^-12 of their values, more than bf16 keeps. The polynomial has the least relative error over
// an octave, half of it each way.
constexpr float OCTAVES = 1.44269504088896341f;  // of e
inline Vec power_of_two(Vec x) {
  const __m512 octaves = _mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const Vec r = x - (Vec)octaves;
  const Vec p = ((r * 0.0551716648f + 0.24261114f) * r + 0.693260968f) * r + 0.999928057f;
  return (Vec)_mm512_scalef_ps((__m512)p, octaves);
}
inline Vec exponential(Vec x) { return power_of_two(x * OCTAVES); }
inline Vec silu(Vec x) { return x * (Vec)_mm512_rcp14_ps((__m512)(1.f + exponential(-x))); }
#else
// e^x for x <= 88; below -87 what is left of it. Remez polynomial of degree 6 over half an octave each way, 2 ulp.
inline Vec exponential(Vec x) {
  x = x < -87.f ? Vec{} - 87.f : x;
  x = x > 88.f ? Vec{} + 88.f : x;
  const Vec shifted = x * 1.44269504088896341f + 12582912.f;  // 1.5 * 2^23: rounds to whole octaves
  const Vec octaves = shifted - 12582912.f;
  const Vec r = (x - octaves * 0.693359375f) + octaves * 2.12194440e-4f;
  Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  const Ints bits = (__builtin_convertvector(octaves, Ints) + 127) << 23;
  Vec power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}
inline Vec silu(Vec x) {
  x = x < -88.f ? Vec{} - 88.f : x;  // silu is 0 there
  return x / (1.f + exponential(-x));
}
#endif

// The first of a vector, as many as `count`, which is less than L; zeros behind them.
#if defined(__AVX512F__)
inline __mmask16 first_lanes(int64_t count) { return static_cast<__mmask16>((1u << count) - 1); }
inline Vec load_some(const float* from, int64_t count) { return (Vec)_mm512_maskz_loadu_ps(first_lanes(count), from); }
inline void store_some(float* to, Vec value, int64_t count) {
  _mm512_mask_storeu_ps(to, first_lanes(count), (__m512)value);
}
#else
inline Vec load_some(const float* from, int64_t count) {
  Vec x = {};
  std::memcpy(&x, from, sizeof(float) * count);
  return x;
}
inline void store_some(float* to, Vec value, int64_t count) { std::memcpy(to, &value, sizeof(float) * count); }
#endif

#if defined(DIAMOND_BF16)
// The same of maps in bf16, which are the upper halves of float32.
inline Vec widened(__m256i shorts) { return (Vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(shorts), 16); }
inline Vec load(const uint16_t* from) { return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))); }
inline Vec load_some(const uint16_t* from, int64_t count) {
  return widened(_mm256_maskz_loadu_epi16(first_lanes(count), from));
}
inline void store(uint16_t* to, Vec value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh((__m512)value));
}
inline void store_some(uint16_t* to, Vec value, int64_t count) {
  _mm256_mask_storeu_epi16(to, first_lanes(count), (__m256i)_mm512_cvtneps_pbh((__m512)value));
}
#endif

// Work with a pointer of the type that values have.
template <typename Work>
inline void typed(const Values& values, Work work) {
#if defined(DIAMOND_BF16)
  if (values.short_ones) return work(values.shorts());
#endif
  work(values.floats());
}

template <typename Work>
inline void typed(const Output& y, Work work) {
#if defined(DIAMOND_BF16)
  if (y.short_ones) return work(static_cast<uint16_t*>(y.data));
#endif
  work(static_cast<float*>(y.data));
}

// The same of a residual and an output. Where there is no residual, its pointer is a null pointer of no type.
template <typename Work>
inline void typed(const Values& residual, const Output& y, Work work) {
  typed(y, [&](auto* to) {
    if (residual.data == nullptr) return work(nullptr, to);
    typed(residual, [&](const auto* more) { work(more, to); });
  });
}

// To every vector of `count` values, and to what is left of them: each(vector, where it begins, how many it has).
template <typename From, typename Each>
inline void for_vectors(const From* from, int64_t count, Each each) {
  int64_t i = 0;
  for (; i + L <= count; i += L) each(load(from + i), i, static_cast<int64_t>(L));
  if (i < count) each(load_some(from + i, count - i), i, count - i);
}

// silu(x * gain + shift) of `count` values; up to L - 1 more are written.
template <typename From>
inline void activate(const From* from, float gain, float shift, int64_t count, float* to) {
  for_vectors(from, count, [&](Vec x, int64_t i, int64_t) { store(to + i, silu(x * gain + shift)); });
}

// `count` values as they are; up to L - 1 more are written.
template <typename From>
inline void copy(const From* from, int64_t count, float* to) {
  for_vectors(from, count, [&](Vec x, int64_t i, int64_t) { store(to + i, x); });
}

// Asks for the lines that `put` will read and write: memory is slow to let go of a line for writing, and one store
// waits for the other.
inline void ask_for(const Values& residual, int64_t place, int64_t count, const Output& y) {
  const auto lines = [&](const void* data, int64_t bytes) {
    const char* at = static_cast<const char*>(data) + place * bytes;
    for (int64_t i = 0; i < count * bytes + 63; i += 64) __builtin_prefetch(at + i);
  };
  lines(y.data, y.short_ones ? 2 : 4);
  if (residual.data != nullptr) lines(residual.data, residual.short_ones ? 2 : 4);
}

// `count` outputs, and a residual where there is one, to `to` from `place` on.
template <typename More, typename To>
__attribute__((always_inline)) inline void put(const float* row, More more, int64_t place, int64_t count, To* to) {
  constexpr bool alone = std::is_same<More, std::nullptr_t>::value;
  to += place;
  if constexpr (!alone) more += place;
  int64_t i = 0;
  for (; i + L <= count; i += L) {
    Vec value = load(row + i);
    if constexpr (!alone) value += load(more + i);
    store(to + i, value);
  }
  if (i < count) {
    Vec value = load_some(row + i, count - i);
    if constexpr (!alone) value += load_some(more + i, count - i);
    store_some(to + i, value, count - i);
  }
}

}  // namespace
}  // namespace diamond
