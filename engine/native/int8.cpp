// The kernels of int8.hpp for AVX-512 with VNNI, which adds the products of four pairs of bytes in one instruction.
//
// A lane is a position, and holds four input channels. Positions are numbered row by row over the rows as they lie in
// memory; for 3x3 every row is one column longer, a zero, which is the right edge of one row and the left edge of the
// next. So a tap is one distance for all positions, and maps of any width fill the registers.
#include "int8.hpp"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#define DIAMOND_BF16  // silu to 2^-12 of its value is more than a byte keeps
#include "vectors.hpp"

namespace diamond {
namespace {

constexpr int TOUCHING = 4, GROUP = 8, VECTORS = 3, BLOCK = VECTORS * L;

int64_t groups(const Window& w) { return (w.shape.channels_out + GROUP - 1) / GROUP; }
int64_t depth_of(const Window& w) { return (w.shape.channels_in + TOUCHING - 1) / TOUCHING; }
int64_t row_of(const Window& w) { return w.columns() + (w.side == 3 ? 1 : 0); }

int64_t packed_lanes(const Window& w) { return w.side * w.side * depth_of(w) * groups(w) * GROUP; }

// To (group, tap, channels_in that share a lane, channel of the group).
void pack(const Window& w, const float* weights, void* packed, float* steps, int32_t* sums) {
  const Shape& s = w.shape;
  const int64_t C = s.channels_in, taps = w.side * w.side, depth = depth_of(w);
  std::memset(packed, 0, sizeof(int32_t) * packed_lanes(w));
  auto* to = static_cast<int8_t*>(packed);
  for (int64_t out = 0; out < s.channels_out; out++) {
    const float* of = weights + out * C * taps;
    float largest = 0;
    bool finite = true;
    for (int64_t i = 0; i < C * taps; i++) {
      largest = std::max(largest, std::fabs(of[i]));
      finite = finite && std::isfinite(of[i]);
    }
    steps[out] = finite ? largest / 127 : std::numeric_limits<float>::quiet_NaN();
    sums[out] = 0;
    if (!finite || largest == 0) continue;
    const int64_t g = out / GROUP, k = out % GROUP;
    for (int64_t c = 0; c < C; c++)
      for (int64_t tap = 0; tap < taps; tap++) {
        const auto level = static_cast<int32_t>(std::nearbyint(of[c * taps + tap] / steps[out]));
        to[(((g * taps + tap) * depth + c / TOUCHING) * GROUP + k) * TOUCHING + c % TOUCHING] = static_cast<int8_t>(level);
        sums[out] += level;
      }
  }
}

void extremes(const float* x, int64_t count, float* least, float* largest) {
  constexpr float INF = std::numeric_limits<float>::infinity();
  __m512 low[4], high[4];
  __mmask16 strange = 0;
  for (int v = 0; v < 4; v++) low[v] = _mm512_set1_ps(INF), high[v] = _mm512_set1_ps(-INF);
  for (int64_t i = 0; i < count; i += 4 * L)
    for (int v = 0; v < 4; v++) {
      const int64_t left = count - i - v * L;
      const __mmask16 here = left >= L ? 0xffff : left > 0 ? static_cast<__mmask16>((1u << left) - 1) : 0;
      const __m512 value = _mm512_mask_loadu_ps(_mm512_set1_ps(x[0]), here, x + i + v * L);
      low[v] = _mm512_min_ps(low[v], value), high[v] = _mm512_max_ps(high[v], value);
      strange |= _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    }
  const float a = _mm512_reduce_min_ps(_mm512_min_ps(_mm512_min_ps(low[0], low[1]), _mm512_min_ps(low[2], low[3])));
  const float b = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(high[0], high[1]), _mm512_max_ps(high[2], high[3])));
  const bool is_nan = strange != 0;
  *least = is_nan ? std::numeric_limits<float>::quiet_NaN() : a;
  *largest = is_nan ? std::numeric_limits<float>::quiet_NaN() : b;
}

