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
#include <vector>

#define DIAMOND_BF16  // silu to 2^-12 of its value is more than a byte keeps
#include "vectors.hpp"

namespace diamond {
namespace {

constexpr int TOUCHING = 4, GROUP = 8, VECTORS = 3, BLOCK = VECTORS * L;

int64_t groups(const Window& w) { return (w.shape.channels_out + GROUP - 1) / GROUP; }
int64_t depth_of(const Window& w) { return (w.shape.channels_in + TOUCHING - 1) / TOUCHING; }
int64_t row_of(const Window& w) { return w.columns() + (w.side == 3 ? 1 : 0); }

int64_t packed_lanes(const Window& w) { return w.side * w.side * depth_of(w) * groups(w) * GROUP; }

// To (group, channels_in that share a lane, tap, channel of the group): the taps of a lane lie side by side, and what
// they read is near.
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
        to[(((g * depth + c / TOUCHING) * taps + tap) * GROUP + k) * TOUCHING + c % TOUCHING] =
            static_cast<int8_t>(level);
        sums[out] += level;
      }
  }
}

inline __m512 masked(const float* from, __mmask16 here, __m512 instead) {
  return _mm512_mask_loadu_ps(instead, here, from);
}
inline __m512 masked(const uint16_t* from, __mmask16 here, __m512 instead) {
  return _mm512_mask_mov_ps(instead, here, (__m512)widened(_mm256_maskz_loadu_epi16(here, from)));
}

template <typename From>
void extremes_of(const From* x, int64_t count, float* least, float* largest) {
  constexpr float INF = std::numeric_limits<float>::infinity();
  __m512 low[4], high[4];
  __mmask16 strange = 0;
  const __m512 begin = _mm512_set1_ps(load_some(x, 1)[0]);
  for (int v = 0; v < 4; v++) low[v] = _mm512_set1_ps(INF), high[v] = _mm512_set1_ps(-INF);
  for (int64_t i = 0; i < count; i += 4 * L)
    for (int v = 0; v < 4; v++) {
      const int64_t left = count - i - v * L;
      const __mmask16 here = left >= L ? 0xffff : left > 0 ? static_cast<__mmask16>((1u << left) - 1) : 0;
      const __m512 value = masked(x + i + v * L, here, begin);
      low[v] = _mm512_min_ps(low[v], value), high[v] = _mm512_max_ps(high[v], value);
      strange |= _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    }
  const float a = _mm512_reduce_min_ps(_mm512_min_ps(_mm512_min_ps(low[0], low[1]), _mm512_min_ps(low[2], low[3])));
  const float b = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(high[0], high[1]), _mm512_max_ps(high[2], high[3])));
  const bool is_nan = strange != 0;
  *least = is_nan ? std::numeric_limits<float>::quiet_NaN() : a;
  *largest = is_nan ? std::numeric_limits<float>::quiet_NaN() : b;
}