// With stride 2 there are four planes for what lies in even and odd rows and columns, edge included; in each of them a
// tap is again one distance for all positions.
int64_t phase_of(const Window& w, int64_t rows) { return (rows + 1) * row_of(w) + 1; }
int64_t distance(const Window& w, int64_t rows, int64_t i, int64_t j) {
  if (w.stride == 1) return i * row_of(w) + j;
  return (i % 2 * 2 + j % 2) * phase_of(w, rows) + i / 2 * row_of(w) + j / 2;
}

// Lanes from one group of four channels to the next; no multiple of 4 KB, or they would share a few sets of the cache.
int64_t plane_of(const Window& w, int64_t rows) {
  const int64_t reach = distance(w, rows, w.side - 1, w.side - 1), all = w.stride == 1 ? 0 : 4 * phase_of(w, rows);
  const int64_t positions = std::max(all, (rows * row_of(w) + L - 1) / L * L + std::max(reach, distance(w, rows, w.side / 2, w.side / 2)));
  const int64_t lanes = (positions + 2 * L - 1) / L * L;
  return lanes % 64 == 0 ? lanes + L : lanes;
}
int64_t row_lanes(const Window& w, int64_t rows) { return depth_of(w) * plane_of(w, rows); }

// Sixteen positions of up to four channels, as levels.
inline __m512i levels(const Around& around, const float* const* from, int present, int64_t c, int64_t i, __mmask16 here,
                      __m512 inverse, __m512 zero) {
  __m512i lane = _mm512_setzero_si512();
  for (int t = 0; t < present; t++) {
    __m512 value = _mm512_maskz_loadu_ps(here, from[t] + i);
    if (around.gain != nullptr) value = (__m512)silu((Vec)value * around.gain[c + t] + around.shift[c + t]);
    // Rounded as `zero` is, the least value may come out just below the grid.
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_fmadd_ps(value, inverse, zero));
    const __m512i level = _mm512_max_epi32(rounded, _mm512_setzero_si512());
    lane = _mm512_or_si512(lane, _mm512_sllv_epi32(level, _mm512_set1_epi32(8 * t)));
  }
  return lane;
}

void spread(const Window& w, const Around& around, const Grid& grid, const Maps& x, int64_t row, int64_t rows,
            int64_t first, int64_t last, void* to) {
  const Shape& s = w.shape;
  const int64_t plane = plane_of(w, rows), pixels = s.height * s.width, length = row_of(w), edge = w.side / 2;
  const __m512 inverse = _mm512_set1_ps(1 / grid.step), zero = _mm512_set1_ps(static_cast<float>(grid.zero));
  const int32_t nothing = grid.zero * 0x01010101;
  for (int64_t c = first; c < last; c += TOUCHING) {
    auto* lanes = static_cast<int32_t*>(to) + c / TOUCHING * plane;
    const int present = static_cast<int>(std::min<int64_t>(TOUCHING, s.channels_in - c));
    if (w.stride == 2) {
      std::fill(lanes, lanes + plane, nothing);
      for (int64_t u = 2 * row; u <= 2 * (row + rows); u++) {  // rows of the input with its edge
        if (u < 1 || u > s.height) continue;
        int32_t* even = lanes + distance(w, rows, u % 2, 0) + (u / 2 - row) * length;
        int32_t* odd = lanes + distance(w, rows, u % 2, 1) + (u / 2 - row) * length;
        const float* from[TOUCHING];
        for (int t = 0; t < present; t++) from[t] = x.plane(c + t, pixels) + (u - 1) * s.width;
        for (int64_t i = 0; i < s.width; i += L) {
          const int64_t left = std::min<int64_t>(L, s.width - i);
          const __mmask16 here = static_cast<__mmask16>((1u << left) - 1);
          const __m512i lane = levels(around, from, present, c, i, here, inverse, zero);
          // The column i of the input is i + 1 with the edge.
          _mm512_mask_compressstoreu_epi32(odd + i / 2, here & 0x5555, lane);
          _mm512_mask_compressstoreu_epi32(even + i / 2 + 1, here & 0xaaaa, lane);
        }
      }
      continue;
    }
    std::fill(lanes, lanes + edge, nothing);
    for (int64_t line = row - edge; line < row + rows + edge; line++) {
      int32_t* at = lanes + edge + (line - row + edge) * length;
      if (line < 0 || line >= s.height) {
        std::fill(at, at + length, nothing);
        continue;
      }
      const float* from[TOUCHING];
      for (int t = 0; t < present; t++) from[t] = x.plane(c + t, pixels) + line * s.width;
      for (int64_t i = 0; i < s.width; i += L) {
        const __mmask16 here = i + L <= s.width ? 0xffff : static_cast<__mmask16>((1u << (s.width - i)) - 1);
        _mm512_mask_storeu_epi32(at + i, here, levels(around, from, present, c, i, here, inverse, zero));
      }
      std::fill(at + s.width, at + length, nothing);
    }
  }
}