void extremes(Values x, int64_t count, float* least, float* largest) {
  typed(x, [&](const auto* from) { extremes_of(from, count, least, largest); });
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

// A run of a row of up to four channels, as levels: each(sixteen positions, the first of them, which of them are
// there).
constexpr int64_t RUN = 16 * L;
template <typename Each>
void levels(const Around& around, const Grid& grid, const Maps& x, int64_t pixel, int64_t width, int64_t c, int present,
            Each each) {
  const __m512 inverse = _mm512_set1_ps(1 / grid.step), zero = _mm512_set1_ps(static_cast<float>(grid.zero));
  alignas(64) float widened_ones[TOUCHING][RUN];
  for (int64_t begin = 0; begin < width; begin += RUN) {
    const int64_t length = std::min(RUN, width - begin);
    Values from[TOUCHING];
    for (int t = 0; t < present; t++) from[t] = x.plane(c + t).from(pixel + begin);
    if (from[0].short_ones != from[present - 1].short_ones)  // of two maps
      for (int t = 0; t < present; t++) {
        typed(from[t], [&](const auto* at) { copy(at, length, widened_ones[t]); });
        from[t] = Values{widened_ones[t], false};
      }
    typed(from[0], [&](const auto* of_this_type) {
      typedef decltype(of_this_type) Pointer;
      Pointer at[TOUCHING] = {};
      for (int t = 0; t < present; t++) at[t] = static_cast<Pointer>(from[t].data);
      for (int64_t i = 0; i < length; i += L) {
        const __mmask16 here = i + L <= length ? 0xffff : first_lanes(length - i);
        __m512i lane = _mm512_setzero_si512();
        for (int t = 0; t < present; t++) {
          __m512 value = masked(at[t] + i, here, _mm512_setzero_ps());
          if (around.gain != nullptr) value = (__m512)silu((Vec)value * around.gain[c + t] + around.shift[c + t]);
          // Rounded as `zero` is, the least value may come out just below the grid.
          const __m512i rounded = _mm512_cvtps_epi32(_mm512_fmadd_ps(value, inverse, zero));
          const __m512i level = _mm512_max_epi32(rounded, _mm512_setzero_si512());
          lane = _mm512_or_si512(lane, _mm512_sllv_epi32(level, _mm512_set1_epi32(8 * t)));
        }
        each(lane, begin + i, here);
      }
    });
  }
}

void spread(const Window& w, const Around& around, const Grid& grid, const Maps& x, int64_t row, int64_t rows,
            int64_t first, int64_t last, void* to) {
  const Shape& s = w.shape;
  const int64_t plane = plane_of(w, rows), length = row_of(w), edge = w.side / 2;
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
        // The column i of the input is i + 1 with the edge.
        const auto each = [&](__m512i lane, int64_t i, __mmask16 here) {
          _mm512_mask_compressstoreu_epi32(odd + i / 2, here & 0x5555, lane);
          _mm512_mask_compressstoreu_epi32(even + i / 2 + 1, here & 0xaaaa, lane);
        };
        levels(around, grid, x, (u - 1) * s.width, s.width, c, present, each);
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
      levels(around, grid, x, line * s.width, s.width, c, present,
             [&](__m512i lane, int64_t i, __mmask16 here) { _mm512_mask_storeu_epi32(at + i, here, lane); });
      std::fill(at + s.width, at + length, nothing);
    }
  }
}

constexpr int64_t AHEAD = 1024;  // lanes of weights: small maps read each of them once, and memory is far
template <int N>
__attribute__((noinline)) void sum_of_products(const Window& w, const int32_t* weights, const int32_t* lanes,
                                               int64_t rows, int32_t* to) {
  const int64_t plane = plane_of(w, rows), depth = depth_of(w);
  __m512i sums[GROUP][N];
#pragma GCC unroll 8
  for (int k = 0; k < GROUP; k++)
#pragma GCC unroll 3
    for (int n = 0; n < N; n++) sums[k][n] = _mm512_setzero_si512();
  const int64_t taps = w.side * w.side;
  int64_t distances[9];
  for (int64_t tap = 0; tap < taps; tap++) distances[tap] = distance(w, rows, tap / w.side, tap % w.side);
  for (int64_t d = 0; d < depth; d++, lanes += plane) {
    for (int64_t tap = 0; tap < taps; tap++, weights += GROUP) {
      const int32_t* from = lanes + distances[tap];
      __m512i at[N];
#pragma GCC unroll 3
      for (int n = 0; n < N; n++) at[n] = _mm512_loadu_si512(from + n * L);
      __builtin_prefetch(weights + AHEAD);
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
           int64_t count, const Output& y) {
  const Shape& s = w.shape;
  const int64_t length = row_of(w), columns = w.columns();
  alignas(64) int32_t sums[GROUP * N * L];
  const int64_t begin =
      w.side == 1 ? row * length + at : (row + at / length) * columns + std::min(at % length, columns - 1);
  for (int k = 0; k < GROUP && group * GROUP + k < s.channels_out; k++)
    ask_for(around.residual, (group * GROUP + k) * y.pixels + begin, count, y);
  sum_of_products<N>(w, weights, lanes + at, rows, sums);
  typed(around.residual, y, [&](auto more, auto* to) {
    for (int k = 0; k < GROUP && group * GROUP + k < s.channels_out; k++) {
      const int64_t out = group * GROUP + k;
      const __m512 step = _mm512_set1_ps(grid.step * steps[out]);
      const __m512 bias = _mm512_set1_ps(around.bias == nullptr ? 0.f : around.bias[out]);
      const __m512i offset = _mm512_set1_epi32(grid.zero * level_sums[out]);
      alignas(64) float values[N * L];
      for (int n = 0; n < N; n++) {
        const __m512i sum = _mm512_sub_epi32(_mm512_load_si512(sums + (k * N + n) * L), offset);
        _mm512_store_ps(values + n * L, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), step, bias));
      }
      for (int64_t i = 0; i < count;) {  // what lies side by side in the output
        const int64_t column = (at + i) % length, line = row + (at + i) / length;
        const int64_t run = w.side == 1 ? count : std::min(count - i, columns - column);
        put(values + i, more, out * y.pixels + line * columns + column, run, to);
        i += w.side == 1 ? run : length - column;
      }
    }
  });
}