template <int N>
void sum_of_products(const Window& w, const int32_t* weights, const int32_t* lanes, int64_t rows, int32_t* to) {
  const int64_t plane = plane_of(w, rows), depth = depth_of(w);
  __m512i sums[GROUP][N];
#pragma GCC unroll 8
  for (int k = 0; k < GROUP; k++)
#pragma GCC unroll 3
    for (int n = 0; n < N; n++) sums[k][n] = _mm512_setzero_si512();
  for (int64_t tap = 0; tap < w.side * w.side; tap++) {
    const int32_t* from = lanes + distance(w, rows, tap / w.side, tap % w.side);
    for (int64_t d = 0; d < depth; d++, from += plane, weights += GROUP) {
      __m512i at[N];
#pragma GCC unroll 3
      for (int n = 0; n < N; n++) at[n] = _mm512_loadu_si512(from + n * L);
#pragma GCC unroll 8
      for (int k = 0; k < GROUP; k++) {
        const __m512i weight = _mm512_set1_epi32(weights[k]);
        // The intrinsic makes GCC 12 keep the sums in memory.
#pragma GCC unroll 3
        for (int n = 0; n < N; n++) asm("vpdpbusd %2, %1, %0" : "+v"(sums[k][n]) : "v"(at[n]), "v"(weight));
      }
    }
  }
#pragma GCC unroll 8
  for (int k = 0; k < GROUP; k++)
#pragma GCC unroll 3
    for (int n = 0; n < N; n++) _mm512_storeu_si512(to + (k * N + n) * L, sums[k][n]);
}

template <int N>
void block(const Window& w, const Around& around, const Grid& grid, const int32_t* weights, const float* steps,
           const int32_t* level_sums, const int32_t* lanes, int64_t group, int64_t row, int64_t rows, int64_t at,
           int64_t count, float* y) {
  const Shape& s = w.shape;
  const int64_t length = row_of(w), columns = w.columns(), pixels = w.rows() * columns;
  alignas(64) int32_t sums[GROUP * N * L];
  sum_of_products<N>(w, weights, lanes + at, rows, sums);
  for (int k = 0; k < GROUP && group * GROUP + k < s.channels_out; k++) {
    const int64_t out = group * GROUP + k;
    const __m512 step = _mm512_set1_ps(grid.step * steps[out]);
    const __m512 bias = _mm512_set1_ps(around.bias == nullptr ? 0.f : around.bias[out]);
    const __m512i offset = _mm512_set1_epi32(grid.zero * level_sums[out]);
    alignas(64) float values[N * L + L];
    for (int n = 0; n < N; n++)
      _mm512_store_ps(values + n * L,
                      _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_load_si512(sums + (k * N + n) * L), offset)), step, bias));
    for (int64_t i = 0; i < count;) {  // what lies side by side in the output
      const int64_t column = (at + i) % length, line = row + (at + i) / length;
      const int64_t run = w.side == 1 ? count : std::min(count - i, columns - column);
      const int64_t place = out * pixels + line * columns + column;
      for (int64_t j = 0; j < run; j += L) {
        const __mmask16 here = j + L <= run ? 0xffff : static_cast<__mmask16>((1u << (run - j)) - 1);
        __m512 value = _mm512_loadu_ps(values + i + j);
        if (around.residual != nullptr)
          value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(here, around.residual + place + j));
        _mm512_mask_storeu_ps(y + place + j, here, value);
      }
      i += w.side == 1 ? run : length - column;
    }
  }
}

void multiply(const Window& w, const Around& around, const Grid& grid, const void* packed, const float* steps,
              const int32_t* sums, const void* lanes, int64_t row, int64_t rows, int64_t first, int64_t last, float* y) {
  const int64_t positions = rows * row_of(w) - (w.side == 3 ? 1 : 0);
  const auto* from = static_cast<const int32_t*>(lanes);
  for (int64_t g = first; g < last; g++) {
    const int32_t* weights = static_cast<const int32_t*>(packed) + g * w.side * w.side * depth_of(w) * GROUP;
    for (int64_t at = 0; at < positions; at += BLOCK) {
      const int64_t count = std::min<int64_t>(BLOCK, positions - at);
      const auto compute = count > 2 * L ? block<3> : count > L ? block<2> : block<1>;
      compute(w, around, grid, weights, steps, sums, from, g, row, rows, at, count, y);
    }
  }
}

int64_t weight_lanes(int64_t inputs) { return (inputs + L - 1) / L * (L / 4); }

void pack_linear(const float* weights, int64_t outputs, int64_t inputs, void* packed, float* steps) {
  const int64_t bytes = 4 * weight_lanes(inputs);
  std::memset(packed, 0, bytes * outputs);
  for (int64_t m = 0; m < outputs; m++) {
    const float* of = weights + m * inputs;
    float largest = 0;
    bool finite = true;
    for (int64_t i = 0; i < inputs; i++) {
      largest = std::max(largest, std::fabs(of[i]));
      finite = finite && std::isfinite(of[i]);
    }
    steps[m] = finite ? largest / 127 : std::numeric_limits<float>::quiet_NaN();
    if (!finite || largest == 0) continue;
    auto* to = static_cast<int8_t*>(packed) + m * bytes;
    for (int64_t i = 0; i < inputs; i++) to[i] = static_cast<int8_t>(std::nearbyint(of[i] / steps[m]));
  }
}

// Only the weights are bytes: reading them takes most of the time.
void linear(const float* x, int64_t rows, int64_t inputs, const void* packed, const float* steps, const float* bias,
            int64_t outputs, int64_t first, int64_t last, float* y) {
  const int64_t bytes = 4 * weight_lanes(inputs);
  for (int64_t m = first; m < last; m++) {
    const auto* of = static_cast<const int8_t*>(packed) + m * bytes;
    for (int64_t row = 0; row < rows; row++) {
      __m512 sums[4] = {};
      for (int64_t i = 0; i < inputs; i += L) {
        const __mmask16 here = i + L <= inputs ? 0xffff : static_cast<__mmask16>((1u << (inputs - i)) - 1);
        const __m512 weight =
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(of + i))));
        __m512& sum = sums[i / L % 4];
        sum = _mm512_fmadd_ps(weight, _mm512_maskz_loadu_ps(here, x + row * inputs + i), sum);
      }
      const __m512 all = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
      y[row * outputs + m] = _mm512_reduce_add_ps(all) * steps[m] + bias[m];
    }
  }
}

}  // namespace

extern const Int8Kernels avx512_int8;
const Int8Kernels avx512_int8 = {"AVX-512 with VNNI and bf16", GROUP,        TOUCHING,    packed_lanes, pack,  extremes, row_lanes,
                                 spread,              multiply,     weight_lanes, pack_linear,  linear};

}  // namespace diamond