void multiply(const Window& w, const Around& around, const Grid& grid, const void* packed, const float* steps,
              const int32_t* sums, const void* lanes, int64_t row, int64_t rows, int64_t first, int64_t last,
              Output y) {
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

int64_t weight_lanes(int64_t inputs) { return (inputs + 2 * L - 1) / (2 * L) * (L / 2); }

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

// Weights are bytes, because reading them takes most of the time; inputs are integers of 16 bits, 32767 for the largest
// of a row. A lane sums up to 8192 / 16 products of both: less than 2^31.
void linear(const float* x, int64_t rows, int64_t inputs, const void* packed, const float* steps, const float* bias,
            int64_t outputs, int64_t first, int64_t last, float* y) {
  const int64_t bytes = 4 * weight_lanes(inputs);
  std::vector<int16_t> levels(rows * bytes);
  std::vector<float> row_steps(rows);
  for (int64_t row = 0; row < rows; row++) {
    const float* from = x + row * inputs;
    float low, high;
    extremes(Values{from, false}, inputs, &low, &high);
    const float largest = std::max(-low, high), step = largest / std::min<int64_t>(32767, 32767 * 8192 / bytes);
    row_steps[row] = std::isfinite(step) ? step : std::numeric_limits<float>::quiet_NaN();
    if (!std::isfinite(step) || step == 0) continue;
    for (int64_t i = 0; i < inputs; i += L) {
      const __mmask16 here = i + L <= inputs ? 0xffff : first_lanes(inputs - i);
      const __m512 value = _mm512_div_ps(_mm512_maskz_loadu_ps(here, from + i), _mm512_set1_ps(step));
      _mm512_mask_cvtepi32_storeu_epi16(levels.data() + row * bytes + i, here, _mm512_cvtps_epi32(value));
    }
  }
  for (int64_t m = first; m < last; m++) {
    const auto* of = static_cast<const int8_t*>(packed) + m * bytes;
    for (int64_t row = 0; row < rows; row++) {
      const int16_t* with = levels.data() + row * bytes;
      __m512i sums[4] = {};
      for (int64_t i = 0; i < bytes; i += 2 * L) {
        const __m512i weight = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(of + i)));
        __m512i& sum = sums[i / (2 * L) % 4];
        sum = _mm512_dpwssd_epi32(sum, weight, _mm512_loadu_si512(with + i));
      }
      float total = 0;
      for (const __m512i& sum : sums) total += _mm512_reduce_add_ps(_mm512_cvtepi32_ps(sum));
      y[row * outputs + m] = total * steps[m] * row_steps[row] + bias[m];
    }
  }
}

}  // namespace

extern const Int8Kernels avx512_int8;
const Int8Kernels avx512_int8 = {"AVX-512 with VNNI and bf16", GROUP,        TOUCHING,    packed_lanes, pack,  extremes, row_lanes,
                                 spread,              multiply,     weight_lanes, pack_linear,  linear};

}  // namespace diamond
